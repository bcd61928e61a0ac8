//! Requests to rtnetlink(7): several requests in one datagram, and one acknowledgement for each.
//!
//! The messages are those of `rtnetlink` and `netlink-packet-route`. The socket is blocking and needs no
//! async runtime: a socket belongs to the namespace of the thread that opened it, so each container needs
//! one for a few milliseconds, on a thread that ends afterwards. All requests for a container go in one
//! datagram.

use std::io;
use std::ops::ControlFlow;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkMessage,
    NetlinkPayload,
};
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// The largest datagram that the kernel sends for a dump (`nlmsg_new` in `netlink_dump`).
const RESPONSE: usize = 64 << 10;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The socket failed.
    #[error("the netlink socket failed: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused.
    #[error("cannot {what}: {source}")]
    Refused {
        /** The request. */
        what: String,
        /** The kernel's error. */
        source: io::Error,
    },
    /// The kernel's response cannot be parsed.
    #[error("cannot parse the kernel's response to '{what}': {fault}")]
    Malformed {
        /** The request. */
        what: String,
        /** What is wrong with the response. */
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

/// One request, with a description that completes "cannot ...".
#[derive(Debug, Clone)]
pub struct NetlinkRequest {
    what: String,
    flags: u16,
    message: RouteNetlinkMessage,
}

impl NetlinkRequest {
    /// Changes an object that exists.
    pub fn change(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        NetlinkRequest { what: what.into(), flags: NLM_F_REQUEST | NLM_F_ACK, message }
    }

    /// Creates an object that must not exist yet (`NLM_F_EXCL`).
    pub fn create(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        let flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
        NetlinkRequest { what: what.into(), flags, message }
    }

    /// Replaces an object, which must exist (`NLM_F_REPLACE`).
    pub fn replace(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        NetlinkRequest { what: what.into(), flags: NLM_F_REQUEST | NLM_F_ACK | NLM_F_REPLACE, message }
    }

    /// Gets one object.
    fn one(what: impl Into<String>, message: RouteNetlinkMessage) -> NetlinkRequest {
        NetlinkRequest { what: what.into(), flags: NLM_F_REQUEST | NLM_F_ACK, message }
    }

    /// Gets all objects of a kind (`NLM_F_DUMP`).
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
    /// Opens a socket in this thread's namespace.
    ///
    /// # Errors
    /// [`NetlinkError::Socket`].
    pub fn open() -> Result<Netlink, NetlinkError> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Acknowledgements do not repeat the request.
        socket.set_cap_ack(true)?;
        Ok(Netlink { socket, sequence: 0 })
    }

    /// Sends all requests, in order. The kernel continues after one that it refuses.
    ///
    /// # Errors
    /// The first refusal.
    pub fn apply(&mut self, requests: &[NetlinkRequest]) -> Result<(), NetlinkError> {
        let first = self.send(requests)?;
        let mut refused = None;
        let mut acknowledged = 0;
        while acknowledged < requests.len() {
            for response in self.receive("change the network")? {
                let place = response.header.sequence_number.wrapping_sub(first) as usize;
                let (Some(request), NetlinkPayload::Error(ack)) = (requests.get(place), response.payload)
                else {
                    continue;
                };
                acknowledged += 1;
                if ack.code.is_some() && refused.is_none() {
                    refused = Some(refusal(&request.what, &ack));
                }
            }
        }
        refused.map_or(Ok(()), Err)
    }

    /// Gets the object that `message` names.
    ///
    /// # Errors
    /// There is no such object, or the kernel refused.
    pub fn one(
        &mut self,
        what: &str,
        message: RouteNetlinkMessage,
    ) -> Result<RouteNetlinkMessage, NetlinkError> {
        let found = self.collect(&NetlinkRequest::one(what, message))?;
        let malformed = || NetlinkError::Malformed { what: what.to_owned(), fault: "it is empty".to_owned() };
        found.into_iter().next().ok_or_else(malformed)
    }

    /// Gets all objects of the kind that `message` names.
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

    /// Passes the objects of the kind that `message` names to `visit`, until it breaks with a value. The kernel does
    /// not list the rest then, but what it has listed stays in the socket, which can therefore not be used again. It
    /// lists only objects that fit the fields of `message` (`NETLINK_GET_STRICT_CHK`).
    ///
    /// # Errors
    /// The kernel refused.
    pub fn scan<B>(
        mut self,
        what: &str,
        message: RouteNetlinkMessage,
        mut visit: impl FnMut(RouteNetlinkMessage) -> ControlFlow<B>,
    ) -> Result<Option<B>, NetlinkError> {
        self.socket.set_netlink_get_strict_chk(true)?;
        self.send(&[NetlinkRequest::all(what, message)])?;
        loop {
            for response in self.receive(what)? {
                match response.payload {
                    NetlinkPayload::InnerMessage(message) => {
                        if let ControlFlow::Break(value) = visit(message) {
                            return Ok(Some(value));
                        }
                    }
                    NetlinkPayload::Error(ack) if ack.code.is_some() => return Err(refusal(what, &ack)),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(None),
                    _ => {}
                }
            }
        }
    }

    /// The responses to one request, up to its acknowledgement or the end of the dump.
    fn collect(&mut self, request: &NetlinkRequest) -> Result<Vec<RouteNetlinkMessage>, NetlinkError> {
        let sequence = self.send(std::slice::from_ref(request))?;
        let mut found = Vec::new();
        loop {
            for response in self.receive(&request.what)? {
                if response.header.sequence_number != sequence {
                    continue;
                }
                match response.payload {
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

    /// Sends requests in one datagram. Returns the sequence number of the first; the others follow it.
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

    /// Receives the messages of one datagram.
    fn receive(&mut self, what: &str) -> Result<Vec<NetlinkMessage<RouteNetlinkMessage>>, NetlinkError> {
        let mut datagram = Vec::with_capacity(RESPONSE);
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

/// Parses the messages of a datagram.
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
        // A length of 0 would loop forever.
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
