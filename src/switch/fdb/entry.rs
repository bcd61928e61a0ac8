//! Keys, entries, outcomes and errors of the forwarding database.

use super::value::Value;
use crate::switch::{PortId, Tick};
use crate::wire::Mac;

/// The key of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FdbKey {
    /// VLAN identifier; 0 means no VLAN.
    pub vlan: u16,
    /// MAC address.
    pub mac: Mac,
}

impl FdbKey {
    /// VLAN in the upper 16 bits, MAC address below.
    #[inline]
    pub(super) const fn pack(self) -> u64 {
        (self.vlan as u64) << 48 | self.mac.as_u64()
    }

    #[allow(clippy::cast_possible_truncation, reason = "the upper quarter is the VLAN")]
    pub(super) const fn unpack(packed: u64) -> FdbKey {
        FdbKey { vlan: (packed >> 48) as u16, mac: Mac::from_u64(packed) }
    }
}

/// The kind of an entry, with the names of `bridge fdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdbState {
    /// Learned. It ages and can move.
    Dynamic,
    /// Added by a user. It does not age, and moves as a learned one.
    Static,
    /// An address of the host: the gateway's, or one that a user added. It does not age or move. Also called local.
    Permanent,
}

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbKind {
    /// Whether it ages.
    pub state: FdbState,
    /// Whether it stays on its port when a frame from its MAC is received on another (`NTF_STICKY`).
    pub sticky: bool,
}

impl From<FdbState> for FdbKind {
    fn from(state: FdbState) -> FdbKind {
        FdbKind { state, sticky: false }
    }
}

/// A snapshot of one entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// VLAN and MAC address.
    pub key: FdbKey,
    /// The port.
    pub port: PortId,
    /// The kind.
    pub kind: FdbKind,
    /// When a frame from this MAC was last seen.
    pub seen: Tick,
}

impl FdbEntry {
    pub(super) const fn unpack(key: u64, value: Value) -> FdbEntry {
        let key = FdbKey::unpack(key);
        FdbEntry { key, port: value.port(), kind: value.kind(), seen: value.seen() }
    }
}

/// The outcome of [`super::Fdb::learn`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Known on this port; refreshed if the tick had changed.
    Known,
    /// A static or permanent MAC of this port: nothing changed.
    Static,
    /// Known on this port, and refreshed after a silence of at least a third of the ageing time.
    Returned {
        /** How long it was silent, in ticks. */
        after: u32,
    },
    /// New entry.
    New,
    /// New entry, in the place of the oldest entry of the port with most entries.
    Evicted {
        /** The port of the evicted entry. */
        from: PortId,
        /** Its address that is forgotten. */
        gone: FdbKey,
    },
    /// Moved here from another port.
    Moved {
        /** Where it was. */
        from: PortId,
        /** How long it was silent there, in ticks. */
        after: u32,
    },
    /// A sticky or permanent MAC of another port: nothing changed.
    Pinned {
        /** The other port. */
        on: PortId,
    },
    /// A MAC that is reserved for another port ([`super::Fdb::reserve`]): nothing changed.
    Reserved {
        /** The other port. */
        owner: PortId,
    },
    /// The table is full of static and permanent entries: nothing changed.
    Refused,
    /// The port has the learned entries that it may have ([`super::Fdb::set_max_learned`]): nothing changed.
    LimitReached,
    /// Learning is off: the ageing time is 0, or the flags of the port say so.
    Off,
}

impl Learned {
    /// Whether it is counted or reported: not a known address, one that may not be learned here, or learning that is
    /// off.
    #[inline(always)]
    pub const fn is_notable(self) -> bool {
        match self {
            Learned::Known
            | Learned::Static
            | Learned::Pinned { .. }
            | Learned::Reserved { .. }
            | Learned::Off => false,
            Learned::Returned { .. }
            | Learned::New
            | Learned::Evicted { .. }
            | Learned::Moved { .. }
            | Learned::Refused
            | Learned::LimitReached => true,
        }
    }
}

/// An entry cannot be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FdbError {
    /// All entries are static or permanent.
    #[error("the forwarding database is full of static entries: delete some, or raise its limit")]
    Full,
    /// A group address or zero.
    #[error("{0} cannot be the address of a host: it is a group address or zero")]
    NotUnicast(Mac),
}
