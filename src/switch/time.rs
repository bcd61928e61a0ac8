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

/// The current time: coarse for the forwarding database, and fine for limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Tenths of a second.
    pub tick: Tick,
    /// Nanoseconds, of the same clock.
    pub nanos: u64,
}

impl Now {
    /// This time after the switch was created.
    pub fn at(since_start: Duration) -> Now {
        Now { tick: Tick::at(since_start), nanos: u64::try_from(since_start.as_nanos()).unwrap_or(u64::MAX) }
    }
}

/// The start of a tick.
impl From<Tick> for Now {
    fn from(tick: Tick) -> Now {
        const NANOS_PER_TICK: u64 = 1_000_000_000 / Tick::PER_SECOND as u64;
        Now { tick, nanos: u64::from(tick.0) * NANOS_PER_TICK }
    }
}
