//! IGMP, the group membership of IPv4: versions 1 (RFC 1112 appendix I), 2 (RFC 2236) and 3 (RFC 3376).
//!
//! The checks are those of Linux `net/ipv4/igmp.c` (`ip_mc_check_igmp`), and that a group is a group.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use super::checksum::checksum;
use super::ip::{IPV4_HEADER, Ipv4, protocol};
use super::membership::{
    Family, Malformed, Message, Query, QuerySpec, Records, ReportVersion, decode8, encode8, query_tail,
};

/// Offsets of the fields in the message.
mod field {
    use std::ops::{Range, RangeFrom};

    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: Range<usize> = 2..4;
    pub(super) const GROUP: RangeFrom<usize> = 4..;
    /// Of a query of version 3.
    pub(super) const FLAGS: usize = 8;
    pub(super) const SOURCES: RangeFrom<usize> = 12..;
    /// Of a report of version 3.
    pub(super) const RECORDS: RangeFrom<usize> = 8..;
}

/// Message types.
const QUERY: u8 = 0x11;
const REPORT_V1: u8 = 0x12;
const REPORT_V2: u8 = 0x16;
const LEAVE: u8 = 0x17;
const REPORT_V3: u8 = 0x22;
/// RFC 4286 §3.2.1.
const ROUTER_ADVERTISEMENT: u8 = 0x30;

/// The suppress flag of a query of version 3.
const SUPPRESS: u8 = 0x08;
/// Bytes of every message except those of version 3, which are longer.
const LEN: usize = 8;
/// Bytes of a query of version 3 without sources.
const QUERY_V3: usize = 12;
/// The response time of version 1, whose queries have none (RFC 2236 §4).
const RESPONSE_V1: Duration = Duration::from_secs(10);
/// The unit of the response time.
const TENTH: Duration = Duration::from_millis(100);

/// All hosts: the destination of general queries.
pub const ALL_HOSTS: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 1);

/// The packet is IGMP.
#[inline]
pub fn is_igmp(packet: &[u8]) -> bool {
    const PROTOCOL: usize = 9;
    packet.get(PROTOCOL) == Some(&protocol::IGMP)
}

/// Whether the message of an IGMP packet is a report, if it is valid: it looks only at the type.
#[inline]
pub fn is_report(packet: &[u8]) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 0xf) * 4);
    matches!(packet.get(header), Some(&(REPORT_V1 | REPORT_V2 | REPORT_V3)))
}

/// Parses the message of an IGMP packet; `None` if it is not about membership.
pub fn parse<'a>(packet: &Ipv4<'a>) -> Result<Option<Message<'a>>, Malformed> {
    if packet.fragment {
        return Err(Malformed::Fragment);
    }
    let message = packet.payload;
    if message.len() < LEN {
        return Err(Malformed::Truncated);
    }
    if checksum(message) != 0 {
        return Err(Malformed::Checksum);
    }
    let group = || Family::V4.group(&message[field::GROUP]);
    let report = |version| Ok(Message::Report { group: group()?, version });
    match message[field::TYPE] {
        QUERY => query_of(packet).map(Message::Query),
        REPORT_V1 => report(ReportVersion::V1),
        REPORT_V2 => report(ReportVersion::V2),
        LEAVE => group().map(Message::Leave),
        REPORT_V3 => {
            let count = u16::from_be_bytes([message[6], message[7]]);
            Records::new(count, &message[field::RECORDS], Family::V4).map(Message::Records)
        }
        ROUTER_ADVERTISEMENT => Ok(Message::RouterAdvertisement),
        _ => return Ok(None),
    }
    .map(Some)
}

fn query_of<'a>(packet: &Ipv4<'a>) -> Result<Query<'a>, Malformed> {
    let message = packet.payload;
    let group = Family::V4.queried_group(&message[field::GROUP])?;
    if group.is_none() && packet.destination != ALL_HOSTS {
        return Err(Malformed::Destination);
    }
    let code = message[field::CODE];
    let (no_sources, _) = Family::V4.split(&[], 0)?;
    let query = |group, sources, response, suppress| Query {
        source: packet.source.into(),
        group,
        sources,
        response,
        suppress,
    };
    if message.len() == LEN {
        return Ok(match code {
            // A querier of version 1 knows no group.
            0 => query(None, no_sources, RESPONSE_V1, false),
            _ => query(group, no_sources, TENTH * u32::from(code), false),
        });
    }
    if message.len() < QUERY_V3 {
        return Err(Malformed::Truncated);
    }
    let count = u16::from_be_bytes([message[10], message[11]]);
    let (sources, _) = Family::V4.split(&message[field::SOURCES], count)?;
    Ok(query(group, sources, TENTH * decode8(code), message[field::FLAGS] & SUPPRESS != 0))
}

/// The packet of a query from `source`, of version 3. It has TTL 1 and the router alert option (RFC 3376 §4).
pub(super) fn query(source: Ipv4Addr, query: &QuerySpec<'_>) -> Vec<u8> {
    /// RFC 2113.
    const ROUTER_ALERT: [u8; 4] = [0x94, 4, 0, 0];
    /// Internetwork control (RFC 3376 §4).
    const TOS: u8 = 0xc0;
    const DONT_FRAGMENT: u8 = 0x40;
    let group = match query.group {
        Some(IpAddr::V4(group)) => group,
        _ => Ipv4Addr::UNSPECIFIED,
    };
    let tenths = u32::try_from(query.response.as_millis() / 100).unwrap_or(u32::MAX);
    let mut message = vec![QUERY, encode8(tenths), 0, 0];
    message.extend_from_slice(&group.octets());
    message.extend_from_slice(&query_tail(query));
    let sum = checksum(&message);
    message[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());

    let length = IPV4_HEADER + ROUTER_ALERT.len() + message.len();
    let [high, low] = u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes();
    let mut packet = vec![0x46, TOS, high, low, 0, 0, DONT_FRAGMENT, 0, 1, protocol::IGMP, 0, 0];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&if group.is_unspecified() { ALL_HOSTS } else { group }.octets());
    packet.extend_from_slice(&ROUTER_ALERT);
    let sum = checksum(&packet);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend_from_slice(&message);
    packet
}
