//! A packet socket that sends whole frames (packet(7)), many with one system call.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use caps::Capability;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use super::caps::Raised;

/// Frames in one system call, at most.
pub const BATCH: usize = 64;

/// Size of the socket's send buffer, in bytes.
const SEND_BUFFER: usize = 32 << 20;

/// Sends frames on one device, bypassing its queueing discipline (`PACKET_QDISC_BYPASS`).
#[derive(Debug)]
pub struct PacketSocket {
    fd: OwnedFd,
}

impl PacketSocket {
    /// Opens a socket on the device with this index in the calling thread's namespace.
    ///
    /// # Errors
    /// There is no such device, or the thread does not have `CAP_NET_RAW`.
    pub fn open(ifindex: u32) -> io::Result<PacketSocket> {
        let _raised = Raised::new(&[Capability::CAP_NET_RAW]);
        // Protocol 0: the socket receives nothing.
        let fd = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, None)?;
        bind(&fd, ifindex)?;
        bypass_queueing(&fd)?;
        // Only CAP_NET_ADMIN in the initial user namespace may exceed net.core.wmem_max; other users get
        // that much.
        setsockopt(&fd, sockopt::SndBufForce, &SEND_BUFFER)
            .or_else(|_| setsockopt(&fd, sockopt::SndBuf, &SEND_BUFFER))?;
        Ok(PacketSocket { fd })
    }

    /// Sends `frame` (without FCS) `count` times, at most [`BATCH`]. Returns how many the device accepted.
    ///
    /// # Errors
    /// The device accepted none: it is down (`ENETDOWN`), or its queue is full (`ENOBUFS`).
    pub fn send(&self, frame: &[u8], count: usize) -> io::Result<usize> {
        // The kernel only reads through this pointer.
        let mut part = libc::iovec { iov_base: frame.as_ptr().cast_mut().cast(), iov_len: frame.len() };
        // SAFETY: a msghdr of zeros is valid: no address, no parts, no control messages.
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        header.msg_iov = &raw mut part;
        header.msg_iovlen = 1;
        let mut batch = [libc::mmsghdr { msg_hdr: header, msg_len: 0 }; BATCH];
        let count = libc::c_uint::try_from(count.min(BATCH)).unwrap_or(libc::c_uint::MAX);
        // SAFETY: `batch` has at least `count` elements. Each points to `part`, which points to `frame`; all
        // of them live until the call returns. The kernel writes only the lengths in `batch`.
        let sent = unsafe { libc::sendmmsg(self.fd.as_raw_fd(), batch.as_mut_ptr(), count, 0) };
        Ok(usize::try_from(Errno::result(sent)?).unwrap_or(0))
    }
}

fn bind(fd: &OwnedFd, ifindex: u32) -> io::Result<()> {
    // SAFETY: a sockaddr_ll of zeros is valid: any protocol, no device, no address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.unsigned_abs().try_into().unwrap_or(0);
    address.sll_ifindex = ifindex.cast_signed();
    let length = size::<libc::sockaddr_ll>();
    // SAFETY: the kernel reads `length` bytes through the pointer: `address`, which is whole and outlives
    // the call.
    let bound = unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), length) };
    Ok(Errno::result(bound).map(drop)?)
}

fn bypass_queueing(fd: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let (level, option, length) = (libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, size::<libc::c_int>());
    // SAFETY: the kernel reads `length` bytes through the pointer: `on`, which outlives the call.
    let set = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, (&raw const on).cast(), length) };
    Ok(Errno::result(set).map(drop)?)
}

fn size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}
