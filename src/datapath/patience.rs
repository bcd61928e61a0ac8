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
pub(super) enum Brought {
    Nothing,
    Talk,
    Bulk,
}

impl Brought {
    pub(super) fn of<B>(events: &[Event<B>]) -> Brought {
        let large =
            |event: &Event<B>| matches!(event, Event::Frame(arrival) if arrival.extent.length >= BULK_BYTES);
        match events {
            [] => Brought::Nothing,
            _ if events.len() >= BULK_FRAMES || events.iter().any(large) => Brought::Bulk,
            _ => Brought::Talk,
        }
    }
}

/// How frames come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pace {
    /// Long after the one before.
    Alone,
    /// Soon after the one before.
    Talk,
    /// In a transfer in bulk, or not long after one.
    Bulk,
}

/// A worker's.
#[derive(Debug)]
pub(super) struct Patience {
    busy_poll: BusyPoll,
    /// When something came last.
    latest: Instant,
    latest_bulk: Option<Instant>,
    pace: Pace,
}

impl Patience {
    pub(super) fn new(busy_poll: BusyPoll, now: Instant) -> Patience {
        Patience { busy_poll, latest: now, latest_bulk: None, pace: Pace::Alone }
    }

    /// How to wait for what comes next.
    pub(super) fn wait(&self, now: Instant) -> Wait {
        let time = match self.busy_poll {
            BusyPoll::For(time) => time,
            BusyPoll::Adaptive if self.pace == Pace::Talk => PAUSE,
            BusyPoll::Adaptive => Duration::ZERO,
        };
        if now.duration_since(self.latest) < time { Wait::Poll } else { Wait::Sleep }
    }

    /// How the last frames came.
    pub(super) fn pace(&self) -> Pace {
        self.pace
    }

    /// Takes note of a turn that is over.
    pub(super) fn note(&mut self, now: Instant, brought: Brought) {
        match brought {
            Brought::Nothing => return,
            Brought::Bulk => self.latest_bulk = Some(now),
            Brought::Talk => {}
        }
        let after_bulk = self.latest_bulk.is_some_and(|bulk| now.duration_since(bulk) < AFTER_BULK);
        self.pace = match now.duration_since(self.latest) {
            _ if after_bulk => Pace::Bulk,
            pause if pause < PAUSE => Pace::Talk,
            _ => Pace::Alone,
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
    fn look(busy_poll: BusyPoll, turns: &[(u64, Brought)]) -> Vec<u64> {
        let mut now = Instant::now();
        let mut patience = Patience::new(busy_poll, now - Duration::from_secs(1));
        let looks = |patience: &Patience, now| {
            (0..).find(|us| patience.wait(now + Duration::from_micros(*us)) == Wait::Sleep).unwrap()
        };
        let after = |&(us, brought): &(u64, Brought)| {
            now += Duration::from_micros(us);
            patience.note(now, brought);
            looks(&patience, now)
        };
        turns.iter().map(after).collect()
    }

    use Brought::{Bulk, Nothing, Talk};

    #[test]
    fn a_talk_is_listened_to_and_a_pause_ends_it() {
        let turns = [(900, Talk), (20, Talk), (49, Talk), (30, Nothing), (50, Talk), (10, Talk)];
        assert_eq!(look(BusyPoll::Adaptive, &turns), [0, 50, 50, 20, 0, 50]);
    }

    #[test]
    fn bulk_and_what_comes_soon_after_is_not_waited_for() {
        let turns = [(900, Talk), (5, Bulk), (5, Bulk), (5, Talk), (5, Talk), (990, Talk), (5, Talk)];
        assert_eq!(look(BusyPoll::Adaptive, &turns), [0, 0, 0, 0, 0, 0, 50]);
    }

    #[test]
    fn a_time_is_a_time() {
        let turns = [(900, Talk), (5, Bulk), (900, Nothing), (99, Talk)];
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
            .map(|(count, length)| Brought::of(&frames(count, length)));
        assert_eq!(brought, [Nothing, Talk, Bulk, Talk, Bulk]);
    }
}
