//! When a gateway sends router advertisements (RFC 4861 §6.2). Pure: time and random numbers are arguments.
//!
//! A solicitation is answered to all hosts of the link, a short random time later, but not sooner than 3 seconds after
//! the last advertisement. So a container that floods solicitations cannot have more of them sent.

use std::time::Duration;

use crate::switch::Tick;

/// Most and least time between two unsolicited advertisements (`MaxRtrAdvInterval` and `MinRtrAdvInterval`, §6.2.1).
const MAX_INTERVAL: Duration = Duration::from_secs(600);
const MIN_INTERVAL: Duration = Duration::from_secs(200);
/// The first advertisements follow each other sooner (§6.2.4, §10).
const INITIAL_ADVERTISEMENTS: u8 = 3;
const MAX_INITIAL_INTERVAL: Duration = Duration::from_secs(16);
/// Least time between two advertisements (`MIN_DELAY_BETWEEN_RAS`, §10).
const MIN_DELAY: Duration = Duration::from_secs(3);
/// Most time between a solicitation and its answer (`MAX_RA_DELAY_TIME`, §10).
const MAX_ANSWER_DELAY: Duration = Duration::from_millis(500);
/// How long hosts use the router, its DNS servers and its domain, in seconds (§6.2.1; RFC 8106 §5.1).
pub(crate) const LIFETIME: u16 = 1800;
/// How long an address made of a prefix is valid, and how long it is preferred, in seconds: as with radvd(8).
pub(crate) const VALID_LIFETIME: u32 = 86_400;
pub(crate) const PREFERRED_LIFETIME: u32 = 14_400;

/// The times of the advertisements on a link.
#[derive(Debug, Clone)]
pub(crate) struct AdvertisementTimer {
    next: Tick,
    last: Option<Tick>,
    sent: u8,
}

impl AdvertisementTimer {
    /// The first one is due at once.
    pub(crate) fn new(now: Tick) -> AdvertisementTimer {
        AdvertisementTimer { next: now, last: None, sent: 0 }
    }

    /// When the next one is due.
    pub(crate) fn next(&self) -> Tick {
        self.next
    }

    /// A host asks for one.
    pub(crate) fn solicited(&mut self, now: Tick, random: u64) {
        let answer = after(now, between(Duration::ZERO, MAX_ANSWER_DELAY, random));
        let earliest = self.last.map_or(now, |last| after(last, MIN_DELAY));
        self.next = self.next.min(answer.max(earliest));
    }

    /// Whether one is due. It is then sent, and the next one is due later.
    pub(crate) fn take_due(&mut self, now: Tick, random: u64) -> bool {
        if self.next > now {
            return false;
        }
        self.sent = self.sent.saturating_add(1);
        let is_initial = self.sent < INITIAL_ADVERTISEMENTS;
        let interval = between(MIN_INTERVAL, MAX_INTERVAL, random);
        let interval = if is_initial { interval.min(MAX_INITIAL_INTERVAL) } else { interval };
        (self.last, self.next) = (Some(now), after(now, interval));
        true
    }
}

fn after(tick: Tick, duration: Duration) -> Tick {
    Tick(tick.0.saturating_add(Tick::at(duration).0))
}

/// A time of this range, both ends included.
fn between(least: Duration, most: Duration, random: u64) -> Duration {
    let milliseconds = u64::try_from((most - least).as_millis()).unwrap_or(u64::MAX);
    least + Duration::from_millis(random % milliseconds.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::at(Duration::from_secs(seconds))
    }

    #[test]
    fn first_advertisements_follow_each_other_sooner() {
        let mut timer = AdvertisementTimer::new(at(5));
        assert!(!timer.take_due(at(4), 0) && timer.take_due(at(5), 0) && !timer.take_due(at(5), 0));
        let mut times = vec![at(5)];
        for random in [0, u64::MAX, 0, 7, 400_000] {
            times.push(timer.next());
            assert!(timer.take_due(timer.next(), random));
        }
        let intervals: Vec<u32> =
            times.windows(2).map(|pair| pair[1].since(pair[0]) / Tick::PER_SECOND).collect();
        assert_eq!(intervals[..2], [16, 16]);
        assert!(intervals[2..].iter().all(|interval| (200..=600).contains(interval)), "{intervals:?}");
    }

    #[test]
    fn solicitation_is_answered_soon() {
        let mut timer = AdvertisementTimer::new(at(0));
        assert!(timer.take_due(at(0), 0));
        timer.solicited(at(10), 500);
        assert_eq!(timer.next(), Tick(105));
        timer.solicited(at(10), 0);
        assert_eq!(timer.next(), at(10));
    }

    #[test]
    fn flood_of_solicitations_has_one_answer_in_three_seconds() {
        let mut timer = AdvertisementTimer::new(at(0));
        let mut sent = 0;
        for tick in 0..300 {
            for random in 0..20 {
                timer.solicited(Tick(tick), random);
            }
            sent += u32::from(timer.take_due(Tick(tick), 0));
        }
        assert_eq!(sent, 10);
    }
}
