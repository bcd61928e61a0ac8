//! The throughput of RFC 2544 section 26.1: the highest rate at which no frame is lost, by bisection.

/// What became of one trial.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Trial {
    /// The rate that was really offered, frames/s: a generator may be too slow for the one that was asked for.
    pub(super) rate: f64,
    /// Frames that did not arrive.
    pub(super) lost: u64,
}

/// Searches from `most` downwards with at most `trials` of them. The highest offered rate of a trial without loss; 0 if
/// there was none.
pub(super) fn throughput<E>(
    most: f64,
    trials: u32,
    mut offer: impl FnMut(f64) -> Result<Trial, E>,
) -> Result<f64, E> {
    let (mut passed, mut failed, mut next) = (0.0, most, most);
    for _ in 0..trials {
        let trial = offer(next)?;
        if trial.lost == 0 {
            passed = trial.rate.max(passed);
            // At the very top, or the generator can do no more: there is nothing higher to be offered.
            if next >= most || trial.rate < next * GENERATED {
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
const GENERATED: f64 = 0.97;

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    /// A link that loses what is above `capacity`, and a generator that does no more than `generator`. Rates asked for, and
    /// what was found.
    fn search(capacity: f64, generator: f64, most: f64) -> (Vec<f64>, f64) {
        let mut asked = Vec::new();
        let found = throughput(most, 10, |wanted| {
            asked.push(wanted);
            let rate = wanted.min(generator);
            Ok::<Trial, Infallible>(Trial { rate, lost: u64::from(rate > capacity) })
        });
        let Ok(found) = found;
        (asked, found)
    }

    #[test]
    fn the_rate_is_found_from_below() {
        let (asked, found) = search(600.0, f64::INFINITY, 1000.0);
        assert_eq!(asked[..4], [1000.0, 500.0, 750.0, 625.0]);
        assert_eq!(asked.len(), 10, "the number of trials is bounded");
        assert!(found <= 600.0 && found > 595.0, "{found}");
    }

    #[test]
    fn a_link_without_loss_takes_one_trial() {
        assert_eq!(search(2000.0, f64::INFINITY, 1000.0), (vec![1000.0], 1000.0));
    }

    #[test]
    fn what_the_generator_cannot_do_is_not_claimed() {
        let (asked, found) = search(800.0, 700.0, 1000.0);
        assert_eq!((asked.len(), found), (1, 700.0));
    }

    #[test]
    fn a_link_that_carries_nothing() {
        assert_eq!(search(-1.0, f64::INFINITY, 1000.0).1, 0.0);
    }

    #[test]
    fn an_error_ends_it() {
        assert_eq!(throughput(1.0, 8, |_| Err("down")), Err("down"));
    }
}
