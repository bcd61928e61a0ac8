//! Copies of frames for control: what the decision [punts](crate::switch::Punt).
//!
//! There is one queue for each kind of frame, so that a flood of one kind does not displace the others. It is bounded,
//! and rate limited for each port and each worker, so that a container cannot keep control busy. A frame that is not
//! copied is forwarded all the same, and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::RateLimiter;
use crate::switch::{Frame, Outcome, PortId, Punt, Tick};

/// Length of each queue to control.
const QUEUE_LENGTH: usize = 1024;
/// Copies per second of frames of one kind from one port, by each worker.
pub const PUNTS_PER_PORT: u16 = 200;
/// Copies per second of frames of one kind, by each worker.
pub const PUNTS_PER_WORKER: u16 = 1000;
/// The same for messages to DHCPv6 servers. An answer takes control longer, and a client sends few of them.
pub(super) const DHCPV6_PER_PORT: u16 = 50;
const DHCPV6_PER_WORKER: u16 = 200;
/// Longest frame that is copied, in bytes. Protocols of a link use no longer ones.
const LONGEST: usize = 9216;

/// A copy of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PuntedFrame {
    /// When it was received.
    pub at: Tick,
    /// Where.
    pub port: PortId,
    /// Its VLAN; 0 without VLANs.
    pub vlan: u16,
    /// Why control gets it.
    pub punt: Punt,
    /// The frame, starting with the destination address, without the tag of its VLAN.
    pub bytes: Box<[u8]>,
}

/// Frames that were not copied, of each kind.
type Lost = Arc<[AtomicU64; Punt::COUNT]>;

/// The workers' end of the queues. The index is the [`Punt`], as in the other arrays here.
#[derive(Debug, Clone)]
pub(super) struct PuntQueue {
    frames: [Sender<PuntedFrame>; Punt::COUNT],
    lost: Lost,
}

/// Makes the queues.
pub(super) fn queue() -> (PuntQueue, PuntReceiver) {
    let queues = [(); Punt::COUNT].map(|()| bounded(QUEUE_LENGTH));
    let lost = Lost::default();
    let frames = queues.each_ref().map(|(sender, _)| sender.clone());
    let received = queues.map(|(_, receiver)| receiver);
    (PuntQueue { frames, lost: Arc::clone(&lost) }, PuntReceiver { frames: received, lost })
}

/// Control's end of the queues.
#[derive(Debug)]
pub(super) struct PuntReceiver {
    frames: [Receiver<PuntedFrame>; Punt::COUNT],
    lost: Lost,
}

impl PuntReceiver {
    /// Takes the frames that are waiting.
    pub(super) fn frames(&self) -> impl Iterator<Item = PuntedFrame> + '_ {
        self.frames.iter().flat_map(Receiver::try_iter)
    }

    /// Frames of a kind that were not copied.
    pub(super) fn lost(&self, punt: Punt) -> u64 {
        self.lost[punt as usize].load(Ordering::Relaxed)
    }
}

/// Copies the frames of one worker.
#[derive(Debug)]
pub(super) struct Punter {
    queue: PuntQueue,
    limiters: [RateLimiter; Punt::COUNT],
}

impl Punter {
    pub(super) fn new(queue: PuntQueue) -> Punter {
        let limiter = |punt| match punt {
            Punt::Dhcpv6 => RateLimiter::new(DHCPV6_PER_PORT, DHCPV6_PER_WORKER),
            _ => RateLimiter::new(PUNTS_PER_PORT, PUNTS_PER_WORKER),
        };
        Punter { queue, limiters: Punt::ALL.map(limiter) }
    }

    /// Copies a frame for control, if its outcome says so. True if control must be woken.
    pub(super) fn punt(&mut self, at: Tick, frame: &Frame<'_>, outcome: &Outcome) -> bool {
        let Some(punt) = outcome.punt() else { return false };
        let (port, class) = (outcome.ingress(), outcome.class());
        let is_allowed = frame.bytes.len() <= LONGEST && self.limiters[punt as usize].allow(at, port);
        let bytes = || match class.vlan {
            Some(vlan) => vlan.untagged_bytes(frame.bytes),
            None => frame.bytes.into(),
        };
        let copy = || PuntedFrame { at, port, vlan: class.vid(), punt, bytes: bytes() };
        let sent = is_allowed && self.queue.frames[punt as usize].try_send(copy()).is_ok();
        if !sent {
            self.queue.lost[punt as usize].fetch_add(1, Ordering::Relaxed);
        }
        sent
    }
}
