//! Sockets of services for the hosts behind one device.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use caps::Capability;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use super::caps::Raised;

/// Room for datagrams that wait for neighbours to be resolved, in bytes: 1024 neighbours, the kernel's limit, with 16
/// KiB each.
const SEND_BUFFER: usize = 16 << 20;

/// A datagram socket at an address of a device.
///
/// # Errors
/// Another program has the port, or there is no such device.
pub fn udp(ifname: &str, address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = bound(ifname, SockType::Datagram, address)?;
    let _raised = Raised::new(&[Capability::CAP_NET_ADMIN]);
    // Without the capability in the machine's first user namespace up to the limit `net.core.wmem_max`. The kernel
    // doubles it.
    setsockopt(&socket, sockopt::SndBufForce, &(SEND_BUFFER / 2))
        .or_else(|_| setsockopt(&socket, sockopt::SndBuf, &(SEND_BUFFER / 2)))?;
    Ok(socket)
}

/// A socket that listens at an address of a device.
///
/// # Errors
/// As [`udp`].
pub fn tcp(ifname: &str, address: SocketAddr) -> io::Result<OwnedFd> {
    let socket = bound(ifname, SockType::Stream, address)?;
    listen(&socket, Backlog::MAXCONN)?;
    Ok(socket)
}

/// It receives only from the device. The address need not be usable yet: duplicate address detection takes a while.
fn bound(ifname: &str, kind: SockType, address: SocketAddr) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, None)?;
    let _raised = Raised::new(&[Capability::CAP_NET_BIND_SERVICE, Capability::CAP_NET_RAW]);
    setsockopt(&socket, sockopt::BindToDevice, &ifname.into())?;
    setsockopt(&socket, sockopt::IpFreebind, &true)?;
    setsockopt(&socket, sockopt::ReuseAddr, &(kind == SockType::Stream))?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}
