//! `uswitch stats`: shows the frame counters of the ports.

use crate::control::report::PortStats;
use crate::switch::{DropReason, Side};

use super::error::CliError;
use super::output::{self, counted, table};
use super::target::{PortList, Target};

/// Show frame counters: received, forwarded, flooded, answered, sent, dropped and why
#[derive(Debug, clap::Args)]
#[command(after_help = "With ports, explains each of their counters.")]
pub(super) struct StatsCommand {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl StatsCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let (mut stats, shown) = self.ports.list::<PortStats>(&self.target, "/v1/stats")?;
        stats.retain(|port| shown.has(&port.ifname));
        if self.json {
            output::json(&stats)
        } else if shown.is_all() {
            output::print(&overview(&stats))
        } else {
            output::print(&stats.iter().map(explained).collect::<Vec<_>>().join("\n"))
        }
    }
}

const HEADING: [&str; 12] = [
    "PORT",
    "RX FRAMES",
    "RX BYTES",
    "FORWARDED",
    "FLOODED",
    "ANSWERED",
    "RX DROPPED",
    "TX FRAMES",
    "TX BYTES",
    "TX DROPPED",
    "QUEUE DROPPED",
    "REASONS",
];

/// A row for each port, their sum, and the number of frames in flight, if there are any.
fn overview(stats: &[PortStats]) -> String {
    let ports = stats.iter().map(|port| row(&port.ifname, std::slice::from_ref(port)));
    let mut text = table(HEADING, ports.chain([row("TOTAL", stats)]));
    let sum = |count: fn(&PortStats) -> u64| total(stats, count);
    let copies = sum(|port| port.flood_copies + port.segments + port.duplicated + port.mirrored);
    let begun = copies + sum(|port| port.forwarded + port.answered + port.injected);
    let ended = sum(|port| port.segmented + port.tx_frames + port.dropped(Side::Egress));
    if begun != ended {
        let in_flight = usize::try_from(begun.abs_diff(ended)).unwrap_or(usize::MAX);
        text += &format!("{} in flight.\n", counted(in_flight, "frame"));
    }
    text
}

fn total(stats: &[PortStats], count: fn(&PortStats) -> u64) -> u64 {
    stats.iter().map(count).fold(0, u64::wrapping_add)
}

/// A row with the sums of `stats`.
fn row(name: &str, stats: &[PortStats]) -> [String; 12] {
    let sum = |count: fn(&PortStats) -> u64| total(stats, count).to_string();
    [
        name.to_owned(),
        sum(|port| port.rx_frames),
        sum(|port| port.rx_bytes),
        sum(|port| port.forwarded),
        sum(|port| port.flooded),
        sum(|port| port.answered),
        sum(|port| port.dropped(Side::Ingress)),
        sum(|port| port.tx_frames),
        sum(|port| port.tx_bytes),
        sum(|port| port.dropped(Side::Egress)),
        queue_dropped(stats),
        reasons(stats),
    ]
}

/// Frames that the devices' queues dropped; a device that is gone has no counter.
fn queue_dropped(stats: &[PortStats]) -> String {
    let known: Vec<u64> = stats.iter().filter_map(|port| port.queue_dropped).collect();
    if known.is_empty() { "-".to_owned() } else { known.iter().sum::<u64>().to_string() }
}

/// The drop reasons that were counted.
fn reasons(stats: &[PortStats]) -> String {
    let count =
        |reason: &DropReason| -> u64 { stats.iter().filter_map(|port| port.drops.get(reason.name())).sum() };
    let seen = DropReason::ALL.iter().filter(|reason| count(reason) > 0);
    let text: Vec<String> = seen.map(|reason| format!("{} {}", reason.name(), count(reason))).collect();
    if text.is_empty() { "-".to_owned() } else { text.join(", ") }
}

/// The counters of one port in the order of the forwarding path, each with its meaning.
fn explained(port: &PortStats) -> String {
    let mut text = format!("{}\n", port.ifname);
    if let Some(lost) = port.queue_dropped {
        text += &line("queue dropped", lost, "in the device: the container sent faster than the switch read");
    }
    if port.throttled_us > 0 {
        let reason = "ms not read: its frames took more than its share of the time";
        text += &line("throttled", port.throttled_us.div_ceil(1000), reason);
    }
    if port.loops > 0 {
        text += &line("blocked", port.loops, "times, because frames of other ports came back: a loop");
    }
    text += &line("received", port.rx_frames, &format!("{} bytes", port.rx_bytes));
    text += &line("  forwarded", port.forwarded, "to the port of the destination");
    text += &line_if_any("    of those", port.fast, "by the kernel, in the fast path");
    let copies = format!("to all other ports that are up: {} copies", port.flood_copies);
    text += &line("  flooded", port.flooded, &copies);
    text += &line("  answered", port.answered, "by the switch itself, as the gateway");
    text += &drops(port, Side::Ingress);
    if port.segmented > 0 {
        let segments = format!("GSO packets, cut into {} frames: the port has no offload", port.segments);
        text += &line("segmented", port.segmented, &segments);
    }
    text += &line_if_any("duplicated", port.duplicated, "copies added by the impairment of the port");
    text += &line_if_any("mirrored", port.mirrored, "copies for it, the destination of a mirror");
    text += &line("sent", port.tx_frames, &format!("{} bytes", port.tx_bytes));
    text += &line_if_any("  by the switch", port.injected, "queries for multicast groups, BPDUs");
    text += &line_if_any("  in background", port.background, "because the port's receive path is slow");
    text += &drops(port, Side::Egress);
    text += &line("addresses", port.fdb_learned, &format!("learned, {} moved here", port.fdb_moved));
    if port.fdb_evictions + port.fdb_refused > 0 {
        let refused = format!("evicted from the full forwarding database, {} not learned", port.fdb_refused);
        text += &line("  evicted", port.fdb_evictions, &refused);
    }
    text
}

fn line_if_any(what: &str, count: u64, meaning: &str) -> String {
    if count > 0 { line(what, count, meaning) } else { String::new() }
}

fn drops(port: &PortStats, side: Side) -> String {
    let what = match side {
        Side::Ingress => "of the received frames",
        Side::Egress => "of the frames to send",
    };
    let seen = port.reasons(side).filter(|(_, count)| *count > 0);
    let reasons = seen.map(|(reason, count)| line(&format!("    {}", reason.name()), count, reason.text()));
    line("  dropped", port.dropped(side), what) + &reasons.collect::<String>()
}

fn line(what: &str, count: u64, meaning: &str) -> String {
    format!("  {what:<21} {count:>12}  {meaning}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    /// A port that got `rx` frames, forwarded all but `filtered`, and delivered `tx`.
    fn port(ifname: &str, [rx, filtered, tx]: [u64; 3]) -> PortStats {
        PortStats {
            ifname: ifname.into(),
            rx_frames: rx,
            rx_bytes: rx * 100,
            tx_frames: tx,
            tx_bytes: tx * 100,
            forwarded: rx - filtered,
            fast: 0,
            flooded: 0,
            flood_copies: 0,
            answered: 0,
            segmented: 0,
            segments: 0,
            duplicated: 0,
            mirrored: 0,
            throttled_us: 0,
            injected: 0,
            loops: 0,
            background: 0,
            fdb_learned: 1,
            fdb_moved: 0,
            fdb_evictions: 0,
            fdb_refused: 0,
            queue_dropped: Some(5),
            drops: BTreeMap::from([("filtered".to_owned(), filtered), ("oversize".to_owned(), 0)]),
        }
    }

    #[test]
    fn prints_row_per_port_and_total() {
        let gone = PortStats { queue_dropped: None, ..port("(deleted)", [0, 0, 0]) };
        let text = overview(&[port("container1", [12, 2, 0]), port("container2", [0, 0, 10]), gone]);
        assert_eq!(
            rows(&text)[1..],
            [
                "container1 12 1200 10 0 0 2 0 0 0 5 filtered 2",
                "container2 0 0 0 0 0 0 10 1000 0 5 -",
                "(deleted) 0 0 0 0 0 0 0 0 0 - -",
                "TOTAL 12 1200 10 0 0 2 10 1000 0 10 filtered 2",
            ]
        );
    }

    /// Lines, their columns one blank apart.
    fn rows(text: &str) -> Vec<String> {
        text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
    }

    #[test]
    fn reports_frames_in_flight() {
        let text = overview(&[port("container1", [12, 2, 0]), port("container2", [0, 0, 9])]);
        assert_eq!(text.lines().last(), Some("1 frame in flight."));
    }

    #[test]
    fn explains_counters_of_one_port() {
        let text = explained(&port("container1", [12, 2, 7]));
        assert_eq!(
            rows(&text),
            [
                "container1",
                "queue dropped 5 in the device: the container sent faster than the switch read",
                "received 12 1200 bytes",
                "forwarded 10 to the port of the destination",
                "flooded 0 to all other ports that are up: 0 copies",
                "answered 0 by the switch itself, as the gateway",
                "dropped 2 of the received frames",
                "filtered 2 the destination is behind the port that it came from",
                "sent 7 700 bytes",
                "dropped 0 of the frames to send",
                "addresses 1 learned, 0 moved here",
            ]
        );
    }
}
