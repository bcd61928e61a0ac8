//! An engine in memory, for tests and simulations: the worker and the switch run on it unchanged, on one thread and in
//! a fixed order.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;

use super::engine::{Arrival, Engine, EngineEvent, Extent, Load, Reads, Wait, account_write};
use super::forms::Forms;
use crate::switch::{Counters, Egress, PortId};
use crate::sys::arena::HEADROOM;
use crate::sys::queue::Queue;
use crate::wire::VnetHeader;

/// The other end of a [`MemoryEngine`]'s ports: what hosts send and receive.
#[derive(Debug, Clone, Default)]
pub struct MemoryNet(Arc<Mutex<Frames>>);

#[derive(Debug, Default)]
struct Frames {
    to_switch: VecDeque<(PortId, VnetHeader, Vec<u8>)>,
    from_switch: Vec<(PortId, VnetHeader, Vec<u8>)>,
    /// Length of `from_switch` from which writes are refused; `None`: no limit.
    capacity: Option<usize>,
}

impl MemoryNet {
    fn frames(&self) -> MutexGuard<'_, Frames> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a frame into `port`.
    pub fn send(&self, port: PortId, vnet: VnetHeader, frame: &[u8]) {
        self.frames().to_switch.push_back((port, vnet, frame.to_vec()));
    }

    /// The frames sent since the last call, in order.
    pub fn received(&self) -> Vec<(PortId, VnetHeader, Vec<u8>)> {
        std::mem::take(&mut self.frames().from_switch)
    }

    /// Refuses writes as "queue full" while this many frames are waiting.
    pub fn limit(&self, capacity: usize) {
        self.frames().capacity = Some(capacity);
    }
}

/// The engine in memory.
#[derive(Debug)]
pub struct MemoryEngine {
    net: MemoryNet,
    counters: Arc<Counters>,
}

impl MemoryEngine {
    /// An engine on `net`; completed writes are counted in `counters`.
    pub fn new(net: MemoryNet, counters: Arc<Counters>) -> MemoryEngine {
        MemoryEngine { net, counters }
    }

    fn deliver(&self, port: PortId, vnet: VnetHeader, frame: &[u8]) {
        let mut frames = self.net.frames();
        let full = frames.capacity.is_some_and(|capacity| frames.from_switch.len() >= capacity);
        let written = if full { Err(Errno::EAGAIN) } else { Ok(frame.len()) };
        if !full {
            frames.from_switch.push((port, vnet, frame.to_vec()));
        }
        account_write(self.counters.port(port), written, 0);
    }
}

impl Engine for MemoryEngine {
    type Buffer = Vec<u8>;

    fn attach(&mut self, _: PortId, _: Queue) -> io::Result<()> {
        Ok(())
    }

    fn detach(&mut self, _: PortId) -> io::Result<()> {
        Ok(())
    }

    fn turn(&mut self, _: Wait, events: &mut Vec<EngineEvent<Vec<u8>>>) -> io::Result<()> {
        for (port, vnet, frame) in self.net.frames().to_switch.drain(..) {
            let mut buffer = vec![0; HEADROOM];
            buffer.extend(vnet.emit());
            buffer.extend(&frame);
            let read = Extent { start: HEADROOM, length: buffer.len() - HEADROOM };
            // Room for an answer that is longer than its request.
            buffer.resize(buffer.len() + crate::switch::SwitchReply::GROWTH, 0);
            events.push(EngineEvent::Frame(Arrival::new(port, buffer, read, Some(vnet))));
        }
        Ok(())
    }

    fn bytes<'a>(&'a self, buffer: &'a Vec<u8>) -> &'a [u8] {
        buffer
    }

    fn bytes_mut<'a>(&'a mut self, buffer: &'a mut Vec<u8>) -> &'a mut [u8] {
        buffer
    }

    fn send(&mut self, buffer: Vec<u8>, forms: &Forms, egress: &[Egress]) -> io::Result<()> {
        egress.iter().try_for_each(|egress| self.send_now(&buffer, forms, *egress))
    }

    fn send_now(&mut self, buffer: &Vec<u8>, forms: &Forms, egress: Egress) -> io::Result<()> {
        let written = forms.slices(buffer, egress.edit, VnetHeader::LEN).concat();
        let vnet = VnetHeader::parse(&written).unwrap_or_default();
        self.deliver(egress.port, vnet, &written[VnetHeader::LEN..]);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn set_reads(&mut self, _: PortId, _: Reads) {}

    fn queue(&self, _: PortId) -> Option<&Queue> {
        None
    }

    fn discard(&mut self, _: Vec<u8>) {}

    fn send_copy(&mut self, port: PortId, frame: &[u8]) -> io::Result<()> {
        self.deliver(port, VnetHeader::default(), frame);
        Ok(())
    }

    fn load(&self) -> Load {
        Load::default()
    }
}
