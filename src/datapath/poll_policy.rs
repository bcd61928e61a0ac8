//! Decides whether an idle worker busy-polls for the next frame or sleeps until the kernel wakes it.
//!
//! A wake-up takes longer than everything else on a frame's path, and busy polling takes CPU time that others may
//! need. By default a worker busy-polls only during request-response traffic: few frames at a time, each soon after
//! the one before. During a bulk transfer the hosts need the CPU, and their queues hide the wake-up. (KVM's
//! `halt_poll_ns` uses a similar rule, `virt/kvm/kvm_main.c`.)

use std::time::{Duration, Instant};

use super::engine::{EngineEvent, Wait};

/// How long a worker busy-polls before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusyPoll {
    /// 50 us during request-response traffic, otherwise not at all.
    #[default]
    Adaptive,
    /// Always this long; zero disables busy polling.
    For(Duration),
}

/// Longest gap between frames of request-response traffic. Waking the process that answers takes some 40 us.
const PAUSE: Duration = Duration::from_micros(50);
/// Time after a bulk batch in which traffic still counts as bulk.
const AFTER_BULK: Duration = Duration::from_millis(1);
/// A batch of this many frames is bulk.
const BULK_FRAMES: usize = 8;
/// A frame of this many bytes is bulk: a super-frame.
const BULK_BYTES: usize = 4096;

/// What one turn of the engine received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchKind {
    Empty,
    Few,
    Bulk,
}

impl BatchKind {
    pub(super) fn of<B>(events: &[EngineEvent<B>]) -> BatchKind {
        let large = |event: &EngineEvent<B>| matches!(event, EngineEvent::Frame(arrival) if arrival.extent.length >= BULK_BYTES);
        match events {
            [] => BatchKind::Empty,
            _ if events.len() >= BULK_FRAMES || events.iter().any(large) => BatchKind::Bulk,
            _ => BatchKind::Few,
        }
    }
}

/// How frames arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrafficPattern {
    /// A long time after the frame before.
    Idle,
    /// A few at a time, each soon after the one before.
    RequestResponse,
    /// In a bulk transfer, or shortly after one.
    Bulk,
}

/// The policy of one worker, and what it has seen.
#[derive(Debug)]
pub(super) struct PollPolicy {
    busy_poll: BusyPoll,
    /// Time of the last frame.
    latest: Instant,
    latest_bulk: Option<Instant>,
    pattern: TrafficPattern,
}

impl PollPolicy {
    pub(super) fn new(busy_poll: BusyPoll, now: Instant) -> PollPolicy {
        PollPolicy { busy_poll, latest: now, latest_bulk: None, pattern: TrafficPattern::Idle }
    }

    /// How to wait for the next frame.
    pub(super) fn wait(&self, now: Instant) -> Wait {
        let time = match self.busy_poll {
            BusyPoll::For(time) => time,
            BusyPoll::Adaptive if self.pattern == TrafficPattern::RequestResponse => PAUSE,
            BusyPoll::Adaptive => Duration::ZERO,
        };
        if now.duration_since(self.latest) < time { Wait::Poll } else { Wait::Sleep }
    }

    /// How the last frames arrived.
    pub(super) fn pattern(&self) -> TrafficPattern {
        self.pattern
    }

    /// Updates the policy after a turn.
    pub(super) fn note(&mut self, now: Instant, batch: BatchKind) {
        match batch {
            BatchKind::Empty => return,
            BatchKind::Bulk => self.latest_bulk = Some(now),
            BatchKind::Few => {}
        }
        let after_bulk = self.latest_bulk.is_some_and(|bulk| now.duration_since(bulk) < AFTER_BULK);
        self.pattern = match now.duration_since(self.latest) {
            _ if after_bulk => TrafficPattern::Bulk,
            pause if pause < PAUSE => TrafficPattern::RequestResponse,
            _ => TrafficPattern::Idle,
        };
        self.latest = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::engine::{Arrival, Extent};
    use crate::switch::PortId;

    /// Runs turns, each so many microseconds after the one before; after each, how long the worker would busy-poll.
    fn look(busy_poll: BusyPoll, turns: &[(u64, BatchKind)]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut policy = PollPolicy::new(busy_poll, now - Duration::from_secs(1));
        let looks = |policy: &PollPolicy, now| {
            (0..).find(|us| policy.wait(now + Duration::from_micros(*us)) == Wait::Sleep).unwrap()
        };
        let after = |&(us, batch): &(u64, BatchKind)| {
            now += Duration::from_micros(us);
            policy.note(now, batch);
            looks(&policy, now)
        };
        turns.iter().map(after).collect()
    }

    use BatchKind::{Bulk, Empty, Few};

    #[test]
    fn busy_polls_during_request_response_until_a_gap() {
        let turns = [(900, Few), (20, Few), (49, Few), (30, Empty), (50, Few), (10, Few)];
        assert_eq!(look(BusyPoll::Adaptive, &turns), [0, 50, 50, 20, 0, 50]);
    }

    #[test]
    fn does_not_busy_poll_during_or_soon_after_bulk() {
        let turns = [(900, Few), (5, Bulk), (5, Bulk), (5, Few), (5, Few), (990, Few), (5, Few)];
        assert_eq!(look(BusyPoll::Adaptive, &turns), [0, 0, 0, 0, 0, 0, 50]);
    }

    #[test]
    fn busy_polls_for_the_configured_time() {
        let turns = [(900, Few), (5, Bulk), (900, Empty), (99, Few)];
        assert_eq!(look(BusyPoll::For(Duration::from_micros(100)), &turns), [100, 100, 0, 100]);
        assert_eq!(look(BusyPoll::For(Duration::ZERO), &turns), [0; 4]);
    }

    #[test]
    fn many_frames_or_a_large_one_are_bulk() {
        let frames = |count: usize, length| -> Vec<EngineEvent<()>> {
            let extent = Extent { start: 0, length };
            let arrival = || EngineEvent::Frame(Arrival { port: PortId(0), buffer: (), extent, vnet: None });
            (0..count).map(|_| arrival()).collect()
        };
        let batch = [(0, 0), (7, 1514), (8, 60), (1, 4095), (1, 4096)]
            .map(|(count, length)| BatchKind::of(&frames(count, length)));
        assert_eq!(batch, [Empty, Few, Bulk, Few, Bulk]);
    }
}
