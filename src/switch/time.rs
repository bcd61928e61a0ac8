//! Time is an argument of the switch; it has no clock.

use std::time::Duration;

/// Tenths of a second since the switch was created. This is fine enough for ageing, and limits the writes
/// to an active FDB entry to ten per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// Ticks in a second.
    pub const PER_SECOND: u32 = 10;

    /// The tick at this time after the switch was created. Saturates after 13 years.
    pub fn at(since_start: Duration) -> Tick {
        let ticks = since_start.as_millis() * u128::from(Self::PER_SECOND) / 1000;
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Ticks from `earlier` to `self`; zero if `earlier` is later, because the clock that another worker
    /// read can be one tick ahead.
    pub const fn since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}
