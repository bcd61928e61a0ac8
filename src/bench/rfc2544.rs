//! Throughput as in RFC 2544 section 26.1: the highest rate without loss, rate by bisection.

/// Result of one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trial {
    /// Offered rate in frames per second. It is below the requested rate if the generator is too slow.
    pub(super) rate: f64,
    /// Lost frames.
    pub(super) lost: u64,
}

/// Searches downwards from `maximum` with at most `trials` trials. Returns the highest offered rate without
/// loss, or 0.
pub(super) fn throughput<E>(
    maximum: f64,
    trials: u32,
    mut run_trial: impl FnMut(f64) -> Result<Trial, E>,
) -> Result<f64, E> {
    let (mut passed, mut failed, mut next) = (0.0, maximum, maximum);
    for _ in 0..trials {
        let trial = run_trial(next)?;
        if trial.lost == 0 {
            passed = trial.rate.max(passed);
            // Nothing higher can be offered: this was the maximum, or the generator cannot send faster.
            if next >= maximum || trial.rate < next * GENERATOR_LIMIT {
                break;
            }
        } else {
            failed = trial.rate.min(next);
        }
        next = f64::midpoint(passed, failed);
    }
    Ok(passed)
}

/// If the offered rate is below this share of the requested rate, the generator has reached its limit.
const GENERATOR_LIMIT: f64 = 0.97;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// Simulates a link that loses frames above `capacity` and a generator with a limit. Returns the
    /// requested rates and the result.
    fn search(capacity: f64, generator: f64, maximum: f64) -> (Vec<f64>, f64) {
        let mut requested = Vec::new();
        let rate = throughput(maximum, 10, |wanted| {
            requested.push(wanted);
            let rate = wanted.min(generator);
            Ok::<Trial, Infallible>(Trial { rate, lost: u64::from(rate > capacity) })
        });
        let Ok(rate) = rate;
        (requested, rate)
    }

    #[test]
    fn finds_loss_free_rate_by_bisection() {
        let (requested, rate) = search(600.0, f64::INFINITY, 1000.0);
        assert_eq!(requested[..4], [1000.0, 500.0, 750.0, 625.0]);
        assert_eq!(requested.len(), 10, "the number of trials is bounded");
        assert!(rate <= 600.0 && rate > 595.0, "{rate}");
    }

    #[test]
    fn lossless_link_needs_one_trial() {
        assert_eq!(search(2000.0, f64::INFINITY, 1000.0), (vec![1000.0], 1000.0));
    }

    #[test]
    fn reports_only_offered_rate() {
        let (requested, rate) = search(800.0, 700.0, 1000.0);
        assert_eq!((requested.len(), rate), (1, 700.0));
    }

    #[test]
    fn dead_link_has_rate_zero() {
        assert_eq!(search(-1.0, f64::INFINITY, 1000.0).1, 0.0);
    }

    #[test]
    fn error_ends_search() {
        assert_eq!(throughput(1.0, 8, |_| Err("down")), Err("down"));
    }
}
