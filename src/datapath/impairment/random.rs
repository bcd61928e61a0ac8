//! A seeded random generator, and the distributions of delays.

use std::time::Duration;

use super::{Distribution, Probability};

/// SplitMix64 (Steele, Lea and Flood 2014). It is not for secrets.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) const fn new(seed: u64) -> Random {
        Random(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `limit`, which is not 0.
    #[allow(clippy::cast_possible_truncation, reason = "the upper half of the product")]
    fn below(&mut self, limit: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(limit)) >> 64) as u64
    }

    /// A number in (0, 1].
    fn unit(&mut self) -> f64 {
        ((self.next() >> 11) + 1) as f64 / (1u64 << 53) as f64
    }

    /// Whether something of this probability happens now.
    pub(super) fn happens(&mut self, probability: Probability) -> bool {
        probability.0 > 0 && self.below(u64::from(Probability::ONE.0)) < u64::from(probability.0)
    }

    /// Inverts one bit.
    #[allow(clippy::cast_possible_truncation, reason = "an index")]
    pub(super) fn invert_bit(&mut self, bytes: &mut [u8]) {
        let bits = bytes.len() as u64 * 8;
        if bits > 0 {
            let bit = self.below(bits);
            bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
        }
    }

    /// A delay in nanoseconds, not negative.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the cast saturates")]
    pub(super) fn delay(&mut self, delay: Duration, jitter: Duration, distribution: Distribution) -> u64 {
        if jitter.is_zero() {
            return u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
        }
        let varied = delay.as_nanos() as f64 + jitter.as_nanos() as f64 * self.deviation(distribution);
        varied.max(0.0) as u64
    }

    /// A number of mean 0: within 1, or of standard deviation 1 and within 4, as the tables of netem.
    fn deviation(&mut self, distribution: Distribution) -> f64 {
        const MOST: f64 = 4.0;
        /// Mean and standard deviation of the Pareto distribution of shape 3.
        const PARETO: (f64, f64) = (1.5, 0.866_025_403_784_438_6);
        match distribution {
            Distribution::Uniform => 2.0 * self.unit() - 1.0,
            // Box and Muller 1958.
            Distribution::Normal => {
                let (radius, angle) = ((-2.0 * self.unit().ln()).sqrt(), std::f64::consts::TAU * self.unit());
                (radius * angle.cos()).clamp(-MOST, MOST)
            }
            Distribution::Pareto => ((self.unit().powf(-1.0 / 3.0) - PARETO.0) / PARETO.1).min(MOST),
        }
    }
}
