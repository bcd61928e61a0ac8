//! Requests to the kernel's routing netlink (rtnetlink(7)): sent together, answered one by one.
//!
//! The messages are those of `rtnetlink` and `netlink-packet-route`. The socket here is a blocking one without
//! a runtime: a socket belongs to the namespace of the thread that opened it, so each container takes one, for a
//! few milliseconds, on a thread that is gone afterwards; and all requests for a container go in one message.

use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Most bytes that the kernel puts in one answer to a dump (`nlmsg_new` in `netlink_dump`).
const ANSWER: usize = 64 << 10;

/// Why a request had no effect.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("the netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Refused {
        /** What was asked for. */
        what: String,
        /** Why not. */
        source: io::Error,
    },
    /// The kernel's answer cannot be read.
    #[error("the kernel's answer to '{what}' cannot be read: {fault}")]
    Malformed {
        /** What was asked for. */
        what: String,
        /** What is wrong with the answer. */
        fault: String,
    },
}

impl NetlinkError {
    /// The kernel's error number, if it refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            NetlinkError::Refused { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// One request, and what it is for, as in "cannot ...".
#[derive(Debug, Clone)]
pub struct NetlinkRequest {
    what: String,
    flags: u16,
    message: RouteNetlinkMessage,
}

impl NetlinkRequest {
    /// Changes something that is there.
    pub fn change(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        NetlinkRequest { what: what.into(), flags: NLM_F_REQUEST | NLM_F_ACK, message }
    }

    /// Makes something that must not be there yet.
    pub fn create(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        NetlinkRequest { what: what.into(), flags, message }
    }

    /// Puts something in the place of its like, which must be there.
    pub fn replace(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        NetlinkRequest { what: what.into(), flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE, message }
    }

    /// Asks for one thing.
    fn one(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        NetlinkRequest { what: what.into(), flags: NLM_F_REQUEST | NLM_F_ACK, message }
    }

    /// Asks for all things of a kind.
    fn all(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        NetlinkRequest { what: what.into(), flags: NLM_F_REQUEST | NLM_F_DUMP, message }
    }
}

/// A socket in the namespace of the thread that opened it.
pub struct Netlink {
    socket: Socket,
    sequence: u32,
}

impl std::fmt::Debug for Netlink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Netlink").field("sequence", &self.sequence).finish_non_exhaustive()
    }
}

impl Netlink {
    /// A socket in this thread's namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn open() -> Result<Netlink, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // An error's answer need not repeat the request.
        socket.set_cap_ack(true)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Makes all these changes, in order. The kernel goes on after one that it refuses.
    ///
    /// # Errors
    /// The first refusal.
    pub fn apply(&mut self, requests: &[NetlinkRequest]) -> Result<(), NetlinkError> {
        let first = self.send(requests)?;
        let mut refused = None;
        let mut answered = 0;
        while answered < requests.len() {
            for answer in self.receive("change the network")? {
                let place = answer.header.sequence_number.wrapping_sub(first) as usize;
                let (Some(request), NetlinkPayload::Error(ack)) = (requests.get(place), answer.payload)
                else {
                    continue;
                };
                answered += 1;
                if ack.code.is_some() && refused.is_none() {
                    refused = Some(refusal(&request.what, &ack));
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// The one thing that `message` asks for.
    ///
    /// # Errors
    /// The kernel has no such thing, or refused.
    pub fn one(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, NetlinkError> {
        let found = self.collect(&NetlinkRequest::one(what, message))?;
        let malformed = || NetlinkError::Malformed { what: what.to_owned(), fault: "it is empty".to_owned() };
        found.into_iter().next().ok_or_else(malformed)
    }

    /// All things of the kind that `message` asks for.
    ///
    /// # Errors
    /// The kernel refused.
    pub fn all(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        self.collect(&NetlinkRequest::all(what, message))
    }

    /// The answers to one request, up to the one that ends them: an acknowledgement, or the end of a dump.
    fn collect(&mut self, request: &NetlinkRequest) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let sequence = self.send(std::slice::from_ref(request))?;
        let mut found = Vec::new();
        loop {
            for answer in self.receive(&request.what)? {
                if answer.header.sequence_number != sequence {
                    continue;
                }
                match answer.payload {
                    NetlinkPayload::InnerMessage(message) => found.push(message),
                    NetlinkPayload::Error(ack) if ack.code.is_some() => {
                        return Err(refusal(&request.what, &ack));
                    }
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(found),
                    _ => {}
                }
            }
        }
    }

    /// Sends requests as one datagram. The first one's sequence number; the others follow it.
    fn send(&mut self, requests: &[NetlinkRequest]) -> Result<u32, NetlinkError> {
        let first = self.sequence.wrapping_add(1);
        let mut datagram = Vec::new();
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let mut message = NetlinkMessage::from(request.message.clone());
            message.header.flags = request.flags;
            message.header.sequence_number = self.sequence;
            message.finalize();
            let start = datagram.len();
            // Each message starts at a multiple of 4 (NLMSG_ALIGN).
            datagram.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut datagram[start..]);
        }
        self.socket.send(&datagram, 0)?;
        Ok(first)
    }

    /// The messages of one datagram.
    fn receive(&mut self, what: &str) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        let mut datagram = Vec::with_capacity(ANSWER);
        loop {
            match self.socket.recv(&mut datagram, 0) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        messages(&datagram)
            .collect::<Result<_, _>>()
            .map_err(|fault| NetlinkError::Malformed { what: what.to_owned(), fault })
    }
}

fn refusal(what: &str, ack: &netlink_packet_core::ErrorMessage) -> NetlinkError {
    NetlinkError::Refused { what: what.to_owned(), source: ack.to_io() }
}

/// The messages in a datagram, one after the other.
pub(super) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = Result<NetlinkMessage<RouteNetlinkMessage>, String>> {
    std::iter::from_fn(move || {
        if datagram.is_empty() {
            return None;
        }
        let message = NetlinkMessage::<RouteNetlinkMessage>::deserialize(datagram);
        let length = match &message {
            Ok(message) => (message.header.length as usize).next_multiple_of(4),
            Err(_) => datagram.len(),
        };
        // A length of nothing would be an endless loop.
        datagram = datagram.get(length.max(4)..).unwrap_or_default();
        Some(message.map_err(|error| error.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use netlink_packet_route::link::LinkMessage;

    use super::*;

    #[test]
    fn lists_links_of_this_namespace() {
        let mut netlink = Netlink::open().unwrap();
        let links =
            netlink.all("list the devices", RouteNetlinkMessage::GetLink(LinkMessage::default())).unwrap();
        assert!(links.iter().all(|link| matches!(link, RouteNetlinkMessage::NewLink(_))));
        assert!(!links.is_empty());
    }

    #[test]
    fn refusal_names_the_request() {
        let mut missing = LinkMessage::default();
        missing.header.index = i32::MAX as u32;
        let error =
            Netlink::open().unwrap().one("find a device", RouteNetlinkMessage::GetLink(missing)).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENODEV));
        assert!(error.to_string().starts_with("cannot find a device: "), "{error}");
    }

    #[test]
    fn stops_parsing_at_malformed_messages() {
        for junk in [&[0u8; 3][..], &[0; 16], &[0xff; 64]] {
            assert!(messages(junk).count() <= 16);
        }
    }
}
