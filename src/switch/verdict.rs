//! Verdicts: what happens to a frame, in short; and the reasons of drops.

use super::{PortId, SwitchReply};

/// What happens to a frame, in short. [`super::Outcome`] has all of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Known unicast: to one port.
    Forward(PortId),
    /// Broadcast, multicast or unknown unicast: to each port that may have it. At least one is up.
    Flood,
    /// The switch replies, on the ingress port. A request to which it replies for a neighbour is also flooded.
    Answer(SwitchReply),
    /// Dropped; counted on the ingress port.
    Drop(DropReason),
    /// Dropped because the egress port cannot accept it; counted on the egress port.
    Refused {
        /// The egress port.
        egress: PortId,
        /// The reason.
        reason: DropReason,
    },
}

/// The port on which a drop is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// The port that received the frame.
    Ingress,
    /// The port that should have sent the frame or a copy of it.
    Egress,
}

impl Side {
    /// The name in tables and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Side::Ingress => "ingress",
            Side::Egress => "egress",
        }
    }
}

macro_rules! drop_reasons {
    ($($(#[doc = $source:literal])* $reason:ident => $name:literal, $side:ident, $text:literal;)+) => {
        /// Why a frame was dropped. Each reason is counted per port.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum DropReason { $(#[doc = $text] $(#[doc = $source])* $reason,)+ }

        impl DropReason {
            /// All reasons, in the order of the counters.
            pub const ALL: &'static [DropReason] = &[$(DropReason::$reason,)+];

            /// The name in tables and JSON.
            pub const fn name(self) -> &'static str {
                match self { $(DropReason::$reason => $name,)+ }
            }

            /// The port on which it is counted.
            pub const fn side(self) -> Side {
                match self { $(DropReason::$reason => Side::$side,)+ }
            }

            /// A description for users.
            pub const fn text(self) -> &'static str {
                match self { $(DropReason::$reason => $text,)+ }
            }
        }
    };
}

drop_reasons! {
    Runt => "runt", Ingress, "shorter than an Ethernet header";
    /// (802.1D-2004 §7.8)
    BadSource => "bad_source", Ingress, "the source is a group address or zero";
    /// (802.1Q-2022 table 8-1)
    ReservedAddress => "reserved_address", Ingress,
        "to 01:80:C2:00:00:01 to 0F, which a bridge does not forward unless its group forward mask says so";
    /// (802.1D-2004 §7.12.3)
    Bpdu => "bpdu", Ingress, "a message of the spanning tree, which is for the switch itself";
    /// (802.1D-2004 §7.7)
    Filtered => "filtered", Ingress, "the destination is behind the port that it came from";
    IngressDown => "ingress_down", Ingress, "the port is down, or on its way out";
    IngressBlocked => "ingress_blocked", Ingress, "the port is blocked, by the spanning tree or because frames of other ports came back there";
    IngressMirror => "ingress_mirror", Ingress, "the port is the destination of a mirror, whose own frames are not forwarded";
    Locked => "locked", Ingress, "the port is locked, and the source is not an address of it";
    StormBroadcast => "storm_broadcast", Ingress, "more broadcast frames than the port's storm control allows";
    StormUnknownUnicast => "storm_unknown_unicast", Ingress,
        "more frames to unknown addresses than the port's storm control allows";
    StormMulticast => "storm_multicast", Ingress, "more multicast frames than the port's storm control allows";
    IngressRate => "ingress_rate", Ingress, "more than the port's ingress rate limit allows";
    IngressLoss => "ingress_loss", Ingress, "lost by the impairment of the port";
    IngressDelayFull => "ingress_delay_full", Ingress, "too many frames wait for the impairment of the port";
    NoEgress => "no_egress", Ingress, "a flood, and no other port may receive it";
    /// (RFC 4541)
    NoMember => "no_member", Ingress,
        "to a group that no other port has joined, and no multicast router is known";
    SpoofedGateway => "spoofed_gateway", Ingress,
        "a container used the gateway's MAC or IP address as its own";
    SpoofedMac => "spoofed_mac", Ingress, "guard: the source MAC, or that of a DHCP client, is not the port's";
    SpoofedIp => "spoofed_ip", Ingress, "guard: the source IP address is not the port's";
    SpoofedArp => "spoofed_arp", Ingress, "guard: an ARP message says that another's address is at this port";
    SpoofedNd => "spoofed_nd", Ingress,
        "guard: a neighbour discovery message says that another's address is at this port";
    /// (RFC 6980, RFC 7112)
    FragmentedNd => "fragmented_nd", Ingress, "a fragmented neighbour discovery message, which cannot be checked";
    RogueDhcp => "rogue_dhcp", Ingress, "guard: a message of a DHCP server";
    /// (RFC 6105)
    RogueRa => "rogue_ra", Ingress, "guard: a router advertisement";
    TooManyHeaders => "too_many_headers", Ingress,
        "more than 8 priority tags or 16 IPv6 extension headers, which cannot be checked";
    NoHostPort => "no_host_port", Ingress, "to the host, and there is no host port, or not in this VLAN";
    /// (802.1Q-2022 §8.6.2, ingress filtering)
    VlanNotMember => "vlan_not_member", Ingress, "tagged with a VLAN of which the port is not a member";
    /// (802.1Q-2022 §6.9.1)
    NoPvid => "no_pvid", Ingress, "without a VLAN tag, and the port has no PVID";
    IngressVlanState => "ingress_vlan_state", Ingress, "the port does not forward in the frame's VLAN";
    UplinkReflected => "uplink_reflected", Ingress,
        "sent by the switch or its host, and sent back by the network behind the uplink";
    UplinkOther => "uplink_other", Ingress,
        "unicast from the network behind the uplink that is for no host of the switch";
    /// (offsets out of range)
    BadOffload => "bad_offload", Ingress, "the header before the frame contradicts the frame";
    EgressDown => "egress_down", Egress, "the port is down";
    EgressBlocked => "egress_blocked", Egress,
        "the port is blocked, by the spanning tree or because frames of other ports came back there";
    EgressMirror => "egress_mirror", Egress, "the port is the destination of a mirror, which gets only copies of frames";
    Isolated => "isolated", Egress, "both ports are isolated";
    NeighSuppress => "neigh_suppress", Egress,
        "a message of ARP or neighbour discovery that the port does not need (neigh_suppress)";
    FloodOff => "flood_off", Egress, "the port does not take floods of this kind";
    /// (RFC 1122 §3.2.1.3)
    Martian => "martian", Egress, "to the host, and from or to an address of 127.0.0.0/8";
    /// (802.1Q-2022 §8.8.10, egress filtering)
    EgressVlan => "egress_vlan", Egress, "the port is not a member of the frame's VLAN";
    EgressVlanState => "egress_vlan_state", Egress, "the port does not forward in the frame's VLAN";
    EgressRate => "egress_rate", Egress, "more than the port's egress rate limit allows";
    EgressLoss => "egress_loss", Egress, "lost by the impairment of the port";
    EgressDelayFull => "egress_delay_full", Egress, "too many frames wait for the impairment of the port";
    UplinkTooLong => "uplink_too_long", Egress,
        "a message of neighbour discovery that is too long to get the MAC address of the uplink";
    Oversize => "oversize", Egress, "longer than the port's MTU";
    EgressQueueFull => "egress_queue_full", Egress, "the device's queue was full";
    EgressRefused => "egress_refused", Egress, "the device refused it";
    EgressThrottled => "egress_throttled", Egress,
        "the port's receive path is slow, and too many frames wait for it";
    TooManySegments => "too_many_segments", Egress,
        "the port takes no offload, and the frame would become too many segments";
    Unsegmentable => "unsegmentable", Egress,
        "the port takes no offload, and the frame cannot be segmented as its header asks";
}

impl DropReason {
    /// Whether a port that a flood does not reach for this reason counts the drop. Others are not part of the flood.
    pub const fn is_counted_in_flood(self) -> bool {
        use DropReason::{
            EgressBlocked, EgressDown, EgressMirror, EgressVlan, EgressVlanState, Filtered, Isolated,
        };
        !matches!(
            self,
            Filtered | EgressDown | EgressBlocked | EgressMirror | EgressVlan | EgressVlanState | Isolated
        )
    }

    /// It is part of the normal operation of a network: counted, and not an event.
    pub const fn is_routine(self) -> bool {
        matches!(
            self,
            DropReason::NoMember
                | DropReason::Bpdu
                | DropReason::IngressBlocked
                | DropReason::IngressVlanState
                | DropReason::IngressMirror
                | DropReason::UplinkReflected
                | DropReason::UplinkOther
        )
    }

    /// The number of reasons.
    pub const COUNT: usize = DropReason::ALL.len();
}
