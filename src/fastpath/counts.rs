//! What the programs count.

use std::mem;

use super::layout::counter;
use super::{FastPath, FastPort, PortDevices};
use crate::switch::{PortId, Vid};

/// Frames and bytes that the fast path forwarded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FastCounts {
    /// Frames that came in on this port.
    pub rx_frames: u64,
    /// Their bytes.
    pub rx_bytes: u64,
    /// Frames that went out on this port.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Those of `rx_frames` that were flooded.
    pub flooded: u64,
    /// Their copies.
    pub flood_copies: u64,
}

impl FastCounts {
    fn combined(self, other: FastCounts, combine: fn(u64, u64) -> u64) -> FastCounts {
        FastCounts {
            rx_frames: combine(self.rx_frames, other.rx_frames),
            rx_bytes: combine(self.rx_bytes, other.rx_bytes),
            tx_frames: combine(self.tx_frames, other.tx_frames),
            tx_bytes: combine(self.tx_bytes, other.tx_bytes),
            flooded: combine(self.flooded, other.flooded),
            flood_copies: combine(self.flood_copies, other.flood_copies),
        }
    }

    /// The sum, modulo 2^64.
    pub(super) fn plus(self, other: FastCounts) -> FastCounts {
        self.combined(other, u64::wrapping_add)
    }

    /// The difference, modulo 2^64.
    fn minus(self, other: FastCounts) -> FastCounts {
        self.combined(other, u64::wrapping_sub)
    }
}

impl FastPath {
    /// What the fast path has forwarded from and to all ports that have had this number.
    pub fn counts(&self, port: PortId) -> FastCounts {
        let known = self.lock();
        let Some(port) = known.ports.get(&port) else { return FastCounts::default() };
        port.deleted.plus(self.current(port))
    }

    /// What the fast path has forwarded from and to all ports.
    pub fn total_counts(&self) -> FastCounts {
        let known = self.lock();
        let counts = known.ports.values().map(|port| port.deleted.plus(self.current(port)));
        counts.fold(FastCounts::default(), FastCounts::plus)
    }

    /// What the fast path has forwarded from and to this port.
    pub fn counts_of_current(&self, port: PortId) -> FastCounts {
        self.lock().ports.get(&port).map(|port| self.current(port)).unwrap_or_default()
    }

    /// What the fast path has forwarded in a VLAN from and to all ports that have had this number.
    pub fn counts_in_vlan(&self, port: PortId, vid: Vid) -> FastCounts {
        self.lock().ports.get(&port).map(|port| self.counted_in_vlan(port, vid)).unwrap_or_default()
    }

    /// What the fast path has forwarded in a VLAN from and to all ports.
    pub fn total_counts_in_vlan(&self, vid: Vid) -> FastCounts {
        let known = self.lock();
        let counts = known.ports.values().map(|port| self.counted_in_vlan(port, vid));
        counts.fold(FastCounts::default(), FastCounts::plus)
    }

    fn counted_in_vlan(&self, port: &FastPort, vid: Vid) -> FastCounts {
        let before = port.counted_in.get(&vid.get()).copied().unwrap_or_default();
        let is_in = port.vlan == vid.get();
        before.plus(if is_in { self.current(port).minus(port.before_vlan) } else { FastCounts::default() })
    }

    /// Ends the counting in the VLAN of a port.
    pub(super) fn leave_vlan(&self, port: &mut FastPort) {
        if port.vlan == 0 {
            return;
        }
        let (current, vlan) = (self.current(port), mem::take(&mut port.vlan));
        let counted = port.counted_in.entry(vlan).or_default();
        *counted = counted.plus(current.minus(port.before_vlan));
        port.before_vlan = current;
    }

    pub(super) fn current(&self, port: &FastPort) -> FastCounts {
        port.devices.map(|devices| self.counted(devices).minus(port.earlier)).unwrap_or_default()
    }

    pub(super) fn counted(&self, devices: PortDevices) -> FastCounts {
        let words = self.counters.sum(devices.host_end).unwrap_or_default();
        FastCounts {
            rx_frames: words[counter::RX_FRAMES],
            rx_bytes: words[counter::RX_BYTES],
            tx_frames: words[counter::TX_FRAMES],
            tx_bytes: words[counter::TX_BYTES],
            flooded: words[counter::FLOODED],
            flood_copies: words[counter::FLOOD_COPIES],
        }
    }
}
