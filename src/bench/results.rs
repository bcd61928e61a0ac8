//! Results of a run: the machine, the peers and every sample. `results.json` holds exactly this. Medians,
//! ratios and charts are computed from it alone.

use serde::{Deserialize, Serialize};

use super::metric::{Metric, RoundTrip, Unit};

/// Version of the format of [`Results`]. It changes if an old reader would misread new files.
pub const SCHEMA: u32 = 1;

/// The peer that others are compared with.
pub const BASELINE: &str = "linux-bridge";

/// The peer that is evaluated.
pub const SUBJECT: &str = "uswitch";

/// All results of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Results {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of uswitch.
    pub uswitch: String,
    /// Start of the first measurement: RFC 3339, UTC.
    pub started: String,
    /// The machine.
    pub machine: MachineInfo,
    /// The requested settings.
    pub options: BenchSettings,
    /// The switches in the requested order, including skipped ones.
    pub peers: Vec<PeerInfo>,
    /// Notes for the reader, one sentence each: a missing congestion control, a failed test.
    pub notes: Vec<String>,
    /// All values, in the order of measurement.
    pub samples: Vec<Sample>,
    /// Distributions of round-trip times.
    pub distributions: Vec<RoundTripPercentiles>,
}

/// The machine that was measured.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// Kernel version, as in `uname -r`.
    pub kernel: String,
    /// Model of the CPU, from `/proc/cpuinfo`.
    pub cpu_model: String,
    /// Usable logical CPUs.
    pub cpus: usize,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Default congestion control of TCP (`net.ipv4.tcp_congestion_control`).
    pub congestion_control: String,
    /// Hypervisor, such as `kvm`. `None` if none was detected.
    pub virtualised: Option<String>,
}

/// Requested settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchSettings {
    /// Names of peers.
    pub peers: Vec<String>,
    /// Names of tests.
    pub tests: Vec<String>,
    /// Repetitions. Each measures all peers once.
    pub repeat: u32,
    /// Duration of one throughput or rate measurement in seconds.
    pub duration: u32,
    /// Engine of uswitch: `auto`, `uring` or `poll`.
    pub engine: String,
    /// Busy-poll time of uswitch in microseconds. `None`: its default.
    pub busy_poll: Option<u32>,
    /// MTU of every device in bytes.
    pub mtu: u32,
    /// Queue length of every device in frames. `None`: the kernel's default.
    pub txqueuelen: Option<u32>,
}

/// A switch in the results.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Name, such as [`SUBJECT`] or [`BASELINE`].
    pub name: String,
    /// Description in one line.
    pub what: String,
    /// Version of its program or module, if it has one.
    pub version: Option<String>,
    /// Why it was not measured. `None` if it was.
    pub skipped: Option<String>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Repetition, from 1.
    pub repetition: u32,
    /// The switch.
    pub peer: String,
    /// The metric.
    pub metric: Metric,
    /// [`Metric::unit`], for readers of the file.
    pub unit: Unit,
    /// A finite value in that unit.
    pub value: f64,
    /// The larger of the distances between the CPUs before and after the measurement, in nanoseconds.
    /// `None` if there is one CPU, or if one had no time.
    pub cpu_distance_ns: Option<f64>,
}

impl Sample {
    /// `None` if `value` is not finite, for example a cost per gigabit if nothing was received.
    pub fn new(repetition: u32, peer: &str, metric: Metric, value: f64) -> Option<Sample> {
        let unit = metric.unit();
        let peer = peer.to_owned();
        value.is_finite().then_some(Sample { repetition, peer, metric, unit, value, cpu_distance_ns: None })
    }
}

/// Round-trip times of one test.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RoundTripPercentiles {
    /// Repetition, from 1.
    pub repetition: u32,
    /// The switch.
    pub peer: String,
    /// On an idle switch, or beside other traffic.
    pub metric: RoundTrip,
    /// Percent of the round trips, 0 to 100 and ascending, and the microseconds that these took at most.
    pub percentiles: Vec<(f64, f64)>,
}

#[cfg(test)]
pub(super) mod fixture {
    use super::*;

    /// Results of a run before its first measurement.
    pub(in crate::bench) fn empty<'a>(peers: impl IntoIterator<Item = &'a str>) -> Results {
        let peers: Vec<&str> = peers.into_iter().collect();
        let report = |name: &&str| PeerInfo {
            name: (*name).to_owned(),
            what: format!("description of {name}"),
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
