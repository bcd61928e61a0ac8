//! A socket for ICMP messages (raw(7)).

use std::io;
use std::net::UdpSocket;

use caps::Capability;
use nix::sys::socket::{AddressFamily, SockFlag, SockProtocol, SockType, socket};

use super::caps::Raised;

/// Opens a socket in the calling thread's namespace. It sends ICMP messages, and receives IPv4 packets with all of
/// them.
///
/// # Errors
/// The thread does not have `CAP_NET_RAW`.
pub fn open() -> io::Result<UdpSocket> {
    let _raised = Raised::new(&[Capability::CAP_NET_RAW]);
    let fd = socket(AddressFamily::Inet, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::Icmp)?;
    // Connecting, sending and receiving are the same for both.
    Ok(UdpSocket::from(fd))
}
