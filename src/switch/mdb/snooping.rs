//! The state of snooping, owned by control.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use super::counts::MdbCounts;
use super::links::MdbLinks;
use super::membership::{Asked, ChangeContext, FOREVER, GroupMembership, after};
use super::querier::OtherQuerier;
use super::settings::{MdbPortSettings, MdbSettings, RouterMode};
use super::snapshot::{GroupPorts, MdbSnapshot};
use super::table::{GroupTable, MdbLimits, Place, Refused};
use super::{EntryChange, GroupKey, LinkKey, MdbEvent, is_always_flooded};
use crate::switch::guard::link_local;
use crate::switch::{PortId, PortSet, Tick, Vid};
use crate::wire::membership::{self, Addresses, Message, Query, QuerySpec, RecordKind, ReportVersion};
use crate::wire::{EtherType, Mac, pim};

/// Events that wait to be taken.
const MAX_EVENTS: usize = 1024;
/// Queries that wait to be taken: in each VLAN the general queries of both IP versions, and others.
const MAX_QUERIES: usize = 2 * Vid::MAX as usize + 1024;

/// A query to send. The frame is untagged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutgoingQuery {
    /// The VLAN.
    pub vlan: u16,
    /// The only port to which it goes; `None`: to all of the VLAN.
    pub port: Option<PortId>,
    /// The frame.
    pub frame: Vec<u8>,
}

/// Where and when a frame was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReceivedAt {
    /// The time.
    pub now: Tick,
    /// The port.
    pub port: PortId,
    /// The VLAN.
    pub vlan: u16,
}

/// The groups, the queriers and the routers of a switch.
#[derive(Debug)]
pub struct Snooping {
    pub(super) settings: MdbSettings,
    /// The source of own queries.
    mac: Mac,
    pub(super) table: GroupTable,
    pub(super) links: MdbLinks,
    /// Ports whose settings are not the default.
    pub(super) ports: BTreeMap<PortId, MdbPortSettings>,
    /// All groups are flooded until then, because the table was full.
    flood_until: Option<Tick>,
    snapshot: Arc<MdbSnapshot>,
    queries: Vec<OutgoingQuery>,
    events: Vec<MdbEvent>,
    counts: MdbCounts,
}

impl Snooping {
    /// Nothing is known: all groups are flooded. `mac` is the source of own queries.
    pub fn new(settings: MdbSettings, mac: Mac) -> Snooping {
        Snooping {
            settings,
            mac,
            table: GroupTable::default(),
            links: MdbLinks::default(),
            ports: BTreeMap::new(),
            flood_until: None,
            snapshot: Arc::default(),
            queries: Vec::new(),
            events: Vec::new(),
            counts: MdbCounts::default(),
        }
    }

    /// Makes this switch the querier of VLANs while there is no other (`mcast_querier`), or ends that. As in the Linux
    /// bridge, IGMP queries come from 0.0.0.0, which gives way to any other querier (RFC 4541 §2.1.1), and MLD queries
    /// from the link-local address.
    pub fn set_querier(&mut self, now: Tick, vlans: impl IntoIterator<Item = u16>, on: bool) {
        for vlan in vlans {
            for own in [IpAddr::from(Ipv4Addr::UNSPECIFIED), link_local(self.mac).into()] {
                let link = LinkKey { vlan, is_ipv6: own.is_ipv6() };
                self.links.set_own(link, on.then_some(own), now, &self.settings);
            }
        }
        self.tick(now);
    }

    /// The VLANs of [`Snooping::set_querier`].
    pub fn queried_vlans(&self) -> BTreeSet<u16> {
        self.links.may_query()
    }

    /// Changes the settings of a port.
    pub fn set_port(&mut self, port: PortId, settings: MdbPortSettings) {
        let before = self.ports.insert(port, settings).unwrap_or_default();
        if settings == MdbPortSettings::default() {
            self.ports.remove(&port);
        }
        if before.router != settings.router {
            if settings.router != RouterMode::Learned {
                self.forget_router(port, |_| true);
            }
            self.touch_all_links();
        }
    }

    /// The settings of a port.
    pub fn port_settings(&self, port: PortId) -> MdbPortSettings {
        self.ports.get(&port).copied().unwrap_or_default()
    }

    /// How many entries a port has, (\*,G) and (S,G) together.
    pub fn entries_of(&self, port: PortId) -> usize {
        self.table.entries_of(port)
    }

    /// Permanent router ports are those of all links.
    fn touch_all_links(&mut self) {
        let links: Vec<LinkKey> = self.links.active().collect();
        self.rebuild_links(links);
    }

    fn forget_router(&mut self, port: PortId, in_vlan: impl Fn(u16) -> bool) {
        for link in self.links.remove_router(port, in_vlan) {
            self.event(MdbEvent::Router { change: EntryChange::Removed, link, port });
        }
    }

    /// A port is up, or a new member of VLANs: its hosts are asked there what they have joined.
    pub fn port_up(&mut self, port: PortId, in_vlan: impl Fn(u16) -> bool) {
        let own: Vec<(LinkKey, IpAddr)> = self.links.own().filter(|(link, _)| in_vlan(link.vlan)).collect();
        for (link, source) in own {
            self.send((link.vlan, Some(port)), source, None, &[]);
        }
    }

    /// A port is down: its hosts and routers are forgotten, permanent entries stay.
    pub fn port_down(&mut self, port: PortId) {
        self.forget_router(port, |_| true);
        for key in self.table.groups_of(port) {
            self.edit((key, port), GroupMembership::retain_permanent);
        }
    }

    /// A port is removed: everything about it is forgotten.
    pub fn port_removed(&mut self, port: PortId) {
        self.forget_port(port, |_| true);
        self.set_port(port, MdbPortSettings::default());
    }

    /// Everything that was learned or added about a port in these VLANs is forgotten: it is not a member any more.
    pub fn forget_port(&mut self, port: PortId, in_vlan: impl Fn(u16) -> bool) {
        self.forget_router(port, &in_vlan);
        for key in self.table.groups_of(port).into_iter().filter(|key| in_vlan(key.vlan)) {
            self.edit((key, port), |member| *member = GroupMembership::default());
        }
    }

    /// Handles the packet of a frame that [`super::classify`] takes for a message.
    pub fn receive(&mut self, at: ReceivedAt, ethertype: EtherType, packet: &[u8]) {
        let link = LinkKey { vlan: at.vlan, is_ipv6: ethertype == EtherType::IPV6 };
        match membership::parse(ethertype, packet) {
            Ok(Some(message)) => self.message(at, link, &message),
            Ok(None) if pim::is_hello(ethertype, packet) => self.router(at, link),
            Ok(None) => {}
            Err(_) => self.counts.malformed += 1,
        }
    }

    fn message(&mut self, at: ReceivedAt, link: LinkKey, message: &Message<'_>) {
        let ReceivedAt { now, port, vlan } = at;
        let place = |group| (GroupKey { vlan, group }, port);
        if let Message::Query(_) = message {
            self.counts.queries += 1;
        } else {
            self.counts.reports += 1;
        }
        match *message {
            Message::Query(query) => self.query(at, link, &query),
            Message::RouterAdvertisement => self.router(at, link),
            Message::Report { group, version } => self.join(now, place(group), version),
            Message::Leave(group) => self.record(now, place(group), RecordKind::ToInclude, None),
            Message::Records(records) => {
                for record in records.iter() {
                    self.record(now, place(record.group), record.kind, Some(record.sources));
                }
            }
        }
    }

    fn router(&mut self, ReceivedAt { now, port, .. }: ReceivedAt, link: LinkKey) {
        let mode = self.port_settings(port).router;
        if mode == RouterMode::Learned && self.links.mark_router(link, port, now, &self.settings) {
            self.event(MdbEvent::Router { change: EntryChange::Added, link, port });
        }
    }

    fn query(&mut self, at: ReceivedAt, link: LinkKey, query: &Query<'_>) {
        let ReceivedAt { now, port, vlan } = at;
        let response = ticks(query.response);
        let Some(group) = query.group else {
            let until = after(now, self.settings.querier_interval);
            let from = OtherQuerier { address: query.source, port, until };
            let before = self.links.other_of(link);
            if self.links.hear_query(link, now, from, response) {
                if before.map(|other| (other.address, other.port)) != Some((query.source, port)) {
                    self.event(MdbEvent::Querier { link, other: Some(from) });
                }
                self.router(at, link);
            }
            return;
        };
        // The members that are asked must report in this time (RFC 3376 §6.6.3).
        let key = GroupKey { vlan, group };
        let Some(found) = self.table.groups().get(&key).filter(|_| !query.suppress) else { return };
        let members: Vec<PortId> = found.members.keys().copied().collect();
        let end = after(now, response.saturating_mul(self.settings.last_member_count.max(1).into()));
        let asked = Asked { group: query.sources.is_empty(), sources: query.sources.iter().collect() };
        for member in members {
            self.edit((key, member), |member| member.lower(&asked, end));
        }
    }

    fn join(&mut self, now: Tick, place: Place, version: ReportVersion) {
        if is_always_flooded(place.0.group) {
            return;
        }
        let (limits, settings) = (self.limits(place.1), self.settings);
        let joined = self.table.change(place, limits, |member, room| {
            member.join(&ChangeContext { now, settings: &settings, room }, version);
        });
        if let Err(refused) = joined {
            self.refuse(now, refused, 1);
        }
    }

    /// Applies a record, and asks whether there are other members if it says that a host has left.
    fn record(&mut self, now: Tick, place: Place, kind: RecordKind, sources: Option<Addresses<'_>>) {
        if is_always_flooded(place.0.group) {
            return;
        }
        // Where there is nothing to leave, there is nothing to do.
        let joins = !matches!(kind, RecordKind::Block)
            && (matches!(kind, RecordKind::IsExclude | RecordKind::ToExclude)
                || sources.is_some_and(|sources| !sources.is_empty()));
        if !joins && self.table.member(place).is_none() {
            return;
        }
        let (limits, settings) = (self.limits(place.1), self.settings);
        let applied = self.table.change(place, limits, |member, room| {
            let mut sources = sources.iter().flat_map(Addresses::iter);
            member.apply(&ChangeContext { now, settings: &settings, room }, kind, &mut sources)
        });
        match applied {
            Ok((asked, refused)) => {
                if refused > 0 {
                    let is_full = self.table.entries() >= self.settings.hash_max;
                    let why = if is_full { Refused::Full } else { Refused::PortLimit };
                    self.refuse(now, why, refused);
                }
                if !asked.is_empty() {
                    self.ask(now, place, &asked);
                }
            }
            Err(refused) => self.refuse(now, refused, 1),
        }
    }

    /// A host has left: asks the others behind its port, if this switch is the querier. Another querier asks itself.
    fn ask(&mut self, now: Tick, place: Place, asked: &Asked) {
        let link = place.0.link();
        let is_fast = self.port_settings(place.1).fast_leave;
        let (is_own, is_other) = (self.links.own_of(link).is_some(), self.links.other_of(link).is_some());
        let settings = self.settings;
        let end = after(now, settings.last_member_time());
        self.edit(place, |member| {
            if is_fast {
                member.end(asked);
            } else if !is_other {
                member.lower(asked, end);
                if is_own {
                    member.query(now, asked, &settings);
                }
            }
        });
        self.send_due(now, place);
    }

    /// Changes a member that exists.
    fn edit(&mut self, place: Place, change: impl FnOnce(&mut GroupMembership)) {
        let limits = self.limits(place.1);
        if self.table.member(place).is_some() {
            // A member that exists is never refused.
            let _ = self.table.change(place, limits, |member, _| change(member));
        }
    }

    pub(super) fn limits(&self, port: PortId) -> MdbLimits {
        let port = match self.port_settings(port).max_groups {
            0 => usize::MAX,
            groups => groups as usize,
        };
        MdbLimits { hash_max: self.settings.hash_max, port }
    }

    fn refuse(&mut self, now: Tick, why: Refused, count: usize) {
        let count = u64::try_from(count).unwrap_or(u64::MAX);
        match why {
            Refused::PortLimit => self.counts.refused_limit += count,
            Refused::Full => {
                self.counts.refused_full += count;
                if self.flood_until.is_none() {
                    self.event(MdbEvent::Full);
                    self.change_snapshot(|snapshot| snapshot.is_overflowing = true);
                }
                self.flood_until = Some(after(now, self.settings.membership_interval));
            }
        }
    }

    /// Ends what is over at `now`, and makes the queries that are due.
    pub fn tick(&mut self, now: Tick) {
        let mut events = Vec::new();
        self.links.expire(now, &self.settings, &mut events);
        events.into_iter().for_each(|event| self.event(event));
        for (link, source) in self.links.due_queries(now, &self.settings) {
            self.send((link.vlan, None), source, None, &[]);
        }
        while let Some(place) = self.table.next_due(now) {
            self.edit(place, |member| member.expire(now));
            self.send_due(now, place);
        }
        if self.flood_until.is_some_and(|until| until <= now) {
            self.flood_until = None;
            self.change_snapshot(|snapshot| snapshot.is_overflowing = false);
        }
    }

    /// When [`Snooping::tick`] has something to do.
    pub fn next_deadline(&self) -> Option<Tick> {
        let flood = self.flood_until.unwrap_or(FOREVER);
        let next = self.table.next_deadline().min(self.links.next_deadline()).min(flood);
        (next != FOREVER).then_some(next)
    }

    /// Sends the queries for a member that are due. They are dropped if this switch is not the querier any more.
    fn send_due(&mut self, now: Tick, place: Place) {
        let (key, port) = place;
        let settings = self.settings;
        let mut due = Asked::default();
        self.edit(place, |member| due = member.due_queries(now, &settings));
        let Some(source) = self.links.own_of(key.link()) else { return };
        if due.group {
            self.send((key.vlan, Some(port)), source, Some(key.group), &[]);
        }
        if !due.sources.is_empty() {
            self.send((key.vlan, Some(port)), source, Some(key.group), &due.sources);
        }
    }

    fn send(
        &mut self,
        (vlan, port): (u16, Option<PortId>),
        from: IpAddr,
        group: Option<IpAddr>,
        sources: &[IpAddr],
    ) {
        if self.queries.len() >= MAX_QUERIES {
            self.counts.lost_queries += 1;
            return;
        }
        let response = match group {
            Some(_) => self.settings.last_member_interval,
            None => self.settings.query_response_interval,
        };
        let query = QuerySpec {
            group,
            sources,
            response: duration(response),
            interval: duration(self.settings.query_interval),
            robustness: self.settings.last_member_count,
        };
        let frame = membership::query_frame(self.mac, from, &query);
        self.counts.own_queries += 1;
        self.queries.push(OutgoingQuery { vlan, port, frame });
    }

    fn event(&mut self, event: MdbEvent) {
        if self.events.len() < MAX_EVENTS {
            self.events.push(event);
        } else {
            self.counts.lost_events += 1;
        }
    }

    /// The queries to send since the last call.
    pub fn take_queries(&mut self) -> Vec<OutgoingQuery> {
        std::mem::take(&mut self.queries)
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<MdbEvent> {
        for (change, (key, port), source) in self.table.take_log() {
            self.event(MdbEvent::Group { change, key, source, port });
        }
        std::mem::take(&mut self.events)
    }

    /// What happened so far.
    pub fn counts(&self) -> MdbCounts {
        self.counts
    }

    /// What workers read. The same as before, if nothing changed.
    pub fn snapshot(&mut self) -> Arc<MdbSnapshot> {
        let links = self.links.take_changed();
        self.rebuild_links(links);
        let changed = self.table.take_changed();
        if !changed.is_empty() {
            let routers: BTreeMap<LinkKey, PortSet> =
                changed.iter().map(|key| (key.link(), self.router_ports(key.link()))).collect();
            let rebuilt = changed.iter().map(|key| {
                let group = self.table.groups().get(key);
                (*key, group.map(|group| Arc::new(GroupPorts::new(group, &routers[&key.link()]))))
            });
            let rebuilt: Vec<_> = rebuilt.collect();
            self.change_snapshot(|snapshot| {
                for (key, ports) in rebuilt {
                    match ports {
                        Some(ports) => _ = snapshot.groups.insert(key, ports),
                        None => _ = snapshot.groups.remove(&key),
                    }
                }
            });
        }
        Arc::clone(&self.snapshot)
    }

    /// Copies the snapshot if a worker reads it, and changes it.
    fn change_snapshot(&mut self, change: impl FnOnce(&mut MdbSnapshot)) {
        change(Arc::make_mut(&mut self.snapshot));
    }

    fn rebuild_links(&mut self, links: impl IntoIterator<Item = LinkKey>) {
        for link in links {
            let is_active = self.links.is_active(link);
            let ports = is_active.then(|| Arc::new(self.router_ports(link)));
            self.change_snapshot(|snapshot| match ports {
                Some(ports) => _ = snapshot.routers.insert(link, ports),
                None => _ = snapshot.routers.remove(&link),
            });
            self.table.touch(link);
        }
    }

    /// The ports of a link behind which there are routers.
    fn router_ports(&self, link: LinkKey) -> PortSet {
        let permanent = self.ports.iter().filter(|(_, settings)| settings.router == RouterMode::Permanent);
        permanent.map(|(port, _)| *port).chain(self.links.routers_of(link)).collect()
    }
}

fn ticks(duration: Duration) -> u32 {
    let millis = 1000 / u128::from(Tick::PER_SECOND);
    u32::try_from(duration.as_millis().div_ceil(millis)).unwrap_or(u32::MAX).max(1)
}

fn duration(ticks: u32) -> Duration {
    Duration::from_millis(1000 / u64::from(Tick::PER_SECOND)) * ticks
}
