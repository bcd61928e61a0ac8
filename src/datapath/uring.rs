//! The io_uring engine: batches of non-blocking reads and writes, one `io_uring_enter` per turn for both.
//!
//! Ports are read as a network driver polls its device (NAPI). While a port is *busy*, each turn reads a batch from it,
//! and the batch doubles if every read returned a frame. When a read finds nothing, the port is *drained*: io_uring
//! polls it until there is a frame again. So the sender of a frame to a busy port wakes no thread, and a single frame
//! costs two turns. With [`Wait::Poll`] drained ports stay busy if they are few, and are read every turn.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, getrlimit};

use super::engine::{
    Arrival, Engine, EngineEvent, Extent, Load, Reads, Wait, account_lost, account_write, vnet_header,
};
use super::forms::Forms;
use super::{BUFFERS, write_copy, write_frame};
use crate::switch::{Counters, Egress, PortId, Ports};
use crate::sys::queue::{Access, Framing, Queue};
use crate::sys::uring::{BufferLease, Completion, Enter, Ring, SlotWrite};

/// Most reads of one port per turn: half of the buffers, so that the other half can be in writes.
const MAX_BATCH: usize = BUFFERS as usize / 2;
/// Approximate bytes of a batch: they should still be in the level 2 cache when they are written.
const BATCH_BYTES: usize = 256 << 10;
/// Fewest reads that a busy port can reach per turn, however large its frames are.
const MIN_BATCH: usize = 4;
/// Most drained ports that a busy-polling worker reads every turn. io_uring polls the others.
const BUSY_POLLED: usize = 8;

/// The io_uring engine.
#[derive(Debug)]
pub struct UringEngine {
    ring: Ring,
    ports: Vec<PortQueue>,
    /// Ports to read, the next one first.
    busy: VecDeque<PortId>,
    /// Ports that this turn reads.
    reading: Vec<PortId>,
    /// Ports that were read until empty and are not polled yet.
    drained: Vec<PortId>,
    /// Ports that are being detached.
    detaching: Vec<PortId>,
    counters: Arc<Counters>,
    wake: Arc<EventFd>,
    /// Writes outside the ring, one system call each.
    copies: u64,
}

#[derive(Debug, Default)]
struct PortQueue {
    queue: Option<Queue>,
    /// io_uring polls it.
    polled: bool,
    /// Reads to queue in the next turn.
    window: usize,
    /// Limit of `window`.
    reads: Reads,
    /// Busy, and left out while its reads are paused.
    parked: bool,
    /// Result of this turn's reads.
    batch: Batch,
    /// Writes that have not completed.
    writes: Cell<u32>,
    detaching: bool,
}

#[derive(Debug, Default)]
struct Batch {
    frames: usize,
    bytes: usize,
    /// A read found no frame.
    drained: bool,
    /// The device is gone.
    ended: bool,
}

impl PortQueue {
    fn header(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.framing.header())
    }

    /// Sizes the next batch by the last one. Returns whether there may be more to read now.
    fn take_batch(&mut self) -> bool {
        let Batch { frames, bytes, drained, .. } = std::mem::take(&mut self.batch);
        let most = (BATCH_BYTES / (bytes / frames.max(1)).max(1)).clamp(MIN_BATCH, MAX_BATCH);
        self.window =
            if drained { frames + 1 } else { self.window.max(1) * 2 }.min(most).min(self.reads.limit());
        !drained
    }
}

impl UringEngine {
    /// An engine without ports. `wake` interrupts its sleep; completed writes are counted in `counters`.
    pub fn new(counters: Arc<Counters>, wake: Arc<EventFd>) -> io::Result<UringEngine> {
        // The kernel limits the file table as it limits open files (io_uring/rsrc.c).
        let (files, _) = getrlimit(Resource::RLIMIT_NOFILE)?;
        let slots = usize::try_from(files).unwrap_or(usize::MAX).min(Ports::MAX);
        let mut ring = Ring::new(BUFFERS, u16::try_from(slots).unwrap_or(u16::MAX))?;
        ring.arm_wake(wake.as_fd())?;
        Ok(UringEngine {
            ring,
            ports: (0..slots).map(|_| PortQueue::default()).collect(),
            busy: VecDeque::with_capacity(slots),
            reading: Vec::with_capacity(usize::from(BUFFERS)),
            drained: Vec::with_capacity(slots),
            detaching: Vec::new(),
            counters,
            wake,
            copies: 0,
        })
    }

    /// Polls the drained ports, or keeps them busy if the worker busy-polls few ports.
    fn rearm_drained(&mut self, wait: Wait) -> io::Result<()> {
        while let Some(port) = self.drained.pop() {
            let entry = &mut self.ports[port.index()];
            match &entry.queue {
                Some(queue) if wait.is_sleep() || self.busy.len() >= BUSY_POLLED => {
                    entry.polled = true;
                    self.ring.arm_poll(port.0, queue.fd.as_fd())?;
                }
                _ => self.busy.push_back(port),
            }
        }
        Ok(())
    }

    /// Queues reads of the busy ports, in round-robin order, as long as there are buffers.
    fn read_busy(&mut self) -> io::Result<()> {
        let mut buffers = self.ring.free_buffers();
        while buffers > 0
            && let Some(port) = self.busy.pop_front()
        {
            let entry = &mut self.ports[port.index()];
            if entry.reads == Reads::Paused {
                entry.parked = true;
                continue;
            }
            let reads = entry.window.clamp(1, buffers);
            let is_packet = entry.queue.as_ref().is_some_and(|queue| queue.framing == Framing::Packet);
            let read = if is_packet { Ring::receive } else { Ring::read };
            for _ in 0..reads {
                read(&mut self.ring, port.0)?;
            }
            buffers -= reads;
            self.reading.push(port);
        }
        Ok(())
    }

    /// Evaluates the reads of this turn, which have all completed.
    fn finish_reads(&mut self) {
        for port in self.reading.drain(..) {
            let entry = &mut self.ports[port.index()];
            if entry.batch.ended {
                entry.batch = Batch::default();
            } else if entry.take_batch() {
                self.busy.push_back(port);
            } else {
                self.drained.push(port);
            }
        }
    }

    fn complete(
        &mut self,
        completion: Completion,
        events: &mut Vec<EngineEvent<BufferLease>>,
    ) -> io::Result<()> {
        match completion {
            Completion::Frame { slot, lease, start, length } => {
                let entry = &mut self.ports[usize::from(slot)];
                entry.batch.frames += 1;
                entry.batch.bytes += length;
                let read = Extent { start, length };
                let bytes = &self.ring.bytes(&lease)[start..start + length];
                let vnet = (entry.header() > 0).then(|| vnet_header(bytes));
                events.push(EngineEvent::Frame(Arrival::new(PortId(slot), lease, read, vnet)));
            }
            Completion::NoFrame { slot, error } => self.no_frame(PortId(slot), error, events),
            Completion::Ready { slot } => {
                let entry = &mut self.ports[usize::from(slot)];
                entry.polled = false;
                if !entry.detaching {
                    self.busy.push_back(PortId(slot));
                }
            }
            Completion::Written { slot, result } => {
                let queue = &self.ports[usize::from(slot)];
                queue.writes.update(|writes| writes - 1);
                let written = usize::try_from(result).map_err(|_| Errno::from_raw(-result));
                account_write(self.counters.port(PortId(slot)), written, queue.header());
            }
            Completion::Woken => {
                // Fails if an earlier read took this wake-up.
                let _ = self.wake.read();
                self.ring.arm_wake(self.wake.as_fd())?;
                events.push(EngineEvent::Woken);
            }
        }
        Ok(())
    }

    fn no_frame(&mut self, port: PortId, error: i32, events: &mut Vec<EngineEvent<BufferLease>>) {
        let entry = &mut self.ports[port.index()];
        let framing = entry.queue.as_ref().map_or(Framing::Plain, |queue| queue.framing);
        if framing.is_transient(error) {
            entry.batch.drained = true;
            if framing.is_lost_frame(error) {
                account_lost(self.counters.port(port));
            }
        } else if !std::mem::replace(&mut entry.batch.ended, true) {
            events.push(EngineEvent::Gone { port, error });
        }
    }

    /// Releases the queues of detached ports that no request uses any more.
    fn release_detached(&mut self, events: &mut Vec<EngineEvent<BufferLease>>) -> io::Result<()> {
        for at in (0..self.detaching.len()).rev() {
            let port = self.detaching[at];
            let mut queue = None;
            if let Some(entry) = self.ports.get_mut(port.index()) {
                if entry.polled || entry.writes.get() > 0 {
                    continue;
                }
                self.ring.set_file(port.0, None)?;
                queue = std::mem::take(entry).queue;
            }
            self.detaching.swap_remove(at);
            events.push(EngineEvent::Detached { port, queue });
        }
        Ok(())
    }
}

impl Engine for UringEngine {
    type Buffer = BufferLease;

    fn attach(&mut self, port: PortId, queue: Queue) -> io::Result<()> {
        let slots = self.ports.len();
        let Some(slot) = self.ports.get_mut(port.index()) else {
            return Err(io::Error::other(format!(
                "no more than {slots} ports with this limit of open files"
            )));
        };
        self.ring.set_file(port.0, Some(queue.fd.as_fd()))?;
        // Writes to a port that was up before it had a queue have yet to fail.
        let writes = Cell::new(slot.writes.get());
        let is_read = queue.access == Access::ReadWrite;
        *slot = PortQueue { queue: Some(queue), writes, ..PortQueue::default() };
        if is_read {
            self.drained.push(port);
        }
        Ok(())
    }

    fn detach(&mut self, port: PortId) -> io::Result<()> {
        self.detaching.push(port);
        let Some(entry) = self.ports.get_mut(port.index()) else { return Ok(()) };
        entry.detaching = true;
        entry.parked = false;
        self.busy.retain(|busy| *busy != port);
        self.drained.retain(|drained| *drained != port);
        if entry.polled { self.ring.cancel_poll(port.0) } else { Ok(()) }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<EngineEvent<BufferLease>>) -> io::Result<()> {
        self.rearm_drained(wait)?;
        self.read_busy()?;
        self.release_detached(events)?;
        let idle = events.is_empty() && self.reading.is_empty() && self.busy.is_empty();
        self.ring.enter(match wait {
            Wait::Sleep if idle => Enter::Wait,
            Wait::SleepAtMost(time) if idle => Enter::WaitAtMost(time),
            _ => Enter::Poll,
        })?;
        while let Some(completion) = self.ring.next_completion() {
            self.complete(completion, events)?;
        }
        self.finish_reads();
        Ok(())
    }

    fn bytes<'a>(&'a self, buffer: &'a BufferLease) -> &'a [u8] {
        self.ring.bytes(buffer)
    }

    fn bytes_mut<'a>(&'a mut self, buffer: &'a mut BufferLease) -> &'a mut [u8] {
        self.ring.bytes_mut(buffer)
    }

    fn send(&mut self, buffer: BufferLease, forms: &Forms, egress: &[Egress]) -> io::Result<()> {
        let Self { ring, ports, counters, .. } = self;
        let writes = egress.iter().map(|Egress { port, edit }| {
            let queue = &ports[port.index()];
            queue.writes.update(|writes| writes + 1);
            SlotWrite { slot: port.0, pieces: forms.pieces(*edit, queue.header()) }
        });
        ring.send(buffer, writes, |slot, error| {
            ports[usize::from(slot)].writes.update(|writes| writes - 1);
            let error = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            account_write(counters.port(PortId(slot)), Err(error), 0);
        });
        Ok(())
    }

    fn discard(&mut self, buffer: BufferLease) {
        self.ring.recycle(buffer);
    }

    fn send_copy(&mut self, port: PortId, frame: &[u8]) -> io::Result<()> {
        self.ring.submit()?;
        self.copies += 1;
        write_copy(self.ports[port.index()].queue.as_ref(), frame, self.counters.port(port));
        Ok(())
    }

    fn send_now(&mut self, buffer: &BufferLease, forms: &Forms, egress: Egress) -> io::Result<()> {
        self.ring.submit()?;
        self.copies += 1;
        let (queue, counters) =
            (self.ports[egress.port.index()].queue.as_ref(), self.counters.port(egress.port));
        write_frame(queue, self.ring.bytes(buffer), forms, egress.edit, counters);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.ring.submit()
    }

    fn set_reads(&mut self, port: PortId, reads: Reads) {
        let Some(entry) = self.ports.get_mut(port.index()) else { return };
        entry.reads = reads;
        if reads == Reads::Paused {
            return;
        }
        entry.window = entry.window.min(reads.limit());
        if std::mem::take(&mut entry.parked) {
            self.busy.push_back(port);
        }
    }

    fn queue(&self, port: PortId) -> Option<&Queue> {
        self.ports.get(port.index())?.queue.as_ref()
    }

    fn load(&self) -> Load {
        Load { system_calls: self.ring.enters() + self.copies, free_buffers: self.ring.free_buffers() }
    }
}
