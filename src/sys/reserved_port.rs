//! TCP and UDP ports of the host that no other program can bind.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use caps::Capability;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket, sockopt,
};

use super::caps::Raised;

/// A port that is bound and neither listens nor is read, until this is dropped.
#[derive(Debug)]
pub struct ReservedPort(#[allow(dead_code, reason = "held until dropped")] OwnedFd);

impl ReservedPort {
    /// Binds a port of this thread's network namespace. Without an address it is that of both IP versions, as far as
    /// the host has them.
    ///
    /// # Errors
    /// `EADDRINUSE`: another program has the port, or a connection in TIME-WAIT (RFC 9293 §3.6.1). `EADDRNOTAVAIL`: the
    /// host does not have the address.
    pub fn bind(kind: SockType, address: Option<IpAddr>, port: u16) -> io::Result<ReservedPort> {
        let only = |address: IpAddr| bound(kind, SocketAddr::new(address, port), address.is_ipv6());
        let both = || bound(kind, SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port), false);
        let socket = match (address, both) {
            (Some(address), _) => only(address),
            (None, both) => match both() {
                // A kernel without IPv6.
                Err(Errno::EAFNOSUPPORT | Errno::EADDRNOTAVAIL) => only(Ipv4Addr::UNSPECIFIED.into()),
                bound => bound,
            },
        };
        Ok(ReservedPort(socket?))
    }
}

fn bound(kind: SockType, address: SocketAddr, v6_only: bool) -> nix::Result<OwnedFd> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &v6_only)?;
    }
    // Datagrams that come in here anyway are dropped, soon. The kernel takes its least value.
    setsockopt(&socket, sockopt::RcvBuf, &0)?;
    // Ports below 1024.
    let _raised = Raised::new(&[Capability::CAP_NET_BIND_SERVICE]);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    /// A port that is free, most likely.
    fn free_port() -> u16 {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    }

    #[test]
    fn reserved_port_cannot_be_bound() {
        let port = free_port();
        let reserved = ReservedPort::bind(SockType::Stream, None, port).unwrap();
        let refused = TcpListener::bind(("127.0.0.1", port)).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        assert!(ReservedPort::bind(SockType::Stream, None, port).is_err());
        assert!(UdpSocket::bind(("127.0.0.1", port)).is_ok(), "the other protocol");
        drop(reserved);
        assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
    }

    #[test]
    fn reports_ports_in_use_and_foreign_addresses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let loopback = Some(Ipv4Addr::LOCALHOST.into());
        for address in [None, loopback, Some(Ipv4Addr::UNSPECIFIED.into())] {
            let error = ReservedPort::bind(SockType::Stream, address, port).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{address:?}");
        }
        let foreign = Some("192.0.2.77".parse().unwrap());
        let error = ReservedPort::bind(SockType::Datagram, foreign, port).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::AddrNotAvailable);
    }
}
