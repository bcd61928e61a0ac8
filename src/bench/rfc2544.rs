//! The throughput of RFC 2544 section 26.1: the highest rate at which no frame is lost, by bisection.

/// What became of one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trial {
    /// The rate that was really offered, frames/s: a generator may be too slow for the one that was asked for.
    pub(super) rate: f64,
    /// Frames that did not arrive.
    pub(super) lost: u64,
}

/// Searches from `maximum` downwards with at maximum `trials` of them. The highest offered rate of a trial without loss; 0 if
/// there was none.
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
            // At the very top, or the generator can do no more: there is nothing higher to be offered.
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

/// A trial with a smaller part of the rate that was asked for says what the generator can do.
const GENERATOR_LIMIT: f64 = 0.97;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A link that loses what is above `capacity`, and a generator that does no more than `generator`. Rates asked for, and
    /// what was found.
    fn search(capacity: f64, generator: f64, maximum: f64) -> (Vec<f64>, f64) {
        let mut asked = Vec::new();
        let found = throughput(maximum, 10, |wanted| {
            asked.push(wanted);
            let rate = wanted.min(generator);
            Ok::<Trial, Infallible>(Trial { rate, lost: u64::from(rate > capacity) })
        });
        let Ok(found) = found;
        (asked, found)
    }

    #[test]
    fn finds_loss_free_rate_by_bisection() {
        let (asked, found) = search(600.0, f64::INFINITY, 1000.0);
        assert_eq!(asked[..4], [1000.0, 500.0, 750.0, 625.0]);
        assert_eq!(asked.len(), 10, "the number of trials is bounded");
        assert!(found <= 600.0 && found > 595.0, "{found}");
    }

    #[test]
    fn lossless_link_needs_one_trial() {
        assert_eq!(search(2000.0, f64::INFINITY, 1000.0), (vec![1000.0], 1000.0));
    }

    #[test]
    fn reports_only_offered_rate() {
        let (asked, found) = search(800.0, 700.0, 1000.0);
        assert_eq!((asked.len(), found), (1, 700.0));
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
