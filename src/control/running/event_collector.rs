//! Collects events from workers and counters.
//!
//! FDB notifications are read when a worker wakes the control task, at most ten times a second, so that
//! a worker need not wake it again meanwhile. Drops appear only in counters, which are compared once a
//! second while there is traffic. When no counter has changed for a second, control asks the workers to
//! wake it with the next frame. After one more comparison (for a frame that came
//! meanwhile) no timer runs.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::history::EventHistory;
use super::uplink::UplinkHosts;
use super::{HostNetwork, Running};
use crate::control::event::{DeviceAspect, Event, EventFilter, EventType};
use crate::control::report::{NewFdbState, Throttled};
use crate::datapath::{
    FdbEvent, FdbNotification, NOTIFICATIONS_PER_PORT, NOTIFICATIONS_PER_WORKER, RateLimiter,
};
use crate::switch::fdb::{FdbEntry, FdbKey, Learned};
use crate::switch::{PortCounts, PortId, Tick};

/// Least time between two reads of the workers' notifications.
const NOTIFICATION_INTERVAL: Duration = Duration::from_millis(100);
/// Interval of counter comparisons.
const COUNTER_INTERVAL: Duration = Duration::from_secs(1);

/// Events, and the timers that collect them.
#[derive(Debug)]
pub(super) struct EventCollector {
    pub(super) history: EventHistory,
    /// Rate limit of events that control itself finds: expired entries, drops.
    budget: RateLimiter,
    /// Events beyond the rate limit, by port.
    suppressed: BTreeMap<PortId, u64>,
    /// When to read notifications, if a worker has sent some.
    pub(super) drain_at: Option<Instant>,
    last_drain: Instant,
    /// When to compare the counters, if a comparison is due.
    pub(super) compare_at: Option<Instant>,
    /// The hosts that each uplink had in the last comparison.
    pub(super) uplink_hosts: BTreeMap<PortId, UplinkHosts>,
    /// No counter changed in the last comparison, so the next one is the last.
    last_comparison: bool,
}

impl EventCollector {
    /// A collector without events or timers.
    pub(super) fn new() -> EventCollector {
        EventCollector {
            history: EventHistory::default(),
            budget: RateLimiter::new(NOTIFICATIONS_PER_PORT, NOTIFICATIONS_PER_WORKER),
            suppressed: BTreeMap::new(),
            drain_at: None,
            last_drain: Instant::now(),
            compare_at: None,
            uplink_hosts: BTreeMap::new(),
            last_comparison: false,
        }
    }

    /// A worker has sent something: starts the timers.
    pub(super) fn on_wakeup(&mut self) {
        let now = Instant::now();
        self.drain_at.get_or_insert(now.max(self.last_drain + NOTIFICATION_INTERVAL));
        self.compare_at.get_or_insert(now + COUNTER_INTERVAL);
    }

    /// Waits for the next timer. Never returns while no timer runs.
    pub(super) fn due(&self) -> impl Future<Output = ()> + 'static {
        let next = [self.drain_at, self.compare_at].into_iter().flatten().min();
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// Runs what is due.
    pub(super) fn collect_events(&mut self) {
        let now = Instant::now();
        if self.events.drain_at.is_some_and(|due| due <= now) {
            self.drain_fdb_notifications();
            (self.events.drain_at, self.events.last_drain) = (None, now);
        }
        if self.events.compare_at.is_some_and(|due| due <= now) {
            let moved = self.compare_counters();
            self.compare_uplinks();
            self.datapath.ping_workers();
            self.network.check_settings();
            let asleep = !moved && self.events.last_comparison;
            self.events.compare_at = (!asleep).then_some(now + COUNTER_INTERVAL);
            self.events.last_comparison = !moved && !asleep;
            if self.events.last_comparison {
                self.datapath.wake_on_next_frame();
            }
        }
    }

    /// Turns the workers' FDB notifications into events.
    pub(super) fn drain_fdb_notifications(&mut self) {
        let notifications: Vec<FdbNotification> = self.datapath.fdb_notifications().collect();
        for notification in notifications {
            for event in self.fdb_events(&notification).into_iter().flatten() {
                self.events.history.add(event);
            }
        }
    }

    /// Matching events until now, the oldest first, with those whose notifications are waiting.
    pub(super) fn recorded_events(&mut self, filter: &EventFilter) -> Vec<Event> {
        self.drain_fdb_notifications();
        self.events.history.events(filter)
    }

    /// An eviction makes two events.
    fn fdb_events(&self, notification: &FdbNotification) -> [Option<Event>; 2] {
        let &FdbNotification { at, port, key, event: fdb_event } = notification;
        let time = Timestamp::try_from(at).unwrap_or_else(|_| Timestamp::now());
        let event = |kind, port, key| Event { time, ..self.fdb_event(kind, port, key) };
        let here = |kind| event(kind, port, key);
        let only = |event| [Some(event), None];
        match fdb_event {
            FdbEvent::UnknownDestination => only(here(EventType::Flooded)),
            FdbEvent::Source(Learned::New) => only(here(EventType::Learned)),
            FdbEvent::Source(Learned::Moved { from, .. }) => {
                only(Event { other: self.port_ifname(from), ..here(EventType::Moved) })
            }
            FdbEvent::Source(Learned::Returned { after }) => {
                let silent = Some(after / Tick::PER_SECOND);
                only(Event { silent, ..here(EventType::Returned) })
            }
            FdbEvent::Source(Learned::Evicted { from, gone }) => {
                let evicted =
                    Event { other: self.port_ifname(port), ..event(EventType::Evicted, from, gone) };
                [Some(evicted), Some(here(EventType::Learned))]
            }
            FdbEvent::Source(learned @ (Learned::Refused | Learned::LimitReached)) => {
                let limit = if learned == Learned::Refused { "fdb_max" } else { "fdb_max_learned" };
                only(Event { reason: Some(limit.to_owned()), ..here(EventType::Refused) })
            }
            FdbEvent::Source(
                Learned::Known
                | Learned::Static
                | Learned::Pinned { .. }
                | Learned::Reserved { .. }
                | Learned::Off,
            ) => [None, None],
        }
    }

    /// Turns changed counters into events. Returns whether any counter changed.
    fn compare_counters(&mut self) -> bool {
        let mut moved = false;
        let totals: Vec<_> = self.ports.keys().map(|id| (*id, self.totals(*id))).collect();
        for (id, totals) in totals {
            let Some(port) = self.ports.get_mut(&id) else { continue };
            let gained = totals.since(&port.compared);
            moved |= totals != port.compared;
            port.compared = totals;
            let throttled = throttled(&gained);
            let before = std::mem::replace(&mut port.throttled, throttled.clone());
            for why in throttled.into_iter().filter(|why| !before.contains(why)) {
                self.emit(id, |running| Event {
                    reason: Some(why.name().to_owned()),
                    ..running.port_event(EventType::Throttled, id)
                });
            }
            for (reason, count) in gained.reasons().filter(|(reason, _)| !reason.is_routine()) {
                self.emit(id, |running| Event {
                    reason: Some(reason.name().to_owned()),
                    count: Some(count),
                    ..running.port_event(EventType::Dropped, id)
                });
            }
            self.suppress(id, gained.suppressed);
        }
        self.emit_suppressed();
        moved
    }

    /// Records an event that control found, within the rate limit.
    pub(super) fn emit(&mut self, port: PortId, event: impl FnOnce(&Self) -> Event) {
        if self.events.budget.allow(self.datapath.now(), port) {
            let event = event(self);
            self.events.history.add(event);
        } else {
            self.suppress(port, 1);
        }
    }

    fn suppress(&mut self, port: PortId, count: u64) {
        if count > 0 {
            *self.events.suppressed.entry(port).or_default() += count;
        }
    }

    /// Records the number of suppressed events since the last call.
    pub(super) fn emit_suppressed(&mut self) {
        for (port, count) in std::mem::take(&mut self.events.suppressed) {
            let event = Event { count: Some(count), ..self.port_event(EventType::Lost, port) };
            self.events.history.add(event);
        }
    }

    /// Records that an entry has expired.
    pub(super) fn emit_aged(&mut self, entry: &FdbEntry) {
        self.emit(entry.port, |running| running.fdb_event(EventType::Aged, entry.port, entry.key));
    }

    /// Records that another program changed a port's device.
    pub(super) fn emit_port_changed(&mut self, port: PortId, aspect: DeviceAspect, value: String) {
        self.emit(port, |running| Event {
            change: Some(aspect),
            value: Some(value),
            ..running.port_event(EventType::PortChanged, port)
        });
    }

    /// Records an event of a port. Earlier notifications come first.
    pub(super) fn emit_port_event(&mut self, kind: EventType, port: PortId) {
        self.drain_fdb_notifications();
        self.events.history.add(self.port_event(kind, port));
    }

    /// Records that a port has gone down, and why.
    pub(super) fn emit_port_down(&mut self, port: PortId) {
        self.emit_admin_event(|running| Event {
            reason: running.ports.get(&port).map(|record| record.down_reason().to_owned()),
            ..running.port_event(EventType::PortDown, port)
        });
    }

    /// Records an entry that the API added. Earlier notifications come first, here and below.
    pub(super) fn emit_fdb_added(&mut self, port: PortId, key: FdbKey, state: NewFdbState) {
        let state = Some(state);
        self.emit_admin_event(|running| Event { state, ..running.fdb_event(EventType::FdbAdded, port, key) });
    }

    /// Records an entry that the API deleted.
    pub(super) fn emit_fdb_removed(&mut self, gone: &FdbEntry) {
        self.emit_admin_event(|running| running.fdb_event(EventType::FdbRemoved, gone.port, gone.key));
    }

    /// Records a flush of `count` entries of one port or of all.
    pub(super) fn emit_fdb_flushed(&mut self, port: Option<PortId>, count: usize) {
        let (ifname, count) = (port.and_then(|port| self.port_ifname(port)), u64::try_from(count).ok());
        self.emit_admin_event(|_| Event {
            ifname,
            count,
            ..Event::at(Timestamp::now(), EventType::FdbFlushed)
        });
    }

    fn emit_admin_event(&mut self, event: impl FnOnce(&Self) -> Event) {
        self.drain_fdb_notifications();
        let event = event(self);
        self.events.history.add(event);
    }

    pub(super) fn port_event(&self, kind: EventType, port: PortId) -> Event {
        Event { ifname: self.port_ifname(port), ..Event::at(Timestamp::now(), kind) }
    }

    fn fdb_event(&self, kind: EventType, port: PortId, key: FdbKey) -> Event {
        let vlan = (key.vlan != 0).then_some(key.vlan);
        Event { mac: Some(key.mac), vlan, ..self.port_event(kind, port) }
    }

    pub(super) fn port_ifname(&self, port: PortId) -> Option<String> {
        self.ports.get(&port).map(|port| port.name.clone())
    }
}

/// Why a port was throttled while it gained these counts.
fn throttled(gained: &PortCounts) -> Vec<Throttled> {
    let ingress = (gained.throttled_us > 0).then_some(Throttled::Ingress);
    let egress = (gained.background > 0).then_some(Throttled::Egress);
    ingress.into_iter().chain(egress).collect()
}
