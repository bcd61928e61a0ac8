//! Counters of ports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::switch::{DropReason, Side};

/// Name of the row that sums up deleted ports.
pub const DELETED: &str = "(deleted)";

/// Counters of a port. A super-frame (a GSO packet) counts as one frame. Every received frame is
/// counted once as `forwarded`, `flooded`, `answered` or an ingress drop; docs/API.md lists the sums
/// that hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortStats {
    /// Name of the port; `(deleted)` for the sum of all deleted ports.
    pub ifname: String,
    /// Frames received from the container.
    pub rx_frames: u64,
    /// Bytes received, from the destination address on, without FCS.
    pub rx_bytes: u64,
    /// Frames delivered to the container.
    pub tx_frames: u64,
    /// Bytes delivered.
    pub tx_bytes: u64,
    /// Received frames that went to one egress port.
    pub forwarded: u64,
    /// Received frames that the kernel fast path forwarded or flooded.
    #[serde(default)]
    pub fast: u64,
    /// Received frames that were flooded.
    pub flooded: u64,
    /// Copies of flooded frames, and of requests answered for a neighbour (`neigh_suppress`): one for each egress port.
    pub flood_copies: u64,
    /// Received frames that the switch answered itself: as the gateway, or for a neighbour.
    pub answered: u64,
    /// Frames that the switch itself made and sent to this port: queries for multicast groups, BPDUs.
    #[serde(default)]
    pub injected: u64,
    /// Frames for this port that the switch segmented or checksummed, because the port has no offload.
    pub segmented: u64,
    /// Frames that came out of it.
    pub segments: u64,
    /// Copies of frames for this port that its impairment has added.
    #[serde(default)]
    pub duplicated: u64,
    /// Copies of frames for this port, the destination of a mirror.
    #[serde(default)]
    pub mirrored: u64,
    /// Microseconds in which the port was not read, because its frames took more than its share of a worker's time.
    pub throttled_us: u64,
    /// Frames for this port that were written in the background, because its receive path is slow.
    pub background: u64,
    /// Times that the port was blocked because of a loop.
    #[serde(default)]
    pub loops: u64,
    /// MAC addresses learned on this port.
    pub fdb_learned: u64,
    /// MAC addresses that moved to this port from another.
    pub fdb_moved: u64,
    /// MAC addresses of this port evicted from a full forwarding database.
    pub fdb_evictions: u64,
    /// Frames whose source was not learned: the forwarding database was full and no entry could be evicted, or the port
    /// had `fdb_max_learned` addresses.
    pub fdb_refused: u64,
    /// Frames that the container sent faster than the switch read them, lost in the queue of the
    /// container's device. Absent when the device is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_dropped: Option<u64>,
    /// Dropped frames by reason, with every reason listed.
    pub drops: BTreeMap<String, u64>,
}

impl PortStats {
    /// Sum of drops on one side.
    pub fn dropped(&self, side: Side) -> u64 {
        self.reasons(side).map(|(_, count)| count).sum()
    }

    /// Drop reasons of one side in order, with their counts.
    pub fn reasons(&self, side: Side) -> impl Iterator<Item = (DropReason, u64)> {
        let of_side = DropReason::ALL.iter().filter(move |reason| reason.side() == side);
        of_side.map(|reason| (*reason, self.drops.get(reason.name()).copied().unwrap_or(0)))
    }
}
