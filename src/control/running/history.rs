//! What happened lately, and who wants to hear what happens next.

use std::collections::VecDeque;

use crate::control::event::{Event, EventFilter, EventType};
use crate::control::feed::{Feed, Feeder, feed};

/// Events that are kept; the oldest goes for a new one.
pub(super) const KEPT: usize = 1024;
/// Events that wait for one who follows: all that are kept, and as many again.
const WAITING: usize = 2 * KEPT;

/// Who hears what happens from now on.
#[derive(Debug)]
struct Follower {
    filter: EventFilter,
    feeder: Feeder<Event>,
}

/// The latest events, and the followers.
#[derive(Debug, Default)]
pub(super) struct History {
    events: VecDeque<Event>,
    followers: Vec<Follower>,
    lost: u64,
}

impl History {
    /// Something happened.
    pub(super) fn add(&mut self, event: Event) {
        if event.kind == EventType::Lost {
            self.lost += event.count.unwrap_or(0);
        }
        self.followers.retain(|Follower { filter, feeder }| {
            if filter.passes(&event) { feeder.offer(event.clone()).is_ok() } else { !feeder.is_left() }
        });
        if self.events.len() == KEPT {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The events that `filter` lets pass, the oldest first.
    pub(super) fn events(&self, filter: &EventFilter) -> Vec<Event> {
        let latest = self.events.iter().rev().filter(|event| filter.passes(event));
        let mut events: Vec<Event> = latest.take(filter.last.unwrap_or(KEPT)).cloned().collect();
        events.reverse();
        events
    }

    /// The events that `filter` lets pass, and then those that will, without a gap between them.
    pub(super) fn follow(&mut self, filter: EventFilter) -> Feed<Event> {
        let (feeder, feed) = feed(WAITING);
        // There is room for all that are kept, and the reader is there.
        let _ = self.events(&filter).into_iter().try_for_each(|event| feeder.offer(event));
        self.followers.retain(|follower| !follower.feeder.is_left());
        self.followers.push(Follower { filter, feeder });
        feed
    }

    /// How many events there were that became none.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::control::feed::Portion;

    fn event(kind: EventType, count: u64) -> Event {
        Event { count: Some(count), ..Event::at(Timestamp::UNIX_EPOCH, kind) }
    }

    fn dropped(counts: std::ops::Range<usize>) -> impl Iterator<Item = Event> {
        counts.map(|count| event(EventType::Dropped, count as u64))
    }

    fn counts(events: Vec<Event>) -> Vec<u64> {
        events.into_iter().filter_map(|event| event.count).collect()
    }

    /// All that waits for a follower; what is missing as a type of its own.
    fn waiting(feed: &mut Feed<Event>) -> Vec<Portion<u64>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let next = || match feed.poll_next(&mut context) {
            std::task::Poll::Ready(portion) => portion,
            std::task::Poll::Pending => None,
        };
        let portions = std::iter::from_fn(next);
        portions
            .map(|portion| match portion {
                Portion::Item(event) => Portion::Item(event.count.unwrap()),
                Portion::Missed(count) => Portion::Missed(count),
            })
            .collect()
    }

    #[test]
    fn the_oldest_goes_when_it_is_full() {
        let mut history = History::default();
        dropped(0..KEPT + 3).for_each(|event| history.add(event));
        let kept = counts(history.events(&EventFilter::default()));
        assert_eq!((kept.len(), kept[0], kept[KEPT - 1]), (KEPT, 3, KEPT as u64 + 2));
    }

    #[test]
    fn the_last_that_pass_come_in_order() {
        let mut history = History::default();
        dropped(0..3).for_each(|event| history.add(event));
        history.add(event(EventType::PortUp, 7));
        let filter =
            |types: &[EventType], last| EventFilter { types: types.into(), last, ..EventFilter::default() };
        assert_eq!(counts(history.events(&filter(&[EventType::Dropped], Some(2)))), [1, 2]);
        assert_eq!(counts(history.events(&filter(&[EventType::PortUp], None))), [7]);
        assert_eq!(history.events(&filter(&[], Some(0))), []);
    }

    #[test]
    fn a_follower_hears_what_was_and_what_comes() {
        let mut history = History::default();
        dropped(0..3).for_each(|event| history.add(event));
        let filter = EventFilter { types: vec![EventType::Dropped], last: Some(1), ..EventFilter::default() };
        let mut feed = history.follow(filter);
        history.add(event(EventType::PortUp, 7));
        dropped(3..5).for_each(|event| history.add(event));
        assert_eq!(waiting(&mut feed), [2, 3, 4].map(Portion::Item));
        drop(history);
        assert_eq!(waiting(&mut feed), []);
    }

    #[test]
    fn a_slow_follower_misses_what_is_too_much_and_holds_up_nobody() {
        let mut history = History::default();
        let mut slow = history.follow(EventFilter::default());
        let mut quick = history.follow(EventFilter::default());
        for n in 0..WAITING + 5 {
            dropped(n..n + 1).for_each(|event| history.add(event));
            assert_eq!(waiting(&mut quick), [Portion::Item(n as u64)]);
        }
        let heard = waiting(&mut slow);
        assert_eq!((heard.len(), heard.last()), (WAITING + 1, Some(&Portion::Missed(5))));
    }

    /// Those who left are forgotten, although nothing passes their filter.
    #[test]
    fn followers_who_left_are_forgotten() {
        let mut history = History::default();
        let nothing = || EventFilter { ifname: Some("nowhere".into()), ..EventFilter::default() };
        for _ in 0..3 {
            drop(history.follow(nothing()));
        }
        assert_eq!(history.followers.len(), 1);
        dropped(0..1).for_each(|event| history.add(event));
        assert_eq!(history.followers.len(), 0);
    }

    #[test]
    fn what_was_lost_is_counted() {
        let mut history = History::default();
        [3, 4].into_iter().for_each(|count| history.add(event(EventType::Lost, count)));
        history.add(event(EventType::Dropped, 5));
        assert_eq!(history.lost(), 7);
    }
}
