//! The latest events, and the subscribers to new ones.

use std::collections::VecDeque;

use crate::control::event::{Event, EventFilter, EventType};
use crate::control::subscription::{Subscription, SubscriptionSender, subscription};

/// Events kept. A new event replaces the oldest.
pub(super) const MAX_EVENTS: usize = 1024;
/// Length of a subscriber's queue: all events kept, and as many again.
const SUBSCRIPTION_LENGTH: usize = 2 * MAX_EVENTS;

/// A client that follows events.
#[derive(Debug)]
struct EventSubscriber {
    filter: EventFilter,
    sender: SubscriptionSender<Event>,
}

#[derive(Debug, Default)]
pub(super) struct EventHistory {
    events: VecDeque<Event>,
    subscribers: Vec<EventSubscriber>,
    lost: u64,
}

impl EventHistory {
    /// Keeps an event and sends it to the subscribers.
    pub(super) fn add(&mut self, event: Event) {
        if event.kind == EventType::Lost {
            self.lost += event.count.unwrap_or(0);
        }
        self.subscribers.retain(|EventSubscriber { filter, sender }| {
            if filter.passes(&event) { sender.send(event.clone()).is_ok() } else { !sender.is_closed() }
        });
        if self.events.len() == MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// Matching events, the oldest first.
    pub(super) fn events(&self, filter: &EventFilter) -> Vec<Event> {
        let latest = self.events.iter().rev().filter(|event| filter.passes(event));
        let mut events: Vec<Event> = latest.take(filter.last.unwrap_or(MAX_EVENTS)).cloned().collect();
        events.reverse();
        events
    }

    /// Subscribes to matching events: those kept, then new ones, without a gap.
    pub(super) fn follow(&mut self, filter: EventFilter) -> Subscription<Event> {
        let (sender, subscription) = subscription(SUBSCRIPTION_LENGTH);
        // The queue has room for all events kept, and its receiver exists.
        let _ = self.events(&filter).into_iter().try_for_each(|event| sender.send(event));
        self.subscribers.retain(|subscriber| !subscriber.sender.is_closed());
        self.subscribers.push(EventSubscriber { filter, sender });
        subscription
    }

    /// Events that were suppressed or lost.
    pub(super) fn lost(&self) -> u64 {
        self.lost
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::control::subscription::Delivery;

    fn event(kind: EventType, count: u64) -> Event {
        Event { count: Some(count), ..Event::at(Timestamp::UNIX_EPOCH, kind) }
    }

    fn dropped(counts: std::ops::Range<usize>) -> impl Iterator<Item = Event> {
        counts.map(|count| event(EventType::Dropped, count as u64))
    }

    fn counts(events: Vec<Event>) -> Vec<u64> {
        events.into_iter().filter_map(|event| event.count).collect()
    }

    /// Everything queued for a subscriber, events as their count.
    fn waiting(subscription: &mut Subscription<Event>) -> Vec<Delivery<u64>> {
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let next = || match subscription.poll_next(&mut context) {
            std::task::Poll::Ready(delivery) => delivery,
            std::task::Poll::Pending => None,
        };
        let deliveries = std::iter::from_fn(next);
        deliveries
            .map(|delivery| match delivery {
                Delivery::Item(event) => Delivery::Item(event.count.unwrap()),
                Delivery::Missed(count) => Delivery::Missed(count),
            })
            .collect()
    }

    #[test]
    fn discards_oldest_event_when_full() {
        let mut history = EventHistory::default();
        dropped(0..MAX_EVENTS + 3).for_each(|event| history.add(event));
        let kept = counts(history.events(&EventFilter::default()));
        assert_eq!((kept.len(), kept[0], kept[MAX_EVENTS - 1]), (MAX_EVENTS, 3, MAX_EVENTS as u64 + 2));
    }

    #[test]
    fn returns_latest_matching_events_in_order() {
        let mut history = EventHistory::default();
        dropped(0..3).for_each(|event| history.add(event));
        history.add(event(EventType::PortUp, 7));
        let filter =
            |types: &[EventType], last| EventFilter { types: types.into(), last, ..EventFilter::default() };
        assert_eq!(counts(history.events(&filter(&[EventType::Dropped], Some(2)))), [1, 2]);
        assert_eq!(counts(history.events(&filter(&[EventType::PortUp], None))), [7]);
        assert_eq!(history.events(&filter(&[], Some(0))), []);
    }

    #[test]
    fn subscriber_receives_past_and_new_events() {
        let mut history = EventHistory::default();
        dropped(0..3).for_each(|event| history.add(event));
        let filter = EventFilter { types: vec![EventType::Dropped], last: Some(1), ..EventFilter::default() };
        let mut subscription = history.follow(filter);
        history.add(event(EventType::PortUp, 7));
        dropped(3..5).for_each(|event| history.add(event));
        assert_eq!(waiting(&mut subscription), [2, 3, 4].map(Delivery::Item));
        drop(history);
        assert_eq!(waiting(&mut subscription), []);
    }

    #[test]
    fn slow_subscriber_misses_events_without_delaying_others() {
        let mut history = EventHistory::default();
        let mut slow = history.follow(EventFilter::default());
        let mut quick = history.follow(EventFilter::default());
        for n in 0..SUBSCRIPTION_LENGTH + 5 {
            dropped(n..n + 1).for_each(|event| history.add(event));
            assert_eq!(waiting(&mut quick), [Delivery::Item(n as u64)]);
        }
        let received = waiting(&mut slow);
        assert_eq!((received.len(), received.last()), (SUBSCRIPTION_LENGTH + 1, Some(&Delivery::Missed(5))));
    }

    /// Closed subscribers are removed even if no event matches their filter.
    #[test]
    fn removes_closed_subscribers() {
        let mut history = EventHistory::default();
        let nothing = || EventFilter { ifname: Some("nowhere".into()), ..EventFilter::default() };
        for _ in 0..3 {
            drop(history.follow(nothing()));
        }
        assert_eq!(history.subscribers.len(), 1);
        dropped(0..1).for_each(|event| history.add(event));
        assert_eq!(history.subscribers.len(), 0);
    }

    #[test]
    fn counts_lost_events() {
        let mut history = EventHistory::default();
        [3, 4].into_iter().for_each(|count| history.add(event(EventType::Lost, count)));
        history.add(event(EventType::Dropped, 5));
        assert_eq!(history.lost(), 7);
    }
}
