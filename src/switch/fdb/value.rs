//! The value of an entry, in one word, so that it is read and replaced atomically.

use super::{FdbKind, FdbState, Learned};
use crate::switch::{PortId, Tick};

/// Last-seen tick (32 bits), sticky (1), port (15), state (2), refreshed (1), generation of the slot (13).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Value(pub(super) u64);

const SEEN: u32 = 32;
/// The entry does not move.
const STICKY: u64 = 1 << 31;
const PORT: u32 = 16;
const PORT_MASK: u64 = 0x7fff;
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
    pub(super) const fn new(port: PortId, kind: FdbKind, seen: Tick) -> Value {
        let state = match kind.state {
            FdbState::Dynamic => DYNAMIC,
            FdbState::Static => STATIC,
            FdbState::Permanent => PERMANENT,
        };
        let sticky = if kind.sticky { STICKY } else { 0 };
        Value((seen.0 as u64) << SEEN | (port.0 as u64 & PORT_MASK) << PORT | sticky | state)
    }

    /// A learned entry.
    pub(super) const fn learned(port: PortId, seen: Tick) -> Value {
        Value::new(port, FdbKind { state: FdbState::Dynamic, sticky: false }, seen)
    }

    /// The value after a frame on another port.
    pub(super) const fn moved(self, port: PortId, now: Tick) -> Value {
        Value((now.0 as u64) << SEEN | (port.0 as u64 & PORT_MASK) << PORT | self.0 & STATE)
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

    /// Learned on this port.
    pub(super) const fn is_learned_on(self, port: PortId) -> bool {
        self.0 & (PORT_MASK << PORT | STATE) == (port.0 as u64) << PORT | DYNAMIC
    }

    /// It stays on its port.
    const fn is_pinned(self) -> bool {
        self.0 & STATE == PERMANENT || self.0 & STICKY != 0
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
        match self.port() == port {
            true if self.is_dynamic() => Learned::Known,
            true => Learned::Static,
            false if self.is_pinned() => Learned::Pinned { on: self.port() },
            false => Learned::Moved { from: self.port(), after: now.since(self.seen()) },
        }
    }

    #[allow(clippy::cast_possible_truncation, reason = "the word's fields")]
    pub(super) const fn port(self) -> PortId {
        PortId((self.0 >> PORT & PORT_MASK) as u16)
    }

    pub(super) const fn seen(self) -> Tick {
        Tick((self.0 >> SEEN) as u32)
    }

    /// The kind; undefined for a free slot.
    pub(super) const fn kind(self) -> FdbKind {
        let state = match self.0 & STATE {
            PERMANENT => FdbState::Permanent,
            STATIC => FdbState::Static,
            _ => FdbState::Dynamic,
        };
        FdbKind { state, sticky: self.0 & STICKY != 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_do_not_overlap() {
        let highest = PortId(0x7fff);
        for state in [FdbState::Dynamic, FdbState::Static, FdbState::Permanent] {
            let sticky = FdbKind { state, sticky: true };
            let value = Value::new(highest, sticky, Tick(7)).of_generation(u32::MAX);
            let value = value.refreshed(Tick(u32::MAX));
            assert_eq!((value.port(), value.kind(), value.seen()), (highest, sticky, Tick(u32::MAX)));
            assert!(value.is_refreshed() && !value.is_free());
            let value = Value::new(PortId(0), state.into(), Tick(0)).of_generation(u32::MAX);
            assert_eq!((value.port(), value.kind(), value.seen()), (PortId(0), state.into(), Tick(0)));
            assert!(!value.is_refreshed());
        }
        assert!(Value::FREE.is_free() && !Value::FREE.is_dynamic());
    }
}
