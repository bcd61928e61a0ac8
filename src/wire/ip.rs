//! IPv4 (RFC 791) and IPv6 (RFC 8200) packets, as far as the gateway must understand them.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{Ipv4HeaderSlice, Ipv6ExtensionsSlice, Ipv6HeaderSlice};

use super::checksum::checksum;

/// A protocol number (IANA "Assigned Internet Protocol Numbers").
pub mod protocol {
    /// Hop-by-hop options of IPv6 (RFC 8200 §4.3).
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP (RFC 792).
    pub const ICMP: u8 = 1;
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
}

/// Bytes of an IPv4 header without options.
pub const IPV4_HEADER: usize = 20;
/// Bytes of an IPv6 header without extension headers.
pub const IPV6_HEADER: usize = 40;
/// Time to live or hop limit of a packet that we send (RFC 1700, "IP time to live parameter").
pub const DEFAULT_HOPS: u8 = 64;

/// A whole IPv4 packet: its header's checksum is right, and all its payload is there.
#[derive(Debug, Clone, Copy)]
pub struct Ipv4<'a> {
    /// From where.
    pub source: Ipv4Addr,
    /// To where.
    pub destination: Ipv4Addr,
    /// One of [`protocol`].
    pub protocol: u8,
    /// Bytes of the header: [`IPV4_HEADER`] if it has no options.
    pub header: usize,
    /// It is one fragment of several.
    pub fragment: bool,
    /// What it carries, without padding.
    pub payload: &'a [u8],
}

impl<'a> Ipv4<'a> {
    /// The packet at the start of `bytes`, padding after it.
    pub fn parse(bytes: &'a [u8]) -> Option<Ipv4<'a>> {
        let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        Ipv4::of(&header, bytes.get(..usize::from(header.total_len()))?)
    }

    /// As [`Ipv4::parse`], but one that says total length 0 has all of `bytes`: the most that a receiver finds
    /// in it, and so what a guard must look at. Linux takes it so in a TCP super-frame (`iph_totlen`).
    pub fn parse_lenient(bytes: &'a [u8]) -> Option<Ipv4<'a>> {
        let header = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        match header.total_len() {
            0 => Ipv4::of(&header, bytes),
            _ => Ipv4::parse(bytes),
        }
    }

    /// The packet with this header, which is all of `bytes`.
    fn of(header: &Ipv4HeaderSlice<'a>, bytes: &'a [u8]) -> Option<Ipv4<'a>> {
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

/// An IPv4 packet carries ICMP: what one look can tell.
#[inline]
pub fn is_icmp4(packet: &[u8]) -> bool {
    const PROTOCOL: usize = 9;
    packet.get(PROTOCOL) == Some(&protocol::ICMP)
}

/// An IPv6 packet carries TCP or UDP, without extension headers: what one look can tell.
#[inline]
pub fn is_plain_transport6(packet: &[u8]) -> bool {
    const NEXT_HEADER: usize = 6;
    matches!(packet.get(NEXT_HEADER), Some(&(protocol::TCP | protocol::UDP)))
}

/// Bytes before the transport header of an IPv4 packet; `None` if it carries ICMP or is none.
#[inline]
pub fn transport4(packet: &[u8]) -> Option<usize> {
    let words = packet.first()? & 0xf;
    (!is_icmp4(packet)).then_some(IPV4_HEADER.max(usize::from(words) * 4))
}

/// Bytes before the transport header of an IPv6 packet; `None` if it carries ICMPv6 or has no end of headers.
#[inline]
pub fn transport6(packet: &[u8]) -> Option<usize> {
    if is_plain_transport6(packet) {
        return Some(IPV6_HEADER);
    }
    let packet = Ipv6::parse_lenient(packet)?;
    (packet.protocol != protocol::ICMPV6).then_some(packet.header)
}

/// A whole IPv6 packet, its extension headers walked over.
#[derive(Debug, Clone, Copy)]
pub struct Ipv6<'a> {
    /// From where.
    pub source: Ipv6Addr,
    /// To where.
    pub destination: Ipv6Addr,
    /// Hops left.
    pub hop_limit: u8,
    /// One of [`protocol`]: what the last extension header announces.
    pub protocol: u8,
    /// Bytes of the header and the extension headers.
    pub header: usize,
    /// It is one fragment of several.
    pub fragment: bool,
    /// What comes after the extension headers, without padding. Of a fragment, as if it were the first.
    pub payload: &'a [u8],
}

impl<'a> Ipv6<'a> {
    /// The packet at the start of `bytes`, padding after it. `None` also if its extension headers cannot be
    /// walked: no receiver gets to its payload either.
    pub fn parse(bytes: &'a [u8]) -> Option<Ipv6<'a>> {
        let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
        Ipv6::walk(&header, bytes.get(IPV6_HEADER..)?.get(..usize::from(header.payload_length()))?)
    }

    /// As [`Ipv6::parse`], but one that says payload length 0 has all of `bytes`: the most that a receiver
    /// finds in it, and so what a guard must look at. Linux takes it so if a hop-by-hop header follows,
    /// even one without a jumbo payload option (RFC 2675; `ip6_rcv_core`), and since BIG TCP did away with that
    /// header also in any frame that comes as a TCP super-frame (`ipv6_payload_len`).
    pub fn parse_lenient(bytes: &'a [u8]) -> Option<Ipv6<'a>> {
        let header = Ipv6HeaderSlice::from_slice(bytes).ok()?;
        match header.payload_length() {
            0 => Ipv6::walk(&header, bytes.get(IPV6_HEADER..)?),
            _ => Ipv6::parse(bytes),
        }
    }

    /// Walks over the extension headers at the start of `body`.
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
