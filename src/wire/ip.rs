//! IPv4 (RFC 791) and IPv6 (RFC 8200) packets, as far as the switch must understand them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4HeaderSlice, Ipv6ExtensionsSlice, Ipv6HeaderSlice};

use super::checksum::checksum;
use super::upper_layer::UpperLayer;

/// The IPv4 and the IPv6 addresses, in their order.
pub fn by_version(addresses: impl IntoIterator<Item = IpAddr>) -> (Vec<Ipv4Addr>, Vec<Ipv6Addr>) {
    let (mut ipv4, mut ipv6) = (Vec::new(), Vec::new());
    for address in addresses {
        match address {
            IpAddr::V4(address) => ipv4.push(address),
            IpAddr::V6(address) => ipv6.push(address),
        }
    }
    (ipv4, ipv6)
}

/// A protocol number (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// Hop-by-hop options of IPv6 (RFC 8200 §4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
    /// IGMP (RFC 3376).
    pub const IGMP: u8 = 2;
    /// TCP (RFC 9293).
    pub const TCP: u8 = 6;
    /// UDP (RFC 768).
    pub const UDP: u8 = 17;
    /// Routing header of IPv6 (RFC 8200 §4.4).
    pub const ROUTING: u8 = 43;
    /// Fragment header of IPv6 (RFC 8200 §4.5).
    pub const FRAGMENT: u8 = 44;
    /// ICMPv6 (RFC 4443).
    pub const ICMPV6: u8 = 58;
    /// Destination options of IPv6 (RFC 8200 §4.6).
    pub const DESTINATION_OPTIONS: u8 = 60;
    /// PIM (RFC 7761).
    pub const PIM: u8 = 103;
}

/// The source address of an IPv4 packet; `None` if its header is truncated. Options, length and checksum do not
/// matter.
#[inline]
pub fn source4(packet: &[u8]) -> Option<Ipv4Addr> {
    let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
    Some(Ipv4Addr::new(header[12], header[13], header[14], header[15]))
}

/// Whether an IPv4 packet is from or to 127.0.0.0/8, which must not appear outside a host (RFC 1122 §3.2.1.3).
#[inline]
pub fn has_loopback4(packet: &[u8]) -> bool {
    const NETWORK: u8 = 127;
    packet.first_chunk::<IPV4_HEADER>().is_some_and(|header| [header[12], header[16]].contains(&NETWORK))
}

/// The source address of an IPv6 packet; `None` if its header is truncated.
#[inline]
pub fn source6(packet: &[u8]) -> Option<Ipv6Addr> {
    let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
    header[8..24].first_chunk::<16>().map(|octets| Ipv6Addr::from(*octets))
}

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_HEADER: usize = 40;
/// Time to live or hop limit of a packet that we send (RFC 1700, "IP time to live parameter").
pub const DEFAULT_HOPS: u8 = 64;

/// A whole IPv4 packet with a valid header checksum.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    /// Source address.
    pub source: Ipv4Addr,
    /// Destination address.
    pub destination: Ipv4Addr,
    /// Protocol number, see [`protocol`].
    pub protocol: u8,
    /// Length of the header: [`IPV4_HEADER`] if it has no options.
    pub header: usize,
    /// It is a fragment.
    pub fragment: bool,
    /// The payload, without padding.
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// Parses the packet at the start of `bytes`. Padding may follow.
    pub fn parse(bytes: &'a [u8]) -> Option<Ipv4<'a>> {
        let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        let bytes = bytes.get(..usize::from(header.total_len()))?;
        if checksum(header.slice()) != 0 {
            return None;
        }
        let length = header.slice().len();
        Some(Ipv4 {
            source: header.source_addr(),
            destination: header.destination_addr(),
            protocol: header.protocol().0,
            header: length,
            fragment: header.is_fragmenting_payload(),
            payload: bytes.get(length..)?,
        })
    }
}

/// The protocol field is ICMP.
#[inline]
pub fn is_icmp4(packet: &[u8]) -> bool {
    const PROTOCOL: usize = 9;
    packet.get(PROTOCOL) == Some(&protocol::ICMP)
}

/// The next header is TCP or UDP, without extension headers.
#[inline]
pub fn is_plain_transport6(packet: &[u8]) -> bool {
    const NEXT_HEADER: usize = 6;
    matches!(packet.get(NEXT_HEADER), Some(&(protocol::TCP | protocol::UDP)))
}

/// Length of the headers before the transport header of an IPv4 packet; `None` for ICMP or if it is empty.
#[inline]
pub fn transport4(packet: &[u8]) -> Option<usize> {
    let words = packet.first()? & 0xf;
    (!is_icmp4(packet)).then_some(IPV4_HEADER.max(usize::from(words) * 4))
}

/// Length of the headers before the transport header of an IPv6 packet; `None` for ICMPv6 or if the headers
/// are malformed.
#[inline]
pub fn transport6(packet: &[u8]) -> Option<usize> {
    if is_plain_transport6(packet) {
        return Some(IPV6_HEADER);
    }
    let upper = UpperLayer::parse(packet).ok()?;
    (upper.protocol != protocol::ICMPV6).then_some(upper.offset)
}

/// A whole IPv6 packet, with its extension headers parsed.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    /// Source address.
    pub source: Ipv6Addr,
    /// Destination address.
    pub destination: Ipv6Addr,
    /// Hop limit.
    pub hop_limit: u8,
    /// Protocol number after the last extension header, see [`protocol`].
    pub protocol: u8,
    /// Length of the header and the extension headers.
    pub header: usize,
    /// It is a fragment.
    pub fragment: bool,
    /// The payload after the extension headers, without padding. A fragment is parsed as if it were the
    /// first.
    pub payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// Parses the packet at the start of `bytes`. Padding may follow. `None` also if the extension headers
    /// are malformed: no receiver reaches the payload then.
    pub fn parse(bytes: &'a [u8]) -> Option<Ipv6<'a>> {
        let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
        Ipv6::walk(&header, bytes.get(IPV6_HEADER..)?.get(..usize::from(header.payload_length()))?)
    }

    /// Parses the extension headers at the start of `body`.
    fn walk(header: &Ipv6HeaderSlice<'a>, body: &'a [u8]) -> Option<Ipv6<'a>> {
        let (extensions, protocol, payload) =
            Ipv6ExtensionsSlice::from_slice(header.next_header(), body).ok()?;
        Some(Ipv6 {
            source: header.source_addr(),
            destination: header.destination_addr(),
            hop_limit: header.hop_limit(),
            protocol: protocol.0,
            header: IPV6_HEADER + body.len() - payload.len(),
            fragment: extensions.is_fragmenting_payload(),
            payload,
        })
    }
}
