//! Receives link notifications of this namespace, and of all namespaces that have an nsid here, on one socket
//! (`NETLINK_LISTEN_ALL_NSID`, netlink(7)).
//!
//! A notification says only *which* link changed. The caller then reads the link's state, so it never acts
//! on a state that is out of date. A namespace that is deleted loses its nsid before its devices are removed
//! (`cleanup_net` in `net/core/net_namespace.c`): the removal of the nsid is reported, that of the devices
//! is not.

use std::io::{self, IoSliceMut};
use std::net::IpAddr;
use std::os::fd::AsRawFd;

use ipnet::IpNet;
use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netlink::messages;

/// Room for the notifications of many ports at once. When it is full, the kernel reports an overrun
/// (`ENOBUFS`).
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
/// Larger than any single notification.
const DATAGRAM: usize = 32 << 10;

/// The nsid of a namespace in the socket's own namespace; `None` for that namespace itself.
pub type Nsid = Option<i32>;

/// What changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkNotification {
    /// A link was changed or removed.
    Link {
        /** The nsid of its namespace. */
        nsid: Nsid,
        /** Its index in that namespace. */
        ifindex: u32,
    },
    /// An address of a link in a namespace was added.
    AddressAdded {
        /** The nsid of its namespace. */
        nsid: Nsid,
        /** The index of the link in that namespace. */
        ifindex: u32,
        /** The address. */
        address: IpNet,
    },
    /// An address of a link in a namespace was removed.
    AddressRemoved {
        /** The nsid of its namespace. */
        nsid: Nsid,
        /** The index of the link in that namespace. */
        ifindex: u32,
        /** The address. */
        address: IpNet,
    },
    /// A namespace, with all its links, is being removed.
    NetnsRemoved(i32),
    /// Notifications were lost: anything may have changed.
    Overrun,
}

/// The netlink socket.
pub struct LinkMonitor {
    socket: AsyncFd<Socket>,
}

impl std::fmt::Debug for LinkMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkMonitor").finish_non_exhaustive()
    }
}

impl LinkMonitor {
    /// Opens the socket in this thread's namespace. Must be called within a Tokio runtime.
    ///
    /// # Errors
    /// The socket, or one of its options, was refused.
    pub fn open() -> io::Result<LinkMonitor> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        socket.set_listen_all_namespaces(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(libc::RTNLGRP_LINK)?;
        socket.add_membership(libc::RTNLGRP_NSID)?;
        socket.add_membership(libc::RTNLGRP_IPV4_IFADDR)?;
        socket.add_membership(libc::RTNLGRP_IPV6_IFADDR)?;
        // SAFETY: `Socket` owns its descriptor, always returns the same one, and closes it only when it is
        // dropped. It moves into the private `AsyncFd`, which no caller gets by value or mutably.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(LinkMonitor { socket: socket.map_err(io::Error::from)? })
    }

    /// Waits for the notifications of the next datagram. Cancel-safe.
    ///
    /// # Errors
    /// The socket failed permanently.
    pub async fn next(&self) -> io::Result<Vec<LinkNotification>> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(vec![LinkNotification::Overrun]);
                }
                Ok(Ok(notifications)) if notifications.is_empty() => {}
                Ok(notifications) => return notifications,
                Err(_would_block) => {}
            }
        }
    }
}

fn receive(socket: &Socket) -> io::Result<Vec<LinkNotification>> {
    let mut datagram = [0; DATAGRAM];
    let mut control = nix::cmsg_space!(libc::c_int);
    let (length, nsid) = {
        let mut parts = [IoSliceMut::new(&mut datagram)];
        let received = loop {
            match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
                Err(Errno::EINTR) => {}
                received => break received?,
            }
        };
        let nsid = received.cmsgs()?.find_map(|message| nsid_of(&message));
        (received.bytes, nsid)
    };
    let read = messages(&datagram[..length]).map(|message| message.map(|message| message.payload));
    let notifications = read.filter_map(|payload| match payload {
        Ok(NetlinkPayload::InnerMessage(message)) => classify(&message, nsid),
        Ok(_) => None,
        // A message that cannot be parsed may have been about any link.
        Err(_) => Some(LinkNotification::Overrun),
    });
    Ok(notifications.collect())
}

fn nsid_of(message: &ControlMessageOwned) -> Nsid {
    let ControlMessageOwned::Unknown(unknown) = message else { return None };
    let header = unknown.cmsg_header;
    if (header.cmsg_level, header.cmsg_type) != (libc::SOL_NETLINK, libc::NETLINK_LISTEN_ALL_NSID) {
        return None;
    }
    unknown.data_bytes.first_chunk().map(|bytes| i32::from_ne_bytes(*bytes))
}

fn classify(message: &RouteNetlinkMessage, nsid: Nsid) -> Option<LinkNotification> {
    match message {
        RouteNetlinkMessage::NewLink(link) | RouteNetlinkMessage::DelLink(link) => {
            Some(LinkNotification::Link { nsid, ifindex: link.header.index })
        }
        RouteNetlinkMessage::NewAddress(message) => {
            let (ifindex, address) = address_in(message)?;
            Some(LinkNotification::AddressAdded { nsid, ifindex, address })
        }
        RouteNetlinkMessage::DelAddress(message) => {
            let (ifindex, address) = address_in(message)?;
            Some(LinkNotification::AddressRemoved { nsid, ifindex, address })
        }
        // The nsids that other namespaces have for each other do not matter here.
        RouteNetlinkMessage::DelNsId(gone) if nsid.is_none() => {
            nsid_in(gone).map(LinkNotification::NetnsRemoved)
        }
        _ => None,
    }
}

/// The index of a link, and its address: `IFA_LOCAL`, or `IFA_ADDRESS` where there is no peer (rtnetlink(7)).
fn address_in(message: &AddressMessage) -> Option<(u32, IpNet)> {
    let find = |wanted: fn(&AddressAttribute) -> Option<IpAddr>| message.attributes.iter().find_map(wanted);
    let local = find(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = local.or_else(|| {
        find(|attribute| match attribute {
            AddressAttribute::Address(address) => Some(*address),
            _ => None,
        })
    });
    Some((message.header.index, IpNet::new(address?, message.header.prefix_len).ok()?))
}

/// The nsid in a message.
pub fn nsid_in(message: &NsidMessage) -> Nsid {
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    })
}
