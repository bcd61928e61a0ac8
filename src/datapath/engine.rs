//! The interface of an I/O engine: it reads frames from the ports' queues into buffers, and writes a buffer to any
//! number of ports without a copy.

use std::fmt;
use std::io;
use std::time::Duration;

use nix::errno::Errno;

use super::forms::Forms;
use crate::switch::{DropReason, Egress, Frame, PortCounters, PortId};
use crate::sys::queue::Queue;
use crate::wire::VnetHeader;

/// An I/O engine of one worker.
pub trait Engine {
    /// Owned handle of a buffer that holds a frame.
    type Buffer: fmt::Debug;

    /// Starts reading a port's queue.
    fn attach(&mut self, port: PortId, queue: Queue) -> io::Result<()>;

    /// Stops reading and writing a port. [`EngineEvent::Detached`] follows when the engine no longer uses its queue.
    fn detach(&mut self, port: PortId) -> io::Result<()>;

    /// Writes the frames that [`Engine::send`] queued, waits according to `wait`, and appends new events.
    fn turn(&mut self, wait: Wait, events: &mut Vec<EngineEvent<Self::Buffer>>) -> io::Result<()>;

    /// The bytes of a buffer.
    fn bytes<'a>(&'a self, buffer: &'a Self::Buffer) -> &'a [u8];

    /// The bytes of a buffer, mutable.
    fn bytes_mut<'a>(&'a mut self, buffer: &'a mut Self::Buffer) -> &'a mut [u8];

    /// Writes the frame in the buffer to each egress port, in the form of its edit, with its virtio-net header for
    /// ports that have one. A write is counted at its port when it completes.
    fn send(&mut self, buffer: Self::Buffer, forms: &Forms, egress: &[Egress]) -> io::Result<()>;

    /// Returns a buffer without sending it.
    fn discard(&mut self, buffer: Self::Buffer);

    /// Writes a complete frame to one port, after everything queued before it. Costs one system call per frame: only
    /// for segmented frames.
    fn send_copy(&mut self, port: PortId, frame: &[u8]) -> io::Result<()>;

    /// Writes the frame in the buffer to one port before it returns, after everything queued before it.
    fn send_now(&mut self, buffer: &Self::Buffer, forms: &Forms, egress: Egress) -> io::Result<()>;

    /// Writes everything queued before it returns.
    fn flush(&mut self) -> io::Result<()>;

    /// How to read a port from now on.
    fn set_reads(&mut self, port: PortId, reads: Reads);

    /// The queue of a port; `None` if the port is not attached, or has none.
    fn queue(&self, port: PortId) -> Option<&Queue>;

    /// Its use of system calls and buffers.
    fn load(&self) -> Load;
}

/// How an engine reads a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reads {
    /// At most this many frames per turn.
    AtMost(usize),
    /// Not at all.
    Paused,
}

impl Default for Reads {
    fn default() -> Reads {
        Reads::AtMost(usize::MAX)
    }
}

impl Reads {
    /// Most frames per turn.
    pub(super) fn limit(self) -> usize {
        match self {
            Reads::AtMost(frames) => frames,
            Reads::Paused => 0,
        }
    }
}

/// An engine's use of system calls and buffers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Load {
    /// System calls since the start that wait for frames or move them.
    pub system_calls: u64,
    /// Free buffers.
    pub free_buffers: usize,
}

/// How long [`Engine::turn`] may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until an event.
    Sleep,
    /// Until an event, and at most this long.
    SleepAtMost(Duration),
    /// Do not wait.
    Poll,
}

impl Wait {
    /// Whether the thread may sleep.
    pub(super) fn is_sleep(self) -> bool {
        self != Wait::Poll
    }
}

/// Position of a frame in its buffer, from the destination address on, without the virtio-net header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Offset of the first byte.
    pub start: usize,
    /// Length in bytes.
    pub length: usize,
}

/// A received frame.
#[derive(Debug)]
pub struct Arrival<B> {
    /// The ingress port.
    pub port: PortId,
    /// The buffer that holds it.
    pub buffer: B,
    /// Its position in the buffer.
    pub extent: Extent,
    /// Its virtio-net header; `None` on a port without these headers.
    pub vnet: Option<VnetHeader>,
}

impl<B> Arrival<B> {
    /// Describes the bytes of one read, which start with the virtio-net header if `vnet` is given.
    #[inline]
    pub fn new(port: PortId, buffer: B, read: Extent, vnet: Option<VnetHeader>) -> Arrival<B> {
        let header = if vnet.is_some() { VnetHeader::LEN } else { 0 };
        let extent = Extent { start: read.start + header, length: read.length.saturating_sub(header) };
        Arrival { port, buffer, extent, vnet }
    }

    /// The frame, as part of the `bytes` of its buffer.
    #[inline]
    pub fn frame<'a>(&self, bytes: &'a [u8]) -> Frame<'a> {
        let Extent { start, length } = self.extent;
        let vnet = self.vnet.unwrap_or_default();
        Frame { bytes: bytes.get(start..start + length).unwrap_or_default(), vnet }
    }
}

/// The virtio-net header at the start of a read. A read that is too short gives an empty frame, which the switch drops
/// as a runt.
#[inline]
pub(super) fn vnet_header(read: &[u8]) -> VnetHeader {
    VnetHeader::parse(read).unwrap_or_default()
}

/// What [`Engine::turn`] reports.
#[derive(Debug)]
pub enum EngineEvent<B> {
    /// A frame was received.
    Frame(Arrival<B>),
    /// A port's device was deleted, alone or with its namespace. Its queue is no longer read.
    Gone {
        /// The port.
        port: PortId,
        /// The error of its last read.
        error: i32,
    },
    /// [`Engine::detach`] has completed.
    Detached {
        /// The port.
        port: PortId,
        /// Its queue. Closing it is slow, because the kernel waits for RCU and for the RTNL lock: do it elsewhere.
        queue: Option<Queue>,
    },
    /// Control woke the worker: there are commands.
    Woken,
}

/// Counts one completed write to a port. `header` is the part of `written` that is not frame.
pub(super) fn account_write(port: &PortCounters, written: nix::Result<usize>, header: usize) {
    match written {
        Ok(written) => {
            port.tx_frames.add(1);
            port.tx_bytes.add(written.saturating_sub(header) as u64);
        }
        Err(error) => port.dropped(reason_of(error)),
    }
}

/// Stands for the error of a read of no bytes: the peer has closed a socket. The kernel has no error with this number.
pub(super) const END_OF_FILE: i32 = 0;

/// Counts a frame that could not be read, because its offloads cannot be described.
pub(super) fn account_lost(port: &PortCounters) {
    port.rx_frames.add(1);
    port.dropped(DropReason::BadOffload);
}

/// The drop reason for a write error of a TAP device (`tun_get_user` in Linux `drivers/net/tun.c`), of a packet socket
/// (`packet_snd` in `net/packet/af_packet.c`) or of a Unix socket (unix(7)).
fn reason_of(error: Errno) -> DropReason {
    match error {
        // Not up; deleted; detached meanwhile.
        Errno::EIO | Errno::EBADFD | Errno::EBADF | Errno::ECANCELED | Errno::ENETDOWN | Errno::ENXIO => {
            DropReason::EgressDown
        }
        // The peer has closed the socket.
        Errno::EPIPE | Errno::ECONNRESET | Errno::ENOTCONN => DropReason::EgressDown,
        Errno::EAGAIN | Errno::EBUSY | Errno::ENOBUFS | Errno::ENOMEM => DropReason::EgressQueueFull,
        _ => DropReason::EgressRefused,
    }
}
