//! Measures the distance between two CPUs: the time to transfer a cache line. A hypervisor may move virtual
//! CPUs between cores that share a cache and cores that do not. The distance then changes several-fold, and
//! with it the cost of a frame that crosses from the sender's CPU to the switch's.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::datapath::{allowed_cpus, pin_to_cpu};

/// Transfers in each direction in a round.
const EXCHANGES: u32 = 1000;
/// The shortest round counts: a thread that has to wait for its CPU only makes a round longer.
const ROUNDS: u32 = 5;
/// Loads of the cache line before a thread gives up, some tens of milliseconds: the other CPU may have
/// other work.
const SPIN_LIMIT: u32 = 1 << 26;
/// Value of the cache line if one thread could not take part.
const ABORTED: u32 = u32::MAX;

/// Returns the nanoseconds that a cache line needs from one of the first two CPUs of this thread's affinity
/// mask to the other. `None` if there is only one CPU, or if one has no time.
pub(super) fn measure() -> Option<f64> {
    let &[here, there, ..] = allowed_cpus().as_slice() else { return None };
    let line = CacheLine::default();
    let line = &line;
    thread::scope(|scope| {
        let start = |cpu, first| {
            let started = thread::Builder::new().spawn_scoped(scope, move || line.exchange(cpu, first));
            started.map_err(|_| line.abort::<()>()).ok()
        };
        start(there, 1)?;
        start(here, 0)?.join().ok().flatten()
    })
}

/// A cache line of its own (and the next one, which some CPUs prefetch with it) that holds the number of
/// the turn. Even turns belong to one thread, odd turns to the other.
#[derive(Default)]
#[repr(align(128))]
struct CacheLine(AtomicU32);

impl CacheLine {
    /// Takes every second turn on this CPU, starting with turn `first`. Returns the time of a turn in the
    /// shortest round.
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

    /// Spins without a pause: a pause would be longer than the time to measure.
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
