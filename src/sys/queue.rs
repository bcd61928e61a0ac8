//! Queues of ports: descriptors from which frames are read and to which they are written.

use std::io;
use std::os::fd::OwnedFd;

use crate::wire::VnetHeader;

/// One queue of a port: a read returns one frame, a write sends one.
#[derive(Debug)]
pub struct Queue {
    /// The open file: non-blocking, close-on-exec.
    pub fd: OwnedFd,
    /// What is before each frame.
    pub framing: Framing,
    /// Whether frames are read from it.
    pub access: Access,
}

/// A queue for each of `count` workers on the same descriptor, of which only `reader` reads, so frames stay in order.
///
/// # Errors
/// The process has all the files that it may open.
pub(super) fn shared_queues(
    fd: &OwnedFd,
    framing: Framing,
    count: usize,
    reader: usize,
) -> io::Result<Vec<Queue>> {
    let queue = |number: usize| {
        let access = if number == reader { Access::ReadWrite } else { Access::WriteOnly };
        Ok(Queue { fd: fd.try_clone()?, framing, access })
    };
    (0..count).map(queue).collect()
}

/// How a worker uses a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// It reads and writes frames.
    ReadWrite,
    /// It writes frames. Another worker reads the same queue.
    WriteOnly,
}

/// How frames are read from and written to a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// Only the frame.
    Plain,
    /// A [`VnetHeader`] and the frame.
    Vnet,
    /// The same on a packet socket. The kernel reports the VLAN tag that it has taken out in a control message, so the
    /// socket is read with recvmsg(2), which inserts the tag again ([`super::packet_port`]).
    Packet,
}

impl Framing {
    /// Bytes before the frame.
    #[inline]
    pub const fn header(self) -> usize {
        match self {
            Framing::Plain => 0,
            Framing::Vnet | Framing::Packet => VnetHeader::LEN,
        }
    }

    /// Whether the queue can be read again after a read that ended with this error. After any other error its device is
    /// gone.
    pub const fn is_transient(self, error: i32) -> bool {
        match error {
            libc::EAGAIN | libc::EINTR | libc::ENOBUFS | libc::ENOMEM => true,
            // The device is down or gone, which netlink reports.
            libc::ENETDOWN => matches!(self, Framing::Packet),
            _ => self.is_lost_frame(error),
        }
    }

    /// Whether a read that ended with this error has lost a frame, because it cannot be described with a
    /// [`VnetHeader`]: a GSO packet in a tunnel, or one of more than 64 KiB (`packet_rcv_vnet` in Linux
    /// `net/packet/af_packet.c`).
    pub const fn is_lost_frame(self, error: i32) -> bool {
        matches!((self, error), (Framing::Packet, libc::EINVAL))
    }
}
