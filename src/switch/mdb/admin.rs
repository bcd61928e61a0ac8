//! What the administrator adds, deletes and sees.

use std::net::IpAddr;

use super::membership::{FOREVER, FilterMode, GroupMembership, after};
use super::settings::RouterMode;
use super::{GroupKey, LinkKey, Snooping, is_always_flooded};
use crate::switch::{PortId, Tick};

/// An entry to add: `bridge mdb add`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewEntry {
    /// The group.
    pub key: GroupKey,
    /// Only from this source: an (S,G) entry.
    pub source: Option<IpAddr>,
    /// The port.
    pub port: PortId,
    /// It does not expire, and reports do not change it.
    pub permanent: bool,
}

/// Why an entry cannot be added or deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum MdbError {
    /// Not a multicast address.
    #[error("{0} is not a multicast group: choose one like 239.1.1.1 or ff15::1")]
    NotAGroup(IpAddr),
    /// Always flooded.
    #[error("{0} is always flooded: choose a group outside of 224.0.0.0/24 and ff02::1")]
    AlwaysFlooded(IpAddr),
    /// The source is not a unicast address of the group's IP version.
    #[error("{0} cannot be a source of the group {1}: choose a unicast address of the same IP version")]
    BadSource(IpAddr, IpAddr),
    /// It is there already.
    #[error("the port is a member of that group already")]
    Exists,
    /// It is not there.
    #[error("the port is not a member of that group")]
    NotFound,
    /// The table is full.
    #[error("the multicast database has the maximum of {0} groups: delete one first")]
    Full(usize),
    /// The port has its maximum.
    #[error("the port has the maximum of {0} groups: delete one first, or raise its mcast_max_groups")]
    PortLimit(usize),
}

/// The state of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryState {
    /// It ends after this many ticks, unless a host reports again. `None`: with its sources.
    Temporary(Option<u32>),
    /// It stays.
    Permanent,
}

/// An entry as `bridge -d mdb show` has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The group.
    pub key: GroupKey,
    /// The source, of an (S,G) entry.
    pub source: Option<IpAddr>,
    /// The port.
    pub port: PortId,
    /// Whether it ends.
    pub state: EntryState,
    /// Sources that are not listed are wanted: EXCLUDE mode. Of an (S,G) entry always false.
    pub is_exclude: bool,
    /// The source is excluded: nothing of it is forwarded.
    pub is_blocked: bool,
    /// The listed sources of a (\*,G) entry, and for how many ticks they are wanted; 0 if they are excluded.
    pub sources: Vec<(IpAddr, u32)>,
}

/// A port behind which there is a multicast router.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterPort {
    /// The port.
    pub port: PortId,
    /// Where it was found, and for how many ticks it is known; `None` if it is permanent.
    pub learned: Option<(LinkKey, u32)>,
}

impl Snooping {
    /// Adds an entry. Nothing changes on an error.
    pub fn add(&mut self, now: Tick, new: &NewEntry) -> Result<(), MdbError> {
        let NewEntry { key, source, port, permanent } = *new;
        check(key.group, source)?;
        if self.table.member((key, port)).is_some_and(|member| has(member, source)) {
            return Err(MdbError::Exists);
        }
        let until = if permanent { FOREVER } else { after(now, self.settings.membership_interval) };
        let limits = self.limits(port);
        let changed = self.table.change((key, port), limits, |member, room| match source {
            Some(_) if room == 0 => false,
            Some(source) => {
                member.add_source(source, until);
                true
            }
            None => {
                member.mode = FilterMode::Exclude { until };
                true
            }
        });
        match changed {
            Ok(true) => Ok(()),
            _ if self.table.entries() >= limits.hash_max => Err(MdbError::Full(limits.hash_max)),
            _ => Err(MdbError::PortLimit(limits.port)),
        }
    }

    /// Deletes an entry, learned or not. Nothing changes on an error.
    pub fn delete(&mut self, key: GroupKey, source: Option<IpAddr>, port: PortId) -> Result<(), MdbError> {
        check(key.group, source)?;
        let limits = self.limits(port);
        if !self.table.member((key, port)).is_some_and(|member| has(member, source)) {
            return Err(MdbError::NotFound);
        }
        // A member that exists is never refused.
        let _ = self.table.change((key, port), limits, |member, _| match source {
            Some(source) => _ = member.sources.remove(&source),
            None => {
                member.mode = FilterMode::Include;
                member.sources.retain(|_, source| source.until == Some(FOREVER));
            }
        });
        Ok(())
    }

    /// All entries, in the order of VLAN, group, port and source.
    pub fn entries(&self, now: Tick) -> Vec<Entry> {
        let members =
            self.table.groups().iter().flat_map(|(key, group)| {
                group.members.iter().map(move |(port, member)| (*key, *port, member))
            });
        members.flat_map(|(key, port, member)| rows(now, key, port, member)).collect()
    }

    /// The queriers: where, the address, the port unless it is this switch, and whether hosts have had the time to
    /// report.
    pub fn queriers(&self, now: Tick) -> impl Iterator<Item = (LinkKey, IpAddr, Option<PortId>, bool)> + '_ {
        self.links.queriers(now)
    }

    /// The ports behind which there are routers.
    pub fn routers(&self, now: Tick) -> Vec<RouterPort> {
        let permanent = self.ports.iter().filter(|(_, settings)| settings.router == RouterMode::Permanent);
        let permanent = permanent.map(|(port, _)| RouterPort { port: *port, learned: None });
        let learned = self
            .links
            .routers()
            .map(|(link, port, until)| RouterPort { port, learned: Some((link, until.since(now))) });
        permanent.chain(learned).collect()
    }
}

fn check(group: IpAddr, source: Option<IpAddr>) -> Result<(), MdbError> {
    if !group.is_multicast() {
        return Err(MdbError::NotAGroup(group));
    }
    if is_always_flooded(group) {
        return Err(MdbError::AlwaysFlooded(group));
    }
    let is_bad = |source: &IpAddr| {
        source.is_multicast() || source.is_unspecified() || source.is_ipv4() != group.is_ipv4()
    };
    source.filter(is_bad).map_or(Ok(()), |source| Err(MdbError::BadSource(source, group)))
}

/// Whether a member has the entry.
fn has(member: &GroupMembership, source: Option<IpAddr>) -> bool {
    match source {
        Some(source) => member.sources.contains_key(&source),
        None => !member.has_only_permanent_sources(),
    }
}

fn rows(now: Tick, key: GroupKey, port: PortId, member: &GroupMembership) -> Vec<Entry> {
    let remaining = |until: Option<Tick>| until.map_or(0, |until| until.since(now));
    let state = match member.mode {
        FilterMode::Exclude { until: FOREVER } => EntryState::Permanent,
        FilterMode::Exclude { until } => EntryState::Temporary(Some(until.since(now))),
        FilterMode::Include => EntryState::Temporary(None),
    };
    let group = Entry {
        key,
        source: None,
        port,
        state,
        is_exclude: member.wants_others(),
        is_blocked: false,
        sources: member.sources.iter().map(|(address, source)| (*address, remaining(source.until))).collect(),
    };
    let source = |(address, source): (&IpAddr, &super::membership::Source)| Entry {
        source: Some(*address),
        state: match source.until {
            Some(FOREVER) => EntryState::Permanent,
            until => EntryState::Temporary(until.map(|until| until.since(now))),
        },
        is_exclude: false,
        is_blocked: source.until.is_none(),
        sources: Vec::new(),
        ..group.clone()
    };
    let sources: Vec<Entry> = member.sources.iter().map(source).collect();
    let has_group_entry = !member.has_only_permanent_sources();
    has_group_entry.then_some(group).into_iter().chain(sources).collect()
}
