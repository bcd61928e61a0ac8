//! The spanning tree.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::switch::stp::BpduCounts;

/// The spanning tree of a switch, in the words of `ip -d -j link show type bridge`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StpReport {
    /// Name of the switch.
    pub ifname: String,
    /// `rstp`, or `stp` if the switch speaks only that.
    pub protocol: String,
    /// Identifier of the switch: priority and MAC address.
    pub bridge_id: String,
    /// Bridge priority.
    pub priority: u16,
    /// Identifier of the root bridge.
    pub root_id: String,
    /// The port that leads to the root bridge; absent if this switch is the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_port: Option<String>,
    /// Cost of the path to the root bridge.
    pub root_path_cost: u32,
    /// Seconds between periodic BPDUs of this switch.
    pub hello_time: u16,
    /// Seconds after which information is discarded, as the root says.
    pub max_age: u16,
    /// Seconds in the listening and in the learning state, as the root says.
    pub forward_delay: u16,
    /// Whether the topology has changed in the last seconds.
    pub topology_change: bool,
    /// How often it has changed.
    pub topology_changes: u64,
    /// The ports.
    pub ports: Vec<StpPort>,
}

/// What a port has received and sent, with the names of the Linux bridge (`struct bridge_stp_xstats`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BpduCounters {
    /// Received configuration and RST BPDUs.
    pub rx_bpdu: u64,
    /// Received topology change notifications.
    pub rx_tcn: u64,
    /// Sent configuration and RST BPDUs.
    pub tx_bpdu: u64,
    /// Sent topology change notifications.
    pub tx_tcn: u64,
    /// How often the port began to forward.
    pub transition_fwd: u64,
    /// How often the port stopped learning or forwarding.
    pub transition_blk: u64,
}

impl From<BpduCounts> for BpduCounters {
    fn from(counts: BpduCounts) -> BpduCounters {
        let BpduCounts { rx_bpdu, rx_tcn, tx_bpdu, tx_tcn, transition_fwd, transition_blk } = counts;
        BpduCounters { rx_bpdu, rx_tcn, tx_bpdu, tx_tcn, transition_fwd, transition_blk }
    }
}

/// A port in the spanning tree, in the words of `bridge -d -j link show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct StpPort {
    /// The name.
    pub ifname: String,
    /// Port identifier: priority and number, in hexadecimal.
    pub port_id: String,
    /// `root`, `designated`, `alternate`, `backup` or `disabled`.
    pub role: String,
    /// `forwarding`, `learning`, `listening`, `blocking` or `disabled`.
    pub state: String,
    /// Path cost.
    pub cost: u32,
    /// Port priority.
    pub priority: u16,
    /// The root bridge, as the designated port says.
    pub designated_root: String,
    /// The cost of the path to it, as the designated port says.
    pub designated_cost: u32,
    /// The bridge of the designated port.
    pub designated_bridge: String,
    /// The designated port: the one that connects this link to the root.
    pub designated_port: String,
    /// No bridge is behind the port.
    pub edge: bool,
    /// `rstp` or `stp`: what the port speaks.
    pub protocol: String,
    /// Whether BPDU guard is on.
    pub guard: bool,
    /// Whether BPDU guard has disabled the port.
    pub guard_tripped: bool,
    /// Whether root guard is on.
    pub root_block: bool,
    /// Whether root guard blocks the port.
    pub root_blocked: bool,
    /// What it has received and sent.
    #[serde(flatten)]
    pub counts: BpduCounters,
}
