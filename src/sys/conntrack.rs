//! Deletes entries of connection tracking (ctnetlink: Linux `net/netfilter/nf_conntrack_netlink.c`).
//!
//! An entry keeps the translation of its first packet, whatever the rules of NAT say afterwards, until the connection
//! ends. One for UDP stays as long as a host sends from the same port.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{
    DefaultNla, Emitable, NLA_HEADER_SIZE, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR,
    NetlinkBuffer, NetlinkHeader, NlaBuffer, NlasIterator, Parseable,
};
use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddress, protocols::NETLINK_NETFILTER};

/// `NFNL_SUBSYS_CTNETLINK`, in the high byte of a message's type.
const CTNETLINK: u16 = 1 << 8;
const GET: u16 = CTNETLINK | 1;
const DELETE: u16 = CTNETLINK | 2;
/// Length of `struct nfgenmsg`, which precedes the attributes. Its first byte is the family.
const NFGENMSG: usize = 4;
/// Larger than any datagram of a dump.
const DATAGRAM: usize = 64 << 10;

/// Attributes of an entry (`enum ctattr_type` in `nfnetlink_conntrack.h`): the addresses of its first packet, a number,
/// a zone that is not the default one.
mod entry {
    pub(super) const TUPLE: u16 = 1;
    pub(super) const ID: u16 = 12;
    pub(super) const ZONE: u16 = 18;
}

/// Attributes of addresses (`enum ctattr_tuple`, `ctattr_ip`, `ctattr_l4proto`).
mod tuple {
    pub(super) const IP: u16 = 1;
    pub(super) const PROTOCOL: u16 = 2;
    pub(super) const IPV4_DESTINATION: u16 = 2;
    pub(super) const IPV6_DESTINATION: u16 = 4;
    pub(super) const PROTOCOL_NUMBER: u16 = 1;
    pub(super) const DESTINATION_PORT: u16 = 3;
}

/// Deletes the entries of connections for which `is_meant` holds, in this thread's namespace. The arguments are the
/// protocol number and the destination of the first packet. Their next packets are new ones for the rules of NAT.
///
/// # Errors
/// The kernel has no connection tracking, or refused.
pub fn delete(is_meant: impl Fn(u8, SocketAddr) -> bool) -> io::Result<()> {
    let mut conntrack = Conntrack::open()?;
    let entries = conntrack.find(is_meant)?;
    entries.iter().try_for_each(|entry| conntrack.delete(entry))
}

/// What identifies an entry.
#[derive(Debug, PartialEq, Eq)]
struct ConntrackEntry {
    family: u8,
    attributes: Vec<DefaultNla>,
}

impl ConntrackEntry {
    /// The entry in a message, with the protocol and the destination of its first packet; `None` if that has no ports.
    fn parse(payload: &[u8]) -> Option<(ConntrackEntry, u8, SocketAddr)> {
        let (header, attributes) = payload.split_at_checked(NFGENMSG)?;
        let (protocol, destination) = destination(attribute(attributes, entry::TUPLE)?)?;
        let kept = valid(attributes)
            .filter(|attribute| [entry::TUPLE, entry::ZONE, entry::ID].contains(&attribute.kind()))
            .filter_map(|attribute| DefaultNla::parse(&attribute).ok());
        Some((ConntrackEntry { family: header[0], attributes: kept.collect() }, protocol, destination))
    }
}

/// The protocol and the destination of a packet with these addresses.
fn destination(addresses: &[u8]) -> Option<(u8, SocketAddr)> {
    let (ip, upper) = (attribute(addresses, tuple::IP)?, attribute(addresses, tuple::PROTOCOL)?);
    let protocol = *attribute(upper, tuple::PROTOCOL_NUMBER)?.first()?;
    let port = attribute(upper, tuple::DESTINATION_PORT)?.try_into().ok()?;
    let ipv4 = || Some(IpAddr::from(<[u8; 4]>::try_from(attribute(ip, tuple::IPV4_DESTINATION)?).ok()?));
    let ipv6 = || Some(IpAddr::from(<[u8; 16]>::try_from(attribute(ip, tuple::IPV6_DESTINATION)?).ok()?));
    Some((protocol, SocketAddr::new(ipv4().or_else(ipv6)?, u16::from_be_bytes(port))))
}

/// The value of an attribute.
fn attribute(attributes: &[u8], kind: u16) -> Option<&[u8]> {
    let found = valid(attributes).find(|attribute| attribute.kind() == kind)?;
    let end = usize::from(found.length());
    found.into_inner().get(NLA_HEADER_SIZE..end)
}

fn valid(attributes: &[u8]) -> impl Iterator<Item = NlaBuffer<&[u8]>> {
    NlasIterator::new(attributes).map_while(Result::ok)
}

/// A socket in the namespace of the thread that opened it.
struct Conntrack {
    socket: Socket,
}

impl Conntrack {
    fn open() -> io::Result<Conntrack> {
        let mut socket = Socket::new(NETLINK_NETFILTER)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddress::new(0, 0))?;
        Ok(Conntrack { socket })
    }

    fn find(&mut self, is_meant: impl Fn(u8, SocketAddr) -> bool) -> io::Result<Vec<ConntrackEntry>> {
        self.send(GET, NLM_F_DUMP, &ConntrackEntry { family: 0, attributes: Vec::new() })?;
        let mut found = Vec::new();
        loop {
            for message in messages(&self.receive()?) {
                match message.message_type() {
                    NLMSG_DONE => return Ok(found),
                    NLMSG_ERROR => return acknowledged(message.payload()).map(|()| found),
                    _ => {
                        let entry = ConntrackEntry::parse(message.payload());
                        let meant = entry.filter(|(_, protocol, to)| is_meant(*protocol, *to));
                        found.extend(meant.map(|(entry, ..)| entry));
                    }
                }
            }
        }
    }

    /// Deletes an entry. It is not an error if it is gone already.
    fn delete(&mut self, entry: &ConntrackEntry) -> io::Result<()> {
        self.send(DELETE, NLM_F_ACK, entry)?;
        let datagram = self.receive()?;
        let answer = messages(&datagram).find(|message| message.message_type() == NLMSG_ERROR);
        match answer.map_or(Ok(()), |message| acknowledged(message.payload())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            answer => answer,
        }
    }

    fn send(&self, kind: u16, flags: u16, entry: &ConntrackEntry) -> io::Result<()> {
        self.socket.send(&message(kind, flags | NLM_F_REQUEST, entry), 0).map(drop)
    }

    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut datagram = Vec::with_capacity(DATAGRAM);
        self.socket.recv(&mut datagram, 0)?;
        Ok(datagram)
    }
}

fn message(kind: u16, flags: u16, entry: &ConntrackEntry) -> Vec<u8> {
    let start = NetlinkHeader::default().buffer_len() + NFGENMSG;
    let mut bytes = vec![0; start + entry.attributes.as_slice().buffer_len()];
    let mut header = NetlinkHeader::default();
    (header.message_type, header.flags) = (kind, flags);
    header.length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    header.emit(&mut bytes);
    bytes[start - NFGENMSG] = entry.family;
    entry.attributes.as_slice().emit(&mut bytes[start..]);
    bytes
}

/// The messages of a datagram.
fn messages(mut datagram: &[u8]) -> impl Iterator<Item = NetlinkBuffer<&[u8]>> {
    std::iter::from_fn(move || {
        let message = NetlinkBuffer::new_checked(datagram).ok()?;
        let length = (message.length() as usize).next_multiple_of(4);
        datagram = datagram.get(length..).unwrap_or_default();
        Some(message)
    })
}

/// The error in a `struct nlmsgerr`; none in an acknowledgement.
fn acknowledged(payload: &[u8]) -> io::Result<()> {
    match payload.first_chunk().map(|code| i32::from_ne_bytes(*code)) {
        Some(0) => Ok(()),
        Some(code) => Err(io::Error::from_raw_os_error(code.wrapping_neg())),
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

#[cfg(test)]
mod tests {
    use netlink_packet_core::{NLA_F_NESTED, Nla};

    use super::*;
    use crate::wire::ip::protocol::{TCP, UDP};

    fn nested(kind: u16, attributes: &[DefaultNla]) -> DefaultNla {
        let mut value = vec![0; attributes.buffer_len()];
        attributes.emit(&mut value);
        DefaultNla::new(kind | NLA_F_NESTED, value)
    }

    /// An entry for packets to 203.0.113.1:`port`.
    fn entry(number: u8, port: u16) -> ConntrackEntry {
        let ip = nested(tuple::IP, &[DefaultNla::new(tuple::IPV4_DESTINATION, vec![203, 0, 113, 1])]);
        let port = DefaultNla::new(tuple::DESTINATION_PORT, port.to_be_bytes().to_vec());
        let upper = nested(tuple::PROTOCOL, &[DefaultNla::new(tuple::PROTOCOL_NUMBER, vec![number]), port]);
        let id = DefaultNla::new(entry::ID, vec![0, 0, 0, 7]);
        ConntrackEntry { family: 2, attributes: vec![nested(entry::TUPLE, &[ip, upper]), id] }
    }

    #[test]
    fn an_entry_is_named_as_the_kernel_listed_it() {
        let listed = [message(0, 0, &entry(UDP, 53)), message(0, 0, &entry(TCP, 80))].concat();
        let parsed: Vec<_> =
            messages(&listed).filter_map(|message| ConntrackEntry::parse(message.payload())).collect();
        let to = |text: &str| text.parse().unwrap();
        let expected =
            [(entry(UDP, 53), UDP, to("203.0.113.1:53")), (entry(TCP, 80), TCP, to("203.0.113.1:80"))];
        assert_eq!(parsed, expected);
        assert_eq!(parsed[0].0.attributes[1].kind(), entry::ID);
    }

    #[test]
    fn rejects_malformed_messages() {
        for payload in [&[][..], &[2, 0, 0], &[2, 0, 0, 0], &[2, 0, 0, 0, 9, 0, 1, 0x80, 1]] {
            assert_eq!(ConntrackEntry::parse(payload), None);
        }
        let mut torn = message(0, 0, &entry(UDP, 53));
        torn.pop();
        assert_eq!(messages(&torn).count(), 0);
    }

    #[test]
    fn answers_of_the_kernel() {
        assert!(acknowledged(&[0; 20]).is_ok());
        let refused = acknowledged(&(-libc::ENOENT).to_ne_bytes()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::NotFound);
        assert!(acknowledged(&[]).is_err());
    }
}
