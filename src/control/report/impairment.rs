//! Impairments of a port.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use utoipa::ToSchema;

use crate::datapath::{Distribution, Impairment, Probability};
use crate::switch::Side;

/// A probability, in JSON a number of percent. It is kept in millionths.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Percent(u32);

impl Percent {
    /// Millionths in a percent.
    const UNIT: f64 = 10_000.0;

    /// This many percent. `None`: not between 0 and 100.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range is checked")]
    pub(crate) fn new(percent: f64) -> Option<Percent> {
        (0.0..=100.0).contains(&percent).then(|| Percent((percent * Self::UNIT).round() as u32))
    }

    /// The value in percent.
    pub(crate) fn value(self) -> f64 {
        f64::from(self.0) / Self::UNIT
    }

    fn is_zero(&self) -> bool {
        self.0 == 0
    }
}

impl Serialize for Percent {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.value())
    }
}

impl<'de> Deserialize<'de> for Percent {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Percent, D::Error> {
        let percent = f64::deserialize(deserializer)?;
        let error = || serde::de::Error::custom(format!("{percent} is not a percentage: write 0 to 100"));
        Percent::new(percent).ok_or_else(error)
    }
}

/// How the delay varies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum DelayDistribution {
    /// Evenly within the jitter.
    #[default]
    Uniform,
    /// With the jitter as standard deviation.
    Normal,
    /// As a Pareto distribution with the jitter as standard deviation: few frames are much later.
    Pareto,
}

/// The impairment of a port in one direction, as of tc-netem(8). It replaces the one before; without a value it ends
/// it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DirectionImpairment {
    /// Delay in microseconds, up to 60 s.
    #[serde(alias = "delay-us", skip_serializing_if = "is_zero")]
    pub delay_us: u64,
    /// Variation of the delay in microseconds, up to 60 s.
    #[serde(alias = "jitter-us", skip_serializing_if = "is_zero")]
    pub jitter_us: u64,
    /// How the delay varies.
    pub distribution: DelayDistribution,
    /// Percentage of frames that are lost.
    #[schema(value_type = f64)]
    #[serde(skip_serializing_if = "Percent::is_zero")]
    pub loss: Percent,
    /// Percentage of frames that are sent twice.
    #[schema(value_type = f64)]
    #[serde(skip_serializing_if = "Percent::is_zero")]
    pub duplicate: Percent,
    /// Percentage of frames that are not delayed, so that they overtake others.
    #[schema(value_type = f64)]
    #[serde(skip_serializing_if = "Percent::is_zero")]
    pub reorder: Percent,
    /// Percentage of frames of which a bit is inverted.
    #[schema(value_type = f64)]
    #[serde(skip_serializing_if = "Percent::is_zero")]
    pub corrupt: Percent,
    /// Rate of the link in bits per second; 0: unlimited.
    #[serde(skip_serializing_if = "is_zero")]
    pub rate: u64,
    /// Seed of the random numbers, to repeat an experiment [default: random].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes it so")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// The impairments of a port. In a request, a missing direction stays as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortImpairments {
    /// Frames that the port sends into the switch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingress: Option<DirectionImpairment>,
    /// Frames that the switch sends to the port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub egress: Option<DirectionImpairment>,
}

impl PortImpairments {
    /// The directions that are given.
    pub(crate) fn given(&self) -> impl Iterator<Item = (Side, DirectionImpairment)> {
        let all = [(Side::Ingress, self.ingress), (Side::Egress, self.egress)];
        all.into_iter().filter_map(|(side, impairment)| Some((side, impairment?)))
    }

    /// In the words of `uswitch port set`, as `egress delay 20ms loss 1%`; `None` without an impairment.
    pub(crate) fn describe(&self) -> Option<String> {
        let directions: Vec<String> = self
            .given()
            .map(|(side, impairment)| format!("{} {}", side.name(), impairment.describe()))
            .collect();
        (!directions.is_empty()).then(|| directions.join(", "))
    }

    /// Replaces a direction.
    pub(crate) fn replace(&mut self, side: Side, impairment: DirectionImpairment) {
        let kept = (!impairment.enforced().is_none()).then_some(impairment);
        match side {
            Side::Ingress => self.ingress = kept,
            Side::Egress => self.egress = kept,
        }
    }
}

impl DirectionImpairment {
    /// What the workers do.
    pub(crate) fn enforced(&self) -> Impairment {
        let probability = |percent: Percent| Probability(percent.0);
        Impairment {
            delay: Duration::from_micros(self.delay_us),
            jitter: Duration::from_micros(self.jitter_us),
            distribution: match self.distribution {
                DelayDistribution::Uniform => Distribution::Uniform,
                DelayDistribution::Normal => Distribution::Normal,
                DelayDistribution::Pareto => Distribution::Pareto,
            },
            loss: probability(self.loss),
            duplicate: probability(self.duplicate),
            reorder: probability(self.reorder),
            corrupt: probability(self.corrupt),
            rate: self.rate,
        }
    }

    /// In the words of `uswitch port set`.
    pub(crate) fn describe(&self) -> String {
        let mut words = Vec::new();
        let mut add =
            |name: &str, value: Option<String>| words.extend(value.map(|value| format!("{name} {value}")));
        let time = |micros: u64| (micros > 0).then(|| format!("{:?}", Duration::from_micros(micros)));
        let percent = |percent: Percent| (!percent.is_zero()).then(|| format!("{}%", percent.value()));
        add("delay", time(self.delay_us));
        add("jitter", time(self.jitter_us));
        let distribution = match self.distribution {
            DelayDistribution::Uniform => None,
            DelayDistribution::Normal => Some("normal"),
            DelayDistribution::Pareto => Some("pareto"),
        };
        add("distribution", distribution.map(str::to_owned));
        add("loss", percent(self.loss));
        add("duplicate", percent(self.duplicate));
        add("reorder", percent(self.reorder));
        add("corrupt", percent(self.corrupt));
        add("rate", (self.rate > 0).then(|| format!("{} bit/s", self.rate)));
        words.join(" ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_and_writes_json() {
        let json = r#"{"egress":{"delay_us":20000,"distribution":"normal","loss":0.5}}"#;
        let impairments: PortImpairments = serde_json::from_str(json).unwrap();
        let egress = impairments.egress.unwrap();
        assert_eq!((egress.delay_us, egress.enforced().loss), (20_000, Probability(5000)));
        assert_eq!(serde_json::to_string(&impairments).unwrap(), json);
        assert_eq!(egress.describe(), "delay 20ms distribution normal loss 0.5%");
        for wrong in [r#"{"egress":{"loss":101}}"#, r#"{"egress":{"loss":-1}}"#, r#"{"egress":{"delay":1}}"#]
        {
            assert!(serde_json::from_str::<PortImpairments>(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_empty_impairment_ends_one() {
        let mut impairments = PortImpairments::default();
        let loss = DirectionImpairment { loss: Percent::new(1.0).unwrap(), ..DirectionImpairment::default() };
        impairments.replace(Side::Ingress, loss);
        assert_eq!(impairments.ingress, Some(loss));
        impairments.replace(Side::Ingress, DirectionImpairment::default());
        assert_eq!(impairments, PortImpairments::default());
    }
}
