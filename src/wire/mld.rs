//! Multicast listener discovery, the group membership of IPv6: versions 1 (RFC 2710) and 2 (RFC 3810).
//!
//! A message has hop limit 1, the router alert option, and a link-local source (RFC 3810 §6.2 and §7.4). Reports may
//! have the unspecified source, before their host has an address (§5.2.13).

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::checksum::Sum;
use super::ip::{IPV6_HEADER, Ipv6, protocol};
use super::membership::{
    Family, Malformed, Message, Query, QuerySpec, Records, ReportVersion, decode16, encode16, query_tail,
};
use super::ndp::ALL_NODES;

/// Offsets of the fields in the message.
mod field {
    use std::ops::{Range, RangeFrom};

    pub(super) const TYPE: usize = 0;
    pub(super) const CHECKSUM: Range<usize> = 2..4;
    pub(super) const GROUP: RangeFrom<usize> = 8..;
    /// Of a query of version 2.
    pub(super) const FLAGS: usize = 24;
    pub(super) const SOURCES: RangeFrom<usize> = 28..;
    /// Of a report of version 2.
    pub(super) const RECORDS: RangeFrom<usize> = 8..;
}

/// Message types of ICMPv6.
const QUERY: u8 = 130;
const REPORT_V1: u8 = 131;
const DONE: u8 = 132;
const REPORT_V2: u8 = 143;
/// RFC 4286 §3.2.2.
const ROUTER_ADVERTISEMENT: u8 = 151;

/// The suppress flag of a query of version 2.
const SUPPRESS: u8 = 0x08;
/// Bytes of a message of version 1.
const LEN: usize = 24;
/// Bytes of a query of version 2 without sources.
const QUERY_V2: usize = 28;
/// Bytes of a report of version 2 without records, and of a router's advertisement.
const SHORTEST: usize = 8;
/// Bytes of the hop-by-hop options header that we send.
const HOP_BY_HOP_LEN: usize = 8;
/// The router alert option (RFC 2711), with the value for MLD.
const ROUTER_ALERT: [u8; 4] = [5, 2, 0, 0];

/// The packet has hop-by-hop options, as every MLD packet.
#[inline]
pub fn is_candidate(packet: &[u8]) -> bool {
    const NEXT_HEADER: usize = 6;
    packet.get(NEXT_HEADER) == Some(&protocol::HOP_BY_HOP)
}

/// The type of an MLD message behind the hop-by-hop options; `None` if the packet is something else.
#[inline]
fn message_type(packet: &[u8]) -> Option<u8> {
    let (&[next, units], _) = packet.get(IPV6_HEADER..)?.split_first_chunk()?;
    let kind = *packet.get(IPV6_HEADER + (usize::from(units) + 1) * 8)?;
    let is_mld = matches!(kind, QUERY | REPORT_V1 | DONE | REPORT_V2 | ROUTER_ADVERTISEMENT);
    (next == protocol::ICMPV6 && is_mld).then_some(kind)
}

/// The packet is MLD: it looks only at the types.
#[inline]
pub fn is_mld(packet: &[u8]) -> bool {
    is_candidate(packet) && message_type(packet).is_some()
}

/// Whether the message of an MLD packet is a report, if it is valid: it looks only at the type.
#[inline]
pub fn is_report(packet: &[u8]) -> bool {
    matches!(message_type(packet), Some(REPORT_V1 | REPORT_V2))
}

/// Parses the message of an IPv6 packet whose first header is [hop-by-hop options](is_candidate). `None` if it is not
/// about membership. `bytes` are those of `packet`.
pub fn parse<'a>(bytes: &'a [u8], packet: &Ipv6<'a>) -> Result<Option<Message<'a>>, Malformed> {
    if message_type(bytes).is_none() {
        return Ok(None);
    }
    let message = packet.payload;
    if packet.fragment {
        return Err(Malformed::Fragment);
    }
    if packet.hop_limit != 1 || !has_router_alert(bytes) {
        return Err(Malformed::NotLocal);
    }
    let length = u32::try_from(message.len()).map_err(|_| Malformed::Header)?;
    let pseudo = Sum::pseudo_ipv6(packet.source, packet.destination, protocol::ICMPV6, length);
    if pseudo.and(message).finish() != 0 {
        return Err(Malformed::Checksum);
    }
    if message.len() < SHORTEST {
        return Err(Malformed::Truncated);
    }
    let kind = message[field::TYPE];
    let is_report = matches!(kind, REPORT_V1 | REPORT_V2);
    if !(packet.source.is_unicast_link_local() || is_report && packet.source.is_unspecified()) {
        return Err(Malformed::Source);
    }
    let group = || Family::V6.group(&message[field::GROUP]);
    match kind {
        QUERY => query_of(packet).map(Message::Query),
        REPORT_V1 => Ok(Message::Report { group: group()?, version: ReportVersion::V2 }),
        DONE => group().map(Message::Leave),
        REPORT_V2 => {
            let count = u16::from_be_bytes([message[6], message[7]]);
            Records::new(count, &message[field::RECORDS], Family::V6).map(Message::Records)
        }
        _ => Ok(Message::RouterAdvertisement),
    }
    .map(Some)
}

/// Whether the hop-by-hop options contain the router alert for MLD.
fn has_router_alert(packet: &[u8]) -> bool {
    let Some(options) = packet.get(IPV6_HEADER..) else { return false };
    let length = options.get(1).map_or(0, |units| (usize::from(*units) + 1) * 8);
    let mut rest = options.get(2..length).unwrap_or_default();
    loop {
        rest = match *rest {
            // Pad1 is one byte (RFC 8200 §4.2).
            [0, ..] => &rest[1..],
            [_, _, ..] if rest.starts_with(&ROUTER_ALERT) => return true,
            [_, length, ..] => rest.get(2 + usize::from(length)..).unwrap_or_default(),
            _ => return false,
        };
    }
}

fn query_of<'a>(packet: &Ipv6<'a>) -> Result<Query<'a>, Malformed> {
    let message = packet.payload;
    let group = Family::V6.queried_group(&message[field::GROUP])?;
    if group.is_none() && packet.destination != ALL_NODES {
        return Err(Malformed::Destination);
    }
    let code = u16::from_be_bytes([message[4], message[5]]);
    let (milliseconds, count, suppress) = match message.len() {
        LEN => (u32::from(code), 0, false),
        QUERY_V2.. => {
            let count = u16::from_be_bytes([message[26], message[27]]);
            (decode16(code), count, message[field::FLAGS] & SUPPRESS != 0)
        }
        _ => return Err(Malformed::Truncated),
    };
    let list = message.get(field::SOURCES).unwrap_or_default();
    let (sources, _) = Family::V6.split(list, count)?;
    let response = Duration::from_millis(milliseconds.into());
    Ok(Query { source: packet.source.into(), group, sources, response, suppress })
}

/// The packet of a query from `source`, which is link-local, of version 2.
pub(super) fn query(source: Ipv6Addr, query: &QuerySpec<'_>) -> Vec<u8> {
    let group = match query.group {
        Some(IpAddr::V6(group)) => group,
        _ => Ipv6Addr::UNSPECIFIED,
    };
    let destination = if group.is_unspecified() { ALL_NODES } else { group };
    let milliseconds = u32::try_from(query.response.as_millis()).unwrap_or(u32::MAX);
    let mut message = vec![QUERY, 0, 0, 0];
    message.extend_from_slice(&encode16(milliseconds).to_be_bytes());
    message.extend_from_slice(&[0, 0]);
    message.extend_from_slice(&group.octets());
    message.extend_from_slice(&query_tail(query));
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
    let pseudo = Sum::pseudo_ipv6(source, destination, protocol::ICMPV6, length.into());
    let sum = pseudo.and(&message).finish();
    message[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());

    let [high, low] = (u16::try_from(HOP_BY_HOP_LEN).unwrap_or(0) + length).to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, high, low, protocol::HOP_BY_HOP, 1];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(&[protocol::ICMPV6, 0]);
    packet.extend_from_slice(&ROUTER_ALERT);
    // PadN of two bytes.
    packet.extend_from_slice(&[1, 0]);
    packet.extend_from_slice(&message);
    packet
}
