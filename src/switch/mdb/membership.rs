//! What the hosts behind one port want of one group: the state of RFC 3376 §6 and RFC 3810 §7, kept for each port.
//!
//! In INCLUDE mode they want the sources that are listed, each until its timer ends. In EXCLUDE mode they want all
//! sources except those whose timer has ended. A membership without sources in INCLUDE mode is none, and is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use super::settings::MdbSettings;
use crate::switch::Tick;
use crate::wire::membership::{RecordKind, ReportVersion};

/// The end of a timer that never ends: of a permanent entry, or one that is not set.
pub(super) const FOREVER: Tick = Tick(u32::MAX);
/// Most sources of one membership (`PG_SRC_ENT_LIMIT` in Linux `net/bridge/br_private.h`).
pub(super) const MAX_SOURCES: usize = 32;

/// The filter mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FilterMode {
    Include,
    Exclude {
        /** When the group timer ends. */
        until: Tick,
    },
}

/// A source that is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Source {
    /// When its timer ends; `None` if it has ended, and the source is excluded.
    pub(super) until: Option<Tick>,
    /// Queries that are still to be sent.
    queries: u8,
}

/// What a leave makes the switch ask for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) group: bool,
    pub(super) sources: Vec<IpAddr>,
}

impl Asked {
    pub(super) fn is_empty(&self) -> bool {
        !self.group && self.sources.is_empty()
    }
}

/// The circumstances of a change.
#[derive(Debug, Clone, Copy)]
pub(super) struct ChangeContext<'a> {
    pub(super) now: Tick,
    pub(super) settings: &'a MdbSettings,
    /// How many sources may be added.
    pub(super) room: usize,
}

impl ChangeContext<'_> {
    pub(super) fn membership_end(&self) -> Tick {
        after(self.now, self.settings.membership_interval)
    }
}

/// The tick at this time after `now`.
pub(super) fn after(now: Tick, ticks: u32) -> Tick {
    Tick(now.0.saturating_add(ticks))
}

/// The state of one port in one group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GroupMembership {
    pub(super) mode: FilterMode,
    pub(super) sources: BTreeMap<IpAddr, Source>,
    /// There may be hosts of version 1, or of version 2, until then (RFC 3376 §7.3.2).
    version1_until: Tick,
    version2_until: Tick,
    /// Queries for the group that are still to be sent.
    group_queries: u8,
    /// When the next query is due.
    next_query: Tick,
}

impl Default for GroupMembership {
    /// No membership.
    fn default() -> GroupMembership {
        GroupMembership {
            mode: FilterMode::Include,
            sources: BTreeMap::new(),
            version1_until: Tick(0),
            version2_until: Tick(0),
            group_queries: 0,
            next_query: FOREVER,
        }
    }
}

impl GroupMembership {
    pub(super) fn is_empty(&self) -> bool {
        self.mode == FilterMode::Include && self.sources.is_empty()
    }

    /// It was added for the whole group by the administrator: reports do not change it.
    pub(super) fn is_permanent(&self) -> bool {
        self.mode == FilterMode::Exclude { until: FOREVER }
    }

    /// It is there only because of (S,G) entries of the administrator.
    pub(super) fn has_only_permanent_sources(&self) -> bool {
        self.mode == FilterMode::Include && self.sources.values().all(|source| source.until == Some(FOREVER))
    }

    /// The hosts want sources that are not listed.
    pub(super) fn wants_others(&self) -> bool {
        self.mode != FilterMode::Include
    }

    /// A host of an older version has joined: `IS_EX({})` (RFC 3376 §7.3.2).
    pub(super) fn join(&mut self, change: &ChangeContext<'_>, version: ReportVersion) {
        let end = change.membership_end();
        match version {
            ReportVersion::V1 => self.version1_until = end,
            ReportVersion::V2 => self.version2_until = end,
        }
        self.apply(change, RecordKind::IsExclude, &mut std::iter::empty());
    }

    /// Changes the state as a record of a report asks for (RFC 3376 §6.4). Returns what must be queried, and how many
    /// sources found no room.
    pub(super) fn apply(
        &mut self,
        change: &ChangeContext<'_>,
        kind: RecordKind,
        sources: &mut dyn Iterator<Item = IpAddr>,
    ) -> (Asked, usize) {
        let nothing = (Asked::default(), 0);
        let (version1, version2) = (self.version1_until > change.now, self.version2_until > change.now);
        let older = version1 || version2;
        if self.is_permanent()
            || older && kind == RecordKind::Block
            || version1 && kind == RecordKind::ToInclude
        {
            return nothing;
        }
        let listed = match kind {
            RecordKind::ToExclude if older => BTreeSet::new(),
            _ => sources.collect(),
        };
        match kind {
            RecordKind::IsInclude | RecordKind::Allow => (Asked::default(), self.include(change, &listed)),
            RecordKind::ToInclude => {
                let running = self.sources.iter().filter(|(_, source)| source.until.is_some());
                let unlisted = running.map(|(address, _)| *address).filter(|other| !listed.contains(other));
                let asked = Asked { group: self.wants_others(), sources: unlisted.collect() };
                (asked, self.include(change, &listed))
            }
            RecordKind::IsExclude => (Asked::default(), self.exclude(change, kind, &listed)),
            RecordKind::ToExclude => {
                let refused = self.exclude(change, kind, &listed);
                (self.running(&listed), refused)
            }
            RecordKind::Block => {
                let refused = match self.mode {
                    FilterMode::Include => 0,
                    FilterMode::Exclude { until } => self.list(change.room, &listed, Some(until)),
                };
                (self.running(&listed), refused)
            }
        }
    }

    /// The listed sources whose timer runs.
    fn running(&self, listed: &BTreeSet<IpAddr>) -> Asked {
        let is_running =
            |address: &IpAddr| self.sources.get(address).is_some_and(|found| found.until.is_some());
        Asked { group: false, sources: listed.iter().copied().filter(is_running).collect() }
    }

    /// INCLUDE (A+B), or EXCLUDE (X+A, Y-A), with new timers.
    fn include(&mut self, change: &ChangeContext<'_>, listed: &BTreeSet<IpAddr>) -> usize {
        let end = change.membership_end();
        let refused = self.list(change.room, listed, Some(end));
        for address in listed {
            if let Some(source) = self.sources.get_mut(address).filter(|source| source.until != Some(FOREVER))
            {
                *source = Source { until: Some(end), queries: 0 };
            }
        }
        refused
    }

    /// EXCLUDE (A*B, B-A), or EXCLUDE (A-Y, Y*A).
    fn exclude(&mut self, change: &ChangeContext<'_>, kind: RecordKind, listed: &BTreeSet<IpAddr>) -> usize {
        let end = change.membership_end();
        let new = match self.mode {
            FilterMode::Include => None,
            FilterMode::Exclude { .. } if kind == RecordKind::IsExclude => Some(end),
            FilterMode::Exclude { until } => Some(until),
        };
        self.sources.retain(|address, source| listed.contains(address) || source.until == Some(FOREVER));
        let refused = self.list(change.room, listed, new);
        self.mode = FilterMode::Exclude { until: end };
        self.group_queries = 0;
        refused
    }

    /// Adds the sources that are not listed yet, with this end of their timers. Returns how many found no room.
    fn list(&mut self, room: usize, listed: &BTreeSet<IpAddr>, until: Option<Tick>) -> usize {
        let room = room.min(MAX_SOURCES.saturating_sub(self.sources.len()));
        let new: Vec<IpAddr> = listed.iter().copied().filter(|at| !self.sources.contains_key(at)).collect();
        let added = new.iter().take(room).map(|address| (*address, Source { until, queries: 0 }));
        self.sources.extend(added);
        new.len().saturating_sub(room)
    }

    /// Lowers the timers of what is asked for, so that it ends unless a host reports it again.
    pub(super) fn lower(&mut self, asked: &Asked, end: Tick) {
        let lower = |until: &mut Tick| {
            if *until != FOREVER {
                *until = (*until).min(end);
            }
        };
        if let (true, FilterMode::Exclude { until }) = (asked.group, &mut self.mode) {
            lower(until);
        }
        for address in &asked.sources {
            if let Some(until) = self.sources.get_mut(address).and_then(|source| source.until.as_mut()) {
                lower(until);
            }
        }
    }

    /// Repeats the queries for what is asked for, from now on, until it is reported again.
    pub(super) fn query(&mut self, now: Tick, asked: &Asked, settings: &MdbSettings) {
        if asked.group && self.wants_others() {
            self.group_queries = settings.last_member_count;
        }
        for address in &asked.sources {
            if let Some(source) = self.sources.get_mut(address).filter(|found| found.until != Some(FOREVER)) {
                source.queries = settings.last_member_count;
            }
        }
        self.next_query = now;
    }

    /// The queries that are due, and when the next are.
    pub(super) fn due_queries(&mut self, now: Tick, settings: &MdbSettings) -> Asked {
        if self.next_query > now {
            return Asked::default();
        }
        let take = |queries: &mut u8| {
            let is_due = *queries > 0;
            *queries = queries.saturating_sub(1);
            is_due
        };
        let group = take(&mut self.group_queries);
        let due = self
            .sources
            .iter_mut()
            .filter_map(|(address, source)| take(&mut source.queries).then_some(*address));
        let asked = Asked { group, sources: due.collect() };
        let more = self.group_queries > 0 || self.sources.values().any(|source| source.queries > 0);
        self.next_query = if more { after(now, settings.last_member_interval) } else { FOREVER };
        asked
    }

    /// Ends the timers that are over (RFC 3376 §6.3 and §6.5).
    pub(super) fn expire(&mut self, now: Tick) {
        let is_over = |source: &Source| source.until.is_some_and(|until| until <= now);
        match self.mode {
            FilterMode::Include => self.sources.retain(|_, source| !is_over(source)),
            FilterMode::Exclude { until } => {
                for source in self.sources.values_mut().filter(|source| is_over(source)) {
                    *source = Source { until: None, queries: 0 };
                }
                if until <= now {
                    self.leave_group();
                }
            }
        }
    }

    /// Ends what is asked for at once: fast leave.
    pub(super) fn end(&mut self, asked: &Asked) {
        for address in &asked.sources {
            let Some(source) = self.sources.get_mut(address) else { continue };
            match self.mode {
                _ if source.until == Some(FOREVER) => {}
                FilterMode::Exclude { .. } => source.until = None,
                FilterMode::Include => _ = self.sources.remove(address),
            }
        }
        if asked.group {
            self.leave_group();
        }
    }

    /// The group timer has ended: the sources that are still wanted are included.
    fn leave_group(&mut self) {
        self.mode = FilterMode::Include;
        self.group_queries = 0;
        self.sources.retain(|_, source| source.until.is_some());
    }

    /// Ends everything that the administrator has not added.
    pub(super) fn retain_permanent(&mut self) {
        if !self.is_permanent() {
            self.mode = FilterMode::Include;
        }
        self.sources.retain(|_, source| source.until == Some(FOREVER));
        (self.group_queries, self.next_query) = (0, FOREVER);
    }

    /// Adds a source by hand.
    pub(super) fn add_source(&mut self, address: IpAddr, until: Tick) {
        self.sources.insert(address, Source { until: Some(until), queries: 0 });
    }

    /// When [`GroupMembership::expire`] or [`GroupMembership::due_queries`] has something to do.
    pub(super) fn next_deadline(&self) -> Tick {
        let group = match self.mode {
            FilterMode::Include => FOREVER,
            FilterMode::Exclude { until } => until,
        };
        let sources = self.sources.values().filter_map(|source| source.until);
        sources.fold(group.min(self.next_query), Tick::min)
    }
}
