//! Time as the switch sees it: an argument, never a clock.

use std::time::Duration;

/// Tenths of a second since the switch was made. Fine enough for ageing, coarse enough that a busy
/// station's entry is written at most ten times a second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Tick(pub u32);

impl Tick {
    /// Ticks in a second.
    pub const PER_SECOND: u32 = 10;

    /// The tick at this time after the switch was made. Ends after 13 years, and stays there.
    pub fn at(since_start: Duration) -> Tick {
        let ticks = since_start.as_millis() * u128::from(Self::PER_SECOND) / 1000;
        Tick(u32::try_from(ticks).unwrap_or(u32::MAX))
    }

    /// Ticks from `earlier` until now; zero if `earlier` is not earlier (another worker's clock read
    /// can be one tick ahead).
    pub const fn since(self, earlier: Tick) -> u32 {
        self.0.saturating_sub(earlier.0)
    }
}
