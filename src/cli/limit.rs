//! Options of `uswitch port set` that limit a port: storm control (`1000:200`) and rates (`10mbit:64k`).

use crate::control::report::{PortLimit, PortLimits};

/// Storm control and rate limits.
#[derive(Debug, clap::Args)]
pub(super) struct LimitArgs {
    /// Drop broadcast frames of the port beyond this many a second, or off
    #[arg(long, value_name = "FRAMES[:BURST]", value_parser = frames)]
    storm_broadcast: Option<PortLimit>,
    /// Drop frames of the port to unknown addresses beyond this many a second, or off
    #[arg(long, value_name = "FRAMES[:BURST]", value_parser = frames)]
    storm_unknown_unicast: Option<PortLimit>,
    /// Drop multicast frames of the port beyond this many a second, or off
    #[arg(long, value_name = "FRAMES[:BURST]", value_parser = frames)]
    storm_multicast: Option<PortLimit>,
    /// Drop frames of the port beyond this rate, as in 10mbit, or off; the burst is in bytes
    #[arg(long, value_name = "RATE[:BURST]", value_parser = bits)]
    ingress_rate: Option<PortLimit>,
    /// Drop frames for the port beyond this rate, as in 10mbit, or off; the burst is in bytes
    #[arg(long, value_name = "RATE[:BURST]", value_parser = bits)]
    egress_rate: Option<PortLimit>,
}

impl From<&LimitArgs> for PortLimits {
    fn from(typed: &LimitArgs) -> PortLimits {
        let &LimitArgs { storm_broadcast, storm_unknown_unicast, storm_multicast, ingress_rate, egress_rate } =
            typed;
        PortLimits { storm_broadcast, storm_unknown_unicast, storm_multicast, ingress_rate, egress_rate }
    }
}

/// A storm control limit: frames per second, and the burst in frames.
pub(super) fn frames(text: &str) -> Result<PortLimit, String> {
    let advice =
        || format!("'{text}' is not a limit: write frames per second, as in 1000 or 1000:200, or off");
    limit(text, |rate| rate.parse().ok(), |burst| burst.parse().ok()).ok_or_else(advice)
}

/// A rate limit: bits per second, and the burst in bytes.
pub(super) fn bits(text: &str) -> Result<PortLimit, String> {
    let advice =
        || format!("'{text}' is not a rate: write bits per second, as in 10mbit or 10mbit:64k, or off");
    limit(text, bits_per_second, bytes).ok_or_else(advice)
}

fn limit(
    text: &str,
    rate: impl Fn(&str) -> Option<u64>,
    burst: impl Fn(&str) -> Option<u64>,
) -> Option<PortLimit> {
    match text.split_once(':') {
        None if text == "off" => Some(PortLimit { rate: 0, burst: None }),
        None => Some(PortLimit { rate: rate(text)?, burst: None }),
        Some((typed, size)) => Some(PortLimit { rate: rate(typed)?, burst: Some(burst(size)?) }),
    }
}

/// A rate with the suffixes of tc(8): bit, kbit, mbit, gbit.
pub(super) fn bits_per_second(text: &str) -> Option<u64> {
    let factors = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1000), ("bit", 1)];
    number(text, &factors)
}

/// A size with the suffixes of tc(8): k and m are powers of 1024.
fn bytes(text: &str) -> Option<u64> {
    number(text, &[("m", 1024 * 1024), ("k", 1024), ("b", 1)])
}

fn number(text: &str, factors: &[(&str, u64)]) -> Option<u64> {
    let lower = text.to_lowercase();
    let found = factors.iter().find_map(|(suffix, factor)| Some((lower.strip_suffix(suffix)?, *factor)));
    let (digits, factor) = found.unwrap_or((&lower, 1));
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_limits() {
        let limit = |rate, burst| Ok(PortLimit { rate, burst });
        assert_eq!(frames("1000"), limit(1000, None));
        assert_eq!(frames("1000:200"), limit(1000, Some(200)));
        assert_eq!(frames("off"), limit(0, None));
        assert_eq!(bits("10mbit"), limit(10_000_000, None));
        assert_eq!(bits("1Gbit:64k"), limit(1_000_000_000, Some(65_536)));
        assert_eq!(bits("5000"), limit(5000, None));
        for wrong in ["", "x", "10mbit:", "-1", "10mb", "99999999999gbit"] {
            assert!(bits(wrong).unwrap_err().contains("10mbit"), "{wrong}");
            assert!(frames(wrong).unwrap_err().contains("1000"), "{wrong}");
        }
    }
}
