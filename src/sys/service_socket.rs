//! Sockets of services for the hosts behind one device.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use caps::Capability;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrStorage, bind, listen, setsockopt, socket, sockopt,
};

use super::caps::Raised;

/// A datagram socket at an address of a device.
///
/// # Errors
/// Another program has the port, or there is no such device.
pub fn udp(ifname: &str, address: SocketAddr) -> io::Result<OwnedFd> {
    bound(ifname, SockType::Datagram, address)
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
