//! Copies of frames for control: what the decision [punts](crate::switch::Punt).
//!
//! The queue is bounded, and rate limited for each port and each worker, so that a container cannot keep control busy. A
//! frame that is not copied is forwarded all the same, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::RateLimiter;
use crate::switch::{Frame, Outcome, PortId, Punt, Tick};

/// Length of the queue to control.
const QUEUE_LENGTH: usize = 1024;
/// Copies per second of frames from one port, by each worker.
pub const PUNTS_PER_PORT: u16 = 200;
/// Copies per second by one worker.
pub const PUNTS_PER_WORKER: u16 = 1000;
/// Longest frame that is copied, in bytes. Protocols of a link use no longer ones.
const LONGEST: usize = 9216;

/// A copy of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PuntedFrame {
    /// When it was received.
    pub at: Tick,
    /// Where.
    pub port: PortId,
    /// Its VLAN.
    pub vlan: u16,
    /// Why control gets it.
    pub punt: Punt,
    /// The frame, starting with the destination address.
    pub bytes: Box<[u8]>,
}

/// The workers' end of the queue.
#[derive(Debug, Clone)]
pub(super) struct PuntQueue {
    frames: Sender<PuntedFrame>,
    lost: Arc<AtomicU64>,
}

/// Makes the queue.
pub(super) fn queue() -> (PuntQueue, PuntReceiver) {
    let (frames, received) = bounded(QUEUE_LENGTH);
    let lost = Arc::<AtomicU64>::default();
    (PuntQueue { frames, lost: Arc::clone(&lost) }, PuntReceiver { frames: received, lost })
}

/// Control's end of the queue.
#[derive(Debug)]
pub(super) struct PuntReceiver {
    frames: Receiver<PuntedFrame>,
    lost: Arc<AtomicU64>,
}

impl PuntReceiver {
    /// Takes the frames that are waiting.
    pub(super) fn frames(&self) -> impl Iterator<Item = PuntedFrame> + '_ {
        self.frames.try_iter()
    }

    /// Frames that were not copied.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }
}

/// Copies the frames of one worker.
#[derive(Debug)]
pub(super) struct Punter {
    queue: PuntQueue,
    limiter: RateLimiter,
}

impl Punter {
    pub(super) fn new(queue: PuntQueue) -> Punter {
        Punter { queue, limiter: RateLimiter::new(PUNTS_PER_PORT, PUNTS_PER_WORKER) }
    }

    /// Copies a frame for control, if its outcome says so. True if control must be woken.
    pub(super) fn punt(&mut self, at: Tick, frame: &Frame<'_>, outcome: &Outcome) -> bool {
        let Some(punt) = outcome.punt() else { return false };
        let (port, vlan) = (outcome.ingress(), outcome.class().vlan);
        let is_allowed = frame.bytes.len() <= LONGEST && self.limiter.allow(at, port);
        let copy = || PuntedFrame { at, port, vlan, punt, bytes: frame.bytes.into() };
        let sent = is_allowed && self.queue.frames.try_send(copy()).is_ok();
        if !sent {
            self.queue.lost.fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}
