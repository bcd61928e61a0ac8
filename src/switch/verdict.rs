//! Everything that can happen to a frame.

use super::{Answer, PortId};

/// The outcome of [`super::Switch::process`]; the datapath carries it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// A known unicast address: to its one port.
    Forward(PortId),
    /// Broadcast, multicast or unknown unicast: to all of [`super::Switch::flood_set`].
    Flood,
    /// For the gateway: the switch answers, on the port that the frame came from.
    Answer(Answer),
    /// Not delivered, and why; counted on the ingress port.
    Drop(DropReason),
    /// Not delivered, because the egress port cannot take it; counted there.
    Refused {
        /// The port that cannot take it.
        egress: PortId,
        /// Why.
        reason: DropReason,
    },
}

macro_rules! drop_reasons {
    ($($(#[doc = $doc:literal])+ $name:ident => $text:literal,)+) => {
        /// Why a frame was not delivered. Each is counted per port.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason { $($(#[doc = $doc])+ $name,)+ }

        impl DropReason {
            /// Every reason, in the order of the counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$name,)+];

            /// The name in tables and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$name => $text,)+ }
            }
        }
    };
}

drop_reasons! {
    /// Shorter than an Ethernet header. Counted on the ingress port.
    Runt => "runt",
    /// The source is a group address or zero (802.1D-2004 §7.8). Counted on the ingress port.
    BadSource => "bad_source",
    /// To 01-80-C2-00-00-00..0F, never forwarded (802.1Q-2022 table 8-1). Counted on the ingress port.
    ReservedAddress => "reserved_address",
    /// The destination is behind the ingress port (802.1D-2004 §7.7). Counted on the ingress port.
    Filtered => "filtered",
    /// The ingress port is not forwarding: down, or on its way out. Counted on the ingress port.
    IngressDown => "ingress_down",
    /// A flood, and no other port is up. Counted on the ingress port.
    NoEgress => "no_egress",
    /// A container used the gateway's MAC, or claimed the gateway's address by ARP, by neighbour discovery or in
    /// an ICMP redirect. Counted on the ingress port.
    SpoofedGateway => "spoofed_gateway",
    /// To the gateway's MAC, not for the switch itself, and there is no host port. Counted on the ingress port.
    NoHostPort => "no_host_port",
    /// The header before the frame contradicts the frame (offsets out of range). Counted on the ingress port; where only
    /// the segmentation for a port without offload finds out, on that egress port.
    BadOffload => "bad_offload",
    /// The egress port is down. Counted on the egress port.
    EgressDown => "egress_down",
    /// Longer than the egress port's MTU. Counted on the egress port.
    Oversize => "oversize",
    /// The egress queue was full. Counted on the egress port.
    EgressQueueFull => "egress_queue_full",
    /// The egress device refused the frame. Counted on the egress port.
    EgressRefused => "egress_refused",
}

impl DropReason {
    /// How many there are: the size of a counter block.
    pub const COUNT: usize = DropReason::ALL.len();
}
