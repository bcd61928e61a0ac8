//! What workers read: to which ports the frames of a group go. A snapshot does not change; the next one replaces it.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::{ArcSwapOption, Guard};

use super::membership::GroupMembership;
use super::table::Group;
use super::{Class, GroupKey, LinkKey, is_always_flooded};
use crate::switch::{PortId, PortSet};

/// The snapshot that the workers read, without a lock.
#[derive(Debug, Default)]
pub struct Mdb(ArcSwapOption<MdbSnapshot>);

impl Mdb {
    /// Lets workers read this snapshot from now on; `None`: snooping is off, and all groups are flooded.
    pub(in crate::switch) fn publish(&self, snapshot: Option<Arc<MdbSnapshot>>) {
        self.0.store(snapshot);
    }

    /// The snapshot.
    #[inline]
    pub(in crate::switch) fn load(&self) -> Guard<Option<Arc<MdbSnapshot>>> {
        self.0.load()
    }

    /// Whether all groups are flooded.
    pub(in crate::switch) fn floods_all(&self) -> bool {
        self.load().as_ref().is_none_or(|snapshot| snapshot.routers.is_empty())
    }
}

/// To which ports a frame goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope<'a> {
    /// To all ports of the VLAN that flood multicast.
    Flood,
    /// To these ports.
    Ports(&'a PortSet),
}

/// The ports of one group.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct GroupPorts {
    /// Those that want the sources that are not listed.
    others: PortSet,
    /// Those that want a listed source. Sorted.
    sources: Vec<(IpAddr, PortSet)>,
}

impl GroupPorts {
    /// The members of a group, and the ports of the routers.
    pub(super) fn new(group: &Group, routers: &PortSet) -> GroupPorts {
        let wants_others =
            |(port, member): (&PortId, &GroupMembership)| member.wants_others().then_some(*port);
        let mut others: PortSet = group.members.iter().filter_map(wants_others).collect();
        let mut sources: Vec<_> = group.sources.keys().map(|source| (*source, others.clone())).collect();
        for (port, member) in &group.members {
            for (source, listed) in &member.sources {
                let Ok(at) = sources.binary_search_by_key(source, |(address, _)| *address) else { continue };
                let ports = &mut sources[at].1;
                _ = if listed.until.is_some() { ports.insert(*port) } else { ports.remove(*port) };
            }
        }
        others.union(routers);
        sources.iter_mut().for_each(|(_, ports)| ports.union(routers));
        GroupPorts { others, sources }
    }

    fn from(&self, source: IpAddr) -> &PortSet {
        match self.sources.binary_search_by_key(&source, |(address, _)| *address) {
            Ok(at) => &self.sources[at].1,
            Err(_) => &self.others,
        }
    }
}

/// To which ports the frames of each group go.
#[derive(Debug, Clone, Default)]
pub struct MdbSnapshot {
    /// Links that have a querier, and their router ports. Elsewhere all groups are flooded: hosts do not report.
    pub(super) routers: HashMap<LinkKey, Arc<PortSet>>,
    pub(super) groups: HashMap<GroupKey, Arc<GroupPorts>>,
    /// The table was full just now: a group without entry may have members.
    pub(super) is_overflowing: bool,
}

impl MdbSnapshot {
    /// To which ports a frame goes. Reports go to routers only, because a host that hears the report of another one
    /// does not send its own (RFC 2236 §3; RFC 4541 §2.1.1 (1)).
    pub fn scope(&self, vlan: u16, class: Class) -> Scope<'_> {
        let (group, source, is_report) = match class {
            Class::Other | Class::Message { is_report: false, .. } => return Scope::Flood,
            Class::Message { is_report: true, group } => (group, group, true),
            Class::Data { group, source } => (group, source, false),
        };
        let link = LinkKey { vlan, is_ipv6: group.is_ipv6() };
        let Some(routers) = self.routers.get(&link).filter(|_| !self.is_overflowing) else {
            return Scope::Flood;
        };
        if is_report {
            return Scope::Ports(routers);
        }
        if is_always_flooded(group) {
            return Scope::Flood;
        }
        let found = self.groups.get(&GroupKey { vlan, group });
        Scope::Ports(found.map_or(routers, |ports| ports.from(source)))
    }
}
