//! Moves frames: workers, buffer pools, two I/O engines. Safe Rust on top of `sys`.
//!
//! A worker is a thread with an engine, a pool of buffers and one queue of every port. Control sends commands through
//! a channel and wakes the worker with an eventfd. Workers send [`Notice`]s back. No frame moves from one worker to
//! another.

#[cfg(test)]
mod accounting_tests;
mod background;
mod budget;
mod cpu_latency;
mod cpu_speed;
mod engine;
#[cfg(test)]
mod engine_tests;
mod forms;
#[cfg(test)]
mod forms_tests;
mod impaired;
#[cfg(test)]
mod impaired_tests;
mod impairment;
mod memory;
mod mirror;
#[cfg(test)]
mod mirror_tests;
mod notify;
#[cfg(test)]
mod notify_tests;
mod placement;
mod poll;
mod poll_policy;
mod port_mirror;
#[cfg(test)]
mod port_mirror_tests;
mod punt;
#[cfg(test)]
mod punt_tests;
mod shares;
mod throttle;
mod time_slice;
mod transmit;
mod uplink;
#[cfg(test)]
mod uplink_tests;
mod uring;
mod worker;
mod worker_handle;
#[cfg(test)]
mod worker_handle_tests;
#[cfg(test)]
mod worker_tests;

use std::fmt;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::sys::uio::writev;
use nix::unistd::write;

use background::BackgroundWriter;
pub use cpu_latency::CpuLatency;
pub use engine::{Arrival, Engine, EngineEvent, Extent, Load, Reads, Wait};
pub use forms::Forms;
pub use impairment::{Distribution, Impairment, MAX_BYTES, MAX_FRAMES, Probability};
pub use memory::{MemoryEngine, MemoryNet};
pub use mirror::{
    CrossedFrame, Direction, FramePath, MIRRORS, Mirror, MirrorRecord, MirrorSpec, OnRecord, RECORDS,
};
pub use notify::{FdbEvent, FdbNotification, NOTIFICATIONS_PER_PORT, NOTIFICATIONS_PER_WORKER, RateLimiter};
use notify::{NotificationReceiver, NotificationSender};
pub use placement::{ParsePlacementError, Placement, allowed as allowed_cpus, pin_to as pin_to_cpu};
pub use poll::PollEngine;
pub use poll_policy::BusyPoll;
pub use punt::{PUNTS_PER_PORT, PUNTS_PER_WORKER, PuntedFrame};
use punt::{PuntQueue, PuntReceiver};
pub use uring::UringEngine;
use worker::{Mailbox, Worker, WorkerCommand};
use worker_handle::{PendingDetach, WorkerChannel, WorkerHandle};
pub use worker_handle::{WORKER_DEADLINE, WorkerChange};

use crate::switch::{Counters, Edit, InjectedFrame, Now, PortCounters, PortId, Punt, Switch, Tick};
use crate::sys;
use crate::sys::queue::Queue;
use crate::wire::VnetHeader;

/// Buffers of a worker, 66 KiB each. The buffer used last is used next, so few of them are in use at a time. The
/// buffers of one worker stay within the default RLIMIT_MEMLOCK (8 MiB); 128 would not.
pub const BUFFERS: u16 = 96;
/// Length of the notice queue to control. Further notices are lost and counted.
const NOTICES: usize = 1024;

/// The I/O engines.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineKind {
    /// io_uring: batches of non-blocking reads and writes.
    Uring,
    /// epoll, read and write.
    Poll,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Uring => "io_uring",
            EngineKind::Poll => "poll",
        })
    }
}

/// Configuration of a datapath.
#[derive(Clone)]
pub struct DatapathSettings {
    /// Number of worker threads. Every port has one queue per worker.
    pub workers: usize,
    /// I/O engine.
    pub engine: EngineKind,
    /// How long a worker busy-polls before it sleeps.
    pub busy_poll: BusyPoll,
    /// CPU placement of the workers.
    pub placement: Placement,
    /// Called on a worker's thread when there is a notice or an FDB notification to read, and by the first frame after
    /// [`Datapath::wake_on_next_frame`].
    pub on_notice: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for DatapathSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let DatapathSettings { workers, engine, busy_poll, placement, on_notice: _ } = self;
        write!(f, "DatapathSettings {{ workers: {workers}, engine: {engine:?}, busy_poll: {busy_poll:?}, ")?;
        write!(f, "placement: {placement:?} }}")
    }
}

/// A message from a worker to control.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// A port's device was deleted, alone or with its namespace. Each worker sends this once.
    PortGone {
        /// The port.
        port: PortId,
        /// The error of the last read.
        error: i32,
    },
    /// A worker stopped without a command: its engine failed, or it panicked.
    WorkerStopped(String),
}

/// Error of a datapath operation.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// A worker has stopped: it panicked or its engine failed.
    #[error("a worker of the switch has stopped: stop the switch and start it again")]
    WorkerStopped,
    /// The I/O engine of a worker cannot be set up.
    #[error("cannot set up a worker: {0}")]
    Engine(#[source] io::Error),
    /// A worker did not answer in time.
    #[error(
        "worker {0} of the switch does not respond: try again later, or stop the switch and start it again"
    )]
    WorkerUnresponsive(usize),
    /// All [`MIRRORS`] are in use.
    #[error("{MIRRORS} captures and traces of live frames are running: end one of them first")]
    TooManyMirrors,
    /// The kernel refused an operation.
    #[error("cannot {what}: {source}")]
    Kernel {
        /// The operation.
        what: &'static str,
        /// Its error.
        source: io::Error,
    },
}

/// The engine that `auto` selects on this machine, and the reason if it is not io_uring.
pub fn probe() -> (EngineKind, Option<String>) {
    match sys::uring::probe() {
        Ok(()) => (EngineKind::Uring, None),
        Err(reason) => (EngineKind::Poll, Some(reason.to_string())),
    }
}

/// The sending end of the notices.
#[derive(Clone)]
struct NoticeSender {
    channel: Sender<Notice>,
    lost: Arc<AtomicU64>,
    on_notice: Arc<dyn Fn() + Send + Sync>,
    fdb_sender: NotificationSender,
    punts: PuntQueue,
}

impl fmt::Debug for NoticeSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NoticeSender").field("waiting", &self.channel.len()).finish_non_exhaustive()
    }
}

impl NoticeSender {
    fn send(&self, notice: Notice) {
        if self.channel.try_send(notice).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        (self.on_notice)();
    }
}

fn kernel(what: &'static str) -> impl FnOnce(io::Error) -> DatapathError {
    move |source| DatapathError::Kernel { what, source }
}

/// The running workers.
#[derive(Debug)]
pub struct Datapath {
    workers: Vec<WorkerHandle>,
    /// The CPU of each worker; empty if the workers are not pinned.
    cpus: Vec<usize>,
    /// Why idle CPUs may sleep although [`BusyPoll::For`] asks that they do not.
    cpu_latency_error: Option<io::Error>,
    counters: Vec<Arc<Counters>>,
    /// Of the workers' background writers.
    background_counters: Vec<Arc<Counters>>,
    notices: Receiver<Notice>,
    lost_notices: Arc<AtomicU64>,
    fdb_receiver: NotificationReceiver,
    punts: PuntReceiver,
    /// Each mirror holds a reference: the count of mirrors.
    mirrors: Arc<()>,
    /// Detaches that stalled workers have not answered.
    pending: Mutex<Vec<PendingDetach>>,
    epoch: Instant,
}

impl Datapath {
    /// Starts the workers; they forward for `switch` until [`Datapath::stop`].
    pub fn start(switch: &Arc<Switch>, settings: &DatapathSettings) -> Result<Datapath, DatapathError> {
        let (channel, notices) = bounded(NOTICES);
        let lost_notices = Arc::new(AtomicU64::new(0));
        let (fdb_sender, fdb_receiver) = notify::queue(Arc::clone(&settings.on_notice));
        let (lost, on_notice) = (Arc::clone(&lost_notices), Arc::clone(&settings.on_notice));
        let (punt_queue, punts) = punt::queue();
        let sender = NoticeSender { channel, lost, on_notice, fdb_sender, punts: punt_queue };
        let mut datapath = Datapath {
            workers: Vec::new(),
            cpus: Vec::new(),
            cpu_latency_error: None,
            counters: Vec::new(),
            background_counters: Vec::new(),
            notices,
            lost_notices,
            fdb_receiver,
            punts,
            mirrors: Arc::default(),
            pending: Mutex::default(),
            epoch: Instant::now(),
        };
        for number in 0..settings.workers {
            if let Err(error) = datapath.start_worker(number, switch, settings, sender.clone()) {
                datapath.stop();
                return Err(error);
            }
        }
        Ok(datapath)
    }

    fn start_worker(
        &mut self,
        number: usize,
        switch: &Arc<Switch>,
        settings: &DatapathSettings,
        notices: NoticeSender,
    ) -> Result<(), DatapathError> {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK);
        let wake = Arc::new(wake.map_err(|error| kernel("make an eventfd")(error.into()))?);
        // Control waits for each command, which bounds the channel. A bounded channel would keep the commands that an
        // ended worker has not read, and with them the reply channel on which control waits.
        let (commands, inbox) = unbounded();
        let counters = Arc::new(Counters::new(switch.vlans.settings()));
        let background_counters = Arc::<Counters>::default();
        let setup = WorkerSetup {
            number,
            taken: self.cpus.clone(),
            cpu_latency: self.cpu_latency(settings.busy_poll),
            switch: Arc::clone(switch),
            settings: settings.clone(),
            counters: Arc::clone(&counters),
            background_counters: Arc::clone(&background_counters),
            wake: Arc::clone(&wake),
            mailbox: Mailbox { commands: inbox, notices },
            epoch: self.epoch,
        };
        let (ready, started) = bounded(1);
        let thread = std::thread::Builder::new().name(format!("worker{number}"));
        let (running, ended) = bounded(0);
        let body = move || {
            setup.run(&ready);
            drop(running);
        };
        let thread = thread.spawn(body).map_err(kernel("start a thread"))?;
        self.cpus.extend(worker_handle::await_start(number, &started)?);
        let channel = WorkerChannel::new(number, commands, wake);
        self.workers.push(WorkerHandle::new(channel, thread, ended));
        self.counters.push(counters);
        self.background_counters.push(background_counters);
        Ok(())
    }

    /// Opens the CPU latency request for a worker with a configured busy-poll time. It is too expensive as a default.
    fn cpu_latency(&mut self, busy_poll: BusyPoll) -> Option<CpuLatency> {
        match busy_poll {
            BusyPoll::Adaptive | BusyPoll::For(Duration::ZERO) => None,
            BusyPoll::For(_) => CpuLatency::open().map_err(|error| self.cpu_latency_error = Some(error)).ok(),
        }
    }

    /// The current time on the workers' clock.
    pub fn clock(&self) -> Now {
        Now::at(self.epoch.elapsed())
    }

    /// The current tick of the workers' clock.
    pub fn now(&self) -> Tick {
        self.clock().tick
    }

    /// Mirrors the `wanted` frames until the mirror is dropped. Returns when all workers do so.
    pub fn mirror(&self, wanted: MirrorSpec, on_record: OnRecord) -> Result<Mirror, DatapathError> {
        if Arc::strong_count(&self.mirrors) > MIRRORS {
            return Err(DatapathError::TooManyMirrors);
        }
        let workers = self.workers.iter().map(|worker| worker.channel.clone()).collect();
        Mirror::install(wanted, on_record, workers, Arc::clone(&self.mirrors))
    }

    /// The CPU of each worker; empty if the workers are not pinned.
    pub fn cpus(&self) -> &[usize] {
        &self.cpus
    }

    /// Why idle CPUs may sleep although [`BusyPoll::For`] asks that they do not. Returned once.
    pub fn take_cpu_latency_error(&mut self) -> Option<io::Error> {
        self.cpu_latency_error.take()
    }

    /// The counters of a port, in several blocks.
    pub fn port_counters(&self, port: PortId) -> impl Iterator<Item = &PortCounters> {
        self.counters.iter().chain(&self.background_counters).map(move |counters| counters.port(port))
    }

    /// The counters of each worker.
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }

    /// Takes the notices that are waiting.
    pub fn notices(&self) -> impl Iterator<Item = Notice> + '_ {
        self.notices.try_iter()
    }

    /// Notices lost because the queue was full.
    pub fn lost_notices(&self) -> u64 {
        self.lost_notices.load(Ordering::Relaxed)
    }

    /// Takes the FDB notifications that are waiting.
    pub fn fdb_notifications(&self) -> impl Iterator<Item = FdbNotification> + '_ {
        self.fdb_receiver.fdb_notifications()
    }

    /// Takes the copies of frames for control that are waiting.
    pub fn punted(&self) -> impl Iterator<Item = PuntedFrame> + '_ {
        self.punts.frames()
    }

    /// Frames of a kind of which control did not get a copy: over the rate limit, or the queue was full.
    pub fn lost_punts(&self, punt: Punt) -> u64 {
        self.punts.lost(punt)
    }

    /// Sends a frame to its ports. A port that is not attached counts it as dropped. While all
    /// workers are stalled nothing is sent.
    pub fn inject(&self, frame: InjectedFrame) {
        let responds = self.workers.iter().find(|worker| !worker.channel.is_stalled());
        if let Some(worker) = responds {
            // A worker that has ended has reported that.
            let _ = worker.channel.send(WorkerCommand::Inject(frame));
        }
    }

    /// Makes the next frame call [`DatapathSettings::on_notice`], because control does not poll the counters any more.
    pub fn wake_on_next_frame(&self) {
        self.fdb_receiver.wake_on_next_frame();
    }
}

/// Reports that a worker has started, and its CPU if it is pinned.
type Started = Sender<Result<Option<usize>, DatapathError>>;

/// Everything that a worker's thread needs to start.
struct WorkerSetup {
    number: usize,
    /// CPUs of the workers before it.
    taken: Vec<usize>,
    cpu_latency: Option<CpuLatency>,
    switch: Arc<Switch>,
    settings: DatapathSettings,
    counters: Arc<Counters>,
    background_counters: Arc<Counters>,
    wake: Arc<EventFd>,
    mailbox: Mailbox,
    epoch: Instant,
}

impl WorkerSetup {
    /// The thread's body. Sends a notice if the worker ends without a command.
    fn run(self, ready: &Started) {
        let notices = self.mailbox.notices.clone();
        let work = std::panic::AssertUnwindSafe(|| match self.settings.engine {
            EngineKind::Uring => self.work(UringEngine::new, ready),
            EngineKind::Poll => self.work(PollEngine::new, ready),
        });
        match std::panic::catch_unwind(work) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => notices.send(Notice::WorkerStopped(error.to_string())),
            Err(_) => notices.send(Notice::WorkerStopped("it panicked".to_owned())),
        }
    }

    fn work<E: Engine>(
        self,
        engine: impl FnOnce(Arc<Counters>, Arc<EventFd>) -> io::Result<E>,
        ready: &Started,
    ) -> io::Result<()> {
        // First, so that its memory is allocated near that CPU.
        let all = allowed_cpus();
        let placed = self.settings.placement.pin(self.number, &self.taken);
        let set_up = placed.and_then(|cpu| {
            let background = BackgroundWriter::start(self.background_counters, background_cpus(&all, cpu))?;
            Ok((cpu, background))
        });
        let set_up = set_up.map_err(kernel("set up a worker")).and_then(|(cpu, background)| {
            let engine = engine(Arc::clone(&self.counters), self.wake).map_err(DatapathError::Engine)?;
            Ok((cpu, engine, background))
        });
        let (cpu, engine, background) = match set_up {
            Ok(set_up) => set_up,
            Err(error) => {
                // `start_worker` waits for this.
                let _ = ready.send(Err(error));
                return Ok(());
            }
        };
        let mut worker =
            Worker::new(self.switch, engine, self.counters, self.mailbox).with_background(background);
        if let Err(error) = sys::confine::restrict_worker() {
            let _ = ready.send(Err(kernel("set up a worker")(error.into())));
            return Ok(());
        }
        let _ = ready.send(Ok(cpu));
        worker.run(self.epoch, self.settings.busy_poll, self.cpu_latency)
    }
}

/// The CPUs for the background writer of a worker on `cpu`: not that one, unless there is no other.
fn background_cpus(allowed: &[usize], cpu: Option<usize>) -> Vec<usize> {
    let others: Vec<usize> = allowed.iter().copied().filter(|other| Some(*other) != cpu).collect();
    if others.is_empty() { allowed.to_vec() } else { others }
}

/// Writes a form of the frame in a buffer to a queue with one system call, and counts it.
fn write_frame(queue: Option<&Queue>, buffer: &[u8], forms: &Forms, edit: Edit, counters: &PortCounters) {
    let header = queue.map_or(0, |queue| queue.framing.header());
    let written = match (queue, forms.slices(buffer, edit, header)) {
        (None, _) => Err(Errno::EBADF),
        (Some(queue), [whole, []]) => write(&queue.fd, whole),
        (Some(queue), pieces) => writev(&queue.fd, &pieces.map(io::IoSlice::new)),
    };
    engine::account_write(counters, written, header);
}

/// Writes a complete frame to a queue with one system call, and counts it.
fn write_copy(queue: Option<&Queue>, frame: &[u8], counters: &PortCounters) {
    let header = VnetHeader::default().emit();
    let header = &header[..queue.map_or(0, |queue| queue.framing.header())];
    let parts = [io::IoSlice::new(header), io::IoSlice::new(frame)];
    let written = queue.map_or(Err(Errno::EBADF), |queue| writev(&queue.fd, &parts));
    engine::account_write(counters, written, header.len());
}
