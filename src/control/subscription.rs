//! A bounded queue from writers that never wait to one reader that may be slow.
//!
//! When the queue is full, new items are counted instead of queued. The reader gets that count at the
//! position of the missing items.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// What a reader receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Delivery<T> {
    /// An item.
    Item(T),
    /// The number of items missing here.
    Missed(u64),
}

/// The reader has closed its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SubscriberClosed;

/// The sending end. When all senders are dropped, the reader gets the queued items and then the end.
#[derive(Debug, Clone)]
pub(crate) struct SubscriptionSender<T> {
    /// Each item, with the number of items missed just before it.
    queue: mpsc::Sender<(u64, T)>,
    missed: Arc<MissedCount>,
}

/// The receiving end.
#[derive(Debug)]
pub(crate) struct Subscription<T> {
    queue: mpsc::Receiver<(u64, T)>,
    missed: Arc<MissedCount>,
    /// The item that follows a [`Delivery::Missed`].
    held: Option<T>,
}

/// Items missed since the last one in the queue. It is locked while either is read or changed, because
/// both must be consistent.
#[derive(Debug, Default)]
struct MissedCount(Mutex<u64>);

impl MissedCount {
    fn lock(&self) -> MutexGuard<'_, u64> {
        // A count has no invariant that a panic could break.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A subscription whose queue has `length` places.
pub(crate) fn subscription<T>(length: usize) -> (SubscriptionSender<T>, Subscription<T>) {
    let (sender, receiver) = mpsc::channel(length);
    let missed = Arc::<MissedCount>::default();
    let sender = SubscriptionSender { queue: sender, missed: Arc::clone(&missed) };
    (sender, Subscription { queue: receiver, missed, held: None })
}

impl<T> SubscriptionSender<T> {
    /// Queues an item, or counts it as missed if the queue is full. Never waits. May be called from any
    /// thread.
    pub(crate) fn send(&self, item: T) -> Result<(), SubscriberClosed> {
        let mut missed = self.missed.lock();
        match self.queue.try_reserve() {
            Ok(place) => place.send((std::mem::take(&mut *missed), item)),
            Err(TrySendError::Full(())) => *missed += 1,
            Err(TrySendError::Closed(())) => return Err(SubscriberClosed),
        }
        Ok(())
    }

    /// Counts items that were missed before they reached this queue.
    pub(crate) fn record_missed(&self, count: u64) {
        *self.missed.lock() += count;
    }

    /// Whether the reader has closed its end.
    pub(crate) fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl<T> Subscription<T> {
    /// The next delivery; `None` at the end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Delivery<T>>> {
        if let Some(item) = self.held.take() {
            return Poll::Ready(Some(Delivery::Item(item)));
        }
        let mut missed = self.missed.lock();
        match self.queue.poll_recv(context) {
            Poll::Ready(Some((0, item))) => Poll::Ready(Some(Delivery::Item(item))),
            Poll::Ready(Some((missed_before, item))) => {
                self.held = Some(item);
                Poll::Ready(Some(Delivery::Missed(missed_before)))
            }
            // The task's cooperative budget is used up. The queue is not empty.
            Poll::Pending if !self.queue.is_empty() => Poll::Pending,
            rest => match std::mem::take(&mut *missed) {
                0 => rest.map(|_| None),
                missed => Poll::Ready(Some(Delivery::Missed(missed))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use super::Delivery::{Item, Missed};
    use super::*;

    fn take<T>(subscription: &mut Subscription<T>) -> Poll<Option<Delivery<T>>> {
        subscription.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn taken<T>(subscription: &mut Subscription<T>) -> Vec<Delivery<T>> {
        let next = || match take(subscription) {
            Poll::Ready(delivery) => delivery,
            Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn reports_missed_items_at_their_position() {
        let (sender, mut subscription) = subscription(2);
        for item in 1..=5 {
            sender.send(item).unwrap();
        }
        assert_eq!(take(&mut subscription), Poll::Ready(Some(Item(1))));
        sender.send(6).unwrap();
        assert_eq!(taken(&mut subscription), [Item(2), Missed(3), Item(6)]);
        sender.send(7).unwrap();
        assert_eq!(taken(&mut subscription), [Item(7)]);
    }

    #[test]
    fn reports_missed_items_without_a_further_item() {
        let (sender, mut subscription) = subscription(1);
        sender.send('a').unwrap();
        sender.send('b').unwrap();
        assert_eq!(taken(&mut subscription), [Item('a'), Missed(1)]);
        assert_eq!(take(&mut subscription), Poll::Pending);
        sender.send('c').unwrap();
        sender.send('d').unwrap();
        sender.record_missed(5);
        drop(sender);
        assert_eq!(taken(&mut subscription), [Item('c'), Missed(6)]);
        assert_eq!(take(&mut subscription), Poll::Ready(None));
    }

    /// A writer may miss an item right after the reader found the queue empty.
    #[test]
    fn missed_position_is_right_with_concurrent_writer() {
        const WRITTEN: u64 = 300_000;
        let (sender, mut subscription) = subscription(2);
        let writer = std::thread::spawn(move || (1..=WRITTEN).try_for_each(|item| sender.send(item)));
        let mut known = 0;
        loop {
            match take(&mut subscription) {
                Poll::Pending => std::hint::spin_loop(),
                Poll::Ready(None) => break,
                Poll::Ready(Some(Missed(count))) => known += count,
                Poll::Ready(Some(Item(item))) => {
                    known += 1;
                    assert_eq!(item, known);
                }
            }
        }
        assert_eq!((known, writer.join().unwrap()), (WRITTEN, Ok(())));
    }

    /// Tokio limits how many items a task may receive in one poll.
    #[tokio::test]
    async fn missed_position_is_right_when_task_budget_ends() {
        const LENGTH: usize = 1000;
        let (sender, mut subscription) = subscription(LENGTH);
        for item in 0..=LENGTH {
            sender.send(item).unwrap();
        }
        for item in 0..LENGTH {
            assert_eq!(poll_fn(|context| subscription.poll_next(context)).await, Some(Item(item)));
        }
        assert_eq!(poll_fn(|context| subscription.poll_next(context)).await, Some(Missed(1)));
    }

    #[test]
    fn sender_notices_closed_subscriber() {
        let (sender, subscription) = subscription(1);
        assert!(!sender.is_closed());
        drop(subscription);
        assert!(sender.is_closed());
        assert_eq!(sender.send(1), Err(SubscriberClosed));
    }
}
