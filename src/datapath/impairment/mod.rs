//! Impairment of a link, as tc-netem(8): delay, jitter, loss, duplication, reordering, corruption and a rate.
//!
//! An [`ImpairedLink`] has no clock and no device: it takes copies of frames and says when each is due. With the same
//! seed, frames and times it does the same. It holds at most [`MAX_FRAMES`] frames and [`MAX_BYTES`] bytes.

mod random;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use random::Random;

/// Most frames that wait (the default limit of netem).
pub const MAX_FRAMES: usize = 1000;
/// Most bytes that wait.
pub const MAX_BYTES: usize = 4 << 20;
const NANOS: u64 = 1_000_000_000;

/// A probability in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Probability(pub u32);

impl Probability {
    /// Certainty.
    pub const ONE: Probability = Probability(1_000_000);
}

/// How the delay varies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Distribution {
    /// Evenly within the jitter.
    #[default]
    Uniform,
    /// With the jitter as standard deviation.
    Normal,
    /// A Pareto distribution of shape 3, with the jitter as standard deviation: few frames are much later.
    Pareto,
}

/// The impairment of frames in one direction.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Impairment {
    /// Delay of each frame.
    pub delay: Duration,
    /// Variation of the delay.
    pub jitter: Duration,
    /// How it varies.
    pub distribution: Distribution,
    /// Frames that are lost.
    pub loss: Probability,
    /// Frames that are sent twice.
    pub duplicate: Probability,
    /// Frames that are not delayed, so that they overtake others.
    pub reorder: Probability,
    /// Frames of which a random bit is inverted.
    pub corrupt: Probability,
    /// Rate of the link in bits per second; 0: unlimited.
    pub rate: u64,
}

impl Impairment {
    /// Whether it leaves frames as they are.
    pub fn is_none(&self) -> bool {
        *self == Impairment { distribution: self.distribution, ..Impairment::default() }
    }
}

/// What happened to a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Fate {
    /// Copies that wait to be sent: 0 to 2.
    pub(super) queued: u8,
    /// Copies that found the queue full.
    pub(super) refused: u8,
    /// It was lost.
    pub(super) lost: bool,
}

/// When a link with a rate has sent everything. The workers share one, and so the rate.
#[derive(Debug, Clone, Default)]
pub(super) struct Schedule(Arc<AtomicU64>);

impl Schedule {
    /// Appends a frame that is ready at `ready` and takes so long; when it is sent.
    fn append(&self, ready: u64, time: u64) -> u64 {
        let end = |idle_at: u64| ready.max(idle_at).saturating_add(time);
        let order = Ordering::Relaxed;
        // The closure never refuses.
        self.0.fetch_update(order, order, |idle_at| Some(end(idle_at))).map_or(ready, end)
    }
}

/// What a link is set up with.
#[derive(Debug, Clone, Default)]
pub(super) struct LinkSetup {
    pub(super) impairment: Impairment,
    /// Seed of the random numbers.
    pub(super) seed: u64,
    pub(super) schedule: Schedule,
}

/// A frame that waits, ordered by its time and then by its arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct DelayedFrame {
    due: u64,
    number: u64,
    frame: Box<[u8]>,
}

/// An impaired direction of a port. Times are nanoseconds of one clock.
#[derive(Debug)]
pub(super) struct ImpairedLink {
    impairment: Impairment,
    random: Random,
    schedule: Schedule,
    waiting: BinaryHeap<Reverse<DelayedFrame>>,
    bytes: usize,
    /// Frames so far.
    number: u64,
}

impl ImpairedLink {
    /// A link on which nothing waits.
    pub(super) fn new(setup: LinkSetup) -> ImpairedLink {
        let LinkSetup { impairment, seed, schedule } = setup;
        ImpairedLink {
            impairment,
            random: Random::new(seed),
            schedule,
            waiting: BinaryHeap::new(),
            bytes: 0,
            number: 0,
        }
    }

    /// Changes the impairment. Frames that wait are sent when they were due; without an impairment at once, in the same
    /// order.
    pub(super) fn set(&mut self, setup: LinkSetup) {
        let LinkSetup { impairment, seed, schedule } = setup;
        (self.impairment, self.random, self.schedule) = (impairment, Random::new(seed), schedule);
        if impairment.is_none() {
            let mut waiting = Vec::with_capacity(self.waiting.len());
            while let Some(Reverse(next)) = self.waiting.pop() {
                waiting.push(next);
            }
            let at_once =
                |(number, next): (u64, DelayedFrame)| Reverse(DelayedFrame { due: 0, number, ..next });
            self.waiting = (0..).zip(waiting).map(at_once).collect();
        }
    }

    /// Whether it has no impairment and nothing waits.
    pub(super) fn is_finished(&self) -> bool {
        self.impairment.is_none() && self.waiting.is_empty()
    }

    /// Takes a copy of a frame.
    pub(super) fn take(&mut self, now: u64, frame: &[u8]) -> Fate {
        let Impairment { loss, duplicate, .. } = self.impairment;
        // As netem: a frame that is lost and duplicated is sent once.
        let twice = self.random.happens(duplicate);
        let lost = self.random.happens(loss);
        let copies = 1 + u8::from(twice) - u8::from(lost);
        let queued = (0..copies).filter(|_| self.queue(now, frame)).count();
        let queued = u8::try_from(queued).unwrap_or(copies);
        Fate { queued, refused: copies - queued, lost: copies == 0 }
    }

    /// Queues a copy; false if there is no room.
    fn queue(&mut self, now: u64, frame: &[u8]) -> bool {
        if self.waiting.len() >= MAX_FRAMES || self.bytes + frame.len() > MAX_BYTES {
            return false;
        }
        let mut copy: Box<[u8]> = frame.into();
        if self.random.happens(self.impairment.corrupt) {
            self.random.invert_bit(&mut copy);
        }
        let due = self.due(now, frame.len());
        self.number += 1;
        self.bytes += copy.len();
        self.waiting.push(Reverse(DelayedFrame { due, number: self.number, frame: copy }));
        true
    }

    /// When a frame is sent.
    fn due(&mut self, now: u64, length: usize) -> u64 {
        let Impairment { delay, jitter, distribution, reorder, rate, .. } = self.impairment;
        let ahead = self.random.happens(reorder);
        let delay = if ahead { 0 } else { self.random.delay(delay, jitter, distribution) };
        let due = now.saturating_add(delay);
        if rate == 0 {
            return due;
        }
        let time = u128::from(length as u64) * 8 * u128::from(NANOS) / u128::from(rate);
        self.schedule.append(due, u64::try_from(time).unwrap_or(u64::MAX))
    }

    /// When the next frame is due.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.waiting.peek().map(|Reverse(next)| next.due)
    }

    /// The next frame that is due.
    pub(super) fn take_due(&mut self, now: u64) -> Option<Box<[u8]>> {
        if self.next_deadline()? > now {
            return None;
        }
        let Reverse(DelayedFrame { frame, .. }) = self.waiting.pop()?;
        self.bytes -= frame.len();
        Some(frame)
    }

    /// Frames that wait.
    #[cfg(test)]
    fn len(&self) -> usize {
        self.waiting.len()
    }
}
