//! Counters for each port and VLAN, as the Linux bridge counts with `vlan_stats_per_port` (`net/bridge/br_vlan.c`).
//!
//! They are made in blocks of 64 VLANs of a port, 2 KiB each, when control says that a port is in one of these VLANs,
//! and kept. A worker has at most [`PortVlanCounters::MAX_BLOCKS`] blocks, 32 MiB, and 6 MiB for their places.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Classified, Vid, VlanCounters};
use crate::switch::{Outcome, PortId, Ports};

/// VLANs of a block.
const BLOCK: usize = 64;
/// Blocks of all VLANs.
const BLOCKS: usize = 4096 / BLOCK;

/// The blocks of a port.
type PortBlocks = Box<[OnceLock<Box<[VlanCounters]>>]>;

/// One worker's counters of each port and VLAN.
#[derive(Debug)]
pub struct PortVlanCounters {
    ports: Box<[OnceLock<PortBlocks>]>,
    blocks: AtomicUsize,
}

impl Default for PortVlanCounters {
    fn default() -> PortVlanCounters {
        PortVlanCounters {
            ports: (0..Ports::MAX).map(|_| OnceLock::new()).collect(),
            blocks: AtomicUsize::new(0),
        }
    }
}

impl PortVlanCounters {
    /// Maximum number of blocks of a worker: one for each of 4096 ports, and 192 trunks of all VLANs.
    pub const MAX_BLOCKS: usize = 16384;

    /// Counts the frames of a port in a VLAN from now on. Only one thread may call it at a time. False if there are
    /// [`PortVlanCounters::MAX_BLOCKS`]: they are not counted.
    pub fn count_in(&self, port: PortId, vid: Vid) -> bool {
        let Some(slot) = self.ports.get(port.index()) else { return false };
        let blocks = slot.get_or_init(|| (0..BLOCKS).map(|_| OnceLock::new()).collect());
        let block = &blocks[usize::from(vid.get()) / BLOCK];
        if block.get().is_none() {
            if self.blocks.load(Ordering::Relaxed) == Self::MAX_BLOCKS {
                return false;
            }
            self.blocks.fetch_add(1, Ordering::Relaxed);
            block.get_or_init(|| (0..BLOCK).map(|_| VlanCounters::default()).collect());
        }
        true
    }

    /// The counters of a port in a VLAN, if it is counted.
    pub fn get(&self, port: PortId, vid: Vid) -> Option<&VlanCounters> {
        let blocks = self.ports.get(port.index())?.get()?;
        let block = blocks[usize::from(vid.get()) / BLOCK].get()?;
        Some(&block[usize::from(vid.get()) % BLOCK])
    }

    /// Counts a received frame, and its copy for each port.
    pub(in crate::switch) fn count(&self, class: Classified, outcome: &Outcome, frame: usize) {
        if let Some(ingress) = self.get(outcome.ingress(), class.vid) {
            ingress.count(class, frame, 0);
        }
        for egress in outcome.egress_ports().filter_map(|port| self.get(port, class.vid)) {
            egress.count_sent(class, frame);
        }
    }

    /// Counts a reply to a frame of the VLAN, which leaves by the port that received the frame.
    pub(in crate::switch) fn count_reply(&self, class: Classified, outcome: &Outcome, frame: usize) {
        if let Some(port) = self.get(outcome.ingress(), class.vid) {
            port.count_sent(class, frame);
        }
    }
}
