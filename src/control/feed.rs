//! Feeds one reader who may be slow, from a writer who never waits for it.
//!
//! What the reader has not taken waits in a queue of fixed length. Once that is full, more is missed, not
//! kept: the reader is told how many, at the place where they are missing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    missed: Arc<MissedLast>,
}

/// The reading end.
#[derive(Debug)]
pub(crate) struct Feed<T> {
    queue: mpsc::Receiver<(u64, T)>,
    missed: Arc<MissedLast>,
    /// Comes after the missed that were just told.
    held: Option<T>,
}

/// How many were missed since the latest item in the queue. Whoever looks at both, or changes both, holds it meanwhile:
/// or else they would not be of one moment.
#[derive(Debug, Default)]
struct MissedLast(Mutex<u64>);

impl MissedLast {
    fn lock(&self) -> MutexGuard<'_, u64> {
        // A count is never half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A feed of at most `length` items that wait.
pub(crate) fn feed<T>(length: usize) -> (Feeder<T>, Feed<T>) {
    let (sender, receiver) = mpsc::channel(length);
    let missed = Arc::<MissedLast>::default();
    let feeder = Feeder { queue: sender, missed: Arc::clone(&missed) };
    (feeder, Feed { queue: receiver, missed, held: None })
}

impl<T> Feeder<T> {
    /// Gives the reader an item, or counts it as missed if too many wait already. Never waits for the
    /// reader; from any thread.
    pub(crate) fn offer(&self, item: T) -> Result<(), Gone> {
        let mut missed = self.missed.lock();
        match self.queue.try_reserve() {
            Ok(place) => place.send((std::mem::take(&mut *missed), item)),
            Err(TrySendError::Full(())) => *missed += 1,
            Err(TrySendError::Closed(())) => return Err(Gone),
        }
        Ok(())
    }

    /// Counts items that were missed before they came here.
    pub(crate) fn miss(&self, count: u64) {
        *self.missed.lock() += count;
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
        let mut missed = self.missed.lock();
        match self.queue.poll_recv(context) {
            Poll::Ready(Some((0, item))) => Poll::Ready(Some(Portion::Item(item))),
            Poll::Ready(Some((missed_before, item))) => {
                self.held = Some(item);
                Poll::Ready(Some(Portion::Missed(missed_before)))
            }
            // Told to give way to other tasks, not that nothing waits.
            Poll::Pending if !self.queue.is_empty() => Poll::Pending,
            rest => match std::mem::take(&mut *missed) {
                0 => rest.map(|_| None),
                missed => Poll::Ready(Some(Portion::Missed(missed))),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
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

    /// A reader that finds the queue empty must not take for its place what is missed right after.
    #[test]
    fn the_place_is_right_while_the_writer_writes() {
        const WRITTEN: u64 = 300_000;
        let (feeder, mut feed) = feed(2);
        let writer = std::thread::spawn(move || (1..=WRITTEN).try_for_each(|item| feeder.offer(item)));
        let mut known = 0;
        loop {
            match take(&mut feed) {
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

    /// The runtime lets no task take more than some hundred items in one go.
    #[tokio::test]
    async fn the_place_is_right_when_the_reader_must_give_way() {
        const LENGTH: usize = 1000;
        let (feeder, mut feed) = feed(LENGTH);
        for item in 0..=LENGTH {
            feeder.offer(item).unwrap();
        }
        for item in 0..LENGTH {
            assert_eq!(poll_fn(|context| feed.poll_next(context)).await, Some(Item(item)));
        }
        assert_eq!(poll_fn(|context| feed.poll_next(context)).await, Some(Missed(1)));
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
