//! Counters per port. Each worker has its own [`Counters`], so no two threads write to one cache line.
//! Readers sum them up.
//!
//! Every frame is counted. A received frame ends in exactly one way: forwarded (one egress port), flooded
//! (one copy for each egress port), answered, or dropped on its ingress. So for every port
//!
//! `rx_frames = forwarded + flooded + answered + dropped on ingress`.
//!
//! Forwarded frames, flood copies, answers and copies for mirrors end as delivered or as dropped on their egress port,
//! at once or when the write has completed. On a port without offload, `segments` frames replace the `segmented` frame.
//! So for all ports together
//!
//! `forwarded + flood_copies + answered + injected + duplicated + mirrored - segmented + segments = tx_frames + dropped
//! on egress + in flight`,
//!
//! and nothing is in flight on an idle switch. A super-frame (GSO packet) counts as one frame.

use std::sync::atomic::{AtomicU64, Ordering};

use super::fdb::Learned;
use super::verdict::Side;
use super::vlan::{Classified, PortVlanCounters, VlanCounters};
use super::{DropReason, Outcome, PortId, Ports, Verdict, Vid, VlanSettings};

/// A counter with one writer and any number of readers.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

impl Count {
    /// Adds `n`. Only for the one writer: a plain load and store, not an atomic read-modify-write.
    pub fn add(&self, n: u64) {
        self.0.store(self.0.load(Ordering::Relaxed).wrapping_add(n), Ordering::Relaxed);
    }

    /// Replaces the value. Only for the one writer.
    pub fn set(&self, n: u64) {
        self.0.store(n, Ordering::Relaxed);
    }

    /// The current value.
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! port_counters {
    ($($(#[doc = $doc:literal])+ $name:ident,)+) => {
        /// One port's counters of one worker. "rx" is received from the container, "tx" is written to it. The
        /// counters that every frame changes come first, in one cache line.
        #[derive(Debug)]
        #[repr(C, align(128))]
        pub struct PortCounters {
            $($(#[doc = $doc])+ pub $name: Count,)+
            /// Frames that were not delivered, in the order of [`DropReason::ALL`].
            pub drops: [Count; DropReason::COUNT],
        }

        /// A snapshot of [`PortCounters`], of one worker or summed.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub struct PortCounts {
            $($(#[doc = $doc])+ pub $name: u64,)+
            /// Frames that were not delivered, in the order of [`DropReason::ALL`].
            pub drops: [u64; DropReason::COUNT],
        }

        // Not derived, because that is limited to arrays of 32 elements.
        impl Default for PortCounters {
            fn default() -> PortCounters {
                let drops = std::array::from_fn(|_| Count::default());
                PortCounters { $($name: Count::default(),)+ drops }
            }
        }

        impl Default for PortCounts {
            fn default() -> PortCounts {
                PortCounts { $($name: 0,)+ drops: [0; DropReason::COUNT] }
            }
        }

        impl PortCounters {
            /// A snapshot. While frames move, it may contain part of the counts of one frame.
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
    /// Copies that flooded frames, and requests that were answered for a neighbour, became: one for each egress port.
    flood_copies,
    /// Received frames that the switch answered itself.
    answered,
    /// Frames that the switch itself made and sent to this port: queries for multicast groups, BPDUs.
    injected,
    /// Frames for this port that were segmented or whose checksum was completed, because the port has no
    /// offload.
    segmented,
    /// Frames that they became.
    segments,
    /// Copies of frames for this port that its impairment has added.
    duplicated,
    /// Copies of frames for this port, the destination of a mirror.
    mirrored,
    /// MAC addresses learned on this port for the first time.
    fdb_learned,
    /// MAC addresses that moved here from another port.
    fdb_moved,
    /// MAC addresses of this port that were evicted from a full forwarding database.
    fdb_evictions,
    /// Received frames whose source was not learned: the forwarding database was full of static entries, or the port
    /// had the learned entries that it may have.
    fdb_refused,
    /// Notifications about this port that were suppressed by the rate limit or a full queue.
    suppressed,
    /// Microseconds in which the port was not read, because its frames cost more than its share of a worker's time.
    throttled_us,
    /// Frames for this port that were written in the background, because its receive path is slow.
    background,
    /// Times that the port was blocked because of a loop.
    loops,
}

impl PortCounts {
    /// The sum of both.
    #[must_use]
    pub fn plus(&self, other: &PortCounts) -> PortCounts {
        self.combine(other, u64::wrapping_add)
    }

    /// The difference to an `earlier` snapshot.
    #[must_use]
    pub fn since(&self, earlier: &PortCounts) -> PortCounts {
        self.combine(earlier, u64::wrapping_sub)
    }

    /// The reasons for which frames were dropped, and how many frames.
    pub fn reasons(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        let counted = DropReason::ALL.iter().copied().zip(self.drops);
        counted.filter(|(_, count)| *count > 0)
    }

    /// All drops that are counted on one side.
    pub fn dropped(&self, side: Side) -> u64 {
        let of_side = DropReason::ALL.iter().filter(|reason| reason.side() == side);
        of_side.map(|reason| self.drops[*reason as usize]).sum()
    }

    /// Received frames whose outcome is not counted. Zero between two frames.
    pub fn unaccounted(&self) -> i64 {
        let ended = self.forwarded + self.flooded + self.answered + self.dropped(Side::Ingress);
        self.rx_frames.wrapping_sub(ended).cast_signed()
    }

    /// Frames on their way to an egress port, computed from the sum of all ports. Zero when the switch is
    /// idle.
    pub fn in_flight(&self) -> i64 {
        let begun = self.forwarded
            + self.flood_copies
            + self.answered
            + self.injected
            + self.duplicated
            + self.mirrored
            + self.segments;
        let ended = self.segmented + self.tx_frames + self.dropped(Side::Egress);
        begun.wrapping_sub(ended).cast_signed()
    }
}

/// The copies that a flooded frame becomes, those that are not delivered among them.
fn copies_of(outcome: &Outcome) -> u64 {
    (outcome.egress_ports().count() + outcome.refused().len()) as u64
}

impl PortCounters {
    /// Counts one drop.
    pub fn dropped(&self, reason: DropReason) {
        self.drops[reason as usize].add(1);
    }
}

/// Counters of a worker's I/O engine, updated once a turn.
#[derive(Debug, Default)]
#[repr(align(128))]
pub struct EngineCounters {
    /// Iterations of the worker's loop.
    pub turns: Count,
    /// System calls that submit I/O or wait for it.
    pub system_calls: Count,
    /// Buffers that are free now.
    pub free_buffers: Count,
}

/// One worker's counters: one block per port, one per VLAN if the switch filters VLANs, and those of each port and VLAN
/// if it counts them.
#[derive(Debug)]
pub struct Counters {
    /// Counters of its I/O engine.
    pub engine: EngineCounters,
    ports: Box<[PortCounters]>,
    /// By VLAN identifier; empty if the switch does not filter VLANs.
    vlans: Box<[VlanCounters]>,
    port_vlans: Option<PortVlanCounters>,
}

impl Default for Counters {
    fn default() -> Self {
        Counters {
            engine: EngineCounters::default(),
            ports: (0..Ports::MAX).map(|_| PortCounters::default()).collect(),
            vlans: Box::default(),
            port_vlans: None,
        }
    }
}

impl Counters {
    /// The counters of a worker of a switch with these VLAN settings.
    pub fn new(settings: &VlanSettings) -> Counters {
        let vlans = if settings.filtering { VlanCounters::all() } else { Box::default() };
        let per_port = settings.filtering && settings.stats_per_port;
        Counters { vlans, port_vlans: per_port.then(PortVlanCounters::default), ..Counters::default() }
    }

    /// The counters of a VLAN, if the switch filters VLANs.
    pub fn vlan(&self, vid: Vid) -> Option<&VlanCounters> {
        self.vlans.get(usize::from(vid.get()))
    }

    /// Counts the frames of a port in a VLAN from now on. Only one thread may call it at a time. False if they are not
    /// counted: the switch does not count them, or has [`PortVlanCounters::MAX_BLOCKS`].
    pub fn count_in(&self, port: PortId, vid: Vid) -> bool {
        self.port_vlans.as_ref().is_some_and(|ports| ports.count_in(port, vid))
    }

    /// The counters of a port in a VLAN, if it is counted.
    pub fn vlan_of_port(&self, port: PortId, vid: Vid) -> Option<&VlanCounters> {
        self.port_vlans.as_ref()?.get(port, vid)
    }

    /// The counters of one port.
    pub fn port(&self, id: PortId) -> &PortCounters {
        &self.ports[id.index()]
    }

    /// Counts how a frame ended: the first of the sums above. Most are forwarded.
    #[inline(always)]
    pub fn count(&self, outcome: &Outcome) {
        match outcome.verdict {
            Verdict::Forward(_) => self.port(outcome.ingress()).forwarded.add(1),
            _ => self.count_other(outcome),
        }
    }

    #[inline(never)]
    fn count_other(&self, outcome: &Outcome) {
        let ingress = self.port(outcome.ingress());
        match outcome.verdict {
            Verdict::Forward(_) | Verdict::Refused { .. } => ingress.forwarded.add(1),
            Verdict::Flood => {
                ingress.flooded.add(1);
                ingress.flood_copies.add(copies_of(outcome));
            }
            Verdict::Answer(_) => {
                ingress.answered.add(1);
                ingress.flood_copies.add(copies_of(outcome));
            }
            Verdict::Drop(reason) => ingress.dropped(reason),
        }
        for (port, reason) in outcome.refused() {
            self.port(*port).dropped(*reason);
        }
    }

    /// Counts a received frame of `length` bytes in its VLAN.
    #[inline(never)]
    pub fn count_in_vlan(&self, class: Classified, outcome: &Outcome, length: usize) {
        if let Some(vlan) = self.vlan(class.vid) {
            vlan.count(class, length, outcome.egress_ports().count());
        }
        if let Some(ports) = &self.port_vlans {
            ports.count(class, outcome, length);
        }
    }

    /// Counts the gateway's reply of `length` bytes to the frame of this outcome in its VLAN.
    pub fn count_reply_in_vlan(&self, outcome: &Outcome, length: usize) {
        if let Some(class) = outcome.class().vlan
            && let Some(vlan) = self.vlan(class.vid)
        {
            vlan.count_sent(class, length);
            if let Some(ports) = &self.port_vlans {
                ports.count_reply(class, outcome, length);
            }
        }
    }

    /// Counts the copies for mirrors: those that are sent when they are written.
    pub fn count_copies(&self, outcome: &Outcome) {
        for copy in outcome.copies() {
            let destination = self.port(copy.egress.port);
            destination.mirrored.add(1);
            copy.form.err().into_iter().for_each(|reason| destination.dropped(reason));
        }
    }

    /// Counts what learning did.
    pub fn count_learned(&self, outcome: &Outcome) {
        let here = self.port(outcome.ingress());
        match outcome.learned() {
            Some(Learned::New) => here.fdb_learned.add(1),
            Some(Learned::Moved { .. }) => here.fdb_moved.add(1),
            Some(Learned::Evicted { from, .. }) => {
                here.fdb_learned.add(1);
                self.port(from).fdb_evictions.add(1);
            }
            Some(Learned::Refused | Learned::LimitReached) => here.fdb_refused.add(1),
            // A return is only reported.
            _ => {}
        }
    }
}
