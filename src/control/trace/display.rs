//! Prints a trace as a tree: the frame, and each step below it.

use std::fmt;

use jiff::tz::TimeZone;

use super::{
    FloodClass, LearnOutcome, LiveTraceLine, TagEdit, Trace, TraceDatapath, TraceEgress, TraceRoute,
    TraceStep, TraceVerdict,
};
use crate::wire::Mac;

/// Most egress ports listed.
const MAX_LISTED_PORTS: usize = 16;

/// Whether the frame was only traced, or really forwarded.
#[derive(Clone, Copy)]
enum TraceMode {
    DryRun,
    Live,
}

impl TraceMode {
    const fn of(self, would: &'static str, did: &'static str) -> &'static str {
        match self {
            TraceMode::DryRun => would,
            TraceMode::Live => did,
        }
    }
}

impl fmt::Display for LiveTraceLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LiveTraceLine::Frame(trace) => trace.fmt(f),
            LiveTraceLine::Missed { missed: 1 } => f.write_str("missed 1 frame: too fast to trace\n"),
            LiveTraceLine::Missed { missed } => {
                writeln!(f, "missed {missed} frames: too fast to trace")
            }
        }
    }
}

/// Prints several lines, each with its newline.
impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace { time, ifname, frame, length, steps, egress, datapath, verdict, .. } = self;
        if let Some(time) = time {
            write!(f, "{} ", time.to_zoned(TimeZone::system()).strftime("%T%.6f"))?;
        }
        let mode = if time.is_some() { TraceMode::Live } else { TraceMode::DryRun };
        write!(f, "{ifname}: {frame} ({length} bytes")?;
        if let Some(size) = self.gso_size {
            write!(f, ", segment size {size}")?;
        }
        f.write_str(")\n")?;
        if let Some(route) = &self.route {
            writeln!(f, "├─ route: {}", next_hop(route, ifname))?;
        }
        for step in steps {
            writeln!(f, "├─ {}", sentence(step, ifname, mode))?;
        }
        let unlisted = egress.len().saturating_sub(MAX_LISTED_PORTS);
        let mut ports: Vec<&TraceEgress> = egress.iter().collect();
        if unlisted > 0 {
            // Refused ports come first, so that they are never left out.
            ports.sort_by_key(|port| port.reason.is_none());
        }
        let mut ports = ports.into_iter().take(MAX_LISTED_PORTS).peekable();
        while let Some(port) = ports.next() {
            let last = ports.peek().is_none() && unlisted == 0;
            writeln!(f, "│  {} {}", if last { "└─" } else { "├─" }, outcome(port))?;
        }
        if unlisted > 0 {
            writeln!(f, "│  └─ and {unlisted} more")?;
        }
        if let Some(datapath) = datapath {
            writeln!(f, "├─ datapath: {}", half(datapath))?;
        }
        writeln!(f, "└─ verdict: {}", conclusion(verdict))
    }
}

fn next_hop(TraceRoute { next_hop, mac }: &TraceRoute, sender: &str) -> String {
    match mac {
        Some(mac) => format!("next hop {next_hop} at {mac}"),
        None => format!("next hop {next_hop}, whose MAC address {sender} asks for first"),
    }
}

fn sentence(step: &TraceStep, ingress: &str, mode: TraceMode) -> String {
    match step {
        TraceStep::Ingress { host, impairment } => {
            let host = if *host { ", is the host port" } else { "" };
            format!("ingress {ingress}: up{host}{}", impaired(impairment.as_deref()))
        }
        TraceStep::Source { mac } => {
            format!("source {mac}: valid, not the gateway's MAC")
        }
        TraceStep::Vlan { vlan } => format!("VLAN {vlan}: {ingress} is a member"),
        TraceStep::Admitted => "admitted: destination not reserved, no gateway spoofing".to_owned(),
        TraceStep::Uplink { mac } => format!("uplink {ingress}: for {mac}, by its IP address"),
        TraceStep::Learned { outcome, from, gone } => {
            let from = from.as_deref().unwrap_or("another port");
            format!("learning: {}", learned(*outcome, ingress, from, *gone, mode))
        }
        TraceStep::Gateway { answer: None } => "gateway: no reply".to_owned(),
        TraceStep::Gateway { answer: Some(answer) } => format!("gateway: replies: {answer}"),
        TraceStep::Lookup { mac, ifname: Some(ifname) } => format!("destination {mac}: behind {ifname}"),
        TraceStep::Lookup { mac, ifname: None } => format!("destination {mac}: unknown"),
        TraceStep::NeighSuppressed { answer: None } => {
            "neighbour suppression: not flooded to ports with neigh_suppress".to_owned()
        }
        TraceStep::NeighSuppressed { answer: Some(answer) } => {
            format!("neighbour suppression: replies: {answer}")
        }
        TraceStep::Snooped { group, report: false } => {
            format!("group {group}: to its members and to multicast routers")
        }
        TraceStep::Snooped { report: true, .. } => "membership report: to multicast routers only".to_owned(),
        TraceStep::Flood { class: FloodClass::Broadcast } => "flood: broadcast".to_owned(),
        TraceStep::Flood { class: FloodClass::Multicast } => "flood: multicast".to_owned(),
        TraceStep::Flood { class: FloodClass::UnknownUnicast } => "flood: unknown unicast".to_owned(),
    }
}

fn learned(outcome: LearnOutcome, here: &str, from: &str, gone: Option<Mac>, mode: TraceMode) -> String {
    let learned = mode.of("would be learned", "learned");
    match (outcome, gone) {
        (LearnOutcome::Known, _) => {
            format!("known on {here}, {}", mode.of("would be refreshed", "refreshed"))
        }
        (LearnOutcome::Static, _) => format!("static entry on {here}, unchanged"),
        (LearnOutcome::Evicted, Some(gone)) => {
            format!("new, {learned} on {here} replacing {gone} on {from}: the database is full")
        }
        (LearnOutcome::New | LearnOutcome::Evicted, _) => format!("new, {learned} on {here}"),
        (LearnOutcome::Moved, _) => {
            format!("known on {from}, {} to {here}", mode.of("would move", "moved"))
        }
        (LearnOutcome::Pinned, _) => format!("sticky or permanent entry on {from}, not moved"),
        (LearnOutcome::Reserved, _) => format!("address of the guarded port {from}, not learned"),
        (LearnOutcome::Refused, _) => "refused: the database is full and no entry can be evicted".to_owned(),
        (LearnOutcome::LimitReached, _) => format!("refused: {here} has the addresses that it may learn"),
        (LearnOutcome::Off, _) => "off".to_owned(),
    }
}

fn impaired(impairment: Option<&str>) -> String {
    impairment.map(|impairment| format!(", impaired: {impairment}")).unwrap_or_default()
}

fn cut(truncated: Option<usize>) -> String {
    truncated.map(|length| format!(", truncated to {length} bytes")).unwrap_or_default()
}

fn outcome(port: &TraceEgress) -> String {
    let TraceEgress { ifname, reason, why, segments, tag, impairment, uplink_mac, mirrored, truncated } =
        port;
    let (sent, refused) = if *mirrored { ("mirrored", "not mirrored") } else { ("sent", "refused") };
    let tag = match tag {
        None => "",
        Some(TagEdit::Pushed) => ", with a VLAN tag",
        Some(TagEdit::Popped) => ", without its VLAN tag",
        Some(TagEdit::Rewritten) => ", its priority tag as a VLAN tag",
    };
    let impaired = impaired(impairment.as_deref());
    let uplink = uplink_mac.map(|mac| format!(", from {mac}, the uplink's")).unwrap_or_default();
    match (reason, segments) {
        (None, None) => format!("{ifname}: {sent}{tag}{uplink}{}{impaired}", cut(*truncated)),
        (None, Some(1)) => {
            format!("{ifname}: {sent}{tag}{uplink}, checksum completed by the switch (no offload){impaired}")
        }
        (None, Some(segments)) => {
            format!(
                "{ifname}: {sent}{tag}{uplink} as {segments} segments, made by the switch (no offload){impaired}"
            )
        }
        (Some(reason), _) => {
            format!("{ifname}: {refused}: {} ({reason})", why.as_deref().unwrap_or_default())
        }
    }
}

fn half(datapath: &TraceDatapath) -> String {
    match datapath {
        TraceDatapath::Kernel => "the kernel's fast path".to_owned(),
        TraceDatapath::Worker { why } => format!("a worker, because {why}"),
    }
}

fn conclusion(verdict: &TraceVerdict) -> String {
    match verdict {
        TraceVerdict::Forward { ifname } => format!("forwarded to {ifname}"),
        TraceVerdict::Flood { ports: 1 } => "flooded to 1 port".to_owned(),
        TraceVerdict::Flood { ports } => format!("flooded to {ports} ports"),
        TraceVerdict::Answer { .. } => "answered by the switch".to_owned(),
        TraceVerdict::Drop { reason, ifname, why } => {
            format!("dropped: {why} ({reason}, counted on {ifname})")
        }
    }
}
