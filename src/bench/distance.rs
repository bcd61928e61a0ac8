//! How far apart two CPUs are. A host may move the virtual CPUs of a machine about, from one chiplet to another: then a
//! cache line takes several times as long from the sender's CPU to that of a switch, and it is another machine.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::datapath::{allowed_cpus, pin_to_cpu};

/// How often a round hands the cache line over and back.
const EXCHANGES: u32 = 1000;
/// The shortest one counts: a thread that has to wait for its CPU only makes a round longer.
const ROUNDS: u32 = 5;
/// How often a thread looks for its turn, some tens of milliseconds: the other CPU may have other work, but not for ever.
const SPIN_LIMIT: u32 = 1 << 26;
/// Instead of a turn: one side cannot take part.
const ABORTED: u32 = u32::MAX;

/// Nanoseconds that a cache line takes from one of the first two CPUs that this thread may use to the other; none if
/// there is but one, or no time on one.
pub(super) fn measure() -> Option<f64> {
    let &[here, there, ..] = allowed_cpus().as_slice() else { return None };
    let line = CacheLine::default();
    thread::scope(|scope| {
        scope.spawn(|| line.exchange(there, 1));
        scope.spawn(|| line.exchange(here, 0)).join().ok().flatten()
    })
}

/// A cache line of its own (and the next one, which some CPUs fetch with it), with the number of the turn. Even turns are
/// one thread's, odd ones the other's.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine(AtomicU32);

impl CacheLine {
    /// Takes every second turn on this CPU, beginning with turn `first`. How long one takes, in the shortest round.
    fn exchange(&self, cpu: usize, first: u32) -> Option<f64> {
        if pin_to_cpu(cpu).is_err() {
            return self.abort();
        }
        let mut shortest = Duration::MAX;
        let mut turn = first;
        for _ in 0..ROUNDS {
            let begin = Instant::now();
            for _ in 0..EXCHANGES {
                self.wait_for_turn(turn)?;
                self.0.store(turn + 1, Ordering::Release);
                turn += 2;
            }
            shortest = shortest.min(begin.elapsed());
        }
        Some(shortest.as_secs_f64() * 1e9 / f64::from(2 * EXCHANGES))
    }

    /// No pause in between: it would be longer than what is measured.
    fn wait_for_turn(&self, turn: u32) -> Option<()> {
        for _ in 0..SPIN_LIMIT {
            match self.0.load(Ordering::Acquire) {
                ABORTED => return None,
                now if now == turn => return Some(()),
                _ => {}
            }
        }
        self.abort()
    }

    fn abort<T>(&self) -> Option<T> {
        self.0.store(ABORTED, Ordering::Release);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measures_distance_of_two_cpus() {
        let before = allowed_cpus();
        let distance = measure();
        assert_eq!(distance.is_some(), before.len() > 1);
        assert!(distance.is_none_or(|ns| ns.is_finite() && ns > 0.0), "{distance:?}");
        assert_eq!(allowed_cpus(), before, "the caller stays where it was");
    }

    #[test]
    fn one_cpu_has_no_distance() {
        let alone = thread::spawn(|| {
            pin_to_cpu(allowed_cpus()[0]).unwrap();
            measure()
        });
        assert_eq!(alone.join().unwrap(), None);
    }

    #[test]
    fn aborts_if_cpu_is_unavailable() {
        let line = CacheLine::default();
        let here = allowed_cpus()[0];
        thread::scope(|scope| {
            let other = scope.spawn(|| line.exchange(here, 1));
            assert_eq!(line.exchange(usize::MAX, 0), None);
            assert_eq!(other.join().unwrap(), None);
        });
    }

    #[test]
    fn aborts_after_spin_limit() {
        assert_eq!(CacheLine::default().exchange(allowed_cpus()[0], 1), None, "turn 0 is never taken");
    }
}
