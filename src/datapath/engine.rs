//! What an engine is: it reads frames from the ports' queues into buffers, and writes a buffer to any
//! number of ports without a copy. The worker above it does not know which engine it has.

use std::fmt;
use std::io;

use nix::errno::Errno;

use crate::switch::{DropReason, Frame, PortCounters, PortId};
use crate::sys::tap::Queue;
use crate::wire::VnetHeader;

/// What a worker needs to move frames.
pub trait Engine {
    /// A buffer that holds a frame; whoever has it is the only one to touch it.
    type Buffer: fmt::Debug;

    /// Starts to read a port's queue.
    fn attach(&mut self, port: PortId, queue: Queue) -> io::Result<()>;

    /// Stops to read and to write a port; [`Event::Detached`] follows when the engine has let go of its queue.
    fn detach(&mut self, port: PortId) -> io::Result<()>;

    /// Writes what was queued by [`Engine::send`], waits as told, and appends what has happened since.
    fn turn(&mut self, wait: Wait, events: &mut Vec<Event<Self::Buffer>>) -> io::Result<()>;

    /// A buffer's bytes.
    fn bytes<'a>(&'a self, buffer: &'a Self::Buffer) -> &'a [u8];

    /// A buffer's bytes, to change.
    fn bytes_mut<'a>(&'a mut self, buffer: &'a mut Self::Buffer) -> &'a mut [u8];

    /// Writes a frame, where `extent` says it is in the buffer, to each egress port; the
    /// [`VnetHeader::LEN`] bytes before it are its virtio-net header, for those ports that have one.
    /// Each write is accounted in the counters of its port when it has completed.
    fn send(&mut self, buffer: Self::Buffer, extent: Extent, egress: &[PortId]) -> io::Result<()>;

    /// Gives a buffer back unsent.
    fn discard(&mut self, buffer: Self::Buffer);

    /// Writes a complete frame to one port, after all that was queued before it. The slow way, one system
    /// call a frame: for frames that had to be segmented.
    fn send_copy(&mut self, port: PortId, frame: &[u8]) -> io::Result<()>;

    /// What it has done so far, and has left.
    fn load(&self) -> Load;
}

/// What an engine has done, and has left.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// System calls that wait for frames and move them, since the start.
    pub system_calls: u64,
    /// Buffers that nothing holds.
    pub free_buffers: usize,
}

/// How long [`Engine::turn`] may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until something happens.
    Sleep,
    /// Not at all.
    Poll,
}

/// Where a frame is in its buffer: from the destination address on, without virtio-net header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte.
    pub start: usize,
    /// Length in bytes.
    pub length: usize,
}

/// A frame that came in.
#[derive(Debug)]
pub struct Arrival<B> {
    /// On which port.
    pub port: PortId,
    /// What holds it.
    pub buffer: B,
    /// Where it is in there.
    pub extent: Extent,
    /// What the virtio-net header before it says; none on a port without.
    pub vnet: Option<VnetHeader>,
}

impl<B> Arrival<B> {
    /// What a read brought, `vnet` included if the port has it.
    #[inline]
    pub fn new(port: PortId, buffer: B, read: Extent, vnet: Option<VnetHeader>) -> Arrival<B> {
        let header = if vnet.is_some() { VnetHeader::LEN } else { 0 };
        let extent = Extent { start: read.start + header, length: read.length.saturating_sub(header) };
        Arrival { port, buffer, extent, vnet }
    }

    /// The frame, in `bytes` of its buffer.
    #[inline]
    pub fn frame<'a>(&self, bytes: &'a [u8]) -> Frame<'a> {
        let Extent { start, length } = self.extent;
        let vnet = self.vnet.unwrap_or_default();
        Frame { bytes: bytes.get(start..start + length).unwrap_or_default(), vnet }
    }
}

/// The virtio-net header that begins a read. One too short for it is an empty frame, which the switch drops as a runt.
#[inline]
pub(super) fn vnet_header(read: &[u8]) -> VnetHeader {
    VnetHeader::parse(read).unwrap_or_default()
}

/// What [`Engine::turn`] reports.
#[derive(Debug)]
pub enum Event<B> {
    /// A frame came in.
    Frame(Arrival<B>),
    /// A port's queue is dead: its device was deleted, alone or with its namespace. It is no longer read.
    Gone {
        /// The port.
        port: PortId,
        /// The error of its last read.
        error: i32,
    },
    /// The end of [`Engine::detach`].
    Detached {
        /// The port.
        port: PortId,
        /// Its queue, to be closed where that may take its time: the kernel waits for RCU and for the lock of all
        /// network configuration.
        queue: Option<Queue>,
    },
    /// Somebody woke the worker: there are commands.
    Woken,
}

/// Accounts one finished write to a port: how much of it was written, of which `header` bytes were no frame.
pub(super) fn account_write(port: &PortCounters, written: nix::Result<usize>, header: usize) {
    match written {
        Ok(written) => {
            port.tx_frames.add(1);
            port.tx_bytes.add(written.saturating_sub(header) as u64);
        }
        Err(error) => port.dropped(reason_of(error)),
    }
}

/// Why a device did not take a frame (Linux `drivers/net/tun.c`, `tun_get_user`).
fn reason_of(error: Errno) -> DropReason {
    match error {
        // Not up; deleted; detached meanwhile.
        Errno::EIO | Errno::EBADFD | Errno::EBADF | Errno::ECANCELED => DropReason::EgressDown,
        Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS | Errno::ENOMEM => DropReason::EgressQueueFull,
        _ => DropReason::EgressRefused,
    }
}
