//! The io_uring engine: one multishot read per port fills buffers of a shared pool, writes of the
//! same buffers are batched, and one `io_uring_enter` a turn does both.
//!
//! The life of a port's read: armed -> (the pool ran dry: starved -> armed again when a buffer is back)
//! -> ended for good when the port is detached, or its device is gone.

use std::cell::Cell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::eventfd::EventFd;
use nix::sys::resource::{Resource, getrlimit};

use super::engine::{Arrival, Engine, Event, Extent, Wait, account_write};
use super::{BUFFERS, write_copy};
use crate::switch::{Counters, PortId, Ports};
use crate::sys::arena::HEADROOM;
use crate::sys::tap::Queue;
use crate::sys::uring::{Completion, Enter, Lease, Ring, Write};
use crate::wire::VnetHeader;

/// See the module.
#[derive(Debug)]
pub struct UringEngine {
    ring: Ring,
    ports: Vec<PortQueue>,
    /// Ports whose read waits for a free buffer, longest first.
    starved: VecDeque<PortId>,
    /// Ports on their way out.
    detaching: Vec<PortId>,
    counters: Arc<Counters>,
    wake: Arc<EventFd>,
}

#[derive(Debug, Default)]
struct PortQueue {
    queue: Option<Queue>,
    /// The kernel has a read of it, or will when a buffer is free.
    reading: bool,
    /// Writes that have not completed.
    writes: Cell<u32>,
    detaching: bool,
}

impl PortQueue {
    fn header(&self) -> usize {
        if self.queue.as_ref().is_some_and(|queue| queue.vnet) { VnetHeader::LEN } else { 0 }
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
        let ports = (0..slots).map(|_| PortQueue::default()).collect();
        let (starved, detaching) = (VecDeque::with_capacity(slots), Vec::new());
        Ok(UringEngine { ring, ports, starved, detaching, counters, wake })
    }

    /// Arms the reads that ended for want of a buffer, as many as there are buffers again.
    fn arm_starved(&mut self) -> io::Result<()> {
        for _ in 0..self.starved.len().min(self.ring.free_buffers()) {
            let Some(port) = self.starved.pop_front() else { break };
            self.arm_read(port)?;
        }
        Ok(())
    }

    fn arm_read(&mut self, port: PortId) -> io::Result<()> {
        let entry = &mut self.ports[port.index()];
        match &entry.queue {
            Some(queue) if !entry.detaching => self.ring.arm_read(port.0, queue.fd.as_fd()),
            _ => {
                entry.reading = false;
                Ok(())
            }
        }
    }

    fn complete(&mut self, completion: Completion, events: &mut Vec<Event<Lease>>) -> io::Result<()> {
        match completion {
            Completion::Frame { slot, lease, length, more } => {
                let port = PortId(slot);
                let vnet = self.ports[port.index()].header() > 0;
                let read = Extent { start: HEADROOM, length };
                events.push(Event::Frame(Arrival::new(port, lease, read, vnet)));
                if !more {
                    self.starved.push_back(port);
                }
            }
            Completion::ReadEnded { slot, error } => self.read_ended(PortId(slot), error, events),
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

    fn read_ended(&mut self, port: PortId, error: i32, events: &mut Vec<Event<Lease>>) {
        match error {
            // The last of them may also be want of memory: only who asked for the end has it.
            libc::ENOBUFS | libc::EAGAIN | libc::EINTR | libc::ECANCELED => self.starved.push_back(port),
            _ => {
                self.ports[port.index()].reading = false;
                events.push(Event::Gone { port, error });
            }
        }
    }

    /// Lets go of the queues that nothing in the kernel uses any more.
    fn let_go_of_detached(&mut self, events: &mut Vec<Event<Lease>>) -> io::Result<()> {
        for at in (0..self.detaching.len()).rev() {
            let port = self.detaching[at];
            let mut queue = None;
            if let Some(entry) = self.ports.get_mut(port.index()) {
                if entry.reading || entry.writes.get() > 0 {
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
        *slot = PortQueue { queue: Some(queue), reading: true, ..PortQueue::default() };
        self.arm_read(port)
    }

    fn detach(&mut self, port: PortId) -> io::Result<()> {
        self.detaching.push(port);
        let Some(queue) = self.ports.get_mut(port.index()) else { return Ok(()) };
        queue.detaching = true;
        if queue.reading { self.ring.cancel_read(port.0) } else { Ok(()) }
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<Event<Lease>>) -> io::Result<()> {
        if !self.starved.is_empty() {
            self.arm_starved()?;
        }
        self.let_go_of_detached(events)?;
        let sleep = wait == Wait::Sleep && events.is_empty() && self.starved.is_empty();
        self.ring.enter(if sleep { Enter::Wait } else { Enter::Poll })?;
        while let Some(completion) = self.ring.next_completion() {
            self.complete(completion, events)?;
        }
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
        write_copy(self.ports[port.index()].queue.as_ref(), frame, self.counters.port(port));
        Ok(())
    }
}
