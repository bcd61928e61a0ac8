//! Mirrors: copies of live frames, for whoever looks at them (as port mirroring, SPAN).
//!
//! Control asks for a [`Mirror`]; each worker gets a [`MirrorSender`] of it and sends a [`Record`] of every frame that
//! is [`MirrorSpec`], with the steps and the verdict of the very decision that was carried out. Without a mirror a frame costs
//! one branch (`Worker::handle`), and another if the switch answers it.
//!
//! A worker never waits for a mirror: a record that finds the channel full is lost, and counted for each port that it would
//! have shown. The memory of a mirror is bounded by [`RECORDS`] of [`MirrorSpec::snaplen`] bytes each and three lists of ports.
//! A mirror that is dropped is taken from the workers.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};

use super::worker::Command;
use super::{DatapathError, WorkerChannel};
use crate::switch::{DropReason, Frame, PortId, Ports, Steps, Verdict};
use crate::wire::VnetHeader;
use crate::wire::filter::Filter;

/// Mirrors at a time.
pub const MIRRORS: usize = 8;
/// Records on their way from the workers to one mirror; more are counted and lost.
pub const RECORDS: usize = 512;

/// Which way a frame crosses a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Direction {
    /// From the container into the switch.
    In,
    /// From the switch to the container.
    Out,
}

/// What a mirror is to see.
#[derive(Debug, Clone)]
pub struct MirrorSpec {
    /// On these ports; `None`: on all, those that come later too.
    pub ports: Option<Vec<PortId>>,
    /// This way only; `None`: both.
    pub direction: Option<Direction>,
    /// Only frames that this lets pass.
    pub filter: Option<Filter>,
    /// Only frames that did not reach a port that they were meant for.
    pub drops_only: bool,
    /// Most bytes of a frame to copy.
    pub snaplen: usize,
    /// Most records to send, from all workers together.
    pub limit: u64,
}

impl Default for MirrorSpec {
    /// Everything, whole.
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

    /// The ports at which a frame is to be seen: its ingress, then its egress ports.
    fn crossings<'a>(&'a self, path: FramePath<'a>) -> impl Iterator<Item = (PortId, Direction)> + 'a {
        let ingress = path.ingress.map(|port| (port, Direction::In));
        let egress = path.egress.iter().map(|port| (*port, Direction::Out));
        ingress.into_iter().chain(egress).filter(|&(port, direction)| self.crossing(port, direction))
    }
}

/// Where a frame came from and where it went.
#[derive(Debug, Clone, Copy)]
pub struct FramePath<'a> {
    /// The port that it came from; `None`: the switch itself, which answers.
    pub ingress: Option<PortId>,
    /// What was decided.
    pub verdict: Verdict,
    /// The ports that it was sent to. That a device then refused it is in the counters alone.
    pub egress: &'a [PortId],
    /// The other ports of its flood, which could not take it.
    pub refused: &'a [(PortId, DropReason)],
}

impl FramePath<'_> {
    /// Why it did not reach anybody; `None` if it did, or was answered.
    pub fn drop_reason(&self) -> Option<DropReason> {
        match self.verdict {
            Verdict::Drop(reason) | Verdict::Refused { reason, .. } => Some(reason),
            Verdict::Flood if self.egress.is_empty() => {
                Some(self.refused.first().map_or(DropReason::NoEgress, |(_, reason)| *reason))
            }
            Verdict::Flood | Verdict::Forward(_) | Verdict::Answer(_) => None,
        }
    }

    fn is_drop(&self) -> bool {
        self.drop_reason().is_some() || !self.refused.is_empty()
    }
}

/// A frame that crossed the switch, and why it went where it went.
#[derive(Debug, Clone)]
pub struct Record {
    /// When it was decided on.
    pub time: SystemTime,
    /// What was left to do on it as it came in: a super-frame is seen whole.
    pub vnet: VnetHeader,
    /// Its first bytes, from the destination address on.
    pub bytes: Box<[u8]>,
    /// How many bytes it had.
    pub length: usize,
    /// How the decision was made; nothing for an answer of the switch itself.
    pub steps: Steps,
    /// The wanted ports that it crossed: its ingress, then its egress ports.
    pub crossings: Box<[(PortId, Direction)]>,
    ingress: Option<PortId>,
    verdict: Verdict,
    egress: Box<[PortId]>,
    refused: Box<[(PortId, DropReason)]>,
}

impl Record {
    /// Where the frame came from and where it went.
    pub fn path(&self) -> FramePath<'_> {
        let Record { ingress, verdict, ref egress, ref refused, .. } = *self;
        FramePath { ingress, verdict, egress, refused }
    }
}

/// What the ends of a mirror share; which mirror it is.
pub(super) struct MirrorState {
    /// By port.
    lost: Box<[AtomicU64]>,
    sent: AtomicU64,
    on_record: OnRecord,
}

impl fmt::Debug for MirrorState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MirrorState").field("sent", &self.sent).finish_non_exhaustive()
    }
}

/// Called, on a worker's thread, when there is a record to take, or one was lost.
pub type OnRecord = Arc<dyn Fn() + Send + Sync>;

/// A worker's end of a mirror.
#[derive(Debug, Clone)]
pub(super) struct MirrorSender {
    wanted: MirrorSpec,
    records: Sender<Record>,
    shared: Arc<MirrorState>,
}

impl MirrorSender {
    /// Sends a record of the frame, if it is wanted.
    pub(super) fn send_if_wanted(&self, frame: &Frame<'_>, steps: &Steps, path: FramePath<'_>) {
        let MirrorSender { wanted, records, shared } = self;
        let passes = wanted.crossings(path).next().is_some()
            && (!wanted.drops_only || path.is_drop())
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

    /// A port goes; its number may soon be that of another. Whether there is a port left to see.
    pub(super) fn remove_port(&mut self, port: PortId) -> bool {
        let Some(ports) = &mut self.wanted.ports else { return true };
        ports.retain(|wanted| *wanted != port);
        !ports.is_empty()
    }

    /// There is nothing more to see: whoever waits for records is told.
    pub(super) fn close(self) {
        let MirrorSender { wanted: _, records, shared } = self;
        drop(records);
        let waker = Arc::clone(&shared.on_record);
        drop(shared);
        waker();
    }

    /// Whether it is a sender of the mirror that has `shared`.
    pub(super) fn is_of(&self, shared: &Arc<MirrorState>) -> bool {
        Arc::ptr_eq(&self.shared, shared)
    }
}

fn record(frame: &Frame<'_>, steps: &Steps, path: FramePath<'_>, wanted: &MirrorSpec) -> Record {
    let FramePath { ingress, verdict, egress, refused } = path;
    Record {
        time: SystemTime::now(),
        vnet: frame.vnet,
        bytes: frame.bytes[..frame.bytes.len().min(wanted.snaplen)].into(),
        length: frame.bytes.len(),
        steps: *steps,
        crossings: wanted.crossings(path).collect(),
        ingress,
        verdict,
        egress: egress.into(),
        refused: refused.into(),
    }
}

/// Control's end of a mirror: takes the records.
#[derive(Debug)]
pub struct Mirror {
    records: Receiver<Record>,
    shared: Arc<MirrorState>,
    /// Those that have a sender.
    workers: Vec<WorkerChannel>,
    /// One of [`MIRRORS`].
    _slot: Arc<()>,
}

impl Mirror {
    /// Gives each of `workers` a sender and returns when all of them have it.
    pub(super) fn install(
        wanted: MirrorSpec,
        on_record: OnRecord,
        workers: Vec<WorkerChannel>,
        slot: Arc<()>,
    ) -> Result<Mirror, DatapathError> {
        let (sender, mut mirror) = Mirror::new(wanted, on_record, slot);
        mirror.workers = workers;
        let (done, installed) = bounded(mirror.workers.len());
        for worker in &mirror.workers {
            worker.send(Command::Mirror { sender: sender.clone(), done: done.clone() })?;
        }
        drop(done);
        if installed.iter().count() < mirror.workers.len() {
            return Err(DatapathError::WorkerStopped);
        }
        Ok(mirror)
    }

    /// A mirror and its sender, which no worker has yet.
    pub(super) fn new(wanted: MirrorSpec, on_record: OnRecord, slot: Arc<()>) -> (MirrorSender, Mirror) {
        let (sender, records) = bounded(RECORDS);
        let lost = (0..Ports::MAX).map(|_| AtomicU64::new(0)).collect();
        let shared = Arc::new(MirrorState { lost, sent: AtomicU64::new(0), on_record });
        let sender = MirrorSender { wanted, records: sender, shared: Arc::clone(&shared) };
        (sender, Mirror { records, shared, workers: Vec::new(), _slot: slot })
    }

    /// The next record, if there is one; each worker's are in order.
    pub fn take(&self) -> Option<Record> {
        self.records.try_recv().ok()
    }

    /// Whether no worker has a sender of it any more: what is not there to be taken now will not come. So it is where all the
    /// wanted ports have gone.
    pub fn is_finished(&self) -> bool {
        Arc::strong_count(&self.shared) == 1
    }

    /// Frames that crossed `port`, as wanted, whose record was lost because nobody took the earlier ones in time.
    pub fn lost(&self, port: PortId) -> u64 {
        self.shared.lost[port.index()].load(Ordering::Relaxed)
    }

    /// The same, of all ports together, those that are no more too.
    pub fn total_lost(&self) -> u64 {
        self.shared.lost.iter().map(|lost| lost.load(Ordering::Relaxed)).sum()
    }

    /// What takes its sender from a worker.
    pub(super) fn remove_command(&self) -> Command {
        Command::Unmirror(Arc::clone(&self.shared))
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
