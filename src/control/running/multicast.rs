//! IGMP and MLD snooping: hands the messages of hosts and routers to [`Snooping`], and publishes what workers must
//! know.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::ports::PortRecord;
use super::{HostNetwork, RunError, Running};
use crate::control::config;
use crate::control::event::{Event, EventType};
use crate::control::report::{
    MdbCounters, MdbEntry, MdbEntryQuery, MdbPort, MdbQuerier, MdbReport, MdbRouter, MdbSource, MdbState,
    NewMdbEntry, PortSettings,
};
use crate::datapath::PuntedFrame;
use crate::switch::mdb::{
    self, Entry, EntryChange, EntryState, GroupKey, LinkKey, MdbEvent, MdbSettings, NewEntry, ReceivedAt,
    RouterPort, Snooping,
};
use crate::switch::{PortId, Punt, Tick, Vid};
use crate::wire::EthernetFrame;

impl<M: HostNetwork> Running<M> {
    /// Starts to snoop, if that is configured.
    pub(super) fn start_snooping(&mut self) {
        if !self.config.mcast_snooping {
            return;
        }
        self.snooping = Some(Snooping::new(MdbSettings::default(), self.switch.gateway.mac.get()));
        self.update_queriers();
        self.update_multicast();
    }

    /// Makes the switch the querier of each VLAN that has members, if it may query.
    fn update_queriers(&mut self) {
        let now = self.datapath.now();
        let Some(snooping) = self.snooping.as_mut().filter(|_| self.config.mcast_querier) else { return };
        let wanted: BTreeSet<u16> = match self.config.vlans.filtering {
            true => self.switch.vlans.in_use().map(Vid::get).collect(),
            false => [0].into(),
        };
        let had = snooping.queried_vlans();
        if wanted != had {
            snooping.set_querier(now, had.difference(&wanted).copied(), false);
            snooping.set_querier(now, wanted.difference(&had).copied(), true);
        }
    }

    /// The VLANs of a port have changed: forgets what was known there, and asks the hosts of its new VLANs.
    pub(super) fn multicast_vlans_changed(&mut self, port: PortId, before: &[Vid]) {
        // In a VLAN that gets its first member, all ports are asked.
        let asked = self.snooping.as_ref().map(Snooping::queried_vlans).unwrap_or_default();
        self.update_queriers();
        let forwards = self.forwards(port);
        let Some(snooping) = &mut self.snooping else { return };
        let vlans = &self.switch.vlans;
        let is_member = |vlan| Vid::new(vlan).is_some_and(|vid| vlans.is_member(port, vid));
        snooping.forget_port(port, |vlan| !is_member(vlan));
        if forwards {
            let was_member = |vlan| before.iter().any(|vid| vid.get() == vlan);
            snooping.port_up(port, |vlan| asked.contains(&vlan) && is_member(vlan) && !was_member(vlan));
        }
        self.publish_multicast();
    }

    /// Does what is due.
    pub(super) fn update_multicast(&mut self) {
        let now = self.datapath.now();
        let Some(snooping) = &mut self.snooping else { return };
        if snooping.next_deadline().is_some_and(|next| next <= now) {
            snooping.tick(now);
        }
        self.publish_multicast();
    }

    /// Carries out what snooping has decided.
    fn publish_multicast(&mut self) {
        let Some(snooping) = &mut self.snooping else { return };
        self.switch.set_groups(Some(snooping.snapshot()));
        let (queries, events) = (snooping.take_queries(), snooping.take_events());
        for query in queries {
            let ports = match query.port {
                Some(port) => vec![port],
                None => self.ports.keys().copied().collect(),
            };
            // The hosts behind another port are asked when it forwards.
            let ports = ports.into_iter().filter(|port| self.forwards(*port)).collect();
            self.inject(query.vlan, ports, query.frame);
        }
        events.into_iter().for_each(|event| self.report_multicast(event));
    }

    pub(super) fn forwards(&self, port: PortId) -> bool {
        self.ports.get(&port).is_some_and(PortRecord::is_up) && !self.switch.ports.is_blocked(port)
    }

    /// Waits until snooping has something to do. Never returns while it has not.
    pub(super) fn multicast_due(&self) -> impl Future<Output = ()> + 'static {
        let next = self.snooping.as_ref().and_then(Snooping::next_deadline);
        let next = next.map(|tick| Instant::now() + self.until(tick));
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    /// A port has come up, has gone down, or forwards again.
    pub(super) fn multicast_port_changed(&mut self, port: PortId, is_up: bool) {
        self.update_queriers();
        let Some(snooping) = &mut self.snooping else { return };
        let vlans = &self.switch.vlans;
        let is_here = |vlan| Vid::new(vlan).is_none_or(|vid| vlans.is_member(port, vid));
        match is_up {
            true => snooping.port_up(port, is_here),
            false => snooping.port_down(port),
        }
        self.publish_multicast();
    }

    /// Changes the settings of a port that are given.
    pub(super) fn set_multicast_port(&mut self, port: PortId, settings: &PortSettings) {
        let Some(record) = self.ports.get_mut(&port) else { return };
        record.mcast = config::mcast_settings(settings, record.mcast);
        if let Some(snooping) = &mut self.snooping {
            snooping.set_port(port, record.mcast);
            self.publish_multicast();
        }
    }

    /// A port is removed.
    pub(super) fn multicast_port_removed(&mut self, port: PortId) {
        if let Some(snooping) = &mut self.snooping {
            snooping.port_removed(port);
        }
        self.update_queriers();
        self.publish_multicast();
    }

    fn report_multicast(&mut self, event: MdbEvent) {
        match event {
            // Each IPv6 address has one: its neighbours are found by it.
            MdbEvent::Group { key, .. } if is_solicited_node(key.group) => {}
            MdbEvent::Group { change, key, source, port } => {
                let kind = match change {
                    EntryChange::Added => EventType::MdbAdded,
                    EntryChange::Removed => EventType::MdbRemoved,
                };
                let vlan = vid(key.vlan);
                let (group, source) = (Some(key.group), source);
                self.emit(port, |running| Event { group, source, vlan, ..running.port_event(kind, port) });
            }
            MdbEvent::Router { change, link, port } => {
                let kind = match change {
                    EntryChange::Added => EventType::MdbRouterAdded,
                    EntryChange::Removed => EventType::MdbRouterRemoved,
                };
                let (vlan, value) = (vid(link.vlan), Some(family(link.is_ipv6).to_owned()));
                self.emit(port, |running| Event { vlan, value, ..running.port_event(kind, port) });
            }
            MdbEvent::Querier { link, other } => {
                let (ifname, source) =
                    (other.and_then(|other| self.name_of(other.port)), other.map(|other| other.address));
                info!(family = family(link.is_ipv6), ?source, port = ifname, "multicast querier");
                let value = Some(family(link.is_ipv6).to_owned());
                let event = Event::at(Timestamp::now(), EventType::MdbQuerier);
                self.events.history.add(Event { ifname, source, vlan: vid(link.vlan), value, ..event });
            }
            MdbEvent::Full => {
                warn!("the multicast database is full: all groups are flooded");
                self.events.history.add(Event::at(Timestamp::now(), EventType::MdbFull));
            }
        }
    }

    fn name_of(&self, port: PortId) -> Option<String> {
        self.ports.get(&port).map(|port| port.name.clone())
    }

    /// The multicast database.
    pub(super) fn mdb_report(&mut self) -> Result<MdbReport, RunError> {
        self.update_protocols();
        let now = self.datapath.now();
        let snooping = self.snooping.as_ref().ok_or(RunError::NoSnooping)?;
        let mdb = snooping.entries(now).iter().filter_map(|entry| self.mdb_entry(entry)).collect();
        let routers: Vec<MdbRouter> =
            snooping.routers(now).iter().filter_map(|router| self.mdb_router(router)).collect();
        let router =
            if routers.is_empty() { BTreeMap::new() } else { [(self.config.name.clone(), routers)].into() };
        let querier = |(link, address, port, active): (LinkKey, IpAddr, Option<PortId>, bool)| MdbQuerier {
            family: family(link.is_ipv6).to_owned(),
            vid: vid(link.vlan),
            address,
            port: port.and_then(|port| self.name_of(port)),
            active,
        };
        let querier = snooping.queriers(now).map(querier).collect();
        let is_changed = |record: &PortRecord| record.mcast != mdb::MdbPortSettings::default();
        let changed = self.ports.iter().filter(|(_, record)| is_changed(record));
        let port = changed.map(|(id, record)| mdb_port(record, self.joined_groups(*id))).collect();
        let counters = MdbCounters {
            counts: snooping.counts().into(),
            lost_messages: self.datapath.lost_punts(Punt::Membership),
        };
        Ok(MdbReport { mdb, router, querier, port, counters })
    }

    /// How many groups a port has joined, as its limit counts them.
    pub(super) fn joined_groups(&self, port: PortId) -> u32 {
        let entries = self.snooping.as_ref().map_or(0, |snooping| snooping.entries_of(port));
        u32::try_from(entries).unwrap_or(u32::MAX)
    }

    fn mdb_entry(&self, entry: &Entry) -> Option<MdbEntry> {
        let source = |(address, ticks): &(IpAddr, u32)| MdbSource {
            address: *address,
            timer: timer(*ticks).trim_start().to_owned(),
        };
        let (state, ticks) = match entry.state {
            EntryState::Temporary(ticks) => (MdbState::Temp, ticks.unwrap_or(0)),
            EntryState::Permanent => (MdbState::Permanent, 0),
        };
        Some(MdbEntry {
            dev: self.config.name.clone(),
            port: self.name_of(entry.port)?,
            grp: entry.key.group,
            src: entry.source,
            state,
            filter_mode: if entry.is_exclude { "exclude" } else { "include" }.to_owned(),
            source_list: entry.sources.iter().map(source).collect(),
            flags: if entry.is_blocked { vec!["blocked".to_owned()] } else { Vec::new() },
            vid: vid(entry.key.vlan),
            timer: timer(ticks),
        })
    }

    fn mdb_router(&self, router: &RouterPort) -> Option<MdbRouter> {
        Some(MdbRouter {
            port: self.name_of(router.port)?,
            timer: timer(router.learned.map_or(0, |(_, ticks)| ticks)),
            kind: if router.learned.is_some() { "temp" } else { "permanent" }.to_owned(),
            family: router.learned.map(|(link, _)| family(link.is_ipv6).to_owned()),
            vid: router.learned.and_then(|(link, _)| vid(link.vlan)),
        })
    }

    pub(super) fn add_mdb_entry(&mut self, new: &NewMdbEntry) -> Result<(), RunError> {
        let port = self.port_named(&new.port)?;
        let key = GroupKey { vlan: self.entry_vlan(port, new.vid)?, group: new.grp };
        let (now, source) = (self.datapath.now(), new.src);
        let permanent = new.state == MdbState::Permanent;
        let snooping = self.snooping.as_mut().ok_or(RunError::NoSnooping)?;
        snooping.add(now, &NewEntry { key, source, port, permanent })?;
        self.publish_multicast();
        Ok(())
    }

    pub(super) fn remove_mdb_entry(&mut self, gone: &MdbEntryQuery) -> Result<(), RunError> {
        let port = self.port_named(&gone.port)?;
        let key = GroupKey { vlan: self.entry_vlan(port, gone.vid)?, group: gone.grp };
        let snooping = self.snooping.as_mut().ok_or(RunError::NoSnooping)?;
        snooping.delete(key, gone.src, port)?;
        self.publish_multicast();
        Ok(())
    }
}

/// Handles a message of a host or a router.
pub(super) fn receive(snooping: &mut Snooping, message: &PuntedFrame) {
    let PuntedFrame { at, port, vlan, ref bytes, .. } = *message;
    let packet = EthernetFrame::new_checked(bytes).and_then(|frame| frame.network());
    if let Some((ethertype, packet)) = packet {
        snooping.receive(ReceivedAt { now: at, port, vlan }, ethertype, packet);
    }
}

/// Whether a group is the solicited-node group of an address (RFC 4291 §2.7.1).
pub(super) fn is_solicited_node(group: IpAddr) -> bool {
    match group {
        IpAddr::V4(_) => false,
        IpAddr::V6(group) => matches!(group.segments(), [0xff02, 0, 0, 0, 0, 1, 0xff00..=0xffff, _]),
    }
}

fn mdb_port(record: &PortRecord, groups: u32) -> MdbPort {
    let mdb::MdbPortSettings { router, fast_leave, max_groups } = record.mcast;
    MdbPort {
        port: record.name.clone(),
        mcast_router: router as u8,
        fastleave: fast_leave,
        mcast_max_groups: max_groups,
        mcast_n_groups: groups,
    }
}

fn vid(vlan: u16) -> Option<u16> {
    (vlan != 0).then_some(vlan)
}

/// The word of `ip -family`.
fn family(is_ipv6: bool) -> &'static str {
    if is_ipv6 { "inet6" } else { "inet" }
}

/// A time as `bridge` prints it.
fn timer(ticks: u32) -> String {
    let (seconds, hundredths) = (ticks / Tick::PER_SECOND, ticks % Tick::PER_SECOND * 100 / Tick::PER_SECOND);
    format!("{seconds:>4}.{hundredths:02}")
}
