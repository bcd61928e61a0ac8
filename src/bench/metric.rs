//! Metrics: names, units, and which direction is better.
//!
//! A metric is written as in `results.json` and on the command line: `tcp.cubic`, `pps.64`, `rtt-load.p99`.
//! The order of the variants is the order of rows in a report.

use std::fmt::{self, Display};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A metric.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Metric {
    /// Received TCP payload in Gbit/s: `tcp.cubic`.
    Tcp(Tcp),
    /// Received UDP payload in Gbit/s: `udp`.
    Udp,
    /// Lost UDP datagrams in percent of those sent: `udp.loss`.
    UdpLoss,
    /// Received frames per second of this size, sent at maximum speed: `pps.64`. As in RFC 2544, the size
    /// includes the 4 bytes of FCS, which virtual devices do not have.
    FrameRate(u32),
    /// Received broadcasts per second of this size, sent at maximum speed: `broadcast.64`.
    BroadcastRate(u32),
    /// The highest rate of frames of this size without loss, in frames per second (RFC 2544 section 26.1):
    /// `rfc2544.64`.
    LossFreeRate(u32),
    /// A percentile of round-trip times in microseconds: `rtt.p99`, `rtt-load.p99`.
    Rtt(RoundTrip, Percentile),
    /// CPU time in seconds per gigabit of payload: `tcp.cubic.cpu.switch`.
    Cpu(Tcp, CpuScope),
}

/// A TCP test.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tcp {
    /// Streams and their direction.
    pub traffic: Traffic,
    /// The congestion control, as the kernel names it: `cubic`, `bbr`.
    pub congestion_control: String,
}

/// Streams and their direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Traffic {
    /// One stream between containers: `tcp`.
    One,
    /// Four parallel streams: `tcp4`.
    Four,
    /// One stream in each direction at once, as a sum: `bidir`.
    Both,
    /// One stream from a container to the host: `host`.
    Host,
}

/// Whose CPU time is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CpuScope {
    /// Processes and threads of the switch: `switch`.
    Switch,
    /// The whole machine, including sender, receiver and interrupts: `machine`.
    Machine,
}

/// What makes a round trip.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum RoundTrip {
    /// A UDP request and its reply: `rtt`.
    #[serde(rename = "rtt")]
    Udp,
    /// The same in a TCP connection: `rtt-tcp`.
    #[serde(rename = "rtt-tcp")]
    Tcp,
    /// An ICMP echo request, which the kernel answers: `ping`.
    #[serde(rename = "ping")]
    Ping,
    /// A UDP request and its reply, beside a TCP stream: `rtt-load`.
    #[serde(rename = "rtt-load")]
    UdpUnderLoad,
}

impl RoundTrip {
    /// All of them.
    pub const ALL: [RoundTrip; 4] =
        [RoundTrip::Udp, RoundTrip::Tcp, RoundTrip::Ping, RoundTrip::UdpUnderLoad];

    fn named(name: &str) -> Option<RoundTrip> {
        RoundTrip::ALL.into_iter().find(|of| of.to_string() == name)
    }
}

/// A percentile with a row of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Percentile {
    /// The median.
    P50,
    /// One in a hundred takes longer.
    P99,
    /// One in a thousand takes longer.
    P99_9,
}

/// Unit of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Unit {
    /// 10^9 bits of payload per second.
    #[serde(rename = "Gbit/s")]
    Gbits,
    /// Percent.
    #[serde(rename = "%")]
    Percent,
    /// Frames per second.
    #[serde(rename = "frames/s")]
    Frames,
    /// Microseconds.
    #[serde(rename = "us")]
    Microseconds,
    /// CPU seconds per 10^9 bits of payload.
    #[serde(rename = "CPU s/Gbit")]
    CpuSeconds,
}

/// Which of two values is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Better {
    /// The higher value.
    Higher,
    /// The lower value.
    Lower,
}

/// Unknown name of a metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a metric, such as tcp.cubic, pps.64 or rtt.p99")]
pub struct UnknownMetric(String);

impl Metric {
    /// Unit of its values.
    pub fn unit(&self) -> Unit {
        match self {
            Metric::Tcp(_) | Metric::Udp => Unit::Gbits,
            Metric::UdpLoss => Unit::Percent,
            Metric::FrameRate(_) | Metric::BroadcastRate(_) | Metric::LossFreeRate(_) => Unit::Frames,
            Metric::Rtt(..) => Unit::Microseconds,
            Metric::Cpu(..) => Unit::CpuSeconds,
        }
    }

    /// Whether a ratio of two values is meaningful. A ratio of loss rates is not: 0.2% is not twice as bad
    /// as 0.1%. Nor is one of the switch's own CPU time, which is near zero for a switch in the kernel.
    pub fn has_ratio(&self) -> bool {
        !matches!(self, Metric::UdpLoss | Metric::Cpu(_, CpuScope::Switch))
    }

    /// Which direction is better.
    pub fn better(&self) -> Better {
        match self.unit() {
            Unit::Gbits | Unit::Frames => Better::Higher,
            Unit::Percent | Unit::Microseconds | Unit::CpuSeconds => Better::Lower,
        }
    }
}

impl Display for Metric {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Metric::Tcp(tcp) => tcp.fmt(f),
            Metric::Udp => f.write_str("udp"),
            Metric::UdpLoss => f.write_str("udp.loss"),
            Metric::FrameRate(size) => write!(f, "pps.{size}"),
            Metric::BroadcastRate(size) => write!(f, "broadcast.{size}"),
            Metric::LossFreeRate(size) => write!(f, "rfc2544.{size}"),
            Metric::Rtt(load, percentile) => write!(f, "{load}.p{}", percentile.percent()),
            Metric::Cpu(tcp, CpuScope::Switch) => write!(f, "{tcp}.cpu.switch"),
            Metric::Cpu(tcp, CpuScope::Machine) => write!(f, "{tcp}.cpu.machine"),
        }
    }
}

impl FromStr for Metric {
    type Err = UnknownMetric;

    fn from_str(name: &str) -> Result<Metric, UnknownMetric> {
        let metric = match name.split_once('.') {
            None => (name == "udp").then_some(Metric::Udp),
            Some(("udp", what)) => (what == "loss").then_some(Metric::UdpLoss),
            Some(("pps", size)) => size.parse().ok().map(Metric::FrameRate),
            Some(("broadcast", size)) => size.parse().ok().map(Metric::BroadcastRate),
            Some(("rfc2544", size)) => size.parse().ok().map(Metric::LossFreeRate),
            Some((first, rest)) => match RoundTrip::named(first) {
                Some(trip) => Percentile::named(rest).map(|of| Metric::Rtt(trip, of)),
                None => Traffic::named(first).and_then(|traffic| tcp(traffic, rest)),
            },
        };
        metric.ok_or_else(|| UnknownMetric(name.to_owned()))
    }
}

impl TryFrom<String> for Metric {
    type Error = UnknownMetric;

    fn try_from(name: String) -> Result<Metric, UnknownMetric> {
        name.parse()
    }
}

impl From<Metric> for String {
    fn from(metric: Metric) -> String {
        metric.to_string()
    }
}

/// Parses `cubic`, `cubic.cpu.switch` and `cubic.cpu.machine`.
fn tcp(traffic: Traffic, rest: &str) -> Option<Metric> {
    let (congestion_control, cost) = rest.split_once('.').map_or((rest, None), |(cc, cost)| (cc, Some(cost)));
    let named = !congestion_control.is_empty();
    let tcp = Tcp { traffic, congestion_control: congestion_control.to_owned() };
    match cost {
        _ if !named => None,
        None => Some(Metric::Tcp(tcp)),
        Some("cpu.switch") => Some(Metric::Cpu(tcp, CpuScope::Switch)),
        Some("cpu.machine") => Some(Metric::Cpu(tcp, CpuScope::Machine)),
        Some(_) => None,
    }
}

impl Display for Tcp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let traffic = match self.traffic {
            Traffic::One => "tcp",
            Traffic::Four => "tcp4",
            Traffic::Both => "bidir",
            Traffic::Host => "host",
        };
        write!(f, "{traffic}.{}", self.congestion_control)
    }
}

impl Traffic {
    fn named(name: &str) -> Option<Traffic> {
        match name {
            "tcp" => Some(Traffic::One),
            "tcp4" => Some(Traffic::Four),
            "bidir" => Some(Traffic::Both),
            "host" => Some(Traffic::Host),
            _ => None,
        }
    }
}

impl Display for RoundTrip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RoundTrip::Udp => "rtt",
            RoundTrip::Tcp => "rtt-tcp",
            RoundTrip::Ping => "ping",
            RoundTrip::UdpUnderLoad => "rtt-load",
        })
    }
}

impl Percentile {
    /// All percentiles, ascending.
    pub const ALL: [Percentile; 3] = [Percentile::P50, Percentile::P99, Percentile::P99_9];

    /// Percent of the round trips that take at most this long.
    pub fn percent(self) -> f64 {
        match self {
            Percentile::P50 => 50.0,
            Percentile::P99 => 99.0,
            Percentile::P99_9 => 99.9,
        }
    }

    fn named(name: &str) -> Option<Percentile> {
        Percentile::ALL.into_iter().find(|of| name.strip_prefix('p') == Some(&of.percent().to_string()))
    }
}

impl Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Unit::Gbits => "Gbit/s",
            Unit::Percent => "%",
            Unit::Frames => "frames/s",
            Unit::Microseconds => "us",
            Unit::CpuSeconds => "CPU s/Gbit",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In the order of a report.
    const NAMES: [&str; 18] = [
        "tcp.bbr",
        "tcp.cubic",
        "tcp4.cubic",
        "bidir.cubic",
        "host.cubic",
        "udp",
        "udp.loss",
        "pps.64",
        "pps.1518",
        "broadcast.64",
        "rfc2544.64",
        "rtt.p50",
        "rtt.p99",
        "rtt.p99.9",
        "rtt-load.p50",
        "rtt-load.p99.9",
        "tcp.cubic.cpu.switch",
        "tcp.cubic.cpu.machine",
    ];

    #[test]
    fn metric_names_round_trip() {
        for name in NAMES {
            let metric: Metric = name.parse().unwrap();
            assert_eq!(metric.to_string(), name);
            let json = serde_json::to_string(&metric).unwrap();
            assert_eq!(json, format!("\"{name}\""));
            assert_eq!(serde_json::from_str::<Metric>(&json).unwrap(), metric);
        }
    }

    #[test]
    fn metrics_are_sorted_in_report_order() {
        let metrics: Vec<Metric> = NAMES.iter().map(|name| name.parse().unwrap()).collect();
        assert!(metrics.is_sorted());
    }

    #[test]
    fn rejects_unknown_metrics() {
        let wrong = [
            "",
            "tcp",
            "tcp.",
            "tcp..cpu.switch",
            "tcp.cubic.cpu",
            "udp.",
            "pps.x",
            "pps",
            "rtt.p98",
            "quic.x",
        ];
        for name in wrong {
            assert_eq!(name.parse::<Metric>(), Err(UnknownMetric(name.to_owned())));
        }
    }

    #[test]
    fn units_serialize_as_displayed() {
        for unit in [Unit::Gbits, Unit::Percent, Unit::Frames, Unit::Microseconds, Unit::CpuSeconds] {
            assert_eq!(serde_json::to_string(&unit).unwrap(), format!("\"{unit}\""));
        }
    }
}
