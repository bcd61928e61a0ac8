//! Writes to slow ports in a thread of its own.
//!
//! A write to a TAP runs the receiver's ingress path: its packet filter, its packet sockets, its protocols. A container
//! can make that as slow as it likes. The worker copies frames for a slow port into a buffer and goes on; this thread
//! writes them, at the lowest priority, each port's in order.
//!
//! Everything is bounded: [`MAX_PORTS`] slow ports of a worker, [`PER_PORT`] frames that wait for each, and, while
//! other ports are active, a share of the time of one CPU ([`PORT`], [`TOTAL`]). The kernel is not preempted in the
//! middle of a write, so ports with long writes get less ([`LONG`]). Further frames are dropped as `egress_throttled`.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Select, Sender, bounded};
use nix::unistd::write;

use super::budget::{Allowances, Limit, TimeBudget};
use super::cpu_speed::slowdown;
use super::engine::account_write;
use super::placement;
use super::throttle::cpu_time;
use crate::switch::{Counters, DropReason, PortId, Ports};
use crate::sys::arena::BUFFER_SIZE;
use crate::sys::confine::restrict_worker;
use crate::sys::process::set_thread_nice;
use crate::sys::queue::Queue;
use crate::wire::VnetHeader;

/// Most slow ports of one worker. Writes to further ones stay in the worker.
pub(super) const MAX_PORTS: usize = 32;
/// Most frames that wait for one port.
pub(super) const PER_PORT: u16 = 16;
/// Job queue: all waiting frames, and the commands.
const JOBS: usize = MAX_PORTS * (PER_PORT as usize + 2);
/// Time for the writes to one port while others are active.
const PORT: Limit = Limit { one_in: 10, burst: Duration::from_millis(20), debt: Duration::from_millis(20) };
/// The same for a port with long writes, during which no other process runs on its CPU, and with very long ones.
const LONG: Limit = Limit { one_in: 50, ..PORT };
const VERY_LONG: Limit = Limit { one_in: 200, ..PORT };
/// Time for the writes to all ports.
const TOTAL: Limit = Limit { one_in: 5, burst: Duration::from_millis(40), debt: Duration::from_millis(40) };
/// Other ports count as active for this long after a frame.
const ACTIVE: Duration = Duration::from_secs(1);
/// Writes in a row, none of them slow, after which a port is no longer slow.
const RECOVERY: u8 = 32;
/// Priority of the thread (setpriority(2)): the lowest.
const NICE: i32 = 19;

/// A frame that waits for its write.
#[derive(Debug)]
struct WaitingFrame {
    port: PortId,
    buffer: Box<[u8]>,
    /// Bytes to write, of which `header` are the virtio-net header.
    length: usize,
    header: usize,
}

/// What a worker replies to control when a port is detached.
#[derive(Debug)]
pub(super) struct DetachReply {
    pub(super) done: Sender<Option<Queue>>,
    pub(super) queue: Option<Queue>,
}

impl DetachReply {
    pub(super) fn send(self) {
        // Control closes the queue.
        let _ = self.done.send(self.queue);
    }
}

#[derive(Debug)]
enum Job {
    Attach {
        port: PortId,
        fd: OwnedFd,
    },
    Write(WaitingFrame),
    /// `reply` is sent when the port's queue is not used any more.
    Detach {
        port: PortId,
        reply: Option<DetachReply>,
    },
}

#[derive(Debug)]
struct BackgroundState {
    epoch: Instant,
    /// Frames that wait, by port.
    waiting: Box<[AtomicU16]>,
    /// Ports that are no longer slow.
    recovered: Box<[AtomicBool]>,
    /// When another port was active last, in microseconds.
    others: AtomicU64,
    stop: AtomicBool,
}

/// Free buffers: both ends give and take.
type Pool = (Sender<Box<[u8]>>, Receiver<Box<[u8]>>);

/// The worker's end.
#[derive(Debug)]
pub(super) struct BackgroundWriter {
    jobs: Option<Sender<Job>>,
    pool: Pool,
    shared: Arc<BackgroundState>,
    slow: Box<[bool]>,
    /// Ports that were slow and are being detached.
    leaving: Box<[bool]>,
    ports: usize,
    thread: Option<JoinHandle<()>>,
}

impl BackgroundWriter {
    /// Starts the thread, on any of `cpus`. Writes are counted in `counters`, which no other thread writes.
    pub(super) fn start(counters: Arc<Counters>, cpus: Vec<usize>) -> io::Result<BackgroundWriter> {
        let (jobs, inbox) = bounded(JOBS);
        let pool: Pool = bounded(MAX_PORTS * usize::from(PER_PORT));
        let shared = Arc::new(BackgroundState {
            epoch: Instant::now(),
            waiting: (0..Ports::MAX).map(|_| AtomicU16::new(0)).collect(),
            recovered: (0..Ports::MAX).map(|_| AtomicBool::new(false)).collect(),
            others: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        });
        let writer = WriterThread {
            jobs: inbox,
            pool: pool.clone(),
            shared: Arc::clone(&shared),
            counters,
            ports: BTreeMap::new(),
            waiting: VecDeque::with_capacity(JOBS),
            budget: TimeBudget::default(),
            allowances: Allowances::with_slowdown(slowdown()),
            not_before: shared.epoch,
        };
        let (ready, started) = bounded(1);
        let run = move || {
            // Where the kernel refuses, it runs where and as the worker does.
            let _ = placement::run_on(&cpus);
            register_once(&writer.jobs);
            let _ = set_thread_nice(NICE);
            let confined = restrict_worker().map_err(io::Error::from);
            let failed = confined.is_err();
            let _ = ready.send(confined);
            drop(ready);
            if !failed {
                writer.run();
            }
        };
        let thread = std::thread::Builder::new().name("background".to_owned()).spawn(run)?;
        started.recv().unwrap_or_else(|error| Err(io::Error::other(error)))?;
        let none: Box<[bool]> = vec![false; Ports::MAX].into();
        let (jobs, thread) = (Some(jobs), Some(thread));
        Ok(BackgroundWriter { jobs, pool, shared, slow: none.clone(), leaving: none, ports: 0, thread })
    }

    /// Whether any port is slow.
    pub(super) fn has_ports(&self) -> bool {
        self.ports > 0
    }

    /// Whether a port is slow.
    pub(super) fn is_slow(&self, port: PortId) -> bool {
        self.slow[port.index()]
    }

    /// Takes over the writes to a port; not if there are too many slow ports, or no descriptor is left.
    pub(super) fn attach(&mut self, port: PortId, queue: &Queue) {
        if self.ports == MAX_PORTS || self.is_slow(port) {
            return;
        }
        let Ok(fd) = queue.fd.try_clone() else { return };
        if self.send(Job::Attach { port, fd }) {
            for _ in 0..PER_PORT {
                let _ = self.pool.0.try_send(vec![0; BUFFER_SIZE].into());
            }
            self.shared.recovered[port.index()].store(false, Ordering::Relaxed);
            self.slow[port.index()] = true;
            self.ports += 1;
        }
    }

    /// Queues a complete frame, whose virtio-net header of `header` bytes is empty. False if too many wait.
    pub(super) fn write_complete(&self, port: PortId, frame: &[u8], header: usize) -> bool {
        self.write(port, [&[0; VnetHeader::LEN][..header], frame], header)
    }

    /// Queues a frame for a slow port, in two pieces that begin with `header` bytes of virtio-net header. False if too
    /// many wait.
    pub(super) fn write(&self, port: PortId, [first, second]: [&[u8]; 2], header: usize) -> bool {
        let waiting = &self.shared.waiting[port.index()];
        if waiting.load(Ordering::Acquire) >= PER_PORT {
            return false;
        }
        let Ok(mut buffer) = self.pool.1.try_recv() else { return false };
        let length = first.len() + second.len();
        buffer[..first.len()].copy_from_slice(first);
        buffer[first.len()..length].copy_from_slice(second);
        waiting.fetch_add(1, Ordering::AcqRel);
        self.send(Job::Write(WaitingFrame { port, buffer, length, header }))
    }

    /// Notes a frame of a port that has nothing to do with slow ones.
    pub(super) fn note_others(&self) {
        self.shared.others.store(micros(self.shared.epoch.elapsed()), Ordering::Relaxed);
    }

    /// Gives a port back to the worker if it is no longer slow and none of its frames wait.
    pub(super) fn release_recovered(&mut self, port: PortId) -> bool {
        let BackgroundState { recovered, waiting, .. } = &*self.shared;
        let over = recovered[port.index()].load(Ordering::Acquire)
            && waiting[port.index()].load(Ordering::Acquire) == 0;
        if over {
            self.detach(port, None);
        }
        over
    }

    /// Takes no more frames for a port. [`BackgroundWriter::detach`] follows.
    pub(super) fn close(&mut self, port: PortId) {
        self.leaving[port.index()] |= self.slow[port.index()];
        self.slow[port.index()] = false;
    }

    /// Ends the writes to a port. The reply is sent when its queue is not used any more.
    pub(super) fn detach(&mut self, port: PortId, reply: Option<DetachReply>) {
        self.close(port);
        if std::mem::take(&mut self.leaving[port.index()]) {
            self.ports -= 1;
            self.send(Job::Detach { port, reply });
        } else if let Some(reply) = reply {
            reply.send();
        }
    }

    fn send(&self, job: Job) -> bool {
        self.jobs.as_ref().is_some_and(|jobs| jobs.send(job).is_ok())
    }
}

impl Drop for BackgroundWriter {
    /// Waits for the write in progress; frames that wait are dropped.
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Registers this thread at a channel, as if it waited for it, and returns at once. The first registration of a thread
/// allocates, and so does the first one at a channel. Later is too late: the hot path allocates nothing. `recv_timeout`
/// does not register before it has tried for a moment, and not at all if its time is over then.
fn register_once<T>(channel: &Receiver<T>) {
    let mut select = Select::new();
    select.recv(channel);
    if let Ok(operation) = select.try_select() {
        // Nothing is sent before this thread is ready, so this is the end of the channel.
        let _ = operation.recv(channel);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// A slow port.
#[derive(Debug)]
struct BackgroundPort {
    fd: OwnedFd,
    budget: TimeBudget,
    not_before: Instant,
    fast_writes: u8,
}

/// The thread's end.
#[derive(Debug)]
struct WriterThread {
    jobs: Receiver<Job>,
    pool: Pool,
    shared: Arc<BackgroundState>,
    counters: Arc<Counters>,
    ports: BTreeMap<PortId, BackgroundPort>,
    waiting: VecDeque<WaitingFrame>,
    budget: TimeBudget,
    allowances: Allowances,
    not_before: Instant,
}

impl WriterThread {
    fn run(mut self) {
        while self.receive() && !self.shared.stop.load(Ordering::Acquire) {
            if let Some(frame) = self.take_due() {
                self.write(frame);
            }
        }
        while let Some(frame) = self.waiting.pop_front() {
            self.drop_frame(frame);
        }
    }

    /// Takes the jobs that are there, and waits for one if no frame is due; false at the end.
    fn receive(&mut self) -> bool {
        let first = match self.next_due() {
            None => self.jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(due) => self.jobs.recv_deadline(due),
        };
        match first {
            Ok(job) => self.accept(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return false,
        }
        while let Ok(job) = self.jobs.try_recv() {
            self.accept(job);
        }
        true
    }

    fn accept(&mut self, job: Job) {
        match job {
            Job::Attach { port, fd } => {
                let target = BackgroundPort {
                    fd,
                    budget: TimeBudget::default(),
                    not_before: self.shared.epoch,
                    fast_writes: 0,
                };
                self.ports.insert(port, target);
            }
            Job::Write(frame) => self.waiting.push_back(frame),
            Job::Detach { port, reply } => {
                self.ports.remove(&port);
                let waiting = std::mem::take(&mut self.waiting);
                let (gone, left) = waiting.into_iter().partition(|frame| frame.port == port);
                self.waiting = left;
                Vec::from(gone).into_iter().for_each(|frame| self.drop_frame(frame));
                // Each port brought so many, and the frames of the others use no more than theirs.
                self.pool.1.try_iter().take(PER_PORT.into()).for_each(drop);
                reply.into_iter().for_each(DetachReply::send);
            }
        }
    }

    fn drop_frame(&self, frame: WaitingFrame) {
        self.counters.port(frame.port).dropped(DropReason::EgressDown);
        self.release(frame);
    }

    fn release(&self, frame: WaitingFrame) {
        self.shared.waiting[frame.port.index()].fetch_sub(1, Ordering::AcqRel);
        let _ = self.pool.0.try_send(frame.buffer);
    }

    fn due_at(&self, frame: &WaitingFrame) -> Instant {
        let port = self.ports.get(&frame.port);
        port.map_or(self.not_before, |port| port.not_before.max(self.not_before))
    }

    fn next_due(&self) -> Option<Instant> {
        self.waiting.iter().map(|frame| self.due_at(frame)).min()
    }

    /// The first frame whose port may be written.
    fn take_due(&mut self) -> Option<WaitingFrame> {
        let now = Instant::now();
        let at = self.waiting.iter().position(|frame| self.due_at(frame) <= now)?;
        self.waiting.remove(at)
    }

    fn write(&mut self, frame: WaitingFrame) {
        let Some(target) = self.ports.get_mut(&frame.port) else { return self.drop_frame(frame) };
        let started = cpu_time();
        let written = write(&target.fd, &frame.buffer[..frame.length]);
        let spent = cpu_time().zip(started).map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then));
        account_write(self.counters.port(frame.port), written, frame.header);
        self.counters.port(frame.port).background.add(1);
        let now = Instant::now();
        let others = Duration::from_micros(self.shared.others.load(Ordering::Relaxed));
        let since_epoch = now.duration_since(self.shared.epoch);
        if since_epoch.saturating_sub(others) < ACTIVE {
            let limit = match spent {
                long if long >= self.allowances.very_long_write => VERY_LONG,
                long if long >= self.allowances.long_write => LONG,
                _ => PORT,
            };
            target.not_before = now + target.budget.charge(since_epoch, spent, limit);
            self.not_before = now + self.budget.charge(since_epoch, spent, TOTAL);
        }
        let slow = self.allowances.is_slow(frame.length, spent);
        target.fast_writes = if slow { 0 } else { target.fast_writes.saturating_add(1) };
        if target.fast_writes >= RECOVERY {
            self.shared.recovered[frame.port.index()].store(true, Ordering::Release);
        }
        self.release(frame);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixDatagram;

    use super::*;
    use crate::sys::queue::{Access, Framing};

    const PORT: PortId = PortId(3);

    struct Fixture {
        background: BackgroundWriter,
        counters: Arc<Counters>,
        host: UnixDatagram,
    }

    fn slow_port() -> Fixture {
        let counters = Arc::<Counters>::default();
        let mut background = BackgroundWriter::start(Arc::clone(&counters), placement::allowed()).unwrap();
        let (ours, host) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        background
            .attach(PORT, &Queue { fd: ours.into(), framing: Framing::Vnet, access: Access::ReadWrite });
        Fixture { background, counters, host }
    }

    #[test]
    fn writes_in_order_with_the_header() {
        let Fixture { background, counters, host } = slow_port();
        assert!(background.is_slow(PORT) && background.has_ports());
        assert!(background.write(PORT, [b"123456789abcfi", b"rst"], VnetHeader::LEN));
        assert!(background.write_complete(PORT, b"second", VnetHeader::LEN));
        let mut bytes = [0; 64];
        for expected in [&b"123456789abcfirst"[..], b"\0\0\0\0\0\0\0\0\0\0\0\0second"] {
            let length = host.recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], expected);
        }
        drop(background);
        let counts = counters.port(PORT).read();
        assert_eq!((counts.tx_frames, counts.tx_bytes, counts.background), (2, 11, 2));
    }

    /// The other end does not read: the socket takes some frames, the others are refused.
    #[test]
    fn accounts_for_every_frame_when_it_stops() {
        let Fixture { background, counters, host: _host } = slow_port();
        let accepted = (0..1000).filter(|_| background.write(PORT, [b"frame", b""], 0)).count();
        drop(background);
        let counts = counters.port(PORT).read();
        assert_eq!(counts.tx_frames + counts.drops.iter().sum::<u64>(), accepted as u64);
    }

    #[test]
    fn limits_the_frames_that_wait() {
        let (mut accepted, mut background) = (0, slow_port().background);
        // A port without frames, so that the thread never gives a place back.
        background.shared.waiting[PORT.index()].store(PER_PORT, Ordering::Release);
        accepted += u32::from(background.write(PORT, [b"frame", b""], 0));
        assert_eq!(accepted, 0);
        for port in 10..10 + 2 * u16::try_from(MAX_PORTS).unwrap() {
            let (ours, _) = UnixDatagram::pair().unwrap();
            background.attach(
                PortId(port),
                &Queue { fd: ours.into(), framing: Framing::Plain, access: Access::ReadWrite },
            );
        }
        assert_eq!(background.ports, MAX_PORTS);
    }

    #[test]
    fn detach_releases_the_descriptor() {
        let Fixture { mut background, host, .. } = slow_port();
        let (done, released) = bounded(1);
        background.detach(PORT, Some(DetachReply { done, queue: None }));
        assert!(released.recv().unwrap().is_none());
        assert!(!background.has_ports());
        assert_eq!(host.send(b"too late").unwrap_err().raw_os_error(), Some(libc::ECONNREFUSED));
    }

    #[test]
    fn a_port_with_fast_writes_recovers() {
        let Fixture { mut background, host, .. } = slow_port();
        // On a busy machine a write may be slow, and the port needs more of them.
        let mut writes = 0_u64;
        while !background.release_recovered(PORT) {
            if background.write(PORT, [b"frame", b""], 0) {
                host.recv(&mut [0; 8]).unwrap();
                writes += 1;
            }
        }
        assert!(writes >= RECOVERY.into() && !background.is_slow(PORT), "{writes} writes");
    }
}
