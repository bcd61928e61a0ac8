//! Sees what happens at a running switch, and makes events of it.
//!
//! Stations are heard of when a worker calls, but not more often than ten times a second: meanwhile more has been
//! told, and the worker need not call again. Drops only show in counters. These are compared once a second while
//! frames come; when nothing has moved for a second, the workers are to call with the next frame, and after one last
//! look (a frame may have come meanwhile) nothing runs any more.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::history::History;
use super::ports::Link;
use super::{Machine, Running};
use crate::control::event::{Event, EventType};
use crate::control::report::NewFdbState;
use crate::datapath::{Budget, PER_PORT, PER_WORKER, Sight, Sighting};
use crate::switch::fdb::{FdbEntry, FdbKey, Learned};
use crate::switch::{PortId, Tick};

/// Least time between two hearings of the workers.
const PAUSE: Duration = Duration::from_millis(100);
/// Time between two looks at the counters.
const PERIOD: Duration = Duration::from_secs(1);

/// What has been seen, and when to look again.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) history: History,
    /// Of what control finds by itself: aged stations, drops.
    budget: Budget,
    /// What was beyond it, by port.
    untold: BTreeMap<PortId, u64>,
    /// When to hear the workers, if one has called.
    pub(super) hear: Option<Instant>,
    heard: Instant,
    /// When to compare the counters, unless nothing runs.
    pub(super) compare: Option<Instant>,
    /// Nothing had moved, so the next look is the last.
    dozing: bool,
}

impl Watch {
    /// Nothing has been seen.
    pub(super) fn new() -> Watch {
        Watch {
            history: History::default(),
            budget: Budget::new(PER_PORT, PER_WORKER),
            untold: BTreeMap::new(),
            hear: None,
            heard: Instant::now(),
            compare: None,
            dozing: false,
        }
    }

    /// A worker has called: when to look is known from now on.
    pub(super) fn called(&mut self) {
        let now = Instant::now();
        self.hear.get_or_insert(now.max(self.heard + PAUSE));
        self.compare.get_or_insert(now + PERIOD);
    }

    /// Resolves when it is time to look: never, while nothing runs.
    pub(super) fn due(&self) -> impl Future<Output = ()> + 'static {
        let next = [self.hear, self.compare].into_iter().flatten().min();
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl<M: Machine> Running<M> {
    /// Does what is due.
    pub(super) fn look(&mut self) {
        let now = Instant::now();
        if self.watch.hear.is_some_and(|due| due <= now) {
            self.hear_of_stations();
            (self.watch.hear, self.watch.heard) = (None, now);
        }
        if self.watch.compare.is_some_and(|due| due <= now) {
            let moved = self.compare_counters();
            let asleep = !moved && self.watch.dozing;
            self.watch.compare = (!asleep).then_some(now + PERIOD);
            self.watch.dozing = !moved && !asleep;
            if self.watch.dozing {
                self.datapath.doze();
            }
        }
    }

    /// Makes events of what the workers tell of stations.
    pub(super) fn hear_of_stations(&mut self) {
        let sightings: Vec<Sighting> = self.datapath.sightings().collect();
        for sighting in sightings {
            for event in self.events_of(&sighting).into_iter().flatten() {
                self.watch.history.add(event);
            }
        }
    }

    /// A station that comes in the place of another makes two.
    fn events_of(&self, sighting: &Sighting) -> [Option<Event>; 2] {
        let &Sighting { at, port, key, sight } = sighting;
        let time = Timestamp::try_from(at).unwrap_or_else(|_| Timestamp::now());
        let event = |kind, port, key| Event { time, ..self.of_station(kind, port, key) };
        let here = |kind| event(kind, port, key);
        let only = |event| [Some(event), None];
        match sight {
            Sight::Unknown => only(here(EventType::Flooded)),
            Sight::Source(Learned::New) => only(here(EventType::Learned)),
            Sight::Source(Learned::Moved { from }) => {
                only(Event { other: self.name_of(from), ..here(EventType::Moved) })
            }
            Sight::Source(Learned::Returned { after }) => {
                let silent = Some(after / Tick::PER_SECOND);
                only(Event { silent, ..here(EventType::Returned) })
            }
            Sight::Source(Learned::Evicted { from, gone }) => {
                let evicted = Event { other: self.name_of(port), ..event(EventType::Evicted, from, gone) };
                [Some(evicted), Some(here(EventType::Learned))]
            }
            Sight::Source(Learned::Refused) => only(here(EventType::Refused)),
            Sight::Source(Learned::Known | Learned::Pinned | Learned::Off) => [None, None],
        }
    }

    /// Makes events of what was counted since the last time; whether anything was.
    fn compare_counters(&mut self) -> bool {
        let mut moved = false;
        let totals: Vec<_> = self.ports.keys().map(|id| (*id, self.totals(*id))).collect();
        for (id, totals) in totals {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            let gained = totals.since(&port.compared);
            moved |= totals != port.compared;
            port.compared = totals;
            for (reason, count) in gained.reasons() {
                self.tell(id, |running| Event {
                    reason: Some(reason.name().to_owned()),
                    count: Some(count),
                    ..running.of_port(EventType::Dropped, id)
                });
            }
            self.lose(id, gained.untold);
        }
        self.tell_untold();
        moved
    }

    /// Something that control found by itself, unless there is too much of it.
    fn tell(&mut self, port: PortId, event: impl FnOnce(&Self) -> Event) {
        if self.watch.budget.spend(self.datapath.now(), port) {
            let event = event(self);
            self.watch.history.add(event);
        } else {
            self.lose(port, 1);
        }
    }

    fn lose(&mut self, port: PortId, count: u64) {
        if count > 0 {
            *self.watch.untold.entry(port).or_default() += count;
        }
    }

    /// How much there was too much of, since the last call.
    pub(super) fn tell_untold(&mut self) {
        for (port, count) in std::mem::take(&mut self.watch.untold) {
            let event = Event { count: Some(count), ..self.of_port(EventType::Lost, port) };
            self.watch.history.add(event);
        }
    }

    /// A station has aged.
    pub(super) fn tell_aged(&mut self, entry: &FdbEntry) {
        self.tell(entry.port, |running| running.of_station(EventType::Aged, entry.port, entry.key));
    }

    /// A port has come or gone, or its link has changed. What was seen there before comes first.
    pub(super) fn tell_port(&mut self, kind: EventType, port: PortId) {
        self.hear_of_stations();
        self.watch.history.add(self.of_port(kind, port));
    }

    /// Somebody added an entry. What was seen before that comes first, here and below.
    pub(super) fn tell_added(&mut self, port: PortId, key: FdbKey, state: NewFdbState) {
        let state = Some(state);
        self.tell_by_hand(|running| Event { state, ..running.of_station(EventType::FdbAdded, port, key) });
    }

    /// Somebody deleted an entry.
    pub(super) fn tell_removed(&mut self, gone: &FdbEntry) {
        self.tell_by_hand(|running| running.of_station(EventType::FdbRemoved, gone.port, gone.key));
    }

    /// Somebody flushed so many entries of a port, or of all.
    pub(super) fn tell_flushed(&mut self, port: Option<PortId>, count: usize) {
        let (ifname, count) = (port.and_then(|port| self.name_of(port)), u64::try_from(count).ok());
        self.tell_by_hand(|_| Event { ifname, count, ..Event::at(Timestamp::now(), EventType::FdbFlushed) });
    }

    fn tell_by_hand(&mut self, event: impl FnOnce(&Self) -> Event) {
        self.hear_of_stations();
        let event = event(self);
        self.watch.history.add(event);
    }

    fn of_port(&self, kind: EventType, port: PortId) -> Event {
        Event { ifname: self.name_of(port), ..Event::at(Timestamp::now(), kind) }
    }

    fn of_station(&self, kind: EventType, port: PortId, key: FdbKey) -> Event {
        let vlan = (key.vlan != 0).then_some(key.vlan);
        Event { mac: Some(key.mac), vlan, ..self.of_port(kind, port) }
    }

    fn name_of(&self, port: PortId) -> Option<String> {
        self.ports.get(&port).map(|port| port.name.clone())
    }
}

impl Link {
    /// What there is to tell of a change from `before`.
    pub(super) fn change(self, before: Link) -> Option<EventType> {
        match self {
            _ if self == before => None,
            Link::Up => Some(EventType::PortUp),
            Link::Down => Some(EventType::PortDown),
            Link::Gone => Some(EventType::PortGone),
        }
    }
}
