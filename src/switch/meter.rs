//! A token bucket, shared by threads without a lock.
//!
//! It is the generic cell rate algorithm (ITU-T I.371 annex A) as a virtual scheduling: one word has the time at which
//! the bucket is full again. A frame may pass if the bucket has tokens for it. One that needs more than the whole
//! bucket passes when the bucket is full, and the next ones wait longer: the rate is kept.

use std::sync::atomic::{AtomicU64, Ordering};

use super::Now;

const NANOS: u64 = 1_000_000_000;

/// A rate and the size of the bucket, in units: frames, or bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Units per second, at least 1.
    pub per_second: u64,
    /// Units that may come at once, at least 1.
    pub burst: u64,
}

impl Rate {
    /// How long this number of units takes, in nanoseconds.
    fn time_of(self, units: u64) -> u64 {
        let nanos = u128::from(units) * u128::from(NANOS) / u128::from(self.per_second.max(1));
        u64::try_from(nanos).unwrap_or(u64::MAX)
    }
}

/// Whether a decision takes tokens, or only asks whether it could.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Metering {
    /// It takes them.
    Take,
    /// It changes nothing.
    Peek,
}

/// When a frame is metered, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MeterTime {
    pub(super) now: Now,
    pub(super) metering: Metering,
}

/// A token bucket. Without a rate everything passes.
#[derive(Debug, Default)]
pub(super) struct Meter {
    /// The rate per second; 0: none.
    per_second: AtomicU64,
    burst: AtomicU64,
    /// When the bucket is full again, in nanoseconds.
    full_at: AtomicU64,
}

impl Meter {
    /// Changes the rate. The bucket is full then.
    pub(super) fn set(&self, rate: Option<Rate>) {
        // The rate is stored last: until then the old burst is used with the new rate, or the other way round, for a
        // moment.
        self.full_at.store(0, Ordering::Relaxed);
        self.burst.store(rate.map_or(0, |rate| rate.burst), Ordering::Relaxed);
        self.per_second.store(rate.map_or(0, |rate| rate.per_second), Ordering::Relaxed);
    }

    /// The rate.
    pub(super) fn rate(&self) -> Option<Rate> {
        let per_second = self.per_second.load(Ordering::Relaxed);
        (per_second > 0).then(|| Rate { per_second, burst: self.burst.load(Ordering::Relaxed) })
    }

    /// Whether a frame of this many units may pass now.
    pub(super) fn allows(&self, at: MeterTime, units: u64) -> bool {
        let MeterTime { now, metering } = at;
        let Some(rate) = self.rate() else { return true };
        let (cost, bucket) = (rate.time_of(units), rate.time_of(rate.burst));
        let mut full_at = self.full_at.load(Ordering::Relaxed);
        loop {
            let start = full_at.max(now.nanos);
            if (start - now.nanos).saturating_add(cost.min(bucket)) > bucket {
                return false;
            }
            if metering == Metering::Peek {
                return true;
            }
            let (end, order) = (start.saturating_add(cost), Ordering::Relaxed);
            match self.full_at.compare_exchange_weak(full_at, end, order, order) {
                Ok(_) => return true,
                Err(changed) => full_at = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn meter(per_second: u64, burst: u64) -> Meter {
        let meter = Meter::default();
        meter.set(Some(Rate { per_second, burst }));
        meter
    }

    fn take(time: Duration) -> MeterTime {
        MeterTime { now: Now::at(time), metering: Metering::Take }
    }

    fn at(millis: u64) -> MeterTime {
        take(Duration::from_millis(millis))
    }

    /// How many of 1000 frames pass at this time.
    fn passing(meter: &Meter, millis: u64, units: u64) -> usize {
        (0..1000).filter(|_| meter.allows(at(millis), units)).count()
    }

    #[test]
    fn passes_a_burst_and_then_the_rate() {
        let meter = meter(100, 20);
        assert_eq!(passing(&meter, 1000, 1), 20);
        assert_eq!(passing(&meter, 1000, 1), 0);
        assert_eq!(passing(&meter, 1100, 1), 10, "a tenth of the rate");
        assert_eq!(passing(&meter, 9000, 1), 20, "not more than the bucket holds");
    }

    #[test]
    fn large_frames_pass_when_the_bucket_is_full_and_keep_the_rate() {
        let meter = meter(1000, 100);
        assert_eq!(passing(&meter, 1000, 500), 1);
        assert_eq!(passing(&meter, 1499, 500), 0, "half a second's worth");
        assert_eq!(passing(&meter, 1500, 500), 1);
    }

    #[test]
    fn peeking_takes_nothing() {
        let meter = meter(1, 1);
        let peek = MeterTime { metering: Metering::Peek, ..at(0) };
        assert!(meter.allows(peek, 1));
        assert!(meter.allows(at(0), 1));
        assert!(!meter.allows(peek, 1));
    }

    #[test]
    fn without_rate_everything_passes() {
        let meter = meter(1, 1);
        assert_eq!(passing(&meter, 0, 1), 1);
        meter.set(None);
        assert_eq!((passing(&meter, 0, u64::MAX), meter.rate()), (1000, None));
    }

    #[test]
    fn extreme_values_do_not_overflow() {
        let largest = meter(1, u64::MAX);
        assert!(largest.allows(take(Duration::MAX), u64::MAX));
        let meter = meter(1, 1);
        assert!(meter.allows(take(Duration::MAX), u64::MAX));
        assert!(!meter.allows(at(0), 1), "a clock that is behind");
    }

    #[test]
    fn workers_share_the_bucket() {
        let meter = meter(1, 1000);
        let passed = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(|| passing(&meter, 0, 1))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum::<usize>()
        });
        assert_eq!(passed, 1000);
    }

    /// A bucket of tokens, written for clarity. Its times are milliseconds, at which the rates below are exact.
    struct Bucket {
        rate: Rate,
        tokens: i64,
        filled_at: u64,
    }

    impl Bucket {
        fn allows(&mut self, millis: u64, units: i64) -> bool {
            let [rate, burst] = [self.rate.per_second, self.rate.burst].map(u64::cast_signed);
            let new = (millis - self.filled_at).cast_signed() * rate / 1000;
            (self.tokens, self.filled_at) = (burst.min(self.tokens + new), millis);
            let allowed = self.tokens >= units.min(burst);
            if allowed {
                self.tokens -= units;
            }
            allowed
        }
    }

    proptest::proptest! {
        #[test]
        fn is_a_token_bucket(
            rate in proptest::sample::select(&[1000, 2000, 8000][..]),
            burst in 1..40u64,
            frames in proptest::collection::vec((0..30u64, 1..60u64), 1..200),
        ) {
            let (rate, mut millis) = (Rate { per_second: rate, burst }, 0);
            let (meter, mut bucket) = (meter(rate.per_second, burst), Bucket { rate, tokens: burst.cast_signed(), filled_at: 0 });
            for (pause, units) in frames {
                millis += pause;
                assert_eq!(meter.allows(at(millis), units), bucket.allows(millis, units.cast_signed()));
            }
        }
    }
}
