//! Existing devices as ports: packet sockets (packet(7)) that receive everything that a device receives, and send on
//! it.
//!
//! A socket never receives what it or another socket of the same group sends, nor what the host sends on the device
//! (`PACKET_IGNORE_OUTGOING`). Offloads are kept (`PACKET_VNET_HDR`). The device is promiscuous as long as the sockets
//! are open: the membership ends with the socket, so the kernel leaves the device as it was, even after a kill.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use caps::Capability;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, setsockopt, socket, sockopt};

use super::caps::Raised;
use super::queue::{Access, Framing, Queue};
use crate::wire::VnetHeader;

/// Bytes of GSO packets that may wait in each direction.
const SOCKET_BUFFER: usize = 8 << 20;

/// Why a device cannot be opened as a port.
#[derive(Debug, thiserror::Error)]
pub enum PacketPortError {
    /// The thread does not have `CAP_NET_RAW`.
    #[error("no permission to open a packet socket: it needs CAP_NET_RAW")]
    NoPermission,
    /// `PACKET_VNET_HDR_SZ` is missing.
    #[error("an existing device as a port needs Linux 6.4 (PACKET_VNET_HDR_SZ)")]
    OldKernel,
    /// A socket joins a group only while its device is up (Linux before 6.13).
    #[error("this kernel can share a device among several workers only while it is up: set it up first")]
    Down,
    /// Another operation.
    #[error("cannot {what}: {source}")]
    Kernel {
        /** The operation. */
        what: &'static str,
        /** Its error. */
        source: io::Error,
    },
}

fn kernel(what: &'static str) -> impl FnOnce(Errno) -> PacketPortError {
    move |error| PacketPortError::Kernel { what, source: error.into() }
}

/// Opens `count` sockets on the device with this index in the calling thread's namespace. The kernel spreads the flows
/// that the device receives over them, and keeps each flow on one (`PACKET_FANOUT_HASH`).
///
/// # Errors
/// See [`PacketPortError`].
pub fn open(ifindex: u32, count: usize) -> Result<Vec<Queue>, PacketPortError> {
    let _raised = Raised::new(&[Capability::CAP_NET_RAW]);
    let mut group = None;
    let mut queues = Vec::with_capacity(count);
    for number in 0..count {
        let fd = open_socket()?;
        bind(fd.as_fd(), ifindex).map_err(kernel("open the device"))?;
        if number == 0 {
            make_promiscuous(fd.as_fd(), ifindex).map_err(kernel("make the device promiscuous"))?;
        }
        if count > 1 {
            group = Some(join_group(fd.as_fd(), group)?);
        }
        queues.push(Queue { fd, framing: Framing::Packet, access: Access::ReadWrite });
    }
    Ok(queues)
}

/// Checks that an existing device can be opened as a port, without a device.
///
/// # Errors
/// See [`PacketPortError`].
pub fn check() -> Result<(), PacketPortError> {
    open_socket().map(drop)
}

/// A socket that receives nothing before it is bound: its protocol is 0.
fn open_socket() -> Result<OwnedFd, PacketPortError> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Packet, SockType::Raw, flags, None).map_err(|error| match error {
        Errno::EPERM | Errno::EACCES => PacketPortError::NoPermission,
        error => kernel("open a packet socket")(error),
    })?;
    let header = i32::try_from(VnetHeader::LEN).unwrap_or(0);
    set(fd.as_fd(), libc::PACKET_VNET_HDR_SZ, &header).map_err(|error| match error {
        Errno::ENOPROTOOPT => PacketPortError::OldKernel,
        error => kernel("receive offloaded frames")(error),
    })?;
    set(fd.as_fd(), libc::PACKET_AUXDATA, &1).map_err(kernel("receive VLAN tags"))?;
    set(fd.as_fd(), libc::PACKET_IGNORE_OUTGOING, &1).map_err(kernel("ignore outgoing frames"))?;
    // Without CAP_NET_ADMIN in the initial user namespace, net.core.rmem_max and wmem_max limit them.
    let _ = setsockopt(&fd, sockopt::RcvBufForce, &SOCKET_BUFFER)
        .or_else(|_| setsockopt(&fd, sockopt::RcvBuf, &SOCKET_BUFFER));
    let _ = setsockopt(&fd, sockopt::SndBufForce, &SOCKET_BUFFER)
        .or_else(|_| setsockopt(&fd, sockopt::SndBuf, &SOCKET_BUFFER));
    Ok(fd)
}

fn bind(fd: BorrowedFd<'_>, ifindex: u32) -> nix::Result<()> {
    // SAFETY: a sockaddr_ll of zeros is valid: any protocol, no device, no address.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET.unsigned_abs().try_into().unwrap_or(0);
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).unwrap_or(0).to_be();
    address.sll_ifindex = ifindex.cast_signed();
    // SAFETY: the kernel reads that many bytes through the pointer: `address`, which is whole and outlives the call.
    let bound =
        unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size::<libc::sockaddr_ll>()) };
    Errno::result(bound).map(drop)
}

fn make_promiscuous(fd: BorrowedFd<'_>, ifindex: u32) -> nix::Result<()> {
    let membership = libc::packet_mreq {
        mr_ifindex: ifindex.cast_signed(),
        mr_type: u16::try_from(libc::PACKET_MR_PROMISC).unwrap_or(0),
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set(fd, libc::PACKET_ADD_MEMBERSHIP, &membership)
}

/// Joins the group with this number, or a new one, and returns its number.
fn join_group(fd: BorrowedFd<'_>, group: Option<u16>) -> Result<u16, PacketPortError> {
    let unique = if group.is_none() { libc::PACKET_FANOUT_FLAG_UNIQUEID } else { 0 };
    let mode = libc::PACKET_FANOUT_HASH | libc::PACKET_FANOUT_FLAG_IGNORE_OUTGOING | unique;
    let request = libc::c_uint::from(group.unwrap_or(0)) | mode << 16;
    set(fd, libc::PACKET_FANOUT, &request).map_err(|error| match error {
        Errno::EINVAL => PacketPortError::Down,
        error => kernel("share the device among the workers")(error),
    })?;
    match group {
        Some(group) => Ok(group),
        // The low half is the number.
        None => get::<u32>(fd, libc::PACKET_FANOUT)
            .map(|joined| (joined & 0xffff).try_into().unwrap_or(0))
            .map_err(kernel("share the device among the workers")),
    }
}

fn set<T>(fd: BorrowedFd<'_>, option: libc::c_int, value: &T) -> nix::Result<()> {
    let value: *const T = value;
    // SAFETY: the kernel reads that many bytes through the pointer, which outlives the call.
    let set =
        unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, value.cast(), size::<T>()) };
    Errno::result(set).map(drop)
}

/// Reads an option whose value has type `T`, of which any bytes are valid.
fn get<T: Default>(fd: BorrowedFd<'_>, option: libc::c_int) -> nix::Result<T> {
    let (mut value, mut length) = (T::default(), size::<T>());
    let to = (&raw mut value).cast();
    // SAFETY: the kernel writes at most `length` bytes to `value`. Both outlive the call. `T` is a number or an array
    // of numbers.
    let got = unsafe { libc::getsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, to, &raw mut length) };
    Errno::result(got).map(|_| value)
}

fn size<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).unwrap_or(0)
}

/// Control's descriptors of a device's sockets, beside those that the workers have.
#[derive(Debug)]
pub struct PacketHandle {
    sockets: Vec<OwnedFd>,
    dropped: Cell<u64>,
}

impl PacketHandle {
    /// For the sockets that [`open`] returned.
    ///
    /// # Errors
    /// The process has all the files that it may open.
    pub fn new(queues: &[Queue]) -> io::Result<PacketHandle> {
        let sockets = queues.iter().map(|queue| queue.fd.try_clone()).collect::<io::Result<_>>()?;
        Ok(PacketHandle { sockets, dropped: Cell::new(0) })
    }

    /// Frames that were dropped because a socket's buffer was full.
    pub fn dropped(&self) -> u64 {
        // struct tpacket_stats: all frames, and those dropped, since the last call.
        let read = |socket: &OwnedFd| get::<[u32; 2]>(socket.as_fd(), libc::PACKET_STATISTICS);
        let dropped = self.sockets.iter().filter_map(|socket| read(socket).ok()).map(|[_, dropped]| dropped);
        self.dropped.update(|before| before + dropped.map(u64::from).sum::<u64>());
        self.dropped.get()
    }
}
