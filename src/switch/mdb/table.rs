//! The groups, their members, and when something about them is due.
//!
//! Every change of a membership goes through [`GroupTable::change`], which keeps the counts, the deadlines and the list
//! of changed groups right. All of it is bounded: [`MdbLimits`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::membership::{FOREVER, GroupMembership};
use super::{EntryChange, GroupKey, LinkKey};
use crate::switch::{PortId, Tick};

/// Entries of all ports together, for each group of the table.
const ROWS_PER_GROUP: usize = 16;

/// What a change may add.
#[derive(Debug, Clone, Copy)]
pub(super) struct MdbLimits {
    /// Groups in all, (\*,G) and (S,G) together.
    pub(super) hash_max: usize,
    /// Entries of this port.
    pub(super) port: usize,
}

/// Why a member was not added.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refused {
    /// The table is full.
    Full,
    /// The port has all the entries that it may have.
    PortLimit,
}

/// A member of a group.
pub(super) type Place = (GroupKey, PortId);

/// One group.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) members: BTreeMap<PortId, GroupMembership>,
    /// The sources that members list, and how many members do.
    pub(super) sources: BTreeMap<IpAddr, usize>,
}

/// What forwarding and the list of entries need to know of a membership.
#[derive(Debug, Default, PartialEq, Eq)]
struct View {
    has_group_entry: bool,
    wants_others: bool,
    /// Whether the source is wanted.
    sources: BTreeMap<IpAddr, bool>,
}

impl View {
    fn of(member: &GroupMembership) -> View {
        let wanted =
            |(address, source): (&IpAddr, &super::membership::Source)| (*address, source.until.is_some());
        View {
            has_group_entry: !member.is_empty() && !member.has_only_permanent_sources(),
            wants_others: member.wants_others(),
            sources: member.sources.iter().map(wanted).collect(),
        }
    }

    fn rows(&self) -> usize {
        usize::from(!self.is_empty()) + self.sources.len()
    }

    fn is_empty(&self) -> bool {
        !self.wants_others && self.sources.is_empty()
    }
}

/// The groups.
#[derive(Debug, Default)]
pub(super) struct GroupTable {
    groups: BTreeMap<GroupKey, Group>,
    deadlines: BTreeSet<(Tick, GroupKey, PortId)>,
    /// (\*,G) and (S,G) groups.
    entries: usize,
    /// Entries of all ports.
    rows: usize,
    rows_of: BTreeMap<PortId, usize>,
    /// Groups to which frames may have to be forwarded differently.
    changed: BTreeSet<GroupKey>,
    /// Entries that were added and removed.
    log: Vec<(EntryChange, Place, Option<IpAddr>)>,
}

impl GroupTable {
    pub(super) fn groups(&self) -> &BTreeMap<GroupKey, Group> {
        &self.groups
    }

    pub(super) fn member(&self, (key, port): Place) -> Option<&GroupMembership> {
        self.groups.get(&key)?.members.get(&port)
    }

    /// (\*,G) and (S,G) groups.
    pub(super) fn entries(&self) -> usize {
        self.entries
    }

    /// The entries of a port.
    pub(super) fn entries_of(&self, port: PortId) -> usize {
        self.rows_of.get(&port).copied().unwrap_or(0)
    }

    /// How many entries may still be added.
    fn room(&self, port: PortId, limits: MdbLimits) -> Result<usize, Refused> {
        let entries = limits.hash_max.saturating_sub(self.entries);
        let rows = limits.hash_max.saturating_mul(ROWS_PER_GROUP).saturating_sub(self.rows);
        let of_port = limits.port.saturating_sub(self.entries_of(port));
        match (entries.min(rows), of_port) {
            (0, _) => Err(Refused::Full),
            (_, 0) => Err(Refused::PortLimit),
            (all, port) => Ok(all.min(port)),
        }
    }

    /// Changes a member, which is made if there is none. `change` may add as many sources as its second argument says.
    pub(super) fn change<R>(
        &mut self,
        place: Place,
        limits: MdbLimits,
        change: impl FnOnce(&mut GroupMembership, usize) -> R,
    ) -> Result<R, Refused> {
        let (key, port) = place;
        let room = self.room(port, limits);
        let (mut member, room) = match (self.take(place), room) {
            (Some(member), room) => (member, room.unwrap_or(0)),
            // One entry for the group itself.
            (None, room) => (GroupMembership::default(), room?.saturating_sub(1)),
        };
        let (before, deadline) = (View::of(&member), member.next_deadline());
        let result = change(&mut member, room);
        let after = View::of(&member);
        self.deadlines.remove(&(deadline, key, port));
        if !member.is_empty() {
            let next = member.next_deadline();
            if next != FOREVER {
                self.deadlines.insert((next, key, port));
            }
            self.put(place, member);
        }
        self.note(place, &before, &after);
        Ok(result)
    }

    fn take(&mut self, (key, port): Place) -> Option<GroupMembership> {
        self.groups.get_mut(&key)?.members.remove(&port)
    }

    fn put(&mut self, (key, port): Place, member: GroupMembership) {
        let group = self.groups.entry(key).or_insert_with(|| {
            self.entries += 1;
            Group::default()
        });
        group.members.insert(port, member);
    }

    /// Corrects the counts after a change.
    fn note(&mut self, place: Place, before: &View, after: &View) {
        let (key, port) = place;
        self.rows = self.rows + after.rows() - before.rows();
        let of_port = self.rows_of.entry(port).or_default();
        *of_port = *of_port + after.rows() - before.rows();
        if *of_port == 0 {
            self.rows_of.remove(&port);
        }
        if before != after {
            self.changed.insert(key);
            self.log_changes(place, before, after);
        }
        let Some(group) = self.groups.get_mut(&key) else { return };
        for source in after.sources.keys().filter(|source| !before.sources.contains_key(source)) {
            let members = group.sources.entry(*source).or_default();
            self.entries += usize::from(*members == 0);
            *members += 1;
        }
        for source in before.sources.keys().filter(|source| !after.sources.contains_key(source)) {
            if let Some(members) = group.sources.get_mut(source) {
                *members -= 1;
                if *members == 0 {
                    group.sources.remove(source);
                    self.entries -= 1;
                }
            }
        }
        if group.members.is_empty() {
            self.groups.remove(&key);
            self.entries -= 1;
        }
    }

    fn log_changes(&mut self, place: Place, before: &View, after: &View) {
        let group = match (before.has_group_entry, after.has_group_entry) {
            (false, true) => Some((EntryChange::Added, place, None)),
            (true, false) => Some((EntryChange::Removed, place, None)),
            _ => None,
        };
        let is_new = |source: &&IpAddr| !before.sources.contains_key(*source);
        let is_gone = |source: &&IpAddr| !after.sources.contains_key(*source);
        let added =
            after.sources.keys().filter(is_new).map(|source| (EntryChange::Added, place, Some(*source)));
        let gone =
            before.sources.keys().filter(is_gone).map(|source| (EntryChange::Removed, place, Some(*source)));
        self.log.extend(group.into_iter().chain(added).chain(gone));
    }

    /// The next member for which something is due at `now`.
    pub(super) fn next_due(&self, now: Tick) -> Option<Place> {
        let (due, key, port) = *self.deadlines.first()?;
        (due <= now).then_some((key, port))
    }

    /// When something is due.
    pub(super) fn next_deadline(&self) -> Tick {
        self.deadlines.first().map_or(FOREVER, |(due, _, _)| *due)
    }

    /// The groups in which a port is a member.
    pub(super) fn groups_of(&self, port: PortId) -> Vec<GroupKey> {
        let of_port = self.groups.iter().filter(|(_, group)| group.members.contains_key(&port));
        of_port.map(|(key, _)| *key).collect()
    }

    /// Forwarding to all groups of a VLAN and IP version may have changed.
    pub(super) fn touch(&mut self, link: LinkKey) {
        let keys = self.groups.keys().filter(|key| key.link() == link);
        self.changed.extend(keys);
    }

    /// Groups to which frames may have to be forwarded differently since the last call.
    pub(super) fn take_changed(&mut self) -> BTreeSet<GroupKey> {
        std::mem::take(&mut self.changed)
    }

    /// Entries that were added and removed since the last call.
    pub(super) fn take_log(&mut self) -> Vec<(EntryChange, Place, Option<IpAddr>)> {
        std::mem::take(&mut self.log)
    }
}
