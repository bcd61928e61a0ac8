//! Which frames the programs forward, whatever their ports are: what `program.rs` checks, in Rust, for explanations.

use std::net::IpAddr;

use crate::wire::ip::has_loopback4;
use crate::wire::{EtherType, EthernetFrame};

/// What the egress needs to know about a frame that the programs forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Suitable {
    /// An echo request or reply, which the gateway may answer.
    Echo,
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
    /// A fragment, or with options or extension headers.
    Headers,
    /// IP without TCP, UDP or echo, or in an LLC frame.
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
            Unsuitable::Headers => "it is a fragment, or has options or extension headers",
            Unsuitable::Protocol => "it is neither TCP nor UDP nor an echo message",
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
    const HEADER: usize = 20;
    let (header, rest) = split::<HEADER>(packet)?;
    if header[0] != 0x45 || u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0 {
        return Err(Unsuitable::Headers);
    }
    match header {
        [.., 0, 0, 0, 0, _, _, _, _] => Err(Unsuitable::Source),
        _ if has_loopback4(packet) => Err(Unsuitable::Loopback),
        _ => transport(header[9], rest, (1, [0, 8])),
    }
}

fn ipv6(packet: &[u8]) -> Result<Suitable, Unsuitable> {
    const HEADER: usize = 40;
    let (header, rest) = split::<HEADER>(packet)?;
    if header[8..16] == [0; 8] {
        return Err(Unsuitable::Source);
    }
    transport(header[6], rest, (58, [128, 129]))
}

/// A header, and the beginning of what follows.
fn split<const N: usize>(packet: &[u8]) -> Result<(&[u8; N], [u8; PORTS]), Unsuitable> {
    let (header, rest) = packet.split_first_chunk::<N>().ok_or(Unsuitable::Short)?;
    Ok((header, *rest.first_chunk().ok_or(Unsuitable::Short)?))
}

/// `icmp`: the number of the protocol, and its types of echo messages.
fn transport(protocol: u8, start: [u8; PORTS], icmp: (u8, [u8; 2])) -> Result<Suitable, Unsuitable> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let [a, b, c, d] = start;
    let [from, to] = [[a, b], [c, d]].map(u16::from_be_bytes);
    match protocol {
        UDP if [67, 547].contains(&from) || [67, 68, 546, 547].contains(&to) => Err(Unsuitable::Dhcp),
        TCP | UDP => Ok(Suitable::Plain),
        icmp_number if icmp_number == icmp.0 && icmp.1.contains(&a) => Ok(Suitable::Echo),
        icmp_number if icmp_number == icmp.0 => Err(Unsuitable::Resolution),
        _ => Err(Unsuitable::Protocol),
    }
}
