//! Feeds one reader who may be slow, from a writer who never waits.
//!
//! What the reader has not taken waits in a queue of fixed length. Once that is full, more is missed, not
//! kept: the reader is told how many, at the place where they are missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// What a reader gets next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Portion<T> {
    /// What was written.
    Item(T),
    /// So many items are missing here.
    Missed(u64),
}

/// The reader has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Gone;

/// The writing end. A reader whose writers are all dropped takes what is left and is at the end.
#[derive(Debug, Clone)]
pub(crate) struct Feeder<T> {
    /// Each item with the number of those missed right before it.
    queue: mpsc::Sender<(u64, T)>,
    missed: Arc<AtomicU64>,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    queue: mpsc::Receiver<(u64, T)>,
    missed: Arc<AtomicU64>,
    /// Comes after the missed that were just told.
    held: Option<T>,
}

/// A feed of at most `length` items that wait.
pub(crate) fn feed<T>(length: usize) -> (Feeder<T>, Feed<T>) {
    let (sender, receiver) = mpsc::channel(length);
    let missed = Arc::<AtomicU64>::default();
    let feeder = Feeder { queue: sender, missed: Arc::clone(&missed) };
    (feeder, Feed { queue: receiver, missed, held: None })
}

impl<T> Feeder<T> {
    /// Gives the reader an item, or counts it as missed if too many wait already. Never waits; from any thread.
    pub(crate) fn offer(&self, item: T) -> Result<(), Gone> {
        match self.queue.try_reserve() {
            Ok(place) => place.send((self.missed.swap(0, Ordering::Relaxed), item)),
            Err(TrySendError::Full(())) => _ = self.missed.fetch_add(1, Ordering::Relaxed),
            Err(TrySendError::Closed(())) => return Err(Gone),
        }
        Ok(())
    }

    /// Counts items that were missed before they came here.
    pub(crate) fn miss(&self, count: u64) {
        self.missed.fetch_add(count, Ordering::Relaxed);
    }

    /// Whether the reader has left.
    pub(crate) fn is_left(&self) -> bool {
        self.queue.is_closed()
    }
}

impl<T> Feed<T> {
    /// The next portion; `None` at the end.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Portion<T>>> {
        if let Some(item) = self.held.take() {
            return Poll::Ready(Some(Portion::Item(item)));
        }
        match self.queue.poll_recv(context) {
            Poll::Ready(Some((0, item))) => Poll::Ready(Some(Portion::Item(item))),
            Poll::Ready(Some((missed, item))) => {
                self.held = Some(item);
                Poll::Ready(Some(Portion::Missed(missed)))
            }
            // Nothing waits, so what was missed is the latest that there was.
            rest => match self.missed.swap(0, Ordering::Relaxed) {
                0 => rest.map(|_| None),
                missed => Poll::Ready(Some(Portion::Missed(missed))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::Portion::{Item, Missed};
    use super::*;

    fn take<T>(feed: &mut Feed<T>) -> Poll<Option<Portion<T>>> {
        feed.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    fn taken<T>(feed: &mut Feed<T>) -> Vec<Portion<T>> {
        let next = || match take(feed) {
            Poll::Ready(portion) => portion,
            Poll::Pending => None,
        };
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn what_a_slow_reader_missed_is_told_where_it_is_missing() {
        let (feeder, mut feed) = feed(2);
        for item in 1..=5 {
            feeder.offer(item).unwrap();
        }
        assert_eq!(take(&mut feed), Poll::Ready(Some(Item(1))));
        feeder.offer(6).unwrap();
        assert_eq!(taken(&mut feed), [Item(2), Missed(3), Item(6)]);
        feeder.offer(7).unwrap();
        assert_eq!(taken(&mut feed), [Item(7)]);
    }

    #[test]
    fn what_was_missed_last_is_told_without_waiting_for_more() {
        let (feeder, mut feed) = feed(1);
        feeder.offer('a').unwrap();
        feeder.offer('b').unwrap();
        assert_eq!(taken(&mut feed), [Item('a'), Missed(1)]);
        assert_eq!(take(&mut feed), Poll::Pending);
        feeder.offer('c').unwrap();
        feeder.offer('d').unwrap();
        feeder.miss(5);
        drop(feeder);
        assert_eq!(taken(&mut feed), [Item('c'), Missed(6)]);
        assert_eq!(take(&mut feed), Poll::Ready(None));
    }

    #[test]
    fn a_reader_that_left_is_noticed() {
        let (feeder, feed) = feed(1);
        assert!(!feeder.is_left());
        drop(feed);
        assert!(feeder.is_left());
        assert_eq!(feeder.offer(1), Err(Gone));
    }
}
