//! How fast this machine is, compared to those for which the [time budgets](super::budget) were chosen.
//!
//! On an emulated CPU everything takes several times as long, and frames that are not expensive by intent would exceed
//! allowances that are given in microseconds.

use std::sync::OnceLock;

use super::throttle::cpu_time;

/// Nanoseconds of one system call on a slow one of those machines.
const REFERENCE: u128 = 500;
const MAX_SLOWDOWN: u128 = 64;

/// How many times as long a system call takes here, at least 1. It is measured by the first call.
pub(super) fn slowdown() -> u32 {
    static MEASURED: OnceLock<u32> = OnceLock::new();
    *MEASURED.get_or_init(measure)
}

fn measure() -> u32 {
    const CALLS: u32 = 100;
    const BATCHES: u32 = 5;
    let batch = || {
        let started = cpu_time()?;
        let ended = (0..CALLS).try_fold(started, |_, _| cpu_time())?;
        Some(ended.saturating_sub(started))
    };
    // Interrupts make the other batches longer.
    let shortest = (0..BATCHES).filter_map(|_| batch()).min().unwrap_or_default();
    slowdown_at(shortest.as_nanos() / u128::from(CALLS))
}

/// The slowdown where a system call takes this many nanoseconds.
fn slowdown_at(call: u128) -> u32 {
    u32::try_from((call / REFERENCE).clamp(1, MAX_SLOWDOWN)).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slowdown_is_bounded() {
        let slowdowns = [0, 150, 999, 1000, 10_000, u128::MAX].map(slowdown_at);
        assert_eq!(slowdowns, [1, 1, 1, 2, 20, 64]);
        assert!((1..=64).contains(&slowdown()));
    }
}
