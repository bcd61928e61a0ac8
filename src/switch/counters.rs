//! Counters per port. Each worker has its own [`Counters`], so that no cache line is written by two
//! threads; the sum is taken when somebody looks.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fdb::Learned;
use super::{DropReason, Observer, PortId, Ports, Step};

/// A count with one writer and any readers.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`. Only the one writer calls this: a plain load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// The count now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// One port's counters of one worker. "rx" is what came in from the container, "tx" what was written to it.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct PortCounters {
    /// Frames received. A super-frame counts once.
    pub rx_frames: Count,
    /// Bytes received, without FCS and virtio-net header.
    pub rx_bytes: Count,
    /// Frames delivered.
    pub tx_frames: Count,
    /// Bytes delivered.
    pub tx_bytes: Count,
    /// Received frames that were flooded.
    pub flooded: Count,
    /// Received frames that the switch itself answered.
    pub answered: Count,
    /// Addresses learned here that gave way to others in a full forwarding database.
    pub fdb_evictions: Count,
    /// Frames received whose address was not learned because nothing in a full database could give way.
    pub fdb_refused: Count,
    /// Frames not delivered, by reason (as [`DropReason::ALL`]).
    pub drops: [Count; DropReason::COUNT],
}

impl PortCounters {
    /// Counts one frame not delivered.
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }
}

/// Counts what becomes of the source addresses of frames from one port.
#[derive(Debug)]
pub struct LearnCounter<'a> {
    /// Where.
    pub counters: &'a Counters,
    /// The port that the frames come from.
    pub ingress: PortId,
}

impl Observer for LearnCounter<'_> {
    #[inline]
    fn note(&mut self, step: Step) {
        match step {
            Step::Learned(Learned::Evicted { from, .. }) => self.counters.port(from).fdb_evictions.add(1),
            Step::Learned(Learned::Refused) => self.counters.port(self.ingress).fdb_refused.add(1),
            _ => {}
        }
    }
}

/// One worker's counters, a block a port.
#[derive(Debug)]
pub struct Counters {
    ports: Box<[PortCounters]>,
}

impl Default for Counters {
    fn default() -> Self {
        Counters { ports: (0..Ports::MAX).map(|_| PortCounters::default()).collect() }
    }
}

impl Counters {
    /// A port's block.
    pub fn port(&self, id: PortId) -> &PortCounters {
        &self.ports[id.index()]
    }
}
