//! Options of `uswitch port set` that impair a port, with the words of tc-netem(8).

use crate::control::report::{DelayDistribution, DirectionImpairment, Percent, PortImpairments};

use super::limit::bits_per_second;

/// The direction of an impairment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum ImpairmentDirection {
    /// Frames for the port
    Egress,
    /// Frames from the port
    Ingress,
    /// Both
    Both,
}

/// How the delay varies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum DistributionName {
    /// Evenly within the jitter
    Uniform,
    /// With the jitter as standard deviation
    Normal,
    /// Few frames are much later
    Pareto,
}

/// The options that impair. A direction, a distribution or a seed alone impairs nothing.
pub(super) const IMPAIRMENTS: [&str; 8] =
    ["delay", "jitter", "loss", "duplicate", "reorder", "corrupt", "rate", "no_impairment"];

/// An impairment. It replaces the one before in its direction.
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("impairments").multiple(true).args(IMPAIRMENTS))]
pub(super) struct ImpairArgs {
    /// Delay frames, as in 20ms, 500us or 1s, up to 60s
    #[arg(long, value_name = "TIME", value_parser = micros)]
    delay: Option<u64>,
    /// Vary the delay by this time
    #[arg(long, value_name = "TIME", value_parser = micros)]
    jitter: Option<u64>,
    /// How the delay varies
    #[arg(long, requires = "jitter")]
    distribution: Option<DistributionName>,
    /// Lose this percentage of the frames, as in 1%
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    loss: Option<Percent>,
    /// Send this percentage of the frames twice
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    duplicate: Option<Percent>,
    /// Do not delay this percentage of the frames, so that they overtake others
    #[arg(long, value_name = "PERCENT", value_parser = percent, requires = "delay")]
    reorder: Option<Percent>,
    /// Invert a bit of this percentage of the frames
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    corrupt: Option<Percent>,
    /// Send frames at this rate, as in 10mbit: further ones wait
    #[arg(long, value_name = "RATE", value_parser = rate)]
    rate: Option<u64>,
    /// Seed of the random numbers, to repeat an experiment [default: random]
    #[arg(long, value_name = "N", requires = "impairments")]
    seed: Option<u64>,
    /// Impair frames for the port (egress), from it (ingress), or both
    #[arg(long, default_value = "egress")]
    direction: ImpairmentDirection,
    /// End the impairment
    #[arg(long, conflicts_with_all = ["delay", "jitter", "loss", "duplicate", "reorder", "corrupt", "rate"])]
    no_impairment: bool,
}

impl From<&ImpairArgs> for PortImpairments {
    fn from(typed: &ImpairArgs) -> PortImpairments {
        let impairment = DirectionImpairment {
            delay_us: typed.delay.unwrap_or(0),
            jitter_us: typed.jitter.unwrap_or(0),
            distribution: match typed.distribution {
                None | Some(DistributionName::Uniform) => DelayDistribution::Uniform,
                Some(DistributionName::Normal) => DelayDistribution::Normal,
                Some(DistributionName::Pareto) => DelayDistribution::Pareto,
            },
            loss: typed.loss.unwrap_or_default(),
            duplicate: typed.duplicate.unwrap_or_default(),
            reorder: typed.reorder.unwrap_or_default(),
            corrupt: typed.corrupt.unwrap_or_default(),
            rate: typed.rate.unwrap_or(0),
            seed: typed.seed,
        };
        let none = DirectionImpairment { seed: typed.seed, ..DirectionImpairment::default() };
        if impairment == none && !typed.no_impairment {
            return PortImpairments::default();
        }
        let of = |wanted| {
            (typed.direction == wanted || typed.direction == ImpairmentDirection::Both).then_some(impairment)
        };
        PortImpairments { ingress: of(ImpairmentDirection::Ingress), egress: of(ImpairmentDirection::Egress) }
    }
}

/// A time with a unit, in microseconds.
fn micros(text: &str) -> Result<u64, String> {
    let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6)];
    let found = units.into_iter().find_map(|(unit, factor)| Some((text.strip_suffix(unit)?, factor)));
    let value = found.and_then(|(digits, factor)| Some(digits.parse::<f64>().ok()? * factor));
    match value {
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
        Some(micros) if (0.0..=60e6).contains(&micros) => Ok(micros.round() as u64),
        Some(_) => Err(format!("{text} is out of range: choose 0 to 60s")),
        None => Err(format!("'{text}' is not a time: write one like 20ms, 500us or 1s")),
    }
}

fn percent(text: &str) -> Result<Percent, String> {
    let number = text.strip_suffix('%').unwrap_or(text).parse().ok();
    number
        .and_then(Percent::new)
        .ok_or_else(|| format!("'{text}' is not a percentage: write one like 1% or 0.5%"))
}

fn rate(text: &str) -> Result<u64, String> {
    bits_per_second(text)
        .ok_or_else(|| format!("'{text}' is not a rate: write bits per second, as in 10mbit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_times_and_percentages() {
        assert_eq!((micros("20ms"), micros("1.5s"), micros("7us")), (Ok(20_000), Ok(1_500_000), Ok(7)));
        for wrong in ["20", "ms", "-1ms", "61s", "NaNs", "infs"] {
            assert!(micros(wrong).is_err(), "{wrong}");
        }
        assert_eq!(percent("0.5%"), Ok(Percent::new(0.5).unwrap()));
        assert_eq!(percent("100"), Ok(Percent::new(100.0).unwrap()));
        for wrong in ["101%", "x", "-1%", "NaN"] {
            assert!(percent(wrong).is_err(), "{wrong}");
        }
    }
}
