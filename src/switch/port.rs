//! The port table.
//!
//! A port's state is one atomic word, so a worker reads it with one load and never locks. The datapath
//! reuses a port number only after every worker has detached the old port.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use super::{DropReason, FrameClass};

/// The index of a port in the port table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PortId(pub u16);

impl PortId {
    /// The index for arrays with one element per port.
    pub const fn index(self) -> usize {
        self.0 as usize
    }

    /// Every possible port number.
    #[allow(clippy::cast_possible_truncation, reason = "MAX fits")]
    pub fn all() -> impl Iterator<Item = PortId> {
        (0..Ports::MAX as u16).map(PortId)
    }
}

/// The state of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Port {
    /// The link is up, and the port is neither being removed nor blocked.
    pub up: bool,
    /// This is the host port. A switch has at most one.
    pub host: bool,
    /// The device accepts super-frames and partial checksums.
    pub offload: bool,
    /// Largest payload of an Ethernet frame, in bytes.
    pub mtu: u32,
}

const PRESENT: u64 = 1 << 63;
const UP: u64 = 1 << 62;
const HOST: u64 = 1 << 61;
const OFFLOAD: u64 = 1 << 60;
/// Set and cleared apart from the rest of the word.
const BLOCKED: u64 = 1 << 59;

impl Port {
    const fn pack(self) -> u64 {
        PRESENT
            | if self.up { UP } else { 0 }
            | if self.host { HOST } else { 0 }
            | if self.offload { OFFLOAD } else { 0 }
            | self.mtu as u64
    }

    #[allow(clippy::cast_possible_truncation, reason = "the low half is the MTU")]
    const fn unpack(word: u64) -> Option<Port> {
        if word & PRESENT == 0 {
            return None;
        }
        Some(Port {
            up: word & (UP | BLOCKED) == UP,
            host: word & HOST != 0,
            offload: word & OFFLOAD != 0,
            mtu: word as u32,
        })
    }
}

/// The port table.
#[derive(Debug)]
pub struct Ports {
    slots: Box<[AtomicU64]>,
    /// One past the highest slot that was ever used.
    end: AtomicUsize,
}

impl Default for Ports {
    fn default() -> Self {
        Ports::new()
    }
}

impl Ports {
    /// Maximum number of ports of one switch, the host port included.
    pub const MAX: usize = 4096;

    /// An empty table.
    pub fn new() -> Ports {
        Ports { slots: (0..Self::MAX).map(|_| AtomicU64::new(0)).collect(), end: AtomicUsize::new(0) }
    }

    /// Adds a port in the first free slot. `None` if all [`Ports::MAX`] slots are in use. Only one thread may
    /// call this at a time.
    #[allow(clippy::cast_possible_truncation, reason = "MAX fits")]
    pub fn add(&self, port: Port) -> Option<PortId> {
        let free = self.slots.iter().position(|slot| slot.load(Ordering::Relaxed) == 0)?;
        self.slots[free].store(port.pack(), Ordering::Release);
        self.end.fetch_max(free + 1, Ordering::Release);
        Some(PortId(free as u16))
    }

    /// Replaces the state of a port. A blocked port stays blocked.
    pub fn set(&self, id: PortId, port: Port) {
        self.update(id, |word| port.pack() | word & BLOCKED);
    }

    /// Blocks a port: it neither receives nor sends, until [`Ports::unblock`].
    pub fn block(&self, id: PortId) {
        self.update(id, |word| if word & PRESENT == 0 { word } else { word | BLOCKED });
    }

    /// Unblocks a port.
    pub fn unblock(&self, id: PortId) {
        self.update(id, |word| word & !BLOCKED);
    }

    /// The port is up, and blocked.
    pub fn is_blocked(&self, id: PortId) -> bool {
        let word = self.slots.get(id.index()).map_or(0, |slot| slot.load(Ordering::Acquire));
        word & (UP | BLOCKED) == UP | BLOCKED
    }

    fn update(&self, id: PortId, change: impl Fn(u64) -> u64) {
        let slot = &self.slots[id.index()];
        // The closure never refuses.
        let _ = slot.fetch_update(Ordering::AcqRel, Ordering::Acquire, |word| Some(change(word)));
    }

    /// Frees the slot. The caller must have detached the port from every worker.
    pub fn remove(&self, id: PortId) {
        self.slots[id.index()].store(0, Ordering::Release);
    }

    /// The state of a port; `None` if it does not exist.
    pub fn port(&self, id: PortId) -> Option<Port> {
        Port::unpack(self.slots.get(id.index())?.load(Ordering::Acquire))
    }

    /// All ports, in the order of their numbers.
    #[allow(clippy::cast_possible_truncation, reason = "MAX fits")]
    pub fn iter(&self) -> impl Iterator<Item = PortId> + '_ {
        let end = self.end.load(Ordering::Acquire);
        let present = |(n, slot): (usize, &AtomicU64)| {
            (slot.load(Ordering::Acquire) & PRESENT != 0).then_some(PortId(n as u16))
        };
        self.slots[..end].iter().enumerate().filter_map(present)
    }

    /// The one egress rule, for unicast, flood and groups: not back to the ingress port, not to a port that is down or
    /// blocked, and not more than the egress MTU and one tag (`is_skb_forwardable` in Linux `include/linux/netdevice.h`).
    /// So a frame with two tags may have a full-size payload. Returns the egress port.
    #[inline]
    pub fn may_deliver(&self, class: &FrameClass, egress: PortId) -> Result<Port, DropReason> {
        if egress == class.ingress {
            return Err(DropReason::Filtered);
        }
        match self.port(egress) {
            Some(port) if port.up => {
                let longest = port.mtu as usize + crate::wire::ETHERNET_HEADER + crate::wire::VLAN_TAG;
                if class.wire_length <= longest { Ok(port) } else { Err(DropReason::Oversize) }
            }
            _ if self.is_blocked(egress) => Err(DropReason::EgressBlocked),
            _ => Err(DropReason::EgressDown),
        }
    }
}
