//! Hears of changes to links, in this namespace and in all that have an nsid here, on one socket
//! (`NETLINK_LISTEN_ALL_NSID`, netlink(7)).
//!
//! What is reported is only *where* something changed: the listener looks for itself, so it never acts on
//! news that other news has overtaken. A namespace that is deleted loses its nsid before its
//! devices go (`cleanup_net` in `net/core/net_namespace.c`): of them nothing is heard, but of the nsid.

use std::io::{self, IoSliceMut};
use std::os::fd::AsRawFd;

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::nsid::{NsidAttribute, NsidMessage};
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netlink::messages;

/// Room for the news of many ports at once; what does not fit is an overrun.
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
/// More than any one notification has.
const DATAGRAM: usize = 32 << 10;

/// A namespace as seen from the listener's: its nsid there, or none for its own.
pub type Nsid = Option<i32>;

/// Where something changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkNotification {
    /// A link in a namespace: changed, or gone.
    Link {
        /** Of the namespace. */
        nsid: Nsid,
        /** Of the link, there. */
        ifindex: u32,
    },
    /// A namespace is going, and its links with it.
    NetnsRemoved(i32),
    /// There was more news than room: anything may have changed.
    Overrun,
}

/// The listening socket.
pub struct LinkMonitor {
    socket: AsyncFd<Socket>,
}

impl std::fmt::Debug for LinkMonitor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LinkMonitor").finish_non_exhaustive()
    }
}

impl LinkMonitor {
    /// Listens from this thread's namespace. To be called within a Tokio runtime.
    ///
    /// # Errors
    /// The kernel refused the socket or an option.
    pub fn open() -> io::Result<LinkMonitor> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.set_rx_buf_sz(RECEIVE_BUFFER)?;
        socket.set_listen_all_namespaces(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(libc::RTNLGRP_LINK)?;
        socket.add_membership(libc::RTNLGRP_NSID)?;
        // SAFETY: `Socket` owns its descriptor, always returns that one, and closes it only when it is dropped. It
        // moves into the `AsyncFd`, which is private here and gives it to nobody by value or mutably.
        let socket = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(LinkMonitor { socket: socket.map_err(io::Error::from)? })
    }

    /// The next news: what one datagram brings. Cancel-safe.
    ///
    /// # Errors
    /// The socket failed for good.
    pub async fn next(&self) -> io::Result<Vec<LinkNotification>> {
        loop {
            let mut ready = self.socket.readable().await?;
            match ready.try_io(|socket| receive(socket.get_ref())) {
                Ok(Err(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => {
                    return Ok(vec![LinkNotification::Overrun]);
                }
                Ok(Ok(news)) if news.is_empty() => {}
                Ok(news) => return news,
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
    let news = read.filter_map(|payload| match payload {
        Ok(NetlinkPayload::InnerMessage(message)) => classify(&message, nsid),
        Ok(_) => None,
        // A message that we cannot read may have been about anything.
        Err(_) => Some(LinkNotification::Overrun),
    });
    Ok(news.collect())
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
        // Other namespaces' own views of each other do not matter here.
        RouteNetlinkMessage::DelNsId(gone) if nsid.is_none() => {
            nsid_in(gone).map(LinkNotification::NetnsRemoved)
        }
        _ => None,
    }
}

/// The nsid that a message is about.
pub fn nsid_in(message: &NsidMessage) -> Nsid {
    message.attributes.iter().find_map(|attribute| match attribute {
        NsidAttribute::Id(id) if *id >= 0 => Some(*id),
        _ => None,
    })
}
