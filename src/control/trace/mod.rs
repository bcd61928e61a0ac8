//! Traces: how the switch handles a frame, as JSON and as text.
//!
//! A trace is made of the [`Step`](crate::switch::Step)s that the forwarding code records, both for a
//! dry run and for live frames.

mod display;
mod frame;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::de::{DeserializeOwned, Error};
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

pub(crate) use frame::{BuiltFrame, FrameDefaults, LONGEST, TraceError, frame};

use crate::switch::Edit;
use crate::wire::Mac;

/// A frame to trace: one of `arp_for`, `icmp` and `hex`, or `dst` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// The ingress port.
    pub ifname: String,
    /// Source MAC address [default: that of the port's device].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub src: Option<Mac>,
    /// Destination: a MAC address, a port's name, `gateway` or `broadcast` [default: as the sender's kernel routes the
    /// packet].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// VLAN ID of its tag [default: no tag].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Send an ARP request for this address, or a neighbour solicitation for an IPv6 address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub arp_for: Option<IpAddr>,
    /// Send an ICMP echo request.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "object")]
    pub icmp: Option<EchoRequest>,
    /// The whole frame in hexadecimal digits, from the destination address on, without FCS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// Treat it as a super-frame (a GSO packet) with this many payload bytes per segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gso_size: Option<u16>,
}

/// Addresses of an echo request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EchoRequest {
    /// Source [default: the one that the sender's kernel chooses].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub src: Option<IpAddr>,
    /// Destination.
    #[schema(value_type = String)]
    pub dst: IpAddr,
}

/// Reads an object only. Serde would accept an array with the fields in order too.
fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: DeserializeOwned,
{
    let fields = Option::<serde_json::Map<String, serde_json::Value>>::deserialize(deserializer)?;
    fields.map(|fields| serde_json::from_value(fields.into())).transpose().map_err(D::Error::custom)
}

/// Filter of live frames.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TraceFilter {
    /// Only frames from this port.
    pub ifname: Option<String>,
    /// Only frames that at least one egress port did not get.
    pub drops: bool,
    /// Most frames, including missed ones [default: unlimited].
    pub limit: Option<u64>,
}

/// A traced live frame, or a number of missed ones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LiveTraceLine {
    /// A frame.
    Frame(Box<Trace>),
    /// Frames that arrived too fast to be traced.
    Missed {
        /// Number of frames.
        missed: u64,
    },
}

/// How the switch handled a frame, or would handle it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trace {
    /// Time of the decision (RFC 3339); absent in a dry run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub time: Option<Timestamp>,
    /// The port that it came in on.
    pub ifname: String,
    /// The frame in one line, in the format of `tcpdump -n -e`.
    pub frame: String,
    /// Length in bytes from the destination address on, without FCS.
    pub length: usize,
    /// Payload bytes per segment of a super-frame.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gso_size: Option<u16>,
    /// How the sender's kernel routes the requested packet; absent if it was not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<TraceRoute>,
    /// The steps of the decision, in order. A failed check is not a step: the verdict names it.
    pub steps: Vec<TraceStep>,
    /// The egress ports.
    pub egress: Vec<TraceEgress>,
    /// Which datapath takes the frame; absent if the switch has only one, and for a frame that was traced live.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub datapath: Option<TraceDatapath>,
    /// The outcome.
    pub verdict: TraceVerdict,
}

/// The datapath that takes a frame.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "datapath", rename_all = "snake_case")]
pub enum TraceDatapath {
    /// The kernel forwards it: the fast path.
    Kernel,
    /// A worker decides.
    Worker {
        /// Why not the kernel.
        why: String,
    },
}

/// The route of a packet, and the neighbour to which it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceRoute {
    /// The next hop: the destination itself if it is on-link, otherwise a router.
    #[schema(value_type = String)]
    pub next_hop: IpAddr,
    /// Its MAC address. Absent if the sender does not know it and asks for it first: the frame is that ARP request or
    /// neighbour solicitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
}

/// A step of the decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum TraceStep {
    /// The ingress port is up.
    Ingress {
        /// Whether it is the host port, which may use the gateway's addresses.
        host: bool,
        /// The impairment of frames from it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        impairment: Option<String>,
    },
    /// The source is neither a group address nor the gateway's.
    Source {
        /// The source MAC address.
        #[schema(value_type = String)]
        mac: Mac,
    },
    /// The VLAN of the frame, on a switch that filters VLANs.
    Vlan {
        /// Its number.
        vlan: u16,
    },
    /// The destination is not reserved, and the frame does not claim to be from the gateway.
    Admitted,
    /// The frame has entered by an uplink in mode `ipvlan`, for a host of the switch or a group.
    Uplink {
        /// The MAC address that replaces the uplink's as its destination.
        #[schema(value_type = String)]
        mac: Mac,
    },
    /// The source was looked up in the forwarding database.
    Learned {
        /// The outcome.
        outcome: LearnOutcome,
        /// The port of the previous entry, or of the evicted one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The evicted MAC address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        gone: Option<Mac>,
    },
    /// The gateway was requested for a reply.
    Gateway {
        /// The reply, if there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// The destination was looked up.
    Lookup {
        /// The destination MAC address.
        #[schema(value_type = String)]
        mac: Mac,
        /// The port behind which it is, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ifname: Option<String>,
    },
    /// A message of ARP or neighbour discovery that ports with `neigh_suppress` do not need.
    NeighSuppressed {
        /// The reply of the switch for the neighbour, if it replies.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// The frame goes to ports that snooping of multicast groups has found.
    Snooped {
        /// The group.
        #[schema(value_type = String)]
        group: IpAddr,
        /// It is a membership report, which goes to multicast routers only.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        report: bool,
    },
    /// The frame is flooded.
    Flood {
        /// The kind of destination.
        class: FloodClass,
    },
}

/// Why a frame is flooded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FloodClass {
    /// The destination is the broadcast address.
    Broadcast,
    /// The destination is another group address.
    Multicast,
    /// The destination is an unknown unicast address.
    UnknownUnicast,
}

/// How a source address was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LearnOutcome {
    /// Known on this port: refreshed.
    Known,
    /// A static or permanent entry of this port: unchanged.
    Static,
    /// New.
    New,
    /// New, replacing another entry in a full forwarding database.
    Evicted,
    /// Known on another port: moved.
    Moved,
    /// A sticky or permanent entry of another port: not moved.
    Pinned,
    /// The address of another port that is guarded.
    Reserved,
    /// The forwarding database is full and no entry can be evicted.
    Refused,
    /// The port has the addresses that it may learn (`fdb_max_learned`).
    LimitReached,
    /// Learning is off: for the port, or because the ageing time is 0.
    Off,
}

/// An egress port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceEgress {
    /// The port.
    pub ifname: String,
    /// The drop reason, if the frame was not sent. A port that is down is not part of a flood and
    /// counts nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Number of segments sent, if the port has no offload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<usize>,
    /// How its VLAN tag differs from that of the received frame, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tag: Option<TagEdit>,
    /// The impairment of frames for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impairment: Option<String>,
    /// The MAC address that replaces the sender's, because the port is an uplink in mode `ipvlan`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub uplink_mac: Option<Mac>,
    /// Whether it is the destination of a mirror, and gets a copy.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mirrored: bool,
    /// Bytes of the copy, if that is truncated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub truncated: Option<usize>,
}

/// A change of a frame's VLAN tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TagEdit {
    /// A tag was inserted.
    Pushed,
    /// The tag was removed.
    Popped,
    /// A priority tag got the VLAN.
    Rewritten,
}

impl TagEdit {
    /// What the datapath does; `None` if it leaves the tag.
    pub(crate) const fn of(edit: Edit) -> Option<TagEdit> {
        match edit {
            Edit::None => None,
            Edit::Push(_) => Some(TagEdit::Pushed),
            Edit::Pop => Some(TagEdit::Popped),
            Edit::Rewrite(_) => Some(TagEdit::Rewritten),
        }
    }
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum TraceVerdict {
    /// Sent to one port.
    Forward {
        /// The port.
        ifname: String,
    },
    /// Sent to all ports that can take it.
    Flood {
        /// Number of ports.
        ports: usize,
    },
    /// Answered by the switch, as gateway or for a neighbour.
    Answer {
        /// The reply.
        answer: String,
    },
    /// Dropped.
    Drop {
        /// The drop reason.
        reason: String,
        /// The port that counts the drop.
        ifname: String,
        /// The reason for this frame.
        why: String,
    },
}
