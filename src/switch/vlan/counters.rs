//! Counters per VLAN, as the Linux bridge counts with `vlan_stats_enabled` (`struct br_vlan_stats` in
//! `net/bridge/br_private.h`): of all ports together, or of one ([`super::PortVlanCounters`]).
//!
//! Bytes are those of a frame without the tag of its VLAN, so a copy that leaves with another tag than the received
//! frame counts the same.

use super::{Classified, Vid};
use crate::switch::counters::Count;

/// One VLAN's counters of one worker.
#[derive(Debug, Default)]
pub struct VlanCounters {
    rx_bytes: Count,
    rx_packets: Count,
    tx_bytes: Count,
    tx_packets: Count,
}

/// A snapshot of [`VlanCounters`], of one worker or summed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct VlanCounts {
    /// Bytes of the received frames.
    pub rx_bytes: u64,
    /// Frames that ports of the VLAN admitted to it.
    pub rx_packets: u64,
    /// Bytes of the sent copies.
    pub tx_bytes: u64,
    /// Copies sent to ports of the VLAN, replies of the gateway among them.
    pub tx_packets: u64,
}

impl VlanCounters {
    /// The counters of every VLAN, by identifier: 128 KiB.
    pub(in crate::switch) fn all() -> Box<[VlanCounters]> {
        (0..=Vid::MAX).map(|_| VlanCounters::default()).collect()
    }

    /// Counts a received frame, and the copies that it became.
    pub(in crate::switch) fn count(&self, class: Classified, frame: usize, copies: usize) {
        let bytes = class.untagged_length(frame);
        self.rx_packets.add(1);
        self.rx_bytes.add(bytes);
        self.tx_packets.add(copies as u64);
        self.tx_bytes.add(bytes * copies as u64);
    }

    /// Counts one more sent frame: a copy of the frame, or a reply to it.
    pub(in crate::switch) fn count_sent(&self, class: Classified, frame: usize) {
        self.tx_packets.add(1);
        self.tx_bytes.add(class.untagged_length(frame));
    }

    /// A snapshot.
    pub fn read(&self) -> VlanCounts {
        VlanCounts {
            rx_bytes: self.rx_bytes.value(),
            rx_packets: self.rx_packets.value(),
            tx_bytes: self.tx_bytes.value(),
            tx_packets: self.tx_packets.value(),
        }
    }
}

impl VlanCounts {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: VlanCounts) -> VlanCounts {
        VlanCounts {
            rx_bytes: self.rx_bytes.wrapping_add(other.rx_bytes),
            rx_packets: self.rx_packets.wrapping_add(other.rx_packets),
            tx_bytes: self.tx_bytes.wrapping_add(other.tx_bytes),
            tx_packets: self.tx_packets.wrapping_add(other.tx_packets),
        }
    }

    /// The difference to an `earlier` snapshot.
    #[must_use]
    pub fn since(self, earlier: VlanCounts) -> VlanCounts {
        VlanCounts {
            rx_bytes: self.rx_bytes.wrapping_sub(earlier.rx_bytes),
            rx_packets: self.rx_packets.wrapping_sub(earlier.rx_packets),
            tx_bytes: self.tx_bytes.wrapping_sub(earlier.tx_bytes),
            tx_packets: self.tx_packets.wrapping_sub(earlier.tx_packets),
        }
    }
}
