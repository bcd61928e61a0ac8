//! Time budgets: how much of a worker's time a port may cost the other ports. Pure arithmetic, time is an argument.
//!
//! The cost of a frame is charged to its ingress port. Every frame has an allowance, which is more than a unicast frame
//! costs on this machine ([`Allowances`]). The time that a batch takes beyond the allowance of its frames is its
//! *excess*: copies of a flood, segments for ports without offload, an egress port with a slow receive path. Excess is
//! charged to the budget of the ingress port, which grows with time ([`EXCESS`]). A port in debt is not read until the
//! debt is paid, so that its frames wait, and are dropped, in the queue of its own device. This holds only while other
//! ports need the worker, unless its frames were wasted: read, and not delivered.
//!
//! The allowance holds for a number of frames a second ([`FrameRate`]), which is more than a bulk transfer needs with
//! super-frames. Frames beyond it have an allowance for their bytes only: so a flood of small frames, each of them
//! cheap, is limited too.
//!
//! A batch of an expensive port is also kept short ([`QUANTUM`]): no other frame waits long for it.
//!
//! An egress port is *slow* if each of several writes to it takes longer than [`Allowances::slow_write`]. One long
//! write proves nothing: an acknowledgement may make a sender send much at once.

use std::time::Duration;

/// Times that depend on the machine.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowances {
    /// Allowance of a frame: the decision, and one write. The write of an acknowledgement includes what its receiver
    /// sends in return.
    frame: Duration,
    /// Allowance of 1024 bytes.
    kib: Duration,
    /// Time to read a small frame. The clock does not see it: the reads of all ports are one system call.
    read: Duration,
    /// A frame that takes longer is long.
    long_frame: Duration,
    /// A write that takes longer is slow, not counting the time for its bytes.
    pub(super) slow_write: Duration,
    /// Writes that take longer are long, and very long.
    pub(super) long_write: Duration,
    pub(super) very_long_write: Duration,
}

impl Allowances {
    /// On the machines of `docs/BENCHMARKS.md`. An unoptimised build takes longer.
    pub(super) const REFERENCE: Allowances = {
        let [frame, kib, long_frame] = if cfg!(debug_assertions) { [60, 2, 2000] } else { [20, 1, 500] };
        Allowances {
            frame: Duration::from_micros(frame),
            kib: Duration::from_micros(kib),
            read: Duration::from_nanos(500),
            long_frame: Duration::from_micros(long_frame),
            slow_write: Duration::from_micros(100),
            long_write: Duration::from_micros(300),
            very_long_write: Duration::from_millis(1),
        }
    };

    /// On a machine on which everything takes `slowdown` times as long.
    pub(super) fn with_slowdown(slowdown: u32) -> Allowances {
        let Allowances { frame, kib, read, long_frame, slow_write, long_write, very_long_write } =
            Allowances::REFERENCE;
        Allowances {
            frame: frame * slowdown,
            kib: kib * slowdown,
            read: read * slowdown,
            long_frame: long_frame * slowdown,
            slow_write: slow_write * slowdown,
            long_write: long_write * slowdown,
            very_long_write: very_long_write * slowdown,
        }
    }

    /// Whether a write of `length` bytes is slow.
    pub(super) fn is_slow(&self, length: usize, spent: Duration) -> bool {
        spent > self.slow_write + self.of_bytes(length)
    }

    #[allow(clippy::cast_possible_truncation, reason = "a frame is shorter than 4 GiB")]
    fn of_bytes(&self, bytes: usize) -> Duration {
        self.kib * (bytes / 1024) as u32
    }
}

/// Frames a second with the allowance of a frame.
const FRAME_RATE: u32 = 50_000;
/// Most frames with that allowance at once.
const FRAME_BURST: u32 = 512;
/// Time of a batch while other ports need the worker.
const QUANTUM: Duration = Duration::from_micros(50);
/// Fewest reads in a batch of a port without excess: smaller batches cost throughput.
const MIN_WINDOW: usize = 4;
/// Slow writes in a row that make a port slow.
const SLOW_WRITES: u8 = 8;

/// What the frames of one ingress port cost in one turn.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TurnCost {
    /// Frames received.
    pub(super) frames: u32,
    /// Bytes received.
    pub(super) bytes: usize,
    /// Time to decide and write them.
    pub(super) spent: Duration,
    /// Time that is charged for wasted frames. It has no allowance.
    pub(super) penalty: Duration,
}

impl TurnCost {
    /// Time beyond the allowance of the frames.
    pub(super) fn excess(&self, allowances: &Allowances) -> Duration {
        self.for_frames(allowances).saturating_sub(allowances.frame * self.frames) + self.penalty
    }

    /// What frames beyond [`FRAME_RATE`] are charged: their part of the time within the allowance, and their reads. The
    /// time beyond the allowance is excess anyway.
    fn rate_cost(&self, beyond: u32, allowances: &Allowances) -> Duration {
        let within = self.for_frames(allowances).min(allowances.frame * self.frames);
        (allowances.read + within / self.frames.max(1)) * beyond
    }

    /// The time without the allowance of the bytes.
    fn for_frames(&self, allowances: &Allowances) -> Duration {
        self.spent.saturating_sub(allowances.of_bytes(self.bytes))
    }

    /// Reads in the next batch of this port, so that it takes about [`QUANTUM`].
    fn window(&self, excess: Duration) -> usize {
        let per_frame = ((self.spent + self.penalty) / self.frames.max(1)).as_nanos().max(1);
        let window = usize::try_from(QUANTUM.as_nanos() / per_frame).unwrap_or(usize::MAX);
        window.max(if excess.is_zero() { MIN_WINDOW } else { 1 })
    }
}

/// What a port may do next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BudgetDecision {
    /// Most reads of a batch.
    pub(super) window: usize,
    /// Do not read the port for this long; zero if it is not in debt.
    pub(super) excess_pause: Duration,
    /// There were more frames than [`FRAME_RATE`].
    pub(super) is_over_rate: bool,
    /// The same as `excess_pause`, for these frames.
    pub(super) rate_pause: Duration,
}

/// A budget of time, which grows with the time that passes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct TimeBudget {
    /// Time that was spent, and has not grown again; zero when the budget is full.
    used: Duration,
    /// When `used` was current.
    at: Duration,
}

impl TimeBudget {
    /// Charges time spent until `now`. Returns how long it takes until the budget is out of debt.
    pub(super) fn charge(&mut self, now: Duration, spent: Duration, limit: Limit) -> Duration {
        self.used = self.used.saturating_sub(now.saturating_sub(self.at) / limit.one_in);
        self.at = now;
        self.used = (self.used + spent).min(limit.burst + limit.debt);
        self.used.saturating_sub(limit.burst) * limit.one_in
    }
}

/// The limits of a [`TimeBudget`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Limit {
    /// The budget grows by one part in this many of the time that passes: 10 is 10%.
    pub(super) one_in: u32,
    /// Largest budget.
    pub(super) burst: Duration,
    /// Largest debt.
    pub(super) debt: Duration,
}

/// Counts the frames of a port that have an allowance: a token bucket.
#[derive(Debug, Clone, Copy, Default)]
struct FrameRate {
    /// Tokens that are missing to [`FRAME_BURST`], each as the time that it takes to get it.
    used: Duration,
    at: Duration,
}

impl FrameRate {
    const TOKEN: Duration = Duration::from_nanos(1_000_000_000 / FRAME_RATE as u64);

    /// Takes a token for each frame of a batch that ended at `now`. Returns the number of frames without one.
    fn take(&mut self, now: Duration, frames: u32) -> u32 {
        self.used = self.used.saturating_sub(now.saturating_sub(self.at));
        self.at = now;
        let free = (Self::TOKEN * FRAME_BURST).saturating_sub(self.used).as_nanos() / Self::TOKEN.as_nanos();
        let taken = frames.min(u32::try_from(free).unwrap_or(frames));
        self.used += Self::TOKEN * taken;
        frames - taken
    }
}

/// Limit of the excess of an ingress port.
const EXCESS: Limit = Limit { one_in: 10, burst: Duration::from_millis(2), debt: Duration::from_millis(20) };
/// The same while its frames take [`Allowances::long_frame`]: nothing else runs on that CPU meanwhile, so few frames of
/// other ports may have to wait for one.
const LONG_EXCESS: Limit = Limit { one_in: 100, debt: Duration::from_millis(5), ..EXCESS };
/// Limit of its frames beyond [`FRAME_RATE`]. Pauses are short, because a fast transfer without offload has such frames
/// too.
const OVER_RATE: Limit =
    Limit { one_in: 10, burst: Duration::from_millis(2), debt: Duration::from_micros(200) };

/// The budget of one ingress port, for the time of one worker.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct IngressBudget {
    rate: FrameRate,
    excess: TimeBudget,
    over_rate: TimeBudget,
}

impl IngressBudget {
    /// Charges a batch that ended at `now`.
    pub(super) fn charge(
        &mut self,
        now: Duration,
        batch: &TurnCost,
        allowances: &Allowances,
    ) -> BudgetDecision {
        let beyond = self.rate.take(now, batch.frames);
        let excess = batch.excess(allowances);
        let is_long = excess / batch.frames.max(1) >= allowances.long_frame;
        BudgetDecision {
            window: batch.window(excess),
            excess_pause: self.excess.charge(now, excess, if is_long { LONG_EXCESS } else { EXCESS }),
            is_over_rate: beyond > 0,
            rate_pause: self.over_rate.charge(now, batch.rate_cost(beyond, allowances), OVER_RATE),
        }
    }
}

/// Counts slow writes in a row to an egress port.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct SlowWrites {
    slow_writes: u8,
}

impl SlowWrites {
    /// Notes one write; whether the port is slow now.
    pub(super) fn note(&mut self, is_slow: bool) -> bool {
        self.slow_writes = if is_slow { self.slow_writes.saturating_add(1) } else { 0 };
        self.slow_writes >= SLOW_WRITES
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFERENCE: &Allowances = &Allowances::REFERENCE;
    /// Allowance of a frame in microseconds.
    const ALLOWED: u64 = REFERENCE.frame.subsec_micros() as u64;

    const fn us(us: u64) -> Duration {
        Duration::from_micros(us)
    }

    fn batch(frames: u32, bytes: usize, spent: u64) -> TurnCost {
        TurnCost { frames, bytes, spent: us(spent), ..TurnCost::default() }
    }

    #[test]
    fn unicast_and_super_frames_have_no_excess() {
        for batch in [batch(48, 48 * 64, 60), batch(48, 48 * 64, 900), batch(4, 4 * 65536, 500)] {
            assert_eq!(batch.excess(REFERENCE), Duration::ZERO, "{batch:?}");
        }
        assert_eq!(batch(1, 60, 75 + ALLOWED).excess(REFERENCE), us(75));
        let for_bytes = u64::try_from(REFERENCE.of_bytes(65536).as_micros()).unwrap();
        assert_eq!(batch(1, 65536, for_bytes + 100 + ALLOWED).excess(REFERENCE), us(100));
        assert_eq!(TurnCost { penalty: us(100), ..batch(4, 4 * 65536, 60) }.excess(REFERENCE), us(100));
    }

    #[test]
    fn allowances_are_longer_on_a_slower_machine() {
        let slow = Allowances::with_slowdown(10);
        assert_eq!(batch(1, 60, 10 * ALLOWED).excess(&slow), Duration::ZERO);
        assert_eq!(batch(1, 60, 10 * ALLOWED + 5).excess(&slow), us(5));
        assert!(!slow.is_slow(60, us(1000)) && slow.is_slow(60, us(1001)));
    }

    #[test]
    fn limits_excess_to_its_share_of_the_time() {
        let mut budget = IngressBudget::default();
        let (mut now, mut excess) = (Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(10) {
            let flood = batch(1, 60, 75 + ALLOWED);
            now += flood.spent;
            excess += flood.excess(REFERENCE);
            now += budget.charge(now, &flood, REFERENCE).excess_pause;
        }
        let share = excess.as_secs_f64() / now.as_secs_f64();
        assert!((0.09..0.11).contains(&share), "{share}");
    }

    /// Sends batches of 48 frames, this many a second while the port is not paused; the frames a second that are read.
    fn frames_per_second(length: usize, frame_time: Duration, rate: u32) -> f64 {
        let mut budget = IngressBudget::default();
        let (mut now, mut frames) = (Duration::ZERO, 0);
        while now < Duration::from_secs(10) {
            let batch =
                TurnCost { frames: 48, bytes: 48 * length, spent: 48 * frame_time, ..TurnCost::default() };
            now += (Duration::from_secs(1) * 48 / rate).max(batch.spent);
            let BudgetDecision { excess_pause, rate_pause, .. } = budget.charge(now, &batch, REFERENCE);
            assert!(rate_pause <= us(2000), "{rate_pause:?}");
            now += excess_pause.max(rate_pause);
            frames += batch.frames;
        }
        f64::from(frames) / now.as_secs_f64()
    }

    #[test]
    fn limits_small_frames_beyond_the_rate_of_an_allowance() {
        let slow_enough = frames_per_second(60, us(15), FRAME_RATE);
        assert!(slow_enough > 0.99 * f64::from(FRAME_RATE), "{slow_enough}");
        // A tenth of the time, at 1 us and READ for a frame.
        let flood = frames_per_second(60, us(1), 1_000_000);
        assert!((100_000.0..130_000.0).contains(&flood), "{flood}");
        let full_size = frames_per_second(1514, us(1), 500_000);
        assert!(full_size > 220_000.0, "only {full_size}");
    }

    #[test]
    fn few_long_frames_are_read_while_others_are_active() {
        let mut budget = IngressBudget::default();
        let (mut now, mut spent) = (Duration::ZERO, Duration::ZERO);
        while now < Duration::from_secs(100) {
            let long = batch(1, 60, 3000 + ALLOWED);
            now += long.spent;
            spent += long.spent;
            now += budget.charge(now, &long, REFERENCE).excess_pause;
        }
        let share = spent.as_secs_f64() / now.as_secs_f64();
        assert!((0.009..0.012).contains(&share), "{share}");
    }

    #[test]
    fn pauses_after_the_burst_and_for_a_bounded_time() {
        let mut budget = IngressBudget::default();
        assert_eq!(
            budget.charge(us(0), &batch(1, 60, 2000 + ALLOWED), REFERENCE).excess_pause,
            Duration::ZERO
        );
        assert_eq!(budget.charge(us(0), &batch(1, 60, 100 + ALLOWED), REFERENCE).excess_pause, us(1000));
        let many = batch(1000, 60_000, 90_000 + 1000 * ALLOWED);
        assert_eq!(budget.charge(us(0), &many, REFERENCE).excess_pause, EXCESS.debt * EXCESS.one_in);
        assert_eq!(
            budget.charge(us(0), &batch(1, 60, 9_000_000), REFERENCE).excess_pause,
            LONG_EXCESS.debt * LONG_EXCESS.one_in
        );
        assert_eq!(
            budget.charge(us(1_000_000), &batch(1, 60, 100 + ALLOWED), REFERENCE).excess_pause,
            Duration::ZERO
        );
    }

    #[test]
    fn expensive_frames_get_short_batches() {
        let window = |batch: TurnCost| IngressBudget::default().charge(us(0), &batch, REFERENCE).window;
        assert_eq!(window(batch(48, 48 * 64, 48)), 50);
        assert_eq!(window(batch(4, 4 * 65536, 120)), MIN_WINDOW);
        assert_eq!(window(batch(48, 48 * 60, 3400)), 1);
        assert_eq!(window(batch(48, 48 * 60, 48 * (4 + ALLOWED))), if ALLOWED < 30 { 2 } else { 1 });
        assert_eq!(window(batch(0, 0, 0)), 50_000);
    }

    #[test]
    fn only_several_slow_writes_in_a_row_make_a_port_slow() {
        let mut cost = SlowWrites::default();
        let mut note = |spent: &[u64]| {
            spent.iter().map(|spent| cost.note(REFERENCE.is_slow(60, us(*spent)))).collect::<Vec<_>>()
        };
        assert_eq!(note(&[101, 900, 101, 101, 101, 101, 101, 100]), [false; 8]);
        assert_eq!(note(&[101; 8]), [false, false, false, false, false, false, false, true]);
        assert!(!REFERENCE.is_slow(65536, us(228)));
        assert!(REFERENCE.is_slow(65536, us(229)));
    }
}
