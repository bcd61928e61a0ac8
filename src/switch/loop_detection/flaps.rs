//! Addresses that move back and forth between ports.

use super::{FLAP, FLAPS, WINDOW};
use crate::switch::fdb::Hash;
use crate::switch::{PortId, Tick};
use crate::wire::Mac;

/// Addresses that are watched at a time, a power of two.
const ADDRESSES: u32 = 1024;
/// Places in which an address can be.
const WAYS: usize = 4;
/// Ports of which flaps are counted for an address.
const SUSPECTS: usize = 4;

/// A move of an address.
#[derive(Debug, Clone, Copy)]
pub(super) struct Move {
    pub(super) now: Tick,
    pub(super) mac: Mac,
    pub(super) from: PortId,
    pub(super) to: PortId,
    /// Which of these ports the switch has assigned the address to.
    pub(super) assigned_to: Option<PortId>,
}

/// An address that flaps too often.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flapping {
    pub(super) home: PortId,
    suspects: [(PortId, u8); SUSPECTS],
}

impl Flapping {
    /// The ports to which it flaps.
    pub(super) fn suspects(&self) -> impl Iterator<Item = PortId> {
        self.suspects.into_iter().filter(|(_, flaps)| *flaps > 1).map(|(port, _)| port)
    }
}

/// An address that moves.
#[derive(Debug, Clone, Copy, Default)]
struct Address {
    /// Zero in a free place.
    mac: Mac,
    home: PortId,
    moved: Tick,
    /// When its flaps were first counted.
    since: Tick,
    suspects: [(PortId, u8); SUSPECTS],
}

/// Counts flaps.
#[derive(Debug)]
pub(super) struct FlapCounter {
    hash: Hash,
    addresses: Box<[Address]>,
}

impl FlapCounter {
    pub(super) fn new(seed: u64) -> FlapCounter {
        FlapCounter {
            hash: Hash::new(seed, ADDRESSES.ilog2()),
            addresses: vec![Address::default(); ADDRESSES as usize].into(),
        }
    }

    /// Notes a move, and counts it if `counts`. Returns the address if it flaps too often to the port that it moved to.
    pub(super) fn note(&mut self, moved: Move, counts: bool) -> Option<Flapping> {
        let Move { now, mac, from, to, assigned_to } = moved;
        let address = &mut self.addresses[self.place(now, mac)?];
        let is_known = address.mac == mac && now.since(address.moved) <= WINDOW;
        if !is_known {
            *address = Address { mac, home: from, since: now, ..Address::default() };
        }
        let flaps = is_known && now.since(address.moved) <= FLAP;
        address.moved = now;
        address.home = assigned_to.unwrap_or(address.home);
        if address.home == to || !flaps || !counts {
            return None;
        }
        if now.since(address.since) > WINDOW {
            (address.since, address.suspects) = (now, Default::default());
        }
        let is_place = |&&mut (port, flaps): &&mut (PortId, u8)| flaps == 0 || port == to;
        let (suspect, flaps) = address.suspects.iter_mut().find(is_place)?;
        *suspect = to;
        *flaps += 1;
        (*flaps >= FLAPS).then_some(Flapping { home: address.home, suspects: address.suspects })
    }

    /// The place of an address, or a free one. `None`: there is no room.
    fn place(&self, now: Tick, mac: Mac) -> Option<usize> {
        let first = self.hash.bucket(mac.as_u64());
        let mut places = (0..WAYS).map(|way| (first + way) % ADDRESSES as usize);
        let is_free = |address: &Address| address.mac.is_zero() || now.since(address.moved) > WINDOW;
        let own = places.clone().find(|&at| self.addresses[at].mac == mac);
        own.or_else(|| places.find(|&at| is_free(&self.addresses[at])))
    }

    /// Counts from zero again. Homes are kept.
    pub(super) fn reset(&mut self) {
        self.addresses.iter_mut().for_each(|address| address.suspects = Default::default());
    }
}
