//! The value of an entry, in one word, so that it is read and replaced atomically.

use super::{FdbState, Learned};
use crate::switch::{PortId, Tick};

/// Last-seen tick (32 bits), port (16), kind (2), refreshed (1), generation of the slot (13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value(pub(super) u64);

const SEEN: u32 = 32;
const PORT: u32 = 16;
const STATE: u64 = 0b11 << 14;
const DYNAMIC: u64 = 0b01 << 14;
const STATIC: u64 = 0b10 << 14;
const PERMANENT: u64 = 0b11 << 14;
const GENERATION: u64 = (1 << 13) - 1;

impl Value {
    /// The value of a slot without an entry, or whose entry is being removed.
    pub(super) const FREE: Value = Value(0);
    /// The entry was refreshed since it became its port's youngest.
    pub(super) const REFRESHED: u64 = 1 << 13;

    /// Not refreshed, generation 0.
    pub(super) const fn new(port: PortId, state: FdbState, seen: Tick) -> Value {
        let state = match state {
            FdbState::Dynamic => DYNAMIC,
            FdbState::Static => STATIC,
            FdbState::Permanent => PERMANENT,
        };
        Value((seen.0 as u64) << SEEN | (port.0 as u64) << PORT | state)
    }

    pub(super) const fn of_generation(self, generation: u32) -> Value {
        Value(self.0 & !GENERATION | generation as u64 & GENERATION)
    }

    /// The value after a frame at `now`.
    pub(super) const fn refreshed(self, now: Tick) -> Value {
        Value((now.0 as u64) << SEEN | self.0 & 0xffff_ffff | Self::REFRESHED)
    }

    pub(super) const fn is_free(self) -> bool {
        self.0 & STATE == 0
    }

    pub(super) const fn is_dynamic(self) -> bool {
        self.0 & STATE == DYNAMIC
    }

    pub(super) const fn is_permanent(self) -> bool {
        self.0 & STATE == PERMANENT
    }

    pub(super) const fn is_refreshed(self) -> bool {
        self.0 & Self::REFRESHED != 0
    }

    /// Learned, and no frame was seen for `ageing` ticks (expired at that age, not after it, as in
    /// `has_expired` in Linux `net/bridge/br_fdb.c`).
    pub(super) const fn has_aged(self, now: Tick, ageing: u32) -> bool {
        self.is_dynamic() && now.since(self.seen()) >= ageing
    }

    /// The outcome of learning this MAC on `port`.
    pub(super) fn learn_outcome(self, now: Tick, port: PortId) -> Learned {
        match (self.port() == port, self.is_dynamic()) {
            (true, true) => Learned::Known,
            (true, false) => Learned::Static,
            (false, true) => Learned::Moved { from: self.port(), after: now.since(self.seen()) },
            (false, false) => Learned::Pinned { on: self.port() },
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the word's fields")]
    pub(super) const fn port(self) -> PortId {
        PortId((self.0 >> PORT) as u16)
    }

    pub(super) const fn seen(self) -> Tick {
        Tick((self.0 >> SEEN) as u32)
    }

    /// The kind; undefined for a free slot.
    pub(super) const fn state(self) -> FdbState {
        match self.0 & STATE {
            PERMANENT => FdbState::Permanent,
            STATIC => FdbState::Static,
            _ => FdbState::Dynamic,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        for state in [FdbState::Dynamic, FdbState::Static, FdbState::Permanent] {
            let value = Value::new(PortId(u16::MAX), state, Tick(7)).of_generation(u32::MAX);
            let value = value.refreshed(Tick(u32::MAX));
            assert_eq!(
                (value.port(), value.state(), value.seen()),
                (PortId(u16::MAX), state, Tick(u32::MAX))
            );
            assert!(value.is_refreshed() && !value.is_free());
            let value = Value::new(PortId(0), state, Tick(0)).of_generation(u32::MAX);
            assert_eq!((value.port(), value.state(), value.seen()), (PortId(0), state, Tick(0)));
            assert!(!value.is_refreshed());
        }
        assert!(Value::FREE.is_free() && !Value::FREE.is_dynamic());
    }
}
