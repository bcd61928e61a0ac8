//! Storm control and rate limits of a port.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::switch::{LimitKind, Rate};

/// A limit. Frames beyond it are dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PortLimit {
    /// Frames per second for storm control, bits per second for a rate limit; 0 ends the limit.
    pub rate: u64,
    /// Frames, or bytes, that may come at once [default: those of 100 ms, at least 10 frames; those of 50 ms, at least
    /// 128 KiB].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
}

/// The limits of a port. In a request, missing ones stay as they are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortLimits {
    /// Broadcast frames per second that the port sends into the switch.
    #[serde(alias = "storm-broadcast", skip_serializing_if = "Option::is_none")]
    pub storm_broadcast: Option<PortLimit>,
    /// Frames per second to unknown unicast addresses.
    #[serde(alias = "storm-unknown-unicast", skip_serializing_if = "Option::is_none")]
    pub storm_unknown_unicast: Option<PortLimit>,
    /// Frames per second to groups.
    #[serde(alias = "storm-multicast", skip_serializing_if = "Option::is_none")]
    pub storm_multicast: Option<PortLimit>,
    /// Bits per second that the port sends into the switch.
    #[serde(alias = "ingress-rate", skip_serializing_if = "Option::is_none")]
    pub ingress_rate: Option<PortLimit>,
    /// Bits per second that the switch sends to the port.
    #[serde(alias = "egress-rate", skip_serializing_if = "Option::is_none")]
    pub egress_rate: Option<PortLimit>,
}

impl PortLimits {
    /// The limits that are given, each with its kind.
    pub(crate) fn given(&self) -> impl Iterator<Item = (LimitKind, PortLimit)> {
        LimitKind::ALL.into_iter().filter_map(|kind| Some((kind, (*self.clone().of(kind))?)))
    }

    /// The limit of a kind.
    pub(crate) fn of(&mut self, kind: LimitKind) -> &mut Option<PortLimit> {
        match kind {
            LimitKind::StormBroadcast => &mut self.storm_broadcast,
            LimitKind::StormUnknownUnicast => &mut self.storm_unknown_unicast,
            LimitKind::StormMulticast => &mut self.storm_multicast,
            LimitKind::IngressRate => &mut self.ingress_rate,
            LimitKind::EgressRate => &mut self.egress_rate,
        }
    }
}

impl PortLimit {
    /// What the switch enforces; `None` ends the limit.
    pub(crate) fn enforced(self, kind: LimitKind) -> Option<Rate> {
        const LEAST_BYTES: u64 = 128 * 1024;
        const LEAST_FRAMES: u64 = 10;
        let PortLimit { rate, burst } = self;
        let burst = match kind {
            LimitKind::IngressRate | LimitKind::EgressRate => {
                burst.unwrap_or_else(|| (rate / 8 / 20).max(LEAST_BYTES)).saturating_mul(8)
            }
            _ => burst.unwrap_or_else(|| (rate / 10).max(LEAST_FRAMES)),
        };
        (rate > 0).then_some(Rate { per_second: rate, burst })
    }

    /// The limit in the words of `uswitch port set`.
    pub(crate) fn describe(self, kind: LimitKind) -> String {
        let (what, unit) = match kind {
            LimitKind::StormBroadcast => ("broadcast", "frames/s"),
            LimitKind::StormUnknownUnicast => ("unknown unicast", "frames/s"),
            LimitKind::StormMulticast => ("multicast", "frames/s"),
            LimitKind::IngressRate => ("ingress", "bit/s"),
            LimitKind::EgressRate => ("egress", "bit/s"),
        };
        format!("{what} at most {} {unit}", self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_have_defaults() {
        let enforced = |rate, burst, kind| PortLimit { rate, burst }.enforced(kind);
        let rate = |per_second, burst| Some(Rate { per_second, burst });
        assert_eq!(enforced(1000, None, LimitKind::StormBroadcast), rate(1000, 100));
        assert_eq!(enforced(5, None, LimitKind::StormMulticast), rate(5, 10));
        assert_eq!(enforced(5, Some(1), LimitKind::StormUnknownUnicast), rate(5, 1));
        assert_eq!(enforced(8_000_000, None, LimitKind::IngressRate), rate(8_000_000, 8 * 128 * 1024));
        assert_eq!(enforced(8_000_000_000, None, LimitKind::EgressRate), rate(8_000_000_000, 8 * 50_000_000));
        assert_eq!(enforced(1000, Some(1500), LimitKind::EgressRate), rate(1000, 12_000));
        assert_eq!(enforced(0, Some(1500), LimitKind::EgressRate), None);
    }
}
