//! What happens to a frame, and why: the question and the answer, as JSON.
//!
//! The answer is made of the [`Step`](crate::switch::Step)s that the forwarding code itself has told, whether it only said
//! what it would do or has just done it. As text it is a tree.

mod display;
mod frame;

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

pub(crate) use frame::{FrameDefaults, LONGEST, TraceError, frame};

use crate::wire::Mac;

/// A frame, and where it comes in. What it is: one of `arp_for`, `icmp` and `hex`, or `dst` alone.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceRequest {
    /// The port that it comes in on.
    pub ifname: String,
    /// Its source [default: the MAC of the port's device].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub src: Option<Mac>,
    /// Its destination: a MAC, a port's name, `gateway` or `broadcast` [default: as a sender would choose it].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dst: Option<String>,
    /// The VLAN of its tag [default: no tag].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// It asks who has this address: an ARP request, or for an IPv6 address a neighbour solicitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub arp_for: Option<IpAddr>,
    /// It is an echo request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub icmp: Option<EchoRequest>,
    /// All of it, from the destination address on and without FCS, as hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hex: Option<String>,
    /// It is a super-frame, with so many payload bytes in each segment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gso_size: Option<u16>,
}

/// Between whom an echo request goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct EchoRequest {
    /// From whom [default: the first such address of the port].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub src: Option<IpAddr>,
    /// To whom.
    #[schema(value_type = String)]
    pub dst: IpAddr,
}

/// Which live frames to trace.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct TraceFilter {
    /// Only those that come in on this port.
    pub ifname: Option<String>,
    /// Only those that did not reach a port that they were meant for.
    pub drops: bool,
    /// At most so many, with those that were missed [default: no end].
    pub limit: Option<u64>,
}

/// A live frame, or a gap between two.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum LiveTraceLine {
    /// A frame.
    Frame(Box<Trace>),
    /// There were more frames than are traced.
    Missed {
        /// How many more.
        missed: u64,
    },
}

/// What happened to a frame, or would happen, and why.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Trace {
    /// When it was decided on (RFC 3339); none of a frame that was only asked about.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = "date-time")]
    pub time: Option<Timestamp>,
    /// The port that it came in on.
    pub ifname: String,
    /// The frame in one line, as `tcpdump -n -e` has it.
    pub frame: String,
    /// Bytes from the destination address on, without FCS.
    pub length: usize,
    /// Of a super-frame, the payload bytes of each of its segments.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gso_size: Option<u16>,
    /// What the decision went through, in order. A check that the frame did not pass is no step: the verdict names it.
    pub steps: Vec<TraceStep>,
    /// The ports that it was to go to.
    pub egress: Vec<TraceEgress>,
    /// The outcome.
    pub verdict: TraceVerdict,
}

/// One step of the decision.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "step", rename_all = "snake_case")]
pub enum TraceStep {
    /// It came in on a port that is up.
    Ingress {
        /// Whether that is the host port, which may claim what is the gateway's.
        host: bool,
    },
    /// Its source can be a station's, and is not the gateway's.
    Source {
        /// The source.
        #[schema(value_type = String)]
        mac: Mac,
    },
    /// It may come in: no reserved destination, and nothing in it claims what is the gateway's.
    Admitted,
    /// What became of its source in the forwarding database.
    Learned {
        /// What it was.
        outcome: LearnOutcome,
        /// Where the station was or stays; whose address gave way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<String>,
        /// The address that gave way.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        #[schema(value_type = Option<String>)]
        gone: Option<Mac>,
    },
    /// The gateway was asked whether it answers.
    Gateway {
        /// The answer, if it has one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// The destination was looked up.
    Lookup {
        /// The destination.
        #[schema(value_type = String)]
        mac: Mac,
        /// Behind which port it is, if it is known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        ifname: Option<String>,
    },
    /// It is for every port.
    Flood {
        /// Why.
        class: FloodClass,
    },
}

/// What is flooded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FloodClass {
    /// The destination is everybody.
    Broadcast,
    /// The destination is another group.
    Multicast,
    /// The destination is a station that is not known.
    UnknownUnicast,
}

/// What becomes of a source address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum LearnOutcome {
    /// Known on the port: refreshed.
    Known,
    /// A static or permanent entry names the port: it stays.
    Static,
    /// New.
    New,
    /// New, in the place of another in a full forwarding database.
    Evicted,
    /// Known on another port: it moves.
    Moved,
    /// A static or permanent entry names another port.
    Pinned,
    /// The forwarding database is full, and nothing gives way.
    Refused,
    /// Nothing is learned: the ageing time is 0.
    Off,
}

/// A port that the frame was to go to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TraceEgress {
    /// The port.
    pub ifname: String,
    /// The drop reason, if it did not go there. A port that is down is not part of a flood, and nothing is counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// How many finished frames were made of it, because the port takes no offload.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segments: Option<usize>,
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum TraceVerdict {
    /// To one port.
    Forward {
        /// The port.
        ifname: String,
    },
    /// To all ports that can take it.
    Flood {
        /// How many they are.
        ports: usize,
    },
    /// The switch itself answers, for the gateway.
    Answer {
        /// The answer.
        answer: String,
    },
    /// Not delivered.
    Drop {
        /// The drop reason.
        reason: String,
        /// The port on which it is counted.
        ifname: String,
        /// What it was in this frame.
        why: String,
    },
}
