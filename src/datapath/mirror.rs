//! Mirrors: copies of live frames for captures and live traces (port mirroring, SPAN).
//!
//! Control installs a [`Mirror`]. Each worker gets a [`MirrorSender`] and sends a [`MirrorRecord`] of every frame that
//! matches the [`MirrorSpec`], with the steps and the outcome of the decision that was executed. Without a mirror a
//! frame costs one branch (`Worker::handle`), and another if the gateway answers it.
//!
//! A worker never waits for a mirror: a record that finds the channel full is lost and counted at each port that it
//! crossed. A mirror holds at most [`RECORDS`] records, each of [`MirrorSpec::snaplen`] bytes and three lists of ports.
//! Dropping the mirror removes it from the workers.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::forms::{edited_copy, edited_header};
use super::worker::WorkerCommand;
use super::worker_handle::reply_deadline;
use super::{DatapathError, WorkerChannel};
use crate::switch::{CopyForm, Edit, Frame, MirrorCopy, Outcome, PortId, Ports, Steps, Watch};
use crate::wire::filter::Filter;
use crate::wire::{EtherType, VnetHeader};

/// Most mirrors at a time.
pub const MIRRORS: usize = 8;
/// Length of the record queue of one mirror. Further records are lost and counted.
pub const RECORDS: usize = 512;

/// The direction in which a frame crosses a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the container into the switch.
    In,
    /// From the switch to the container.
    Out,
}

/// Which frames a mirror records.
#[derive(Debug, Clone)]
pub struct MirrorSpec {
    /// Only frames on these ports; `None`: on all ports, also those added later.
    pub ports: Option<Vec<PortId>>,
    /// Only frames in this direction; `None`: both directions.
    pub direction: Option<Direction>,
    /// Only frames that match this filter.
    pub filter: Option<Filter>,
    /// Only frames that were dropped, for at least one egress port.
    pub drops_only: bool,
    /// Most bytes to copy of a frame.
    pub snaplen: usize,
    /// Most records, from all workers together.
    pub limit: u64,
}

impl Default for MirrorSpec {
    /// All frames, whole.
    fn default() -> MirrorSpec {
        MirrorSpec {
            ports: None,
            direction: None,
            filter: None,
            drops_only: false,
            snaplen: usize::MAX,
            limit: u64::MAX,
        }
    }
}

impl MirrorSpec {
    fn crossing(&self, port: PortId, direction: Direction) -> bool {
        self.direction.is_none_or(|wanted| wanted == direction)
            && self.ports.as_ref().is_none_or(|ports| ports.contains(&port))
    }

    /// The matching ports and directions of a frame: its ingress port, its egress ports, then the destinations of port
    /// mirrors.
    fn crossings<'a>(&'a self, path: FramePath<'a>) -> impl Iterator<Item = (PortId, Direction)> + 'a {
        let ingress = path.ingress.map(|port| (port, Direction::In));
        let mirrored = path.outcome.copies().iter().filter(|copy| copy.form.is_ok());
        let egress = path.outcome.egress_ports().chain(mirrored.map(|copy| copy.egress.port));
        let egress = egress.map(|port| (port, Direction::Out));
        ingress.into_iter().chain(egress).filter(|&(port, direction)| self.crossing(port, direction))
    }
}

/// How a frame crossed the switch.
#[derive(Debug, Clone, Copy)]
pub struct FramePath<'a> {
    /// The port that received it; `None`: an answer of the gateway.
    pub ingress: Option<PortId>,
    /// What happened to it. A write that fails later is only counted.
    pub outcome: &'a Outcome,
}

/// A copy of a frame with the decision about it.
#[derive(Debug, Clone)]
pub struct MirrorRecord {
    /// Time of the decision.
    pub time: SystemTime,
    /// Its virtio-net header as received: a super-frame is recorded whole.
    pub vnet: VnetHeader,
    /// Its first bytes, from the destination address on.
    pub bytes: Box<[u8]>,
    /// Its length in bytes.
    pub length: usize,
    /// The steps of the decision; empty for an answer of the gateway.
    pub steps: Steps,
    /// The matching ports that it crossed: its ingress port, then its egress ports.
    pub crossings: Box<[(PortId, Direction)]>,
    /// The port that received it; `None`: an answer of the gateway.
    pub ingress: Option<PortId>,
    /// What happened to it. A write that fails later is only counted.
    pub outcome: Outcome,
}

/// A frame as it crossed a port.
#[derive(Debug)]
pub struct CrossedFrame<'a> {
    /// Its first bytes.
    pub bytes: Cow<'a, [u8]>,
    /// Its length in bytes.
    pub length: usize,
    /// Its virtio-net header.
    pub vnet: VnetHeader,
}

impl MirrorRecord {
    /// The bytes with the addresses that they had on a port.
    fn with_head(&self, port: PortId, direction: Direction) -> Cow<'_, [u8]> {
        let mut bytes = Cow::Borrowed(&*self.bytes);
        let uplink = self.outcome.uplinks().iter().find(|copy| copy.egress.port == port);
        let head = uplink.map(|copy| &copy.head).or(self.outcome.entered());
        if let Some(head) = head.filter(|_| direction == Direction::Out) {
            head.put(bytes.to_mut());
        }
        bytes
    }

    /// The frame as it crossed a port: with the VLAN tag that it had there.
    pub fn as_crossed(&self, port: PortId, direction: Direction) -> CrossedFrame<'_> {
        let MirrorRecord { length, vnet, ref outcome, .. } = *self;
        let bytes = self.with_head(port, direction);
        let bytes = &bytes;
        let edit = if direction == Direction::Out { outcome.edit_for(port) } else { Edit::None };
        if let Some(MirrorCopy { form: Ok(CopyForm::Bytes { length }), .. }) = outcome.copy_for(port) {
            let mut copy =
                edited_copy(bytes, edit, outcome.class().vlan.map_or(EtherType::C_TAG, |vlan| vlan.tpid));
            copy.truncate(*length);
            return CrossedFrame { bytes: copy.into(), length: *length, vnet: VnetHeader::default() };
        }
        let Some(vlan) = outcome.class().vlan.filter(|_| edit != Edit::None) else {
            return CrossedFrame { bytes: bytes.clone(), length, vnet };
        };
        let copy = edited_copy(bytes, edit, vlan.tpid);
        CrossedFrame {
            length: length + copy.len() - bytes.len(),
            bytes: copy.into(),
            vnet: edited_header(vnet, edit),
        }
    }
}

/// State shared by the ends of a mirror. Its address identifies the mirror.
pub(super) struct MirrorState {
    /// Lost records of each port.
    lost: Box<[AtomicU64]>,
    sent: AtomicU64,
    on_record: OnRecord,
}

impl fmt::Debug for MirrorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorState").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Called on a worker's thread after a record was sent or lost.
pub type OnRecord = Arc<dyn Fn() + Send + Sync>;

/// A worker's end of a mirror.
#[derive(Debug, Clone)]
pub(super) struct MirrorSender {
    wanted: MirrorSpec,
    records: Sender<MirrorRecord>,
    shared: Arc<MirrorState>,
}

impl MirrorSender {
    /// Sends a record of the frame if it matches.
    pub(super) fn send_if_wanted(&self, frame: &Frame<'_>, steps: &Steps, path: FramePath<'_>) {
        let MirrorSender { wanted, records, shared } = self;
        let passes = wanted.crossings(path).next().is_some()
            && (!wanted.drops_only || path.outcome.is_drop())
            && wanted.filter.as_ref().is_none_or(|filter| filter.matches(frame.bytes));
        if !passes {
            return;
        }
        if shared.sent.load(Ordering::Relaxed) >= wanted.limit
            || shared.sent.fetch_add(1, Ordering::Relaxed) >= wanted.limit
        {
            return;
        }
        let lost = records.is_full() || records.try_send(record(frame, steps, path, wanted)).is_err();
        if lost {
            for (port, _) in wanted.crossings(path) {
                shared.lost[port.index()].fetch_add(1, Ordering::Relaxed);
            }
        }
        (shared.on_record)();
    }

    /// Removes a port, whose number may be reused. Returns whether a port remains.
    pub(super) fn remove_port(&mut self, port: PortId) -> bool {
        let Some(ports) = &mut self.wanted.ports else { return true };
        ports.retain(|wanted| *wanted != port);
        !ports.is_empty()
    }

    /// Ends the mirror on this worker and wakes its reader.
    pub(super) fn close(self) {
        let MirrorSender { wanted: _, records, shared } = self;
        drop(records);
        let waker = Arc::clone(&shared.on_record);
        drop(shared);
        waker();
    }

    /// Whether it belongs to the mirror with `shared`.
    pub(super) fn is_of(&self, shared: &Arc<MirrorState>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }
}

fn record(frame: &Frame<'_>, steps: &Steps, path: FramePath<'_>, wanted: &MirrorSpec) -> MirrorRecord {
    MirrorRecord {
        time: SystemTime::now(),
        vnet: frame.vnet,
        bytes: frame.bytes[..frame.bytes.len().min(wanted.snaplen)].into(),
        length: frame.bytes.len(),
        steps: *steps,
        crossings: wanted.crossings(path).collect(),
        ingress: path.ingress,
        outcome: path.outcome.clone(),
    }
}

/// Control's end of a mirror: receives the records.
#[derive(Debug)]
pub struct Mirror {
    records: Receiver<MirrorRecord>,
    shared: Arc<MirrorState>,
    /// The workers that have a sender.
    workers: Vec<WorkerChannel>,
    /// One of the [`MIRRORS`] slots.
    _slot: Arc<()>,
    /// The frames that a fast datapath would forward come to the workers.
    watch: Option<Watch>,
}

impl Mirror {
    /// Gives each of `workers` a sender. Returns when all have it.
    pub(super) fn install(
        wanted: MirrorSpec,
        on_record: OnRecord,
        workers: Vec<WorkerChannel>,
        slot: Arc<()>,
    ) -> Result<Mirror, DatapathError> {
        let (sender, mut mirror) = Mirror::new(wanted, on_record, slot);
        mirror.workers = workers;
        let deadline = reply_deadline();
        let mut installed = Vec::with_capacity(mirror.workers.len());
        for worker in &mirror.workers {
            let (done, reply) = bounded(1);
            worker.send(WorkerCommand::Mirror { sender: sender.clone(), done })?;
            installed.push((worker, reply));
        }
        installed.into_iter().try_for_each(|(worker, reply)| worker.reply(&reply, deadline))?;
        Ok(mirror)
    }

    /// A mirror and its sender, not installed on any worker.
    pub(super) fn new(wanted: MirrorSpec, on_record: OnRecord, slot: Arc<()>) -> (MirrorSender, Mirror) {
        let (sender, records) = bounded(RECORDS);
        let lost = (0..Ports::MAX).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(MirrorState { lost, sent: AtomicU64::new(0), on_record });
        let sender = MirrorSender { wanted, records: sender, shared: Arc::clone(&shared) };
        (sender, Mirror { records, shared, workers: Vec::new(), _slot: slot, watch: None })
    }

    /// Keeps fast datapaths from the frames.
    pub fn watching(mut self, watch: Option<Watch>) -> Mirror {
        self.watch = watch;
        self
    }

    /// The next record, if there is one. Records of one worker are in order.
    pub fn take(&self) -> Option<MirrorRecord> {
        self.records.try_recv().ok()
    }

    /// Whether no worker has a sender any more, so that no further record will arrive. This happens when all its ports
    /// have been removed.
    pub fn is_finished(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Matching frames on `port` whose record was lost because the queue was full.
    pub fn lost(&self, port: PortId) -> u64 {
        self.shared.lost[port.index()].load(Ordering::Relaxed)
    }

    /// Lost records of all ports, also of removed ones.
    pub fn total_lost(&self) -> u64 {
        self.shared.lost.iter().map(|lost| lost.load(Ordering::Relaxed)).sum()
    }

    /// The command that removes it from a worker.
    pub(super) fn remove_command(&self) -> WorkerCommand {
        WorkerCommand::Unmirror(Arc::clone(&self.shared))
    }
}

impl Drop for Mirror {
    fn drop(&mut self) {
        for worker in &self.workers {
            // A worker that has stopped has no sender either.
            let _ = worker.send(self.remove_command());
        }
    }
}
