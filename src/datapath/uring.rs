//! The io_uring engine: batches of reads and writes that never wait, one `io_uring_enter` a turn for both.
//!
//! A port's reads go by what it brings, as a network driver's do (NAPI): while it is *busy* a batch is read each turn, twice
//! as many as before if all of them brought a frame; when a read finds none, the port is *drained*, and polled until
//! there is something again. So nobody is woken for a frame that is read in any case, and a frame that comes alone
//! costs two turns. With [`Wait::Poll`] drained ports stay busy, if they are few: they are looked at every turn.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, getrlimit};

use super::engine::{Arrival, Engine, Event, Extent, Load, Wait, account_write, vnet_header};
use super::{BUFFERS, write_copy};
use crate::switch::{Counters, PortId, Ports};
use crate::sys::arena::HEADROOM;
use crate::sys::tap::Queue;
use crate::sys::uring::{Completion, Enter, Lease, Ring, Write};
use crate::wire::VnetHeader;

/// Reads of one port in a turn, at most: half of the buffers, so that the other half can be on its way out.
const MAX_BATCH: usize = BUFFERS as usize / 2;
/// Bytes of a batch, about: what is read should still be in the second-level cache when it is written.
const BATCH_BYTES: usize = 256 << 10;
/// Reads of one port in a turn, however large its frames are.
const MIN_BATCH: usize = 4;
/// Drained ports that are looked at every turn, at most, by a worker that does not sleep: the kernel tells of the others.
const BUSY_POLLED: usize = 8;

/// See the module.
#[derive(Debug)]
pub struct UringEngine {
    ring: Ring,
    ports: Vec<PortQueue>,
    /// Ports to be read, the next one first.
    busy: VecDeque<PortId>,
    /// Ports that are read in this turn.
    reading: Vec<PortId>,
    /// Ports that had nothing more to read, and are not polled yet.
    drained: Vec<PortId>,
    /// Ports on their way out.
    detaching: Vec<PortId>,
    counters: Arc<Counters>,
    wake: Arc<EventFd>,
    /// Writes with a system call of their own.
    copies: u64,
}

#[derive(Debug, Default)]
struct PortQueue {
    queue: Option<Queue>,
    /// The kernel will tell when there is something to read.
    polled: bool,
    /// How many reads to queue when it is read next.
    window: usize,
    /// What this turn's reads have brought.
    batch: Batch,
    /// Writes that have not completed.
    writes: Cell<u32>,
    detaching: bool,
}

#[derive(Debug, Default)]
struct Batch {
    frames: usize,
    bytes: usize,
    /// A read found nothing.
    drained: bool,
    /// The device is gone.
    ended: bool,
}

impl PortQueue {
    fn header(&self) -> usize {
        if self.queue.as_ref().is_some_and(|queue| queue.vnet) { VnetHeader::LEN } else { 0 }
    }

    /// Sets how much to read next by what the last batch was like; whether there may be more to read now.
    fn take_batch(&mut self) -> bool {
        let Batch { frames, bytes, drained, .. } = std::mem::take(&mut self.batch);
        let most = (BATCH_BYTES / (bytes / frames.max(1)).max(1)).clamp(MIN_BATCH, MAX_BATCH);
        self.window = if drained { frames + 1 } else { self.window * 2 }.min(most);
        !drained
    }
}

impl UringEngine {
    /// An engine without ports. `wake` interrupts its sleep; finished writes are accounted in `counters`.
    pub fn new(counters: Arc<Counters>, wake: Arc<EventFd>) -> io::Result<UringEngine> {
        // The kernel's bound on the table is the same as on open files (io_uring/rsrc.c).
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

    /// Has the kernel tell when the drained ports have something to read, or has them looked at again.
    fn rearm_drained(&mut self, wait: Wait) -> io::Result<()> {
        while let Some(port) = self.drained.pop() {
            let entry = &mut self.ports[port.index()];
            match &entry.queue {
                Some(queue) if wait == Wait::Sleep || self.busy.len() >= BUSY_POLLED => {
                    entry.polled = true;
                    self.ring.arm_poll(port.0, queue.fd.as_fd())?;
                }
                _ => self.busy.push_back(port),
            }
        }
        Ok(())
    }

    /// Queues reads of the busy ports, in turn, as long as there are buffers.
    fn read_busy(&mut self) -> io::Result<()> {
        let mut buffers = self.ring.free_buffers();
        while buffers > 0
            && let Some(port) = self.busy.pop_front()
        {
            let reads = self.ports[port.index()].window.clamp(1, buffers);
            for _ in 0..reads {
                self.ring.read(port.0)?;
            }
            buffers -= reads;
            self.reading.push(port);
        }
        Ok(())
    }

    /// Looks at what the reads of this turn, which are all over, have brought.
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

    fn complete(&mut self, completion: Completion, events: &mut Vec<Event<Lease>>) -> io::Result<()> {
        match completion {
            Completion::Frame { slot, lease, length } => {
                let entry = &mut self.ports[usize::from(slot)];
                entry.batch.frames += 1;
                entry.batch.bytes += length;
                let read = Extent { start: HEADROOM, length };
                let bytes = &self.ring.bytes(&lease)[HEADROOM..HEADROOM + length];
                let vnet = (entry.header() > 0).then(|| vnet_header(bytes));
                events.push(Event::Frame(Arrival::new(PortId(slot), lease, read, vnet)));
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
                // Nothing to read means that an earlier wake-up was told already.
                let _ = self.wake.read();
                self.ring.arm_wake(self.wake.as_fd())?;
                events.push(Event::Woken);
            }
        }
        Ok(())
    }

    fn no_frame(&mut self, port: PortId, error: i32, events: &mut Vec<Event<Lease>>) {
        let batch = &mut self.ports[port.index()].batch;
        match error {
            libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM => batch.drained = true,
            _ if batch.ended => {}
            _ => {
                batch.ended = true;
                events.push(Event::Gone { port, error });
            }
        }
    }

    /// Lets go of the queues that nothing in the kernel uses any more.
    fn release_detached(&mut self, events: &mut Vec<Event<Lease>>) -> io::Result<()> {
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
            events.push(Event::Detached { port, queue });
        }
        Ok(())
    }
}

impl Engine for UringEngine {
    type Buffer = Lease;

    fn attach(&mut self, port: PortId, queue: Queue) -> io::Result<()> {
        let slots = self.ports.len();
        let Some(slot) = self.ports.get_mut(port.index()) else {
            return Err(io::Error::other(format!(
                "no more than {slots} ports with this limit of open files"
            )));
        };
        self.ring.set_file(port.0, Some(queue.fd.as_fd()))?;
        *slot = PortQueue { queue: Some(queue), ..PortQueue::default() };
        self.drained.push(port);
        Ok(())
    }

    fn detach(&mut self, port: PortId) -> io::Result<()> {
        self.detaching.push(port);
        let Some(entry) = self.ports.get_mut(port.index()) else { return Ok(()) };
        entry.detaching = true;
        self.busy.retain(|busy| *busy != port);
        self.drained.retain(|drained| *drained != port);
        if entry.polled { self.ring.cancel_poll(port.0) } else { Ok(()) }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event<Lease>>) -> io::Result<()> {
        self.rearm_drained(wait)?;
        self.read_busy()?;
        self.release_detached(events)?;
        let sleep =
            wait == Wait::Sleep && events.is_empty() && self.reading.is_empty() && self.busy.is_empty();
        self.ring.enter(if sleep { Enter::Wait } else { Enter::Poll })?;
        while let Some(completion) = self.ring.next_completion() {
            self.complete(completion, events)?;
        }
        self.finish_reads();
        Ok(())
    }

    fn bytes<'a>(&'a self, buffer: &'a Lease) -> &'a [u8] {
        self.ring.bytes(buffer)
    }

    fn bytes_mut<'a>(&'a mut self, buffer: &'a mut Lease) -> &'a mut [u8] {
        self.ring.bytes_mut(buffer)
    }

    fn send(&mut self, buffer: Lease, extent: Extent, egress: &[PortId]) -> io::Result<()> {
        let Self { ring, ports, counters, .. } = self;
        let writes = egress.iter().map(|port| {
            let queue = &ports[port.index()];
            queue.writes.update(|writes| writes + 1);
            let header = queue.header();
            Write { slot: port.0, start: extent.start - header, length: extent.length + header }
        });
        ring.send(buffer, writes, |slot, error| {
            ports[usize::from(slot)].writes.update(|writes| writes - 1);
            let error = error.raw_os_error().map_or(Errno::EIO, Errno::from_raw);
            account_write(counters.port(PortId(slot)), Err(error), 0);
        });
        Ok(())
    }

    fn discard(&mut self, buffer: Lease) {
        self.ring.recycle(buffer);
    }

    fn send_copy(&mut self, port: PortId, frame: &[u8]) -> io::Result<()> {
        self.ring.submit()?;
        self.copies += 1;
        write_copy(self.ports[port.index()].queue.as_ref(), frame, self.counters.port(port));
        Ok(())
    }

    fn load(&self) -> Load {
        Load { system_calls: self.ring.enters() + self.copies, free_buffers: self.ring.free_buffers() }
    }
}
