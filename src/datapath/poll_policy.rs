//! Whether a worker that has nothing to do looks for the next frame itself, or sleeps until the kernel wakes it.
//!
//! Being woken takes longer than all else that a frame goes through, and looking takes a CPU that others may need. So
//! by default a worker looks only while stations *talk*: one frame at a time, each soon after the one before, as requests
//! and answers are. A transfer in bulk needs its CPU for the stations, and hides the waking behind its queues. (KVM's
//! `halt_poll_ns` decides likewise, `virt/kvm/kvm_main.c`.)

use std::time::{Duration, Instant};

use super::engine::{Event, Wait};

/// How long a worker looks for the next frame itself before it sleeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BusyPoll {
    /// For 50 us, while stations talk.
    #[default]
    Adaptive,
    /// Always for that long; zero is never.
    For(Duration),
}

/// How soon a frame comes after another in a talk: with some 40 us to wake who answers, and the worker.
const PAUSE: Duration = Duration::from_micros(50);
/// Nobody talks in so long after a transfer in bulk.
const AFTER_BULK: Duration = Duration::from_millis(1);
/// So many frames in a turn are bulk.
const BULK_FRAMES: usize = 8;
/// A frame of so many bytes is bulk: a super-frame.
const BULK_BYTES: usize = 4096;

/// What a turn of an engine has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum BatchKind {
    Empty,
    Few,
    Bulk,
}

impl BatchKind {
    pub(super) fn of<B>(events: &[Event<B>]) -> BatchKind {
        let large =
            |event: &Event<B>| matches!(event, Event::Frame(arrival) if arrival.extent.length >= BULK_BYTES);
        match events {
            [] => BatchKind::Empty,
            _ if events.len() >= BULK_FRAMES || events.iter().any(large) => BatchKind::Bulk,
            _ => BatchKind::Few,
        }
    }
}

/// How frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TrafficPattern {
    /// Long after the one before.
    Idle,
    /// Soon after the one before.
    RequestResponse,
    /// In a transfer in bulk, or not long after one.
    Bulk,
}

/// A worker's.
#[derive(Debug)]
pub(super) struct PollPolicy {
    busy_poll: BusyPoll,
    /// When something came last.
    latest: Instant,
    latest_bulk: Option<Instant>,
    pattern: TrafficPattern,
}

impl PollPolicy {
    pub(super) fn new(busy_poll: BusyPoll, now: Instant) -> PollPolicy {
        PollPolicy { busy_poll, latest: now, latest_bulk: None, pattern: TrafficPattern::Idle }
    }

    /// How to wait for what comes next.
    pub(super) fn wait(&self, now: Instant) -> Wait {
        let time = match self.busy_poll {
            BusyPoll::For(time) => time,
            BusyPoll::Adaptive if self.pattern == TrafficPattern::RequestResponse => PAUSE,
            BusyPoll::Adaptive => Duration::ZERO,
        };
        if now.duration_since(self.latest) < time { Wait::Poll } else { Wait::Sleep }
    }

    /// How the last frames came.
    pub(super) fn pattern(&self) -> TrafficPattern {
        self.pattern
    }

    /// Takes note of a turn that is over.
    pub(super) fn note(&mut self, now: Instant, brought: BatchKind) {
        match brought {
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

    /// What a worker does after each of these, microseconds after the one before; and how long it looks then.
    fn look(busy_poll: BusyPoll, turns: &[(u64, BatchKind)]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut policy = PollPolicy::new(busy_poll, now - Duration::from_secs(1));
        let looks = |policy: &PollPolicy, now| {
            (0..).find(|us| policy.wait(now + Duration::from_micros(*us)) == Wait::Sleep).unwrap()
        };
        let after = |&(us, brought): &(u64, BatchKind)| {
            now += Duration::from_micros(us);
            policy.note(now, brought);
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
        let frames = |count: usize, length| -> Vec<Event<()>> {
            let extent = Extent { start: 0, length };
            let arrival = || Event::Frame(Arrival { port: PortId(0), buffer: (), extent, vnet: None });
            (0..count).map(|_| arrival()).collect()
        };
        let brought = [(0, 0), (7, 1514), (8, 60), (1, 4095), (1, 4096)]
            .map(|(count, length)| BatchKind::of(&frames(count, length)));
        assert_eq!(brought, [Empty, Few, Bulk, Few, Bulk]);
    }
}
