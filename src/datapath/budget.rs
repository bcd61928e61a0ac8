//! Time budgets: how much of a worker's time a port may cost the other ports. Pure arithmetic, time is an argument.
//!
//! The cost of a frame is charged to its ingress port. Every frame has an allowance, which is more than a unicast
//! frame costs on a slow machine. The time that a batch takes beyond the allowance of its frames is its *excess*:
//! copies of a flood, segments for ports without offload, an egress port with a slow receive path. Excess is charged to the budget
//! of the ingress port, which grows with time ([`EXCESS`]). A port in debt is not read until the debt is paid, so that its
//! frames wait, and are dropped, in the queue of its own device. This holds only while other ports need the worker.
//!
//! A batch of an expensive port is also kept short ([`QUANTUM`]): no other frame waits long for it.
//!
//! An egress port is *slow* if each of several writes to it takes longer than [`SLOW_WRITE`]. One long write
//! proves nothing: an acknowledgement may make a sender send much at once.

use std::time::Duration;

/// Allowance of a frame: the decision, and one write. The write of an acknowledgement includes what its receiver sends
/// in return. An unoptimised build takes longer.
const FRAME_ALLOWANCE: Duration = Duration::from_micros(if cfg!(debug_assertions) { 60 } else { 20 });
/// Allowance of 1024 bytes.
const KIB_ALLOWANCE: Duration = Duration::from_micros(2);
/// Time of a batch while other ports need the worker.
const QUANTUM: Duration = Duration::from_micros(50);
/// Fewest reads in a batch of a port without excess: smaller batches cost throughput.
const MIN_WINDOW: usize = 4;
/// A write that takes longer is slow, not counting the time for its bytes.
pub(super) const SLOW_WRITE: Duration = Duration::from_micros(100);
/// Slow writes in a row that make a port slow.
const SLOW_WRITES: u8 = 8;

/// What the frames of one ingress port cost in one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Batch {
    /// Frames received.
    pub(super) frames: u32,
    /// Bytes received.
    pub(super) bytes: usize,
    /// Time to decide and write them.
    pub(super) spent: Duration,
}

impl Batch {
    /// Time beyond the allowance of the frames.
    pub(super) fn excess(&self) -> Duration {
        self.spent.saturating_sub(FRAME_ALLOWANCE * self.frames + for_bytes(KIB_ALLOWANCE, self.bytes))
    }

    /// Reads in the next batch of this port, so that it takes about [`QUANTUM`].
    fn window(&self) -> usize {
        let per_frame = (self.spent / self.frames.max(1)).as_nanos().max(1);
        let window = usize::try_from(QUANTUM.as_nanos() / per_frame).unwrap_or(usize::MAX);
        window.max(if self.excess().is_zero() { MIN_WINDOW } else { 1 })
    }
}

#[allow(clippy::cast_possible_truncation, reason = "a frame is shorter than 4 GiB")]
fn for_bytes(per_kib: Duration, bytes: usize) -> Duration {
    per_kib * (bytes / 1024) as u32
}

/// What a port may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    /// Most reads of a batch.
    pub(super) window: usize,
    /// Do not read the port for this long; zero if it is not in debt.
    pub(super) pause: Duration,
}

/// A budget of time: it grows by one part in `share` of the time that passes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TimeBudget {
    /// Time that is missing to the largest budget.
    used: Duration,
    /// When `used` was current.
    at: Duration,
}

impl TimeBudget {
    /// Charges time spent until `now`. Returns how long it takes until the budget is out of debt.
    pub(super) fn charge(&mut self, now: Duration, spent: Duration, limit: Limit) -> Duration {
        self.used = self.used.saturating_sub(now.saturating_sub(self.at) / limit.share);
        self.at = now;
        self.used = (self.used + spent).min(limit.burst + limit.debt);
        self.used.saturating_sub(limit.burst) * limit.share
    }
}

/// The limits of a [`TimeBudget`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The budget grows by one part in this many of the time.
    pub(super) share: u32,
    /// Largest budget.
    pub(super) burst: Duration,
    /// Largest debt.
    pub(super) debt: Duration,
}

/// Limit of the excess of an ingress port.
const EXCESS: Limit = Limit { share: 10, burst: Duration::from_millis(2), debt: Duration::from_millis(20) };

/// The budget of one ingress port, for the time of one worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IngressBudget(TimeBudget);

impl IngressBudget {
    /// Charges a batch that ended at `now`.
    pub(super) fn charge(&mut self, now: Duration, batch: &Batch) -> Decision {
        Decision { window: batch.window(), pause: self.0.charge(now, batch.excess(), EXCESS) }
    }
}

/// Whether the writes to an egress port are slow.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct WriteCost {
    slow_writes: u8,
}

impl WriteCost {
    /// Notes one write; whether the port is slow now.
    pub(super) fn note(&mut self, length: usize, spent: Duration) -> bool {
        self.slow_writes = if is_slow(length, spent) { self.slow_writes.saturating_add(1) } else { 0 };
        self.slow_writes >= SLOW_WRITES
    }
}

/// Whether a write of `length` bytes is slow.
pub(super) fn is_slow(length: usize, spent: Duration) -> bool {
    spent > SLOW_WRITE + for_bytes(KIB_ALLOWANCE, length)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [`FRAME_ALLOWANCE`] in microseconds.
    const ALLOWED: u64 = FRAME_ALLOWANCE.subsec_micros() as u64;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    fn batch(frames: u32, bytes: usize, spent: u64) -> Batch {
        Batch { frames, bytes, spent: us(spent) }
    }

    #[test]
    fn unicast_and_super_frames_have_no_excess() {
        for batch in [batch(48, 48 * 64, 60), batch(48, 48 * 64, 900), batch(4, 4 * 65536, 500)] {
            assert_eq!(batch.excess(), Duration::ZERO, "{batch:?}");
        }
        assert_eq!(batch(1, 60, 75 + ALLOWED).excess(), us(75));
        assert_eq!(batch(1, 65536, 228 + ALLOWED).excess(), us(100));
    }

    #[test]
    fn limits_excess_to_its_share_of_the_time() {
        let mut budget = IngressBudget::default();
        let (mut now, mut excess) = (Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(10) {
            let flood = batch(1, 60, 75 + ALLOWED);
            now += flood.spent;
            excess += flood.excess();
            now += budget.charge(now, &flood).pause;
        }
        let share = excess.as_secs_f64() / now.as_secs_f64();
        assert!((0.09..0.11).contains(&share), "{share}");
    }

    #[test]
    fn pauses_after_the_burst_and_for_a_bounded_time() {
        let mut budget = IngressBudget::default();
        assert_eq!(budget.charge(us(0), &batch(1, 60, 2000 + ALLOWED)).pause, Duration::ZERO);
        assert_eq!(budget.charge(us(0), &batch(1, 60, 100 + ALLOWED)).pause, us(1000));
        assert_eq!(budget.charge(us(0), &batch(1, 60, 9_000_000)).pause, EXCESS.debt * EXCESS.share);
        assert_eq!(budget.charge(us(1_000_000), &batch(1, 60, 100 + ALLOWED)).pause, Duration::ZERO);
    }

    #[test]
    fn expensive_frames_get_short_batches() {
        let window = |batch: Batch| IngressBudget::default().charge(us(0), &batch).window;
        assert_eq!(window(batch(48, 48 * 64, 48)), 50);
        assert_eq!(window(batch(4, 4 * 65536, 120)), MIN_WINDOW);
        assert_eq!(window(batch(48, 48 * 60, 3400)), 1);
        assert_eq!(window(batch(48, 48 * 60, 48 * (4 + ALLOWED))), if ALLOWED < 30 { 2 } else { 1 });
        assert_eq!(window(batch(0, 0, 0)), 50_000);
    }

    #[test]
    fn only_several_slow_writes_in_a_row_make_a_port_slow() {
        let mut cost = WriteCost::default();
        let mut note =
            |spent: &[u64]| spent.iter().map(|spent| cost.note(60, us(*spent))).collect::<Vec<_>>();
        assert_eq!(note(&[101, 900, 101, 101, 101, 101, 101, 100]), [false; 8]);
        assert_eq!(note(&[101; 8]), [false, false, false, false, false, false, false, true]);
        assert!(!is_slow(65536, us(228)));
        assert!(is_slow(65536, us(229)));
    }
}
