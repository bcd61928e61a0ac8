//! The poll engine: epoll reports readable queues, `read` and `write` move frames, one system call per frame.
//! It is used where io_uring is missing or forbidden, with the same buffers and offloads.

use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;

use super::engine::{
    Arrival, END_OF_FILE, Engine, EngineEvent, Extent, Load, Reads, Wait, account_lost, vnet_header,
};
use super::forms::Forms;
use super::{BUFFERS, write_copy, write_frame};
use crate::switch::{Counters, Egress, PortId, Ports};
use crate::sys::arena::{BUFFER_SIZE, HEADROOM};
use crate::sys::packet_message::{self, Received};
use crate::sys::queue::{Access, Framing, Queue};

/// Most ports read in one turn, so that there is a buffer for each. epoll reports the others in the next turn: it
/// rotates its ready list.
const MAX_READY: usize = BUFFERS as usize;
/// epoll data of the wake-up descriptor.
const WAKE: u64 = u64::MAX;

/// The poll engine.
#[derive(Debug)]
pub struct PollEngine {
    epoll: Epoll,
    queues: Vec<Option<Queue>>,
    reads: Box<[Reads]>,
    memory: Vec<u8>,
    /// Free buffers. The buffer used last is used next, while it is still in the cache.
    free: Vec<u16>,
    /// To be reported in the next turn.
    detached: Vec<(PortId, Option<Queue>)>,
    counters: Arc<Counters>,
    wake: Arc<EventFd>,
    system_calls: u64,
}

/// A buffer of the engine that made it.
#[derive(Debug)]
pub struct PollBuffer(u16);

impl PollBuffer {
    fn range(&self) -> std::ops::Range<usize> {
        let start = usize::from(self.0) * BUFFER_SIZE;
        start..start + BUFFER_SIZE
    }
}

impl PollEngine {
    /// An engine without ports. `wake` interrupts its sleep; completed writes are counted in `counters`.
    pub fn new(counters: Arc<Counters>, wake: Arc<EventFd>) -> io::Result<PollEngine> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        epoll.add(&*wake, EpollEvent::new(EpollFlags::EPOLLIN, WAKE))?;
        Ok(PollEngine {
            epoll,
            queues: (0..Ports::MAX).map(|_| None).collect(),
            reads: vec![Reads::default(); Ports::MAX].into(),
            memory: vec![0; usize::from(BUFFERS) * BUFFER_SIZE],
            free: (0..BUFFERS).rev().collect(),
            detached: Vec::new(),
            counters,
            wake,
            system_calls: 0,
        })
    }

    /// Reads one ready port until it is empty or has used its share of the buffers.
    fn read_port(
        &mut self,
        port: PortId,
        share: usize,
        events: &mut Vec<EngineEvent<PollBuffer>>,
    ) -> io::Result<()> {
        let Some(queue) = &self.queues[port.index()] else { return Ok(()) };
        for _ in 0..share.min(self.reads[port.index()].limit()) {
            let Some(buffer) = self.free.pop().map(PollBuffer) else { return Ok(()) };
            self.system_calls += 1;
            match read(queue, &mut self.memory[buffer.range()]) {
                Ok(Received { start, length }) if length > 0 => {
                    let read = Extent { start, length };
                    let bytes = &self.memory[buffer.range()][start..start + length];
                    let vnet = (queue.framing.header() > 0).then(|| vnet_header(bytes));
                    events.push(EngineEvent::Frame(Arrival::new(port, buffer, read, vnet)));
                }
                outcome => {
                    self.free.push(buffer.0);
                    let error = outcome.map_or_else(|error| error as i32, |_| END_OF_FILE);
                    if queue.framing.is_lost_frame(error) {
                        account_lost(self.counters.port(port));
                    } else if !queue.framing.is_transient(error) {
                        self.epoll.delete(&queue.fd)?;
                        events.push(EngineEvent::Gone { port, error });
                    }
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

/// Reads one frame into a whole buffer, from [`HEADROOM`] on.
fn read(queue: &Queue, buffer: &mut [u8]) -> nix::Result<Received> {
    if queue.framing == Framing::Packet {
        return packet_message::receive(queue.fd.as_fd(), buffer);
    }
    let length = nix::unistd::read(&queue.fd, &mut buffer[HEADROOM..])?;
    Ok(Received { start: HEADROOM, length })
}

/// epoll counts in milliseconds; it does not return early.
fn timeout(wait: Wait) -> EpollTimeout {
    match wait {
        Wait::Poll => EpollTimeout::ZERO,
        Wait::SleepAtMost(time) => time.as_micros().div_ceil(1000).try_into().unwrap_or(EpollTimeout::MAX),
        Wait::Sleep => EpollTimeout::NONE,
    }
}

impl Engine for PollEngine {
    type Buffer = PollBuffer;

    fn attach(&mut self, port: PortId, queue: Queue) -> io::Result<()> {
        if queue.access == Access::ReadWrite {
            self.epoll.add(&queue.fd, EpollEvent::new(EpollFlags::EPOLLIN, port.0.into()))?;
        }
        self.queues[port.index()] = Some(queue);
        self.reads[port.index()] = Reads::default();
        Ok(())
    }

    fn detach(&mut self, port: PortId) -> io::Result<()> {
        let queue = self.queues[port.index()].take();
        if let Some(queue) = &queue {
            // Fails for a queue that is gone, which was removed then, and for one that is only written.
            let _ = self.epoll.delete(&queue.fd);
        }
        self.detached.push((port, queue));
        Ok(())
    }

    fn turn(&mut self, wait: Wait, events: &mut Vec<EngineEvent<PollBuffer>>) -> io::Result<()> {
        events.extend(self.detached.drain(..).map(|(port, queue)| EngineEvent::Detached { port, queue }));
        let timeout = if events.is_empty() { timeout(wait) } else { EpollTimeout::ZERO };
        self.system_calls += 1;
        let mut ready = [EpollEvent::empty(); MAX_READY];
        let count = match self.epoll.wait(&mut ready, timeout) {
            Err(Errno::EINTR) => 0,
            outcome => outcome?,
        };
        let share = MAX_READY / count.max(1);
        for event in &ready[..count] {
            match u16::try_from(event.data()) {
                Ok(port) => self.read_port(PortId(port), share, events)?,
                Err(_) => {
                    // Fails if an earlier read took this wake-up.
                    let _ = self.wake.read();
                    events.push(EngineEvent::Woken);
                }
            }
        }
        Ok(())
    }

    fn bytes<'a>(&'a self, buffer: &'a PollBuffer) -> &'a [u8] {
        &self.memory[buffer.range()]
    }

    fn bytes_mut<'a>(&'a mut self, buffer: &'a mut PollBuffer) -> &'a mut [u8] {
        &mut self.memory[buffer.range()]
    }

    fn send(&mut self, buffer: PollBuffer, forms: &Forms, egress: &[Egress]) -> io::Result<()> {
        for &egress in egress {
            self.send_now(&buffer, forms, egress)?;
        }
        self.discard(buffer);
        Ok(())
    }

    fn send_now(&mut self, buffer: &PollBuffer, forms: &Forms, egress: Egress) -> io::Result<()> {
        self.system_calls += 1;
        let (queue, counters) = (self.queues[egress.port.index()].as_ref(), self.counters.port(egress.port));
        write_frame(queue, &self.memory[buffer.range()], forms, egress.edit, counters);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_reads(&mut self, port: PortId, reads: Reads) {
        let before = std::mem::replace(&mut self.reads[port.index()], reads);
        if (before == Reads::Paused) == (reads == Reads::Paused) {
            return;
        }
        let Some(queue) = &self.queues[port.index()] else { return };
        // A paused queue that has frames must not end every wait.
        let interest = if reads == Reads::Paused { EpollFlags::empty() } else { EpollFlags::EPOLLIN };
        // Fails for a queue that is gone.
        let _ = self.epoll.modify(&queue.fd, &mut EpollEvent::new(interest, port.0.into()));
    }

    fn queue(&self, port: PortId) -> Option<&Queue> {
        self.queues[port.index()].as_ref()
    }

    fn discard(&mut self, buffer: PollBuffer) {
        self.free.push(buffer.0);
    }

    fn send_copy(&mut self, port: PortId, frame: &[u8]) -> io::Result<()> {
        self.system_calls += 1;
        write_copy(self.queues[port.index()].as_ref(), frame, self.counters.port(port));
        Ok(())
    }

    fn load(&self) -> Load {
        Load { system_calls: self.system_calls, free_buffers: self.free.len() }
    }
}
