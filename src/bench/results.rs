//! What a run measured: the machine, the peers, every single sample. It is what `results.json` holds; medians, ratios
//! and charts are made from it and nothing else.

use serde::{Deserialize, Serialize};

use super::metric::{Metric, RttLoad, Unit};

/// The version of the shape of [`Results`]. It changes when an old reader would misread.
pub const SCHEMA: u32 = 1;

/// The peer that all others are compared with.
pub const BASELINE: &str = "linux-bridge";

/// The peer that this is about.
pub const SUBJECT: &str = "uswitch";

/// Everything that a run measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The version of uswitch.
    pub uswitch: String,
    /// When the first measurement began: RFC 3339, UTC.
    pub started: String,
    /// Where.
    pub machine: MachineInfo,
    /// What was asked for.
    pub options: BenchSettings,
    /// The switches in the order they were asked for, those that were skipped too.
    pub peers: Vec<PeerInfo>,
    /// What a reader must know besides: a congestion control that the kernel lacks, a measurement that failed. Each is a
    /// sentence.
    pub notes: Vec<String>,
    /// Every single value, in the order of measurement.
    pub samples: Vec<Sample>,
    /// Round-trip times in full.
    pub distributions: Vec<Distribution>,
}

/// Where it was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// As `uname -r` says.
    pub kernel: String,
    /// As `/proc/cpuinfo` names it.
    pub cpu_model: String,
    /// Logical CPUs that may be used.
    pub cpus: usize,
    /// Memory, bytes.
    pub memory_bytes: u64,
    /// The congestion control that TCP takes unless told (`net.ipv4.tcp_congestion_control`).
    pub congestion_control: String,
    /// The hypervisor, such as `kvm`; none if none shows.
    pub virtualised: Option<String>,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchSettings {
    /// Names of peers.
    pub peers: Vec<String>,
    /// Names of tests.
    pub tests: Vec<String>,
    /// Interleaved repetitions: each measures all peers once.
    pub repeat: u32,
    /// Length of one measurement of throughput or rate, seconds.
    pub duration: u32,
    /// The engine of uswitch: `auto`, `uring` or `poll`.
    pub engine: String,
    /// How long a worker of uswitch looks for frames before it sleeps, microseconds; as it does by itself if none.
    pub busy_poll: Option<u32>,
    /// MTU of every device, bytes.
    pub mtu: u32,
    /// Frames that may wait in a device; the kernel's default if none.
    pub txqueuelen: Option<u32>,
}

/// A switch to be measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Such as [`SUBJECT`] or [`BASELINE`].
    pub name: String,
    /// What it is, in one line.
    pub what: String,
    /// The version of its program or module, where it has one.
    pub version: Option<String>,
    /// Why it was not measured; none if it was.
    pub skipped: Option<String>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which repetition, from 1.
    pub repetition: u32,
    /// Whose.
    pub peer: String,
    /// Of what.
    pub metric: Metric,
    /// [`Metric::unit`], for whoever reads the file.
    pub unit: Unit,
    /// Finite, in that unit.
    pub value: f64,
    /// Nanoseconds that a cache line took from one CPU to another, before this was measured or after, whichever was
    /// longer; none where there is one CPU, or one that had no time for it.
    pub cpu_distance_ns: Option<f64>,
}

impl Sample {
    /// None if `value` is no number: a cost a gigabit where none arrived.
    pub fn new(repetition: u32, peer: &str, metric: Metric, value: f64) -> Option<Sample> {
        let unit = metric.unit();
        let peer = peer.to_owned();
        value.is_finite().then_some(Sample { repetition, peer, metric, unit, value, cpu_distance_ns: None })
    }
}

/// The round-trip times of one measurement.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Distribution {
    /// Which repetition, from 1.
    pub repetition: u32,
    /// Whose.
    pub peer: String,
    /// Alone, or beside other traffic.
    pub metric: RttLoad,
    /// Percent of the round trips, 0 to 100 and ascending, and the microseconds that so many took at most.
    pub percentiles: Vec<(f64, f64)>,
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;

    /// A run that measured nothing yet.
    pub(in crate::bench) fn empty<'a>(peers: impl IntoIterator<Item = &'a str>) -> Results {
        let peers: Vec<&str> = peers.into_iter().collect();
        let report = |name: &&str| PeerInfo {
            name: (*name).to_owned(),
            what: format!("what {name} is"),
            version: None,
            skipped: None,
        };
        Results {
            schema: SCHEMA,
            uswitch: "0.1.0".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            machine: MachineInfo {
                kernel: "6.18.0".to_owned(),
                cpu_model: "A CPU".to_owned(),
                cpus: 2,
                memory_bytes: 8 << 30,
                congestion_control: "cubic".to_owned(),
                virtualised: None,
            },
            options: BenchSettings {
                peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
                tests: vec!["tcp".to_owned()],
                repeat: 3,
                duration: 2,
                engine: "auto".to_owned(),
                busy_poll: None,
                mtu: 1500,
                txqueuelen: None,
            },
            peers: peers.iter().map(report).collect(),
            notes: Vec::new(),
            samples: Vec::new(),
            distributions: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rejects_values_that_are_not_finite() {
        assert_eq!(Sample::new(1, "a", Metric::Udp, f64::NAN), None);
        assert_eq!(Sample::new(1, "a", Metric::Udp, f64::INFINITY), None);
        let sample = Sample::new(1, "a", Metric::Udp, 2.5).unwrap();
        assert_eq!((sample.unit, sample.value), (Unit::Gbits, 2.5));
    }
}
