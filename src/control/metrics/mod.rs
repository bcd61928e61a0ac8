//! Metrics in the Prometheus text format (version 0.0.4), with the conventions of OpenMetrics: base
//! units, and counters that end in `_total`. docs/METRICS.md lists them.
//!
//! Each request takes a snapshot and renders it. Nothing is kept between requests.

mod shared;
#[cfg(test)]
pub(super) mod tests;

use std::fmt::Write;

pub(crate) use shared::SharedMetrics;

use super::report::{PortStats, PortVlanStats, Status, UplinkReport, VlanStats};
use crate::datapath::BUFFERS;
use crate::switch::Side;

/// Content type of the response.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// All values at one time.
#[derive(Debug)]
pub(crate) struct MetricsSnapshot {
    pub(crate) status: Status,
    /// Start time in seconds since 1970-01-01 UTC.
    pub(crate) start_time: u64,
    pub(crate) ports: Vec<PortStats>,
    /// The VLANs that have members, at most 4094.
    pub(crate) vlans: Vec<VlanStats>,
    /// The VLANs of each port, if the switch counts them.
    pub(crate) port_vlans: Vec<PortVlanStats>,
    /// The uplinks in mode `ipvlan`.
    pub(crate) uplinks: Vec<(String, UplinkReport)>,
    /// Whether each port is up.
    pub(crate) up: Vec<(String, bool)>,
    /// Whether each port is blocked.
    pub(crate) blocked: Vec<(String, bool)>,
    pub(crate) fdb_aged: u64,
    pub(crate) workers: Vec<WorkerStats>,
}

/// Counters of a worker.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    pub(crate) turns: u64,
    pub(crate) system_calls: u64,
    pub(crate) free_buffers: u64,
    /// Frames received.
    pub(crate) frames: u64,
    /// Whether it does not respond.
    pub(crate) stalled: bool,
}

/// A metric family: a sample for each set of labels.
struct MetricFamily {
    name: &'static str,
    kind: &'static str,
    help: &'static str,
    samples: fn(&MetricsSnapshot, &mut SampleWriter<'_>),
}

const fn counter(
    name: &'static str,
    help: &'static str,
    samples: fn(&MetricsSnapshot, &mut SampleWriter<'_>),
) -> MetricFamily {
    MetricFamily { name, kind: "counter", help, samples }
}

const fn gauge(
    name: &'static str,
    help: &'static str,
    samples: fn(&MetricsSnapshot, &mut SampleWriter<'_>),
) -> MetricFamily {
    MetricFamily { name, kind: "gauge", help, samples }
}

const FAMILIES: &[MetricFamily] = &[
    gauge("uswitch_build_info", "Version of the program; always 1", |s, out| {
        out.add(&[("version", &s.status.version)], 1);
    }),
    gauge("uswitch_dhcp_leases", "Addresses that DHCP clients have now. Only with --dhcp", |s, out| {
        if let Some(dhcp) = &s.status.dhcp {
            out.add(&[], dhcp.leases as u64);
        }
    }),
    counter(
        "uswitch_dhcp_messages_total",
        "Messages of DHCP clients, by result. Only with --dhcp",
        |s, out| {
            let Some(dhcp) = &s.status.dhcp else { return };
            let results = [
                ("offered", dhcp.offered),
                ("acknowledged", dhcp.acknowledged),
                ("refused", dhcp.refused),
                ("exhausted", dhcp.exhausted),
                ("limited", dhcp.limited),
                ("ignored", dhcp.ignored + dhcp.lost),
            ];
            results.into_iter().for_each(|(result, count)| out.add(&[("result", result)], count));
        },
    ),
    counter("uswitch_router_advertisements_total", "Router advertisements sent. Only with --ra", |s, out| {
        if let Some(advertisements) = &s.status.router_advertisements {
            out.add(&[], advertisements.sent);
        }
    }),
    counter(
        "uswitch_router_solicitations_total",
        "Router solicitations of hosts, by result. Only with --ra",
        |s, out| {
            let Some(advertisements) = &s.status.router_advertisements else { return };
            let results = [("answered", advertisements.solicited), ("ignored", advertisements.lost)];
            results.into_iter().for_each(|(result, count)| out.add(&[("result", result)], count));
        },
    ),
    counter(
        "uswitch_dns_queries_total",
        "Queries to the DNS server, by result. Only with --dns",
        |s, out| {
            let Some(dns) = &s.status.dns else { return };
            let results = [
                ("answered", dns.answered),
                ("forwarded", dns.forwarded),
                ("failed", dns.failed),
                ("refused", dns.refused),
            ];
            results.into_iter().for_each(|(result, count)| out.add(&[("result", result)], count));
        },
    ),
    counter(
        "uswitch_dns_unsent_replies_total",
        "Replies of the DNS server that were dropped, because too many waited for their client to be resolved (ARP, NDP). Only with --dns",
        |s, out| {
            if let Some(dns) = &s.status.dns {
                out.add(&[], dns.unsent);
            }
        },
    ),
    gauge("uswitch_start_time_seconds", "Start time of the switch, in seconds since 1970", |s, out| {
        out.add(&[], s.start_time);
    }),
    counter("uswitch_port_frames_total", "Frames received from the port and delivered to it", |s, out| {
        rx_tx_samples(s, out, |port| [port.rx_frames, port.tx_frames]);
    }),
    counter("uswitch_port_bytes_total", "Bytes of those frames, without FCS", |s, out| {
        rx_tx_samples(s, out, |port| [port.rx_bytes, port.tx_bytes]);
    }),
    counter(
        "uswitch_port_forwarded_frames_total",
        "Frames from the port that were forwarded to one port",
        |s, out| {
            port_samples(s, out, |port| port.forwarded);
        },
    ),
    counter("uswitch_port_flooded_frames_total", "Frames from the port that were flooded", |s, out| {
        port_samples(s, out, |port| port.flooded);
    }),
    counter(
        "uswitch_port_flood_copies_total",
        "Copies of flooded frames, and of requests answered for a neighbour, from the port",
        |s, out| {
            port_samples(s, out, |port| port.flood_copies);
        },
    ),
    counter(
        "uswitch_port_answered_frames_total",
        "Frames from the port that the switch answered",
        |s, out| {
            port_samples(s, out, |port| port.answered);
        },
    ),
    counter(
        "uswitch_port_injected_frames_total",
        "Frames that the switch itself made and sent to the port",
        |s, out| {
            port_samples(s, out, |port| port.injected);
        },
    ),
    counter("uswitch_port_dropped_frames_total", "Frames not delivered, by reason", drop_samples),
    counter(
        "uswitch_port_queue_dropped_frames_total",
        "Frames lost in the queue of the port's device, before the switch could read them",
        queue_drop_samples,
    ),
    counter("uswitch_port_segmented_frames_total", "Frames for the port segmented in software", |s, out| {
        port_samples(s, out, |port| port.segmented);
    }),
    counter("uswitch_port_segments_total", "Segments made of those frames", |s, out| {
        port_samples(s, out, |port| port.segments);
    }),
    counter(
        "uswitch_port_duplicated_frames_total",
        "Copies of frames for the port that its impairment has added",
        |s, out| {
            port_samples(s, out, |port| port.duplicated);
        },
    ),
    counter(
        "uswitch_port_mirrored_frames_total",
        "Copies of frames for the port, the destination of a mirror",
        |s, out| {
            port_samples(s, out, |port| port.mirrored);
        },
    ),
    counter(
        "uswitch_port_throttled_microseconds_total",
        "Time in which the port was not read, because its frames took too much of a worker's time",
        |s, out| {
            port_samples(s, out, |port| port.throttled_us);
        },
    ),
    counter(
        "uswitch_port_background_frames_total",
        "Frames written to the port in the background, because its receive path is slow",
        |s, out| {
            port_samples(s, out, |port| port.background);
        },
    ),
    counter(
        "uswitch_port_loops_total",
        "Times that the port was blocked because frames of other ports came back there",
        |s, out| {
            port_samples(s, out, |port| port.loops);
        },
    ),
    gauge("uswitch_port_blocked", "Whether the port is blocked because of a loop: 1 if so", |s, out| {
        s.blocked.iter().for_each(|(port, blocked)| out.add(&[("port", port)], u64::from(*blocked)));
    }),
    gauge("uswitch_port_up", "Whether the port forwards: 1 if so", |s, out| {
        s.up.iter().for_each(|(port, up)| out.add(&[("port", port)], u64::from(*up)));
    }),
    counter(
        "uswitch_vlan_frames_total",
        "Frames received in the VLAN and sent there. Only VLANs with frames",
        |s, out| {
            vlan_samples(s, out, |vlan| [vlan.rx_packets, vlan.tx_packets]);
        },
    ),
    counter("uswitch_vlan_bytes_total", "Bytes of those frames, without FCS and the tag", |s, out| {
        vlan_samples(s, out, |vlan| [vlan.rx_bytes, vlan.tx_bytes]);
    }),
    counter(
        "uswitch_port_vlan_frames_total",
        "Frames received from the port in the VLAN and sent to it, with --vlan-stats-per-port. Only VLANs with frames",
        |s, out| {
            port_vlan_samples(s, out, |vlan| [vlan.rx_packets, vlan.tx_packets]);
        },
    ),
    counter("uswitch_port_vlan_bytes_total", "Bytes of those frames, without FCS and the tag", |s, out| {
        port_vlan_samples(s, out, |vlan| [vlan.rx_bytes, vlan.tx_bytes]);
    }),
    gauge("uswitch_uplink_hosts", "IP addresses of hosts that the uplink in mode ipvlan knows", |s, out| {
        uplink_samples(s, out, |uplink| uplink.n_hosts as u64);
    }),
    counter("uswitch_uplink_learned_total", "IP addresses of hosts that the uplink learned", |s, out| {
        uplink_samples(s, out, |uplink| uplink.learned);
    }),
    counter("uswitch_uplink_moved_total", "IP addresses that moved from one host to another", |s, out| {
        uplink_samples(s, out, |uplink| uplink.moved);
    }),
    counter("uswitch_uplink_refused_total", "Frames with an IP address that no host can have", |s, out| {
        uplink_samples(s, out, |uplink| uplink.refused);
    }),
    counter("uswitch_uplink_evicted_total", "IP addresses removed because there were too many", |s, out| {
        uplink_samples(s, out, |uplink| uplink.evicted);
    }),
    counter("uswitch_uplink_aged_total", "IP addresses that expired after the ageing time", |s, out| {
        uplink_samples(s, out, |uplink| uplink.aged);
    }),
    gauge("uswitch_fdb_entries", "Entries in the forwarding database", |s, out| {
        out.add(&[], s.status.fdb as u64);
    }),
    gauge("uswitch_fdb_entries_limit", "Limit of entries in the forwarding database", |s, out| {
        out.add(&[], s.status.fdb_max as u64);
    }),
    counter("uswitch_fdb_learned_total", "MAC addresses learned on the port", |s, out| {
        port_samples(s, out, |port| port.fdb_learned);
    }),
    counter("uswitch_fdb_moved_total", "MAC addresses that moved to the port from another", |s, out| {
        port_samples(s, out, |port| port.fdb_moved);
    }),
    counter("uswitch_fdb_aged_total", "Entries that expired after the ageing time", |s, out| {
        out.add(&[], s.fdb_aged);
    }),
    counter(
        "uswitch_fdb_evicted_total",
        "Entries of the port evicted from a full forwarding database",
        |s, out| {
            port_samples(s, out, |port| port.fdb_evictions);
        },
    ),
    counter(
        "uswitch_fdb_refused_total",
        "Frames from the port whose source was not learned: the forwarding database was full, or the port had fdb_max_learned addresses",
        |s, out| {
            port_samples(s, out, |port| port.fdb_refused);
        },
    ),
    counter("uswitch_worker_frames_total", "Frames received by the worker", |s, out| {
        worker_samples(s, out, |worker| worker.frames);
    }),
    counter("uswitch_worker_turns_total", "Iterations of the worker's loop", |s, out| {
        worker_samples(s, out, |worker| worker.turns);
    }),
    counter(
        "uswitch_worker_system_calls_total",
        "System calls of the worker to wait for frames and move them",
        |s, out| worker_samples(s, out, |worker| worker.system_calls),
    ),
    gauge("uswitch_worker_buffers", "Buffers of the worker", |s, out| {
        worker_samples(s, out, |_| u64::from(BUFFERS));
    }),
    gauge("uswitch_worker_free_buffers", "Free buffers of the worker", |s, out| {
        worker_samples(s, out, |worker| worker.free_buffers);
    }),
    gauge("uswitch_worker_stalled", "Whether the worker does not respond: 1 if so", |s, out| {
        worker_samples(s, out, |worker| worker.stalled.into());
    }),
    gauge(
        "uswitch_nat_fault",
        "Whether the nftables table of the switch is not as installed: 1 if so",
        |s, out| {
            out.add(&[], s.status.nat_fault.is_some().into());
        },
    ),
    counter("uswitch_lost_notices_total", "Worker notices lost because their queue was full", |s, out| {
        out.add(&[], s.status.lost_notices);
    }),
    counter("uswitch_lost_events_total", "Events suppressed by rate limits", |s, out| {
        out.add(&[], s.status.lost_events);
    }),
];

/// Renders all families as text.
pub(crate) fn render(snapshot: &MetricsSnapshot) -> String {
    let mut text = String::new();
    for MetricFamily { name, kind, help, samples } in FAMILIES {
        text += &format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n");
        samples(snapshot, &mut SampleWriter { name, text: &mut text });
    }
    text
}

/// Writes the samples of a family.
struct SampleWriter<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl SampleWriter<'_> {
    fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels = labels.iter().map(label).collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        // Writing to a string cannot fail.
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn port_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>, count: fn(&PortStats) -> u64) {
    snapshot.ports.iter().for_each(|port| out.add(&[("port", &port.ifname)], count(port)));
}

/// Samples for received and for delivered frames.
fn rx_tx_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>, counts: fn(&PortStats) -> [u64; 2]) {
    for port in &snapshot.ports {
        for (direction, count) in ["rx", "tx"].into_iter().zip(counts(port)) {
            out.add(&[("port", &port.ifname), ("direction", direction)], count);
        }
    }
}

/// Samples for received and for sent frames. A VLAN without frames has none, so that a trunk of all VLANs does not make
/// thousands of series.
fn vlan_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>, counts: fn(&VlanStats) -> [u64; 2]) {
    for vlan in snapshot.vlans.iter().filter(|vlan| vlan.has_frames()) {
        for (direction, count) in ["rx", "tx"].into_iter().zip(counts(vlan)) {
            out.add(&[("vlan", &vlan.vid.to_string()), ("direction", direction)], count);
        }
    }
}

/// The same for each port, if the switch counts them.
fn port_vlan_samples(
    snapshot: &MetricsSnapshot,
    out: &mut SampleWriter<'_>,
    counts: fn(&VlanStats) -> [u64; 2],
) {
    for PortVlanStats { ifname, vlans } in &snapshot.port_vlans {
        for vlan in vlans.iter().filter(|vlan| vlan.has_frames()) {
            for (direction, count) in ["rx", "tx"].into_iter().zip(counts(vlan)) {
                let labels =
                    [("port", &**ifname), ("vlan", &*vlan.vid.to_string()), ("direction", direction)];
                out.add(&labels, count);
            }
        }
    }
}

fn uplink_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>, count: fn(&UplinkReport) -> u64) {
    snapshot.uplinks.iter().for_each(|(port, uplink)| out.add(&[("port", port)], count(uplink)));
}

fn drop_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>) {
    for port in &snapshot.ports {
        for (direction, side) in [("rx", Side::Ingress), ("tx", Side::Egress)] {
            for (reason, count) in port.reasons(side) {
                let labels = [("port", &*port.ifname), ("direction", direction), ("reason", reason.name())];
                out.add(&labels, count);
            }
        }
    }
}

fn queue_drop_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>) {
    for port in &snapshot.ports {
        if let Some(count) = port.queue_dropped {
            out.add(&[("port", &port.ifname)], count);
        }
    }
}

fn worker_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>, count: fn(&WorkerStats) -> u64) {
    for (number, worker) in snapshot.workers.iter().enumerate() {
        let labels = [("worker", &*number.to_string()), ("engine", &*snapshot.status.engine)];
        out.add(&labels, count(worker));
    }
}
