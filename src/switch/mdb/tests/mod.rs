//! Tests of snooping: a switch with a few ports, and a clock that is moved by hand.

mod limits;
mod model;
mod querier;
mod rules;
mod timers;

use std::net::IpAddr;

use super::*;
use crate::switch::Tick;
use crate::wire::membership::{self, Message};
use crate::wire::membership_tests::{self as hosts, Packet};
use crate::wire::{ETHERNET_HEADER, EthernetFrame, Mac};

const MAC: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);
const SECOND: u32 = Tick::PER_SECOND;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// A query that the switch made: its port, group and sources.
type Made = (Option<u16>, Option<IpAddr>, Vec<IpAddr>);

/// A switch that snoops.
struct Lab {
    snooping: Snooping,
    now: Tick,
}

impl Lab {
    /// Nothing is known.
    fn new(settings: MdbSettings) -> Lab {
        Lab { snooping: Snooping::new(settings, MAC), now: Tick(1000) }
    }

    /// The switch is the querier, and hosts have had the time to report.
    fn querier() -> Lab {
        let mut lab = Lab::new(MdbSettings::default());
        lab.snooping.set_querier(lab.now, [0], true);
        lab.wait(10 * SECOND);
        lab.queries();
        lab
    }

    /// Port 9 has a querier, and hosts have had the time to report.
    fn other_querier() -> Lab {
        let mut lab = Lab::new(MdbSettings::default());
        lab.hear_queries();
        lab.wait(10 * SECOND);
        lab.snooping.take_events();
        lab
    }

    /// Port 9 has a querier that queries now.
    fn hear_queries(&mut self) {
        for source in ["192.0.2.254", "fe80::fe"].map(ip) {
            self.receive(9, &hosts::query(source, None, &[]));
        }
    }

    /// A host behind a port sends a packet.
    fn receive(&mut self, port: u16, packet: &Packet) {
        self.receive_in(0, port, packet);
    }

    fn receive_in(&mut self, vlan: u16, port: u16, (ethertype, packet): &Packet) {
        let at = ReceivedAt { now: self.now, port: PortId(port), vlan };
        self.snooping.receive(at, *ethertype, packet);
    }

    /// Time passes. The switch is called only when it asks to be.
    fn wait(&mut self, ticks: u32) {
        let end = Tick(self.now.0 + ticks);
        while let Some(next) = self.snooping.next_deadline().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.snooping.tick(self.now);
        }
        self.now = end;
    }

    /// The ports to which a class of frames goes; `None` for all.
    fn scope(&mut self, vlan: u16, class: Class) -> Option<Vec<u16>> {
        match self.snooping.snapshot().scope(vlan, class) {
            Scope::Flood => None,
            Scope::Ports(ports) => Some(ports.iter().map(|port| port.0).collect()),
        }
    }

    /// The ports to which data goes; `None` for all.
    fn data(&mut self, group: IpAddr, source: IpAddr) -> Option<Vec<u16>> {
        self.scope(0, Class::Data { group, source })
    }

    /// The ports to which a group goes, from a source that no host has listed.
    fn group(&mut self, group: &str) -> Option<Vec<u16>> {
        let group = ip(group);
        self.data(group, if group.is_ipv4() { ip("203.0.113.99") } else { ip("2001:db8::99") })
    }

    /// The queries that the switch made since the last call.
    fn queries(&mut self) -> Vec<Made> {
        let made = self.snooping.take_queries();
        made.iter()
            .map(|made| {
                let ethertype = EthernetFrame::new_checked(&made.frame).unwrap().ethertype();
                match membership::parse(ethertype, &made.frame[ETHERNET_HEADER..]) {
                    Ok(Some(Message::Query(query))) => {
                        (made.port.map(|port| port.0), query.group, query.sources.iter().collect())
                    }
                    other => panic!("{other:?}"),
                }
            })
            .collect()
    }

    /// The entries as `bridge mdb` writes them, without timers.
    fn entries(&self) -> Vec<String> {
        let line = |entry: Entry| {
            let source = entry.source.map_or_else(String::new, |source| format!(" src {source}"));
            let state = if entry.state == EntryState::Permanent { "permanent" } else { "temp" };
            let flags = if entry.is_blocked { " blocked" } else { "" };
            let mode = if entry.is_exclude { " exclude" } else { "" };
            format!("port {} grp {}{source} {state}{mode}{flags}", entry.port.0, entry.key.group)
        };
        self.snooping.entries(self.now).into_iter().map(line).collect()
    }
}
