//! Formats figures for people.

use crate::bench::metric::{CpuScope, Metric, RoundTrip, Tcp, Traffic, Unit};
use crate::bench::summary::{Comparison, Range, Ratio, SummaryCell};

/// Metrics that share a table and a chart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MetricGroup {
    Throughput,
    FrameRate,
    RoundTrip,
    Cpu,
}

impl MetricGroup {
    pub(super) const ALL: [MetricGroup; 4] =
        [MetricGroup::Throughput, MetricGroup::FrameRate, MetricGroup::RoundTrip, MetricGroup::Cpu];

    pub(super) fn of(metric: &Metric) -> MetricGroup {
        match metric {
            Metric::Tcp(_) | Metric::Udp | Metric::UdpLoss => MetricGroup::Throughput,
            Metric::FrameRate(_) | Metric::BroadcastRate(_) | Metric::LossFreeRate(_) => {
                MetricGroup::FrameRate
            }
            Metric::Rtt(..) => MetricGroup::RoundTrip,
            Metric::Cpu(..) => MetricGroup::Cpu,
        }
    }

    pub(super) fn title(self) -> &'static str {
        match self {
            MetricGroup::Throughput => "Throughput",
            MetricGroup::FrameRate => "Frame rate",
            MetricGroup::RoundTrip => "Round-trip time",
            MetricGroup::Cpu => "CPU time",
        }
    }

    /// Explanation for the report.
    pub(super) fn meaning(self) -> &'static str {
        match self {
            MetricGroup::Throughput => "Received payload. Higher is better.",
            MetricGroup::FrameRate => {
                "Frames received while the sender sent at maximum speed, and, in rows with \"none lost\", the highest rate \
                 without loss (searched as in RFC 2544, with shorter trials). Sizes include the frame check sequence. \
                 Higher is better."
            }
            MetricGroup::RoundTrip => {
                "Time from sending a UDP request to its reply, on an idle switch and beside a TCP stream (\"under load\"). \
                 Lower is better."
            }
            MetricGroup::Cpu => {
                "CPU time per gigabit of payload, of the switch alone and of the whole machine. Lower is better. A switch in \
                 the kernel runs in the CPU time of senders and receivers, so compare only the figures of the machine."
            }
        }
    }
}

/// A metric in words, short enough for a heading.
pub(super) fn title(metric: &Metric) -> String {
    let tcp = |tcp: &Tcp| {
        let traffic = match tcp.traffic {
            Traffic::One => "TCP 1 stream",
            Traffic::Four => "TCP 4 streams",
            Traffic::Both => "TCP both ways",
            Traffic::Host => "TCP to the host",
        };
        format!("{traffic}, {}", tcp.congestion_control)
    };
    match metric {
        Metric::Tcp(of) => tcp(of),
        Metric::Udp => "UDP".to_owned(),
        Metric::UdpLoss => "UDP, lost".to_owned(),
        Metric::FrameRate(size) => format!("{size}-byte frames"),
        Metric::BroadcastRate(size) => format!("{size}-byte broadcasts"),
        Metric::LossFreeRate(size) => format!("{size}-byte frames, none lost"),
        Metric::Rtt(RoundTrip::Udp, of) => format!("round trip, p{}", of.percent()),
        Metric::Rtt(RoundTrip::Tcp, of) => format!("round trip in TCP, p{}", of.percent()),
        Metric::Rtt(RoundTrip::Ping, of) => format!("ping, p{}", of.percent()),
        Metric::Rtt(RoundTrip::UdpUnderLoad, of) => format!("round trip under load, p{}", of.percent()),
        Metric::Cpu(of, CpuScope::Switch) => format!("switch CPU, {}", tcp(of)),
        Metric::Cpu(of, CpuScope::Machine) => format!("machine CPU, {}", tcp(of)),
    }
}

/// The displayed unit, and its size in recorded units.
pub(super) fn readable(unit: Unit) -> (&'static str, f64) {
    match unit {
        Unit::Gbits => ("Gbit/s", 1.0),
        Unit::Percent => ("%", 1.0),
        Unit::Frames => ("kframes/s", 1000.0),
        Unit::Microseconds => ("us", 1.0),
        Unit::CpuSeconds => ("CPU ms/Gbit", 0.001),
    }
}

/// Three significant digits, or all digits before the decimal point.
pub(super) fn number(value: f64) -> String {
    let decimals = match value.abs() {
        0.0 | 99.95.. => 0,
        9.995.. => 1,
        0.9995.. => 2,
        0.09995.. => 3,
        _ => 4,
    };
    format!("{value:.decimals$}")
}

/// `26.4 [13.6-31.1]`, marked with ~ if noisy.
pub(super) fn value(cell: &SummaryCell, unit: Unit) -> String {
    let scale = readable(unit).1;
    let scaled = |value: f64| number(value / scale);
    let Range { median, min, max } = cell.range;
    let mark = if cell.noisy { "~" } else { "" };
    match cell.samples {
        1 => scaled(median),
        _ => format!("{mark}{} [{}-{}]", scaled(median), scaled(min), scaled(max)),
    }
}

/// `0.99x`, marked with ~ if one of the values is noisy.
pub(super) fn ratio(ratio: &Ratio) -> String {
    let mark = if ratio.verdict == Comparison::TooNoisy { "~" } else { "" };
    format!("{mark}{}x", factor(ratio.of_medians))
}

/// Two decimals, or three significant digits for small ratios.
pub(super) fn factor(ratio: f64) -> String {
    match ratio {
        99.5.. => format!("{ratio:.0}"),
        9.95.. => format!("{ratio:.1}"),
        0.095.. | 0.0 => format!("{ratio:.2}"),
        _ => format!("{ratio:.3}"),
    }
}

/// Output of other programs on one line, without control characters.
pub(super) fn one_line(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_numbers_with_three_digits() {
        let numbers = [0.0, 0.00123, 0.0412, 0.999, 0.9996, 5.907, 26.44, 99.96, 717.4, 12_345.0].map(number);
        assert_eq!(
            numbers,
            ["0", "0.0012", "0.0412", "0.999", "1.00", "5.91", "26.4", "100", "717", "12345"]
        );
    }

    #[test]
    fn formats_ratios() {
        assert_eq!(
            [0.0, 0.0123, 0.5, 1.3149, 12.34, 250.0].map(factor),
            ["0.00", "0.012", "0.50", "1.31", "12.3", "250"]
        );
    }
}
