//! Which frames the programs forward, whatever their ports are: what `program.rs` checks, in Rust, for explanations.

use std::net::IpAddr;

use crate::wire::ip::{has_loopback4, protocol};
use crate::wire::{EtherType, EthernetFrame};

/// What the egress needs to know about a frame that the programs forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suitable {
    /// An echo request, which the gateway may answer.
    EchoRequest,
    /// Anything else.
    Plain,
}

/// Why the programs leave a frame to the workers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unsuitable {
    /// To a reserved group: which of these are forwarded depends on the port.
    Reserved,
    /// Has a VLAN or priority tag.
    Tagged,
    /// Neighbours are told about addresses, which are checked: ARP, ICMP other than echo.
    Resolution,
    /// With options.
    Headers,
    /// IP without TCP, UDP or echo, behind extension headers, or in an LLC frame.
    Protocol,
    /// DHCP, in which the guard looks for a server or another MAC, and to which the switch may reply.
    Dhcp,
    /// From an address that starts with zeros.
    Source,
    /// From or to 127.0.0.0/8, of which nothing may reach the host.
    Loopback,
    /// Shorter than its headers.
    Short,
}

impl Unsuitable {
    /// A description for users.
    pub const fn text(self) -> &'static str {
        match self {
            Unsuitable::Reserved => "it is to a reserved group",
            Unsuitable::Tagged => "it has a VLAN tag",
            Unsuitable::Resolution => "it is ARP, neighbour discovery or another control message",
            Unsuitable::Headers => "it has IP options",
            Unsuitable::Protocol => "it is neither TCP nor UDP nor an echo message, or has extension headers",
            Unsuitable::Dhcp => "it is DHCP",
            Unsuitable::Source => "its source address starts with zeros",
            Unsuitable::Loopback => "it is from or to an address of 127.0.0.0/8",
            Unsuitable::Short => "it is shorter than its headers",
        }
    }
}

/// Bytes of the transport header that the programs read first.
const PORTS: usize = 4;

/// Checks a frame.
pub(super) fn check(frame: &[u8]) -> Result<Suitable, Unsuitable> {
    let ethernet = EthernetFrame::new_checked(frame).ok_or(Unsuitable::Short)?;
    if ethernet.dst().is_reserved() {
        return Err(Unsuitable::Reserved);
    }
    match ethernet.ethertype() {
        EtherType::IPV4 => ipv4(ethernet.payload()),
        EtherType::IPV6 => ipv6(ethernet.payload()),
        EtherType::ARP => Err(Unsuitable::Resolution),
        tag if tag.is_vlan() => Err(Unsuitable::Tagged),
        EtherType(other) if other < EtherType::FIRST => Err(Unsuitable::Protocol),
        _ => Ok(Suitable::Plain),
    }
}

/// The source address of an IP packet.
pub(super) fn source(ethernet: &EthernetFrame<'_>) -> Option<IpAddr> {
    let packet = ethernet.payload();
    match ethernet.ethertype() {
        EtherType::IPV4 => Some(IpAddr::from(<[u8; 4]>::try_from(packet.get(12..16)?).ok()?)),
        EtherType::IPV6 => Some(IpAddr::from(<[u8; 16]>::try_from(packet.get(8..24)?).ok()?)),
        _ => None,
    }
}

fn ipv4(packet: &[u8]) -> Result<Suitable, Unsuitable> {
    const OFFSET: u16 = 0x1fff;
    const ECHO_REPLY: u8 = 0;
    const ECHO_REQUEST: u8 = 8;
    let (header, rest) = packet.split_first_chunk::<20>().ok_or(Unsuitable::Short)?;
    let is_later = u16::from_be_bytes([header[6], header[7]]) & OFFSET != 0;
    match (header, header[9]) {
        ([.., 0, 0, 0, 0, _, _, _, _], _) => Err(Unsuitable::Source),
        _ if header[0] != 0x45 => Err(Unsuitable::Headers),
        _ if has_loopback4(packet) => Err(Unsuitable::Loopback),
        (_, protocol) if is_later => later_fragment(protocol),
        (_, protocol::ICMP) => icmp(rest, ECHO_REPLY, ECHO_REQUEST),
        (_, protocol) => transport(protocol, rest),
    }
}

fn ipv6(packet: &[u8]) -> Result<Suitable, Unsuitable> {
    const OFFSET: u16 = 0xfff8;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;
    let (header, rest) = packet.split_first_chunk::<40>().ok_or(Unsuitable::Short)?;
    match header[6] {
        _ if header[8..16] == [0; 8] => Err(Unsuitable::Source),
        protocol::FRAGMENT => {
            let (fragment, rest) = rest.split_first_chunk::<8>().ok_or(Unsuitable::Short)?;
            let is_later = u16::from_be_bytes([fragment[2], fragment[3]]) & OFFSET != 0;
            if is_later { later_fragment(fragment[0]) } else { transport(fragment[0], rest) }
        }
        protocol::ICMPV6 => icmp(rest, ECHO_REPLY, ECHO_REQUEST),
        protocol => transport(protocol, rest),
    }
}

fn later_fragment(protocol: u8) -> Result<Suitable, Unsuitable> {
    let is_known = [protocol::TCP, protocol::UDP].contains(&protocol);
    if is_known { Ok(Suitable::Plain) } else { Err(Unsuitable::Protocol) }
}

fn icmp(message: &[u8], reply: u8, request: u8) -> Result<Suitable, Unsuitable> {
    let [kind, ..] = message.first_chunk::<PORTS>().ok_or(Unsuitable::Short)?;
    match *kind {
        kind if kind == request => Ok(Suitable::EchoRequest),
        kind if kind == reply => Ok(Suitable::Plain),
        _ => Err(Unsuitable::Resolution),
    }
}

fn transport(protocol: u8, segment: &[u8]) -> Result<Suitable, Unsuitable> {
    let &[a, b, c, d] = segment.first_chunk::<PORTS>().ok_or(Unsuitable::Short)?;
    let [from, to] = [[a, b], [c, d]].map(u16::from_be_bytes);
    match protocol {
        protocol::UDP if [67, 547].contains(&from) || [67, 68, 546, 547].contains(&to) => {
            Err(Unsuitable::Dhcp)
        }
        protocol::TCP | protocol::UDP => Ok(Suitable::Plain),
        _ => Err(Unsuitable::Protocol),
    }
}
