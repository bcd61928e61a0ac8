//! Packet comments: how the switch handled the frame.

use std::fmt::Write;
use std::net::IpAddr;

use crate::control::running::PortNames;
use crate::datapath::{Direction, MirrorRecord};
use crate::switch::{Outcome, PortId, SwitchReply, Verdict};

/// Most ports listed. Further ones are counted.
const MAX_NAMED_PORTS: usize = 16;
/// The comment of a packet that crossed a port in this direction.
pub(super) fn comment(record: &MirrorRecord, direction: Direction, names: &PortNames) -> String {
    let mut text = match (direction, record.ingress) {
        (Direction::Out, None) => "sent by the switch".to_owned(),
        (Direction::Out, Some(ingress)) => format!("from {}", names.of(ingress, record.time)),
        (Direction::In, _) => verdict(record, names),
    };
    if record.vnet.is_super_frame() {
        // Writing to a string cannot fail.
        let _ = write!(text, "; super-frame, segments of {} bytes", record.vnet.gso_size);
    }
    text
}

fn verdict(record: &MirrorRecord, names: &PortNames) -> String {
    let outcome = &record.outcome;
    let name = |port| names.of(port, record.time);
    match outcome.verdict() {
        Verdict::Forward(egress) => format!("forward to {}", name(egress)),
        Verdict::Answer(answer) => format!("answered by the switch: {}", answer_kind(answer)),
        Verdict::Drop(reason) => format!("drop: {}", reason.name()),
        Verdict::Refused { egress, reason } => format!("drop: {} at {}", reason.name(), name(egress)),
        Verdict::Flood => flood(outcome, name),
    }
}

fn flood(outcome: &Outcome, name: impl Fn(PortId) -> String) -> String {
    let reached = join_limited(outcome.egress_ports().map(&name));
    let refused = join_limited(
        outcome.refused().iter().map(|(port, reason)| format!("{} at {}", reason.name(), name(*port))),
    );
    match (reached.is_empty(), refused.is_empty()) {
        (false, true) => format!("flood to {reached}"),
        (false, false) => format!("flood to {reached}; drop: {refused}"),
        _ => format!("drop: {refused}"),
    }
}

fn join_limited(mut items: impl Iterator<Item = String>) -> String {
    let named = items.by_ref().take(MAX_NAMED_PORTS).collect::<Vec<_>>().join(" ");
    match items.count() {
        0 => named,
        more => format!("{named} and {more} more"),
    }
}

fn answer_kind(answer: SwitchReply) -> String {
    match answer {
        SwitchReply::Arp { address } | SwitchReply::Proxy { address: IpAddr::V4(address), .. } => {
            format!("ARP for {address}")
        }
        SwitchReply::Neighbour { address } | SwitchReply::Proxy { address: IpAddr::V6(address), .. } => {
            format!("neighbour discovery for {address}")
        }
        SwitchReply::Echo | SwitchReply::Echo6 => "echo".to_owned(),
    }
}
