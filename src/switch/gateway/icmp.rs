//! Replies to echo requests for the gateway's addresses, in place: swaps the addresses and updates the
//! checksums.
//!
//! Only unfragmented packets without options or extension headers, from a unicast address that is not the
//! gateway's, are answered here. The host's kernel handles the rest.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Gateway, SwitchReply};
use crate::wire::checksum::update;
use crate::wire::icmp::{ECHO, ECHO6};
use crate::wire::ip::{DEFAULT_HOPS, IPV4_HEADER, IPV6_HEADER, Ipv4, Ipv6, is_icmp4, protocol};

/// Offsets of the fields that a reply changes.
mod field {
    use std::ops::Range;

    pub(super) const IPV4_TTL_AND_PROTOCOL: Range<usize> = 8..10;
    pub(super) const IPV4_CHECKSUM: Range<usize> = 10..12;
    pub(super) const IPV4_SOURCE: usize = 12;
    pub(super) const IPV4_ADDRESSES_END: usize = 20;
    pub(super) const IPV6_NEXT_HEADER: usize = 6;
    pub(super) const IPV6_HOP_LIMIT: usize = 7;
    pub(super) const IPV6_SOURCE: usize = 8;
    pub(super) const IPV6_ADDRESSES_END: usize = 40;
}

/// The reply to an IPv4 echo request.
#[inline]
pub(super) fn answer4(gateway: &Gateway, packet: &[u8]) -> Option<SwitchReply> {
    if !is_icmp4(packet) {
        return None;
    }
    let packet = Ipv4::parse(packet)?;
    let plain = packet.header == IPV4_HEADER && !packet.fragment && is_unicast4(packet.source);
    let from_other = !gateway.ipv4.contains(&packet.source);
    let to_us = gateway.ipv4.contains(&packet.destination);
    (plain && from_other && to_us && ECHO.is_request(packet.payload)).then_some(SwitchReply::Echo)
}

/// The reply to an IPv6 echo request.
#[inline]
pub(super) fn answer6(gateway: &Gateway, packet: &[u8]) -> Option<SwitchReply> {
    if packet.get(field::IPV6_NEXT_HEADER) != Some(&protocol::ICMPV6) {
        return None;
    }
    let packet = Ipv6::parse(packet)?;
    let from_other = is_unicast6(packet.source) && !gateway.ipv6.contains(&packet.source);
    let to_us = gateway.ipv6.contains(&packet.destination);
    (from_other && to_us && ECHO6.is_request(packet.payload)).then_some(SwitchReply::Echo6)
}

/// Overwrites an IPv4 request with its reply.
pub(super) fn write4(packet: &mut [u8]) -> Option<()> {
    ECHO.reply(packet.get_mut(IPV4_HEADER..)?)?;
    packet[field::IPV4_SOURCE..field::IPV4_ADDRESSES_END].rotate_left(4);
    let word =
        |range: std::ops::Range<usize>| u16::from_be_bytes([packet[range.start], packet[range.start + 1]]);
    let old = word(field::IPV4_TTL_AND_PROTOCOL);
    let new = u16::from_be_bytes([DEFAULT_HOPS, protocol::ICMP]);
    let sum = update(word(field::IPV4_CHECKSUM), old, new);
    packet[field::IPV4_TTL_AND_PROTOCOL].copy_from_slice(&new.to_be_bytes());
    packet[field::IPV4_CHECKSUM].copy_from_slice(&sum.to_be_bytes());
    Some(())
}

/// Overwrites an IPv6 request with its reply.
pub(super) fn write6(packet: &mut [u8]) -> Option<()> {
    ECHO6.reply(packet.get_mut(IPV6_HEADER..)?)?;
    packet[field::IPV6_SOURCE..field::IPV6_ADDRESSES_END].rotate_left(16);
    packet[field::IPV6_HOP_LIMIT] = DEFAULT_HOPS;
    Some(())
}

fn is_unicast4(address: Ipv4Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_broadcast() || address.is_loopback())
}

fn is_unicast6(address: Ipv6Addr) -> bool {
    !(address.is_unspecified() || address.is_multicast() || address.is_loopback())
}
