//! What goes into the forwarding database and what comes out.

use super::value::Value;
use crate::switch::{PortId, Tick};
use crate::wire::Mac;

/// What an entry is looked up by: a VLAN (0: none) and a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FdbKey {
    /// VLAN identifier; 0 until the switch knows VLANs.
    pub vlan: u16,
    /// The station.
    pub mac: Mac,
}

impl FdbKey {
    /// VLAN above MAC.
    #[inline]
    pub(super) const fn pack(self) -> u64 {
        (self.vlan as u64) << 48 | self.mac.as_u64()
    }

    #[allow(clippy::cast_possible_truncation, reason = "the upper quarter is the VLAN")]
    pub(super) const fn unpack(packed: u64) -> FdbKey {
        FdbKey { vlan: (packed >> 48) as u16, mac: Mac::from_u64(packed) }
    }
}

/// Where an entry came from, in the words of `bridge fdb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdbState {
    /// Learned; ages out, moves.
    Dynamic,
    /// Put there by a person; neither ages nor moves.
    Static,
    /// The switch's own (the gateway); neither ages nor moves, and cannot be deleted.
    Permanent,
}

/// One entry, as read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FdbEntry {
    /// Whose.
    pub key: FdbKey,
    /// Behind which port.
    pub port: PortId,
    /// Its kind.
    pub state: FdbState,
    /// When a frame from it was last seen.
    pub seen: Tick,
}

impl FdbEntry {
    pub(super) const fn unpack(key: u64, value: Value) -> FdbEntry {
        let key = FdbKey::unpack(key);
        FdbEntry { key, port: value.port(), state: value.state(), seen: value.seen() }
    }
}

/// What [`super::Fdb::learn`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Known, on that port; refreshed if the tick had changed.
    Known,
    /// Known, on that port, and refreshed after a silence of a third of the ageing time or more.
    Returned {
        /** How long it was silent, in ticks. */
        after: u32,
    },
    /// New.
    New,
    /// New, in the place of the oldest address of the port that held most.
    Evicted {
        /** The port that gave way. */
        from: PortId,
        /** Its address that is forgotten. */
        gone: FdbKey,
    },
    /// The station moved here.
    Moved {
        /** Where it was. */
        from: PortId,
    },
    /// A static or permanent entry says otherwise: nothing changed.
    Pinned,
    /// The table is full of entries that cannot give way: nothing changed.
    Refused,
    /// The ageing time is 0: nothing is learned.
    Off,
}

/// An entry could not be added.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FdbError {
    /// Every entry is static or permanent.
    #[error("the forwarding database is full of static entries: delete some, or raise --fdb-max")]
    Full,
    /// The entry is the switch's own.
    #[error("{0} is the gateway's own address and stays on the host port")]
    Permanent(Mac),
    /// A group address or zero.
    #[error("{0} cannot be a station's address: it is a group address or zero")]
    NotUnicast(Mac),
}
