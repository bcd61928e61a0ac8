//! The forwarding database: (VLAN, MAC) -> port (802.1D-2004 §7.9).

use super::{PortId, Tick};
use crate::wire::Mac;

/// What an entry is looked up by: a VLAN (0: none) and a MAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct FdbKey {
    /// VLAN identifier; 0 until the switch knows VLANs.
    pub vlan: u16,
    /// The station.
    pub mac: Mac,
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

/// What [`Fdb::learn`] did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Learned {
    /// Known, on that port; refreshed if the tick had changed.
    Known,
    /// New.
    New,
    /// New, in the place of the oldest address of the port that held most.
    Evicted {
        /** The port that gave way. */
        from: PortId,
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
    NotAStation(Mac),
}

/// The database.
#[derive(Debug)]
pub struct Fdb {}

#[allow(unused_variables, reason = "to be written")]
impl Fdb {
    /// An empty database of at most `max` entries that live `ageing` ticks.
    pub fn new(max: usize, ageing: u32, seed: u64) -> Fdb {
        Fdb {}
    }
    /// Where `key` is. Never locks.
    pub fn lookup(&self, now: Tick, key: FdbKey) -> Option<PortId> {
        None
    }
    /// A frame from `key` came in on `port`. Locks only when the table changes.
    pub fn learn(&self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        Learned::Refused
    }
    /// Adds or replaces an entry by hand.
    pub fn add(&self, now: Tick, key: FdbKey, port: PortId, state: FdbState) -> Result<(), FdbError> {
        Ok(())
    }
    /// Takes an entry out; whether there was one.
    pub fn remove(&self, key: FdbKey) -> Result<bool, FdbError> {
        Ok(false)
    }
    /// Takes all learned entries out, or those of one port; how many.
    pub fn flush(&self, port: Option<PortId>) -> usize {
        0
    }
    /// The port is going away: takes all its entries out, of every kind.
    pub fn forget_port(&self, port: PortId) {}
    /// Takes out what has aged by `now`, calling `aged` for each; when to call again, if anything can age.
    pub fn age(&self, now: Tick, aged: &mut dyn FnMut(FdbEntry)) -> Option<Tick> {
        None
    }
    /// A copy of all entries, in no order.
    pub fn entries(&self) -> Vec<FdbEntry> {
        Vec::new()
    }
    /// How many entries there are.
    pub fn len(&self) -> usize {
        0
    }
    /// No entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// How many there may be.
    pub fn max(&self) -> usize {
        0
    }
}
