//! Random histories of a switch with a fast path, beside those of one without.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uswitch::fastpath::FastPath;
use uswitch::switch::fdb::{FdbEntry, FdbState};
use uswitch::switch::mdb::{MdbSettings, Snooping};
use uswitch::switch::vlan::Member;
use uswitch::switch::{
    FastDatapath, Gateway, Port, PortFlag, PortId, PortState, Switch, SwitchConfig, Tick, Verdict, Vid,
    VlanSettings,
};
use uswitch::sys::netns::in_netns;
use uswitch::wire::Mac;

use super::{
    HOST, NOW, PORTS, Sent, VLANS, decided, devices, ipv4, key, mac, make_devices, number, sent_to, vlans,
};

/// What happens to a switch.
#[derive(Debug, Clone)]
enum Event {
    /// A TCP segment from a port.
    Frame { ingress: PortId, source: Mac, destination: Mac },
    /// All learned entries are removed, or those of a port.
    Flush(Option<PortId>),
    /// A user adds an entry.
    Add(Mac, PortId),
    /// A user removes one.
    Remove(Mac),
    /// A port goes up or down.
    Up(PortId, bool),
    /// A user sets a flag.
    Flag(PortId, PortFlag, bool),
    /// A port becomes a member of a VLAN, its membership changes, or it ends.
    Vlan(PortId, Vid, Option<(Member, PortState)>),
    /// There is a querier, so that groups go to members only, or none.
    Querier(bool),
}

/// The MAC of 239.0.0.251, which hosts report.
const GROUP: Mac = Mac([1, 0, 0x5e, 0, 0, 0xfb]);

/// Of four stations, which may be behind any port.
fn event() -> impl Strategy<Value = Event> {
    let port = || prop::sample::select(PORTS.to_vec());
    let station = || (0..4_u8).prop_map(mac);
    let group = || prop::sample::select(vec![Mac::BROADCAST, GROUP, Mac::ZERO]);
    let frame = (port(), station(), prop_oneof![2 => station(), 1 => group()]);
    prop_oneof![
        20 => frame.prop_map(|(ingress, source, destination)| Event::Frame { ingress, source, destination }),
        // Most stations stay where they are.
        200 => (0..4_u8, 0..4_u8, group()).prop_map(|(from, to, group)| Event::Frame {
            ingress: PORTS[usize::from(from)],
            source: mac(from),
            destination: if from == to { group } else { mac(to) },
        }),
        2 => prop::option::of(port()).prop_map(Event::Flush),
        1 => port().prop_map(|ingress| Event::Frame { ingress, source: Mac::ZERO, destination: mac(0) }),
        1 => (station(), port()).prop_map(|(mac, port)| Event::Add(mac, port)),
        2 => station().prop_map(Event::Remove),
        3 => (port(), prop::bool::weighted(0.9)).prop_map(|(port, up)| Event::Up(port, up)),
        2 => (port(), prop::sample::select(PortFlag::ALL), prop::bool::weighted(0.2))
            .prop_map(|(port, flag, on)| Event::Flag(port, flag, on)),
        3 => (port(), 0..2_usize, vlans()).prop_map(|(port, at, vlans)| Event::Vlan(port, VLANS[at], vlans[at])),
        2 => any::<bool>().prop_map(Event::Querier),
    ]
}

impl Event {
    /// Happens to a switch, unless it is a frame.
    fn apply(&self, switch: &Switch) {
        match *self {
            Event::Frame { .. } => {}
            Event::Flush(port) => _ = switch.fdb.flush(port),
            Event::Add(mac, port) => {
                switch.fdb.add(NOW, key(first_vlan(switch), mac), port, FdbState::Static).unwrap();
            }
            Event::Remove(mac) => _ = switch.fdb.remove(key(first_vlan(switch), mac)),
            Event::Vlan(port, vid, None) => _ = switch.vlans.remove(port, vid),
            Event::Vlan(port, vid, Some((member, state))) => {
                switch.vlans.add(port, vid, member);
                switch.vlans.set_state(port, vid, state);
            }
            Event::Up(port, up) => switch.ports.set(port, port_settings(port, up)),
            Event::Flag(port, flag, on) => {
                let mut flags = switch.ports.flags(port);
                flags.set(flag, on);
                switch.ports.set_flags(port, flags);
            }
            Event::Querier(on) => {
                let mut snooping = Snooping::new(MdbSettings::default(), mac(9));
                snooping.set_querier(NOW, [0], on);
                snooping.tick(Tick(NOW.0 + 1000));
                switch.set_groups(Some(snooping.snapshot()));
            }
        }
    }
}

/// The VLAN of most frames.
fn first_vlan(switch: &Switch) -> u16 {
    if switch.vlans.settings().filtering { VLANS[0].get() } else { 0 }
}

fn port_settings(port: PortId, up: bool) -> Port {
    Port { up, host: port == HOST, offload: true, mtu: 1500 }
}

/// A TCP segment, whose IP address is that of the group if it goes to one.
fn segment(ingress: PortId, source: Mac, destination: Mac) -> Sent {
    let to = if destination == GROUP { Ipv4Addr::new(239, 0, 0, 251) } else { ipv4(2) };
    let header = [0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    let packet = [&header[..], &ipv4(1).octets(), &to.octets(), &[0; 20]].concat();
    Sent { ingress, source, destination, ethertype: 0x0800, packet }
}

/// A switch whose gateway is not among the stations, with empty tables.
fn empty_switch(filtering: bool) -> Switch {
    let gateway = Gateway { mac: mac(30).into(), ipv4: Vec::new(), ipv6: Vec::new() };
    let switch = Switch::new(SwitchConfig { ageing: 3000, fdb_max: 64, seed: 1, gateway })
        .with_vlans(VlanSettings { filtering, ..VlanSettings::default() });
    PORTS.into_iter().for_each(|port| _ = switch.ports.add(port_settings(port, true)).unwrap());
    switch
}

/// The same switch twice.
struct Twins {
    alone: Switch,
    /// With a fast path.
    shared: Switch,
    fast: Arc<FastPath>,
}

impl Twins {
    fn new(filtering: bool) -> Twins {
        let seed = [0x1234_5678_9abc_def0, 0x9e37_79b9_7f4a_7c15];
        let fast = Arc::new(FastPath::new(64, seed, BTreeMap::new()).unwrap());
        let (alone, shared) = (empty_switch(filtering), empty_switch(filtering));
        shared.add_fast_datapath(&(fast.clone() as Arc<dyn FastDatapath>));
        for port in PORTS {
            fast.add_port(port, devices(port), mac(number(port)));
            shared.ports.set(port, port_settings(port, true));
            [&alone, &shared].into_iter().for_each(|switch| switch.vlans.add_port(port));
        }
        Twins { alone, shared, fast }
    }

    /// Sends a frame to both. It goes to the same ports. Returns the verdict, if the program sent it.
    fn send(&self, sent: &Sent) -> Result<Option<Verdict>, TestCaseError> {
        let expected = decided(&self.alone, sent);
        let mut ports = sent_to(&self.fast, sent);
        let verdict = (!ports.is_empty()).then_some(expected.verdict());
        if ports.is_empty() {
            let outcome = decided(&self.shared, sent);
            outcome.share().into_iter().for_each(|share| self.shared.share(&share));
            ports = outcome.egress_ports().collect();
        }
        prop_assert!(expected.egress_ports().eq(ports.iter().copied()), "{:?}: {:?}", sent, ports);
        Ok(verdict)
    }

    /// The entries of both databases.
    fn entries(&self) -> [Vec<FdbEntry>; 2] {
        [&self.alone, &self.shared].map(|switch| {
            let mut entries = switch.fdb.entries();
            entries.sort_by_key(|entry| entry.key);
            entries
        })
    }
}

/// Whatever happens before, each frame goes to the ports to which it would go without the fast path, and the database
/// ends the same.
#[test]
fn both_datapaths_together_are_one_switch() {
    in_netns(|thread| {
        let _netns = thread.create().expect("this test needs root");
        make_devices();
        let [forwarded, flooded, in_vlan, by_workers] = std::array::from_fn(|_| Cell::new(0));
        let mut runner =
            TestRunner::new(Config { cases: 150, failure_persistence: None, ..Config::default() });
        let cases = (any::<bool>(), prop::collection::vec(event(), 1..200));
        let result = runner.run(&cases, |(filtering, events)| {
            let twins = Twins::new(filtering);
            for event in events {
                [&twins.alone, &twins.shared].into_iter().for_each(|switch| event.apply(switch));
                let Event::Frame { ingress, source, destination } = event else { continue };
                let count = match twins.send(&segment(ingress, source, destination))? {
                    None => &by_workers,
                    Some(_) if filtering => &in_vlan,
                    Some(Verdict::Flood) => &flooded,
                    Some(_) => &forwarded,
                };
                count.set(count.get() + 1);
            }
            let [alone, shared] = twins.entries();
            prop_assert_eq!(alone, shared);
            Ok(())
        });
        result.unwrap();
        let counts = [&forwarded, &flooded, &in_vlan, &by_workers].map(Cell::get);
        let names = "forwarded, flooded, in a VLAN, by workers";
        assert!(counts.iter().all(|count| *count > 200), "{names}: {counts:?}");
    })
    .unwrap();
}
