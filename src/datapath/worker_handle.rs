//! Control's side of a worker: commands, a limit on every wait, and the watchdog.
//!
//! A worker can stop responding: its write to a device does not return, or a debugger or the cgroup freezer
//! has stopped its thread. Control waits at most [`WORKER_DEADLINE`] for it, once. From then on the worker
//! is *stalled*: control does not wait for it and gives it no new ports, until it answers a ping.

use std::convert::Infallible;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};
use nix::sys::eventfd::EventFd;

use super::impairment::{Impairment, LinkSetup, Schedule};
use super::worker::WorkerCommand;
use super::{Datapath, DatapathError, kernel};
use crate::switch::{PortId, Side};
use crate::sys::queue::Queue;

/// The longest wait for a worker. A turn takes some 100 ms if the receivers of its frames are expensive.
pub const WORKER_DEADLINE: Duration = Duration::from_secs(2);
/// The longest wait for a worker to start, which allocates its buffers.
const START_DEADLINE: Duration = Duration::from_secs(20);

/// Control's end of the command channel to a worker.
#[derive(Debug, Clone)]
pub(super) struct WorkerChannel {
    number: usize,
    commands: Sender<WorkerCommand>,
    wake: Arc<EventFd>,
    stalled: Arc<AtomicBool>,
}

impl WorkerChannel {
    pub(super) fn new(number: usize, commands: Sender<WorkerCommand>, wake: Arc<EventFd>) -> WorkerChannel {
        WorkerChannel { number, commands, wake, stalled: Arc::default() }
    }

    pub(super) fn send(&self, command: WorkerCommand) -> Result<(), DatapathError> {
        self.commands.send(command).map_err(|_| DatapathError::WorkerStopped)?;
        match self.wake.write(1) {
            // EAGAIN: the counter is at its limit, so the eventfd is readable anyway.
            Ok(_) | Err(nix::errno::Errno::EAGAIN) => Ok(()),
            Err(error) => Err(kernel("wake a worker")(error.into())),
        }
    }

    /// Waits for the reply to a command until `deadline`; not at all if the worker is stalled.
    pub(super) fn reply<T>(&self, replies: &Receiver<T>, deadline: Instant) -> Result<T, DatapathError> {
        let deadline = if self.is_stalled() { Instant::now() } else { deadline };
        replies.recv_deadline(deadline).map_err(|error| match error {
            RecvTimeoutError::Disconnected => DatapathError::WorkerStopped,
            RecvTimeoutError::Timeout => {
                self.stalled.store(true, Ordering::Relaxed);
                self.unresponsive()
            }
        })
    }

    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    fn unresponsive(&self) -> DatapathError {
        DatapathError::WorkerUnresponsive(self.number)
    }
}

/// When control stops to wait for replies to a command that it sends now.
pub(super) fn reply_deadline() -> Instant {
    Instant::now() + WORKER_DEADLINE
}

/// A queue on its way to a worker. Control can take it back until the worker has taken it.
#[derive(Debug, Clone)]
pub(super) struct QueueOffer(Arc<Mutex<Option<Queue>>>);

impl QueueOffer {
    pub(super) fn new(queue: Queue) -> QueueOffer {
        QueueOffer(Arc::new(Mutex::new(Some(queue))))
    }

    /// Takes the queue. `None`: the other side has taken it.
    pub(super) fn take(&self) -> Option<Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A running worker.
#[derive(Debug)]
pub(super) struct WorkerHandle {
    pub(super) channel: WorkerChannel,
    pub(super) thread: JoinHandle<()>,
    /// Disconnected when the thread ends.
    ended: Receiver<Infallible>,
    /// When a ping was sent that has not been answered, and its reply.
    ping: Option<(Instant, Receiver<()>)>,
    /// The state that [`Datapath::worker_changes`] returned last.
    reported_stalled: bool,
}

impl WorkerHandle {
    pub(super) fn new(
        channel: WorkerChannel,
        thread: JoinHandle<()>,
        ended: Receiver<Infallible>,
    ) -> WorkerHandle {
        WorkerHandle { channel, thread, ended, ping: None, reported_stalled: false }
    }

    /// Sends a ping, unless one has not been answered yet.
    fn ping(&mut self) {
        if self.ping.is_none() {
            let (done, reply) = bounded(1);
            // Fails if the worker has ended, which it has reported.
            if self.channel.send(WorkerCommand::Ping { done }).is_ok() {
                self.ping = Some((Instant::now(), reply));
            }
        }
    }

    /// Looks for the answer to a ping. A worker that has not answered it in time is stalled.
    fn check_ping(&mut self) {
        let Some((sent, reply)) = &self.ping else { return };
        match reply.try_recv() {
            Ok(()) => {
                self.ping = None;
                self.channel.stalled.store(false, Ordering::Relaxed);
            }
            Err(TryRecvError::Empty) if sent.elapsed() >= WORKER_DEADLINE => {
                self.channel.stalled.store(true, Ordering::Relaxed);
            }
            Err(TryRecvError::Empty) => {}
            // The worker has ended, and reported that.
            Err(TryRecvError::Disconnected) => self.ping = None,
        }
    }

    /// Waits for the answer to a ping until its deadline.
    fn await_ping(&mut self) {
        if let Some((sent, reply)) = &self.ping
            && self.channel.reply(reply, *sent + WORKER_DEADLINE).is_ok()
        {
            self.ping = None;
            self.channel.stalled.store(false, Ordering::Relaxed);
        }
    }

    /// Joins the thread if it ends before `deadline`.
    fn join(self, deadline: Instant) -> bool {
        let deadline = if self.channel.is_stalled() { Instant::now() } else { deadline };
        let ended = self.ended.recv_deadline(deadline) == Err(RecvTimeoutError::Disconnected);
        if ended {
            // A panic was reported as a notice.
            let _ = self.thread.join();
        }
        ended
    }
}

/// A detach that a stalled worker has not answered.
#[derive(Debug)]
pub(super) struct PendingDetach {
    port: PortId,
    replies: Vec<Receiver<Option<Queue>>>,
}

/// A worker that stopped responding, or responds again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WorkerChange {
    /// The worker's number.
    pub worker: usize,
    /// Whether it is stalled now.
    pub stalled: bool,
}

/// Waits for a new worker: its CPU, if it is pinned.
pub(super) fn await_start(
    number: usize,
    started: &Receiver<Result<Option<usize>, DatapathError>>,
) -> Result<Option<usize>, DatapathError> {
    match started.recv_timeout(START_DEADLINE) {
        Ok(cpu) => cpu,
        Err(RecvTimeoutError::Timeout) => Err(DatapathError::WorkerUnresponsive(number)),
        Err(RecvTimeoutError::Disconnected) => Err(DatapathError::WorkerStopped),
    }
}

impl Datapath {
    /// Gives each worker its queue of a port. Returns when all workers read it, or, if one cannot, when none
    /// does. A stalled worker may still have to detach it: see [`Datapath::is_detaching`].
    pub fn attach(&self, port: PortId, queues: Vec<Queue>) -> Result<(), DatapathError> {
        if let Some(worker) = self.workers.iter().find(|worker| worker.channel.is_stalled()) {
            return Err(worker.channel.unresponsive());
        }
        if queues.len() != self.workers.len() {
            return Err(kernel("read a port's queues")(io::ErrorKind::InvalidInput.into()));
        }
        let attached = self.offer_queues(port, queues);
        if attached.is_err() {
            // The first error is the one to report.
            let _ = self.detach(port);
        }
        attached
    }

    fn offer_queues(&self, port: PortId, queues: Vec<Queue>) -> Result<(), DatapathError> {
        let deadline = reply_deadline();
        let mut offers = Vec::with_capacity(self.workers.len());
        for (worker, queue) in self.workers.iter().zip(queues) {
            let ((done, reply), queue) = (bounded(1), QueueOffer::new(queue));
            worker.channel.send(WorkerCommand::Attach { port, queue: queue.clone(), done })?;
            offers.push((&worker.channel, queue, reply));
        }
        let mut attached = Ok(());
        for (channel, queue, reply) in offers {
            let outcome = channel.reply(&reply, deadline);
            if outcome.is_err() {
                drop(queue.take());
            }
            attached =
                attached.and(outcome.and_then(|outcome| outcome.map_err(kernel("read a port's queue"))));
        }
        attached
    }

    /// Detaches a port from all workers and closes its queues. Returns when no worker uses it any more, or
    /// with an error if a worker is stalled: that one detaches it when it responds again. The caller has set
    /// the port down, so that no new frame is sent to it.
    pub fn detach(&self, port: PortId) -> Result<(), DatapathError> {
        let deadline = reply_deadline();
        let mut detached = Ok(());
        let mut waiting = Vec::with_capacity(self.workers.len());
        for worker in &self.workers {
            let (done, reply) = bounded(1);
            match worker.channel.send(WorkerCommand::Detach { port, done }) {
                Ok(()) => waiting.push((&worker.channel, reply)),
                Err(error) => detached = Err(error),
            }
        }
        // Closed here and together: closing is slow and would delay the other ports of a worker.
        let mut queues = Vec::with_capacity(waiting.len());
        let mut replies = Vec::new();
        for (channel, reply) in waiting {
            match channel.reply(&reply, deadline) {
                Ok(queue) => queues.push(queue),
                Err(error) => {
                    if matches!(error, DatapathError::WorkerUnresponsive(_)) {
                        replies.push(reply);
                    }
                    detached = detached.and(Err(error));
                }
            }
        }
        if !replies.is_empty() {
            self.pending_detaches().push(PendingDetach { port, replies });
        }
        detached
    }

    /// Impairs a port in one direction; without an impairment, ends it. Returns when all workers do so, except for
    /// those that are stalled: they do so when they respond again. Each worker has random numbers of its own.
    pub fn impair(&self, port: PortId, side: Side, impairment: Impairment, seed: u64) {
        let (deadline, schedule) = (reply_deadline(), Schedule::default());
        let mut waiting = Vec::with_capacity(self.workers.len());
        for (number, worker) in (0u64..).zip(&self.workers) {
            let (done, reply) = bounded(1);
            let setup = LinkSetup { impairment, seed: seed.wrapping_add(number), schedule: schedule.clone() };
            let command = WorkerCommand::Impair { port, side, setup, done };
            // Fails if the worker has ended, which it has reported.
            if worker.channel.send(command).is_ok() {
                waiting.push((&worker.channel, reply));
            }
        }
        for (channel, reply) in waiting {
            let _ = channel.reply(&reply, deadline);
        }
    }

    fn pending_detaches(&self) -> std::sync::MutexGuard<'_, Vec<PendingDetach>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a stalled worker may still have a queue of this port. Its number must not be used again until
    /// then.
    pub fn is_detaching(&self, port: PortId) -> bool {
        let mut pending = self.pending_detaches();
        for detach in pending.iter_mut() {
            // A reply brings the queue, which is closed here. A worker that ended has closed its own.
            detach.replies.retain(|reply| matches!(reply.try_recv(), Err(TryRecvError::Empty)));
        }
        pending.retain(|detach| !detach.replies.is_empty());
        pending.iter().any(|detach| detach.port == port)
    }

    /// Sends each worker a ping. [`Datapath::check_pings`] finds those that do not answer it in time.
    pub fn ping_workers(&mut self) {
        self.check_pings();
        self.workers.iter_mut().for_each(WorkerHandle::ping);
    }

    /// Looks for the answers to pings, and sends one to each stalled worker that has none to answer.
    pub fn check_pings(&mut self) {
        for worker in &mut self.workers {
            worker.check_ping();
            if worker.channel.is_stalled() {
                worker.ping();
            }
        }
    }

    /// Waits for the answers to pings until their deadline, but not for stalled workers.
    pub fn await_pings(&mut self) {
        self.workers.iter_mut().for_each(WorkerHandle::await_ping);
    }

    /// Whether [`Datapath::check_pings`] must be called again: a ping has not been answered, or a worker is
    /// stalled.
    pub fn awaits_pings(&self) -> bool {
        self.workers.iter().any(|worker| worker.ping.is_some() || worker.channel.is_stalled())
    }

    /// The numbers of the stalled workers.
    pub fn stalled_workers(&self) -> Vec<usize> {
        let stalled = self.workers.iter().filter(|worker| worker.channel.is_stalled());
        stalled.map(|worker| worker.channel.number).collect()
    }

    /// The workers that stalled or recovered since the last call.
    pub fn worker_changes(&mut self) -> Vec<WorkerChange> {
        let mut changes = Vec::new();
        for worker in &mut self.workers {
            let stalled = worker.channel.is_stalled();
            if std::mem::replace(&mut worker.reported_stalled, stalled) != stalled {
                changes.push(WorkerChange { worker: worker.channel.number, stalled });
            }
        }
        changes
    }

    /// Blocks a worker's thread, as a write that does not return, until the result is dropped.
    #[cfg(test)]
    pub(crate) fn block_worker(&self, number: usize) -> Sender<Infallible> {
        let (blocker, until) = bounded(0);
        self.workers[number].channel.send(WorkerCommand::Block { until }).unwrap();
        blocker
    }

    /// Stops and joins the workers, and closes all queues. Returns the numbers of the workers that did not
    /// end in time: their threads, and the queues that they have, go with the process.
    pub fn stop(self) -> Vec<usize> {
        for worker in &self.workers {
            // Fails for a worker that has stopped already.
            let _ = worker.channel.send(WorkerCommand::Stop);
        }
        let deadline = reply_deadline();
        let still_running = self.workers.into_iter().filter_map(|worker| {
            let number = worker.channel.number;
            (!worker.join(deadline)).then_some(number)
        });
        still_running.collect()
    }
}
