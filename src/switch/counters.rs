//! Counters per port. Each worker has its own [`Counters`], so that no cache line is written by two
//! threads; the sum is taken when somebody looks.
//!
//! The books balance to the last frame. A received frame ends as exactly one of: forwarded (one egress port),
//! flooded (a copy for each), answered, or dropped on its ingress. So for every port
//!
//! `rx_frames = forwarded + flooded + answered + dropped on ingress`.
//!
//! Forwarded frames, copies and answers each end delivered or dropped on their egress port, at once or when the write
//! has completed. A port without offload gets segments instead: the frame leaves the books (`segmented`), and what it
//! was cut into enters (`segments`). So for all ports together
//!
//! `forwarded + flood_copies + answered - segmented + segments = tx_frames + dropped on egress + in flight`,
//!
//! and nothing is in flight in an idle switch. A super-frame counts once in all of it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fdb::Learned;
use super::verdict::Side;
use super::{DropReason, Observer, PortId, Ports, Step};

/// A count with one writer and any readers.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`. Only the one writer calls this: a plain load and store, no locked instruction.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the count. As [`Count::add`].
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The count now.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! port_counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One port's counters of one worker. "rx" is what came in from the container, "tx" what was written to it.
        /// What every frame counts in is before the rest, in a cache line of its own.
        #[derive(Debug, Default)]
        #[repr(C, align(128))]
        pub struct PortCounters {
            $($(#[doc = $doc])+ pub $name: Count,)+
            /// Frames not delivered, by reason (as [`DropReason::ALL`]).
            pub drops: [Count; DropReason::COUNT],
        }

        /// The values of [`PortCounters`], of one worker or summed.
        #[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
        pub struct PortCounts {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Frames not delivered, by reason (as [`DropReason::ALL`]).
            pub drops: [u64; DropReason::COUNT],
        }

        impl PortCounters {
            /// The counts now. While frames move, those of one frame may be read in part.
            pub fn read(&self) -> PortCounts {
                PortCounts {
                    $($name: self.$name.value(),)+
                    drops: std::array::from_fn(|reason| self.drops[reason].value()),
                }
            }
        }

        impl PortCounts {
            fn combine(&self, other: &PortCounts, with: fn(u64, u64) -> u64) -> PortCounts {
                PortCounts {
                    $($name: with(self.$name, other.$name),)+
                    drops: std::array::from_fn(|reason| with(self.drops[reason], other.drops[reason])),
                }
            }
        }
    };
}

port_counters! {
    /// Frames received. A super-frame counts once.
    rx_frames,
    /// Bytes received, without FCS and virtio-net header.
    rx_bytes,
    /// Frames delivered.
    tx_frames,
    /// Bytes delivered.
    tx_bytes,
    /// Received frames with one egress port.
    forwarded,
    /// Received frames that were flooded.
    flooded,
    /// The copies that they became: one for each egress port.
    flood_copies,
    /// Received frames that the switch itself answered.
    answered,
    /// Frames for this port that were segmented, or their checksum done, because it takes no offload.
    segmented,
    /// What they became.
    segments,
    /// Addresses that were new here.
    fdb_learned,
    /// Addresses that moved here from another port.
    fdb_moved,
    /// Addresses learned here that gave way to others in a full forwarding database.
    fdb_evictions,
    /// Frames received whose address was not learned because nothing in a full database could give way.
    fdb_refused,
    /// Events of the port's stations that nobody was told of, because there were too many.
    suppressed,
}

impl PortCounts {
    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &PortCounts) -> PortCounts {
        self.combine(other, u64::wrapping_add)
    }

    /// What was counted after `earlier`.
    #[must_use]
    pub fn since(&self, earlier: &PortCounts) -> PortCounts {
        self.combine(earlier, u64::wrapping_sub)
    }

    /// The reasons for which frames were not delivered, and how many.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        let counted = DropReason::ALL.iter().copied().zip(self.drops);
        counted.filter(|(_, count)| *count > 0)
    }

    /// All drops of one side.
    pub fn dropped(&self, side: Side) -> u64 {
        let of_side = DropReason::ALL.iter().filter(|reason| reason.side() == side);
        of_side.map(|reason| self.drops[*reason as usize]).sum()
    }

    /// Received frames whose end is not counted: none between two frames.
    pub fn unaccounted(&self) -> i64 {
        let ended = self.forwarded + self.flooded + self.answered + self.dropped(Side::Ingress);
        self.rx_frames.wrapping_sub(ended).cast_signed()
    }

    /// Of the sum of all ports: frames on their way to an egress port. None when the switch is idle.
    pub fn in_flight(&self) -> i64 {
        let begun = self.forwarded + self.flood_copies + self.answered + self.segments;
        let ended = self.segmented + self.tx_frames + self.dropped(Side::Egress);
        begun.wrapping_sub(ended).cast_signed()
    }
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

impl LearnCounter<'_> {
    #[inline(never)]
    fn count(&self, learned: Learned) {
        let here = self.counters.port(self.ingress);
        match learned {
            Learned::New => here.fdb_learned.add(1),
            Learned::Moved { .. } => here.fdb_moved.add(1),
            Learned::Evicted { from, .. } => {
                here.fdb_learned.add(1);
                self.counters.port(from).fdb_evictions.add(1);
            }
            Learned::Refused => here.fdb_refused.add(1),
            Learned::Known | Learned::Returned { .. } | Learned::Pinned | Learned::Off => {}
        }
    }
}

impl Observer for LearnCounter<'_> {
    /// In line, or every step would be made in memory and handed over.
    #[inline(always)]
    fn note(&mut self, step: Step) {
        if let Step::Learned(learned) = step
            && !matches!(learned, Learned::Known | Learned::Returned { .. } | Learned::Pinned | Learned::Off)
        {
            self.count(learned);
        }
    }
}

/// What a worker's engine has done, told once a turn.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EngineCounters {
    /// Turns of the loop: wake-ups, and looks while it polls.
    pub turns: Count,
    /// System calls that wait for frames and move them.
    pub system_calls: Count,
    /// Buffers that nothing holds now.
    pub free_buffers: Count,
}

/// One worker's counters, a block a port.
#[derive(Debug)]
pub struct Counters {
    /// Of its engine.
    pub engine: EngineCounters,
    ports: Box<[PortCounters]>,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            engine: EngineCounters::default(),
            ports: (0..Ports::MAX).map(|_| PortCounters::default()).collect(),
        }
    }
}

impl Counters {
    /// A port's block.
    pub fn port(&self, id: PortId) -> &PortCounters {
        &self.ports[id.index()]
    }
}
