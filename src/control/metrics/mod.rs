//! What is measured, in the text format of Prometheus (version 0.0.4), by the conventions of OpenMetrics: base units,
//! counters end in `_total`. docs/METRICS.md lists it.
//!
//! A snapshot is rendered when somebody asks; nothing is kept between two questions.

#[cfg(test)]
pub(super) mod tests;

use std::fmt::Write;

use super::report::{PortStats, Status};
use crate::datapath::BUFFERS;
use crate::switch::Side;

/// What the answer is.
pub(crate) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Everything that is measured, at one time.
#[derive(Debug)]
pub(crate) struct MetricsSnapshot {
    pub(crate) status: Status,
    /// Seconds since 1970.
    pub(crate) start_time: u64,
    pub(crate) ports: Vec<PortStats>,
    /// Which of the ports are.
    pub(crate) up: Vec<(String, bool)>,
    pub(crate) fdb_aged: u64,
    pub(crate) workers: Vec<WorkerStats>,
}

/// What a worker has done.
#[derive(Debug)]
pub(crate) struct WorkerStats {
    pub(crate) turns: u64,
    pub(crate) system_calls: u64,
    pub(crate) free_buffers: u64,
    /// Received.
    pub(crate) frames: u64,
}

/// One metric, with a sample for each set of labels.
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
    gauge("uswitch_build_info", "The program; always 1", |s, out| {
        out.add(&[("version", &s.status.version)], 1);
    }),
    gauge("uswitch_start_time_seconds", "When the switch was made, in seconds since 1970", |s, out| {
        out.add(&[], s.start_time);
    }),
    counter("uswitch_port_frames_total", "Frames received from the port and delivered to it", |s, out| {
        rx_tx_samples(s, out, |port| [port.rx_frames, port.tx_frames]);
    }),
    counter("uswitch_port_bytes_total", "Bytes of those frames, without FCS", |s, out| {
        rx_tx_samples(s, out, |port| [port.rx_bytes, port.tx_bytes]);
    }),
    counter("uswitch_port_forwarded_frames_total", "Frames from the port that had one egress", |s, out| {
        port_samples(s, out, |port| port.forwarded);
    }),
    counter("uswitch_port_flooded_frames_total", "Frames from the port that were flooded", |s, out| {
        port_samples(s, out, |port| port.flooded);
    }),
    counter(
        "uswitch_port_flood_copies_total",
        "Copies that the flooded frames from the port became",
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
    counter("uswitch_port_dropped_frames_total", "Frames not delivered, by reason", drop_samples),
    counter(
        "uswitch_port_queue_dropped_frames_total",
        "Frames lost in the queue of the port's device, before the switch could read them",
        queue_drop_samples,
    ),
    counter("uswitch_port_segmented_frames_total", "Frames for the port segmented in software", |s, out| {
        port_samples(s, out, |port| port.segmented);
    }),
    counter("uswitch_port_segments_total", "Frames that the segmented ones became", |s, out| {
        port_samples(s, out, |port| port.segments);
    }),
    gauge("uswitch_port_up", "Whether the port forwards: 1 if so", |s, out| {
        s.up.iter().for_each(|(port, up)| out.add(&[("port", port)], u64::from(*up)));
    }),
    gauge("uswitch_fdb_entries", "Entries in the forwarding database", |s, out| {
        out.add(&[], s.status.fdb as u64);
    }),
    gauge("uswitch_fdb_entries_limit", "Most entries that the forwarding database may have", |s, out| {
        out.add(&[], s.status.fdb_max as u64);
    }),
    counter("uswitch_fdb_learned_total", "Addresses that were new on the port", |s, out| {
        port_samples(s, out, |port| port.fdb_learned);
    }),
    counter("uswitch_fdb_moved_total", "Addresses that moved to the port from another", |s, out| {
        port_samples(s, out, |port| port.fdb_moved);
    }),
    counter("uswitch_fdb_aged_total", "Addresses forgotten because they were silent", |s, out| {
        out.add(&[], s.fdb_aged);
    }),
    counter(
        "uswitch_fdb_evicted_total",
        "Addresses of the port that gave way in a full database",
        |s, out| {
            port_samples(s, out, |port| port.fdb_evictions);
        },
    ),
    counter("uswitch_fdb_refused_total", "Frames from the port whose address found no room", |s, out| {
        port_samples(s, out, |port| port.fdb_refused);
    }),
    counter("uswitch_worker_frames_total", "Frames received by the worker", |s, out| {
        worker_samples(s, out, |worker| worker.frames);
    }),
    counter("uswitch_worker_turns_total", "Turns of the worker's loop", |s, out| {
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
    gauge("uswitch_worker_free_buffers", "Buffers of the worker that hold no frame", |s, out| {
        worker_samples(s, out, |worker| worker.free_buffers);
    }),
    counter(
        "uswitch_lost_notices_total",
        "What the workers had to tell and nobody took in time",
        |s, out| {
            out.add(&[], s.status.lost_notices);
        },
    ),
    counter("uswitch_lost_events_total", "Events that were too many to be told", |s, out| {
        out.add(&[], s.status.lost_events);
    }),
];

/// What is measured, as text.
pub(crate) fn render(snapshot: &MetricsSnapshot) -> String {
    let mut text = String::new();
    for MetricFamily { name, kind, help, samples } in FAMILIES {
        text += &format!("# HELP {name} {help}.\n# TYPE {name} {kind}\n");
        samples(snapshot, &mut SampleWriter { name, text: &mut text });
    }
    text
}

/// Where a family's samples go.
struct SampleWriter<'a> {
    name: &'static str,
    text: &'a mut String,
}

impl SampleWriter<'_> {
    fn add(&mut self, labels: &[(&str, &str)], value: u64) {
        let label = |(name, value): &(&str, &str)| format!("{name}=\"{}\"", escaped(value));
        let labels = labels.iter().map(label).collect::<Vec<_>>().join(",");
        let labels = if labels.is_empty() { labels } else { format!("{{{labels}}}") };
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{}{labels} {value}", self.name);
    }
}

fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

fn port_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>, count: fn(&PortStats) -> u64) {
    snapshot.ports.iter().for_each(|port| out.add(&[("port", &port.ifname)], count(port)));
}

/// Received, and delivered.
fn rx_tx_samples(snapshot: &MetricsSnapshot, out: &mut SampleWriter<'_>, counts: fn(&PortStats) -> [u64; 2]) {
    for port in &snapshot.ports {
        for (direction, count) in ["rx", "tx"].into_iter().zip(counts(port)) {
            out.add(&[("port", &port.ifname), ("direction", direction)], count);
        }
    }
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
