//! Group membership messages: what IGMP ([`super::igmp`]) and MLD ([`super::mld`]) have in common. MLD is IGMP for
//! IPv6: version 1 is IGMPv2 (RFC 2710), version 2 is IGMPv3 (RFC 3810).

use std::net::IpAddr;
use std::time::Duration;

use super::ip::{Ipv4, Ipv6};
use super::{ETHERNET_HEADER, EtherType, Mac, igmp, mld};

/// Most sources of a query that we send. So its frame fits into the smallest MTU of IPv6 (1280 bytes).
pub const MAX_QUERY_SOURCES: usize = 64;

/// A message about membership in a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Message<'a> {
    /// A query of a multicast router.
    Query(Query<'a>),
    /// A report about one group.
    Report {
        /** The group that a host has joined. */
        group: IpAddr,
        /** The version of the host. */
        version: ReportVersion,
    },
    /// IGMPv2 leave group, MLDv1 done: a host has left the group.
    Leave(IpAddr),
    /// A report of IGMPv3 or MLDv2.
    Records(Records<'a>),
    /// The advertisement of a multicast router (RFC 4286 §3).
    RouterAdvertisement,
}

impl Message<'_> {
    /// It is a report, of any version.
    pub const fn is_report(&self) -> bool {
        matches!(self, Message::Report { .. } | Message::Records(_))
    }
}

/// The version of a report about one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportVersion {
    /// IGMPv1, whose hosts do not send leaves.
    V1,
    /// IGMPv2 or MLDv1.
    V2,
}

/// A query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Query<'a> {
    /// The address of the querier; the lowest is elected.
    pub source: IpAddr,
    /// The group that is queried; `None` in a general query.
    pub group: Option<IpAddr>,
    /// The sources that are queried. Only in a query for a group.
    pub sources: Addresses<'a>,
    /// The longest time that a host may wait before it reports.
    pub response: Duration,
    /// Routers that receive it do not change their timers (RFC 3376 §4.1.5, the S flag).
    pub suppress: bool,
}

/// Why a packet with a message is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It ends too early.
    #[error("the message is truncated")]
    Truncated,
    /// It is a fragment.
    #[error("the packet is a fragment")]
    Fragment,
    /// The header of the packet is invalid.
    #[error("the IP header is invalid")]
    Header,
    /// The checksum is wrong.
    #[error("the checksum is wrong")]
    Checksum,
    /// The source address may not send it.
    #[error("the source address is not link-local")]
    Source,
    /// The destination is not the group of such messages.
    #[error("the destination is not the group of general queries")]
    Destination,
    /// Hop limit is not 1, or the router alert option is missing.
    #[error("the hop limit is not 1, or the router alert option is missing")]
    NotLocal,
    /// It is about an address that is not a group.
    #[error("the address is not a group")]
    Group,
}

/// Parses the message in the packet of a frame; `None` if there is none.
pub fn parse(ethertype: EtherType, packet: &[u8]) -> Result<Option<Message<'_>>, Malformed> {
    match ethertype {
        EtherType::IPV4 if igmp::is_igmp(packet) => {
            igmp::parse(&Ipv4::parse(packet).ok_or(Malformed::Header)?)
        }
        EtherType::IPV6 if mld::is_candidate(packet) => {
            mld::parse(packet, &Ipv6::parse(packet).ok_or(Malformed::Header)?)
        }
        _ => Ok(None),
    }
}

/// A list of addresses of one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses<'a> {
    bytes: &'a [u8],
    family: Family,
}

/// The length of an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    const fn width(self) -> usize {
        match self {
            Family::V4 => 4,
            Family::V6 => 16,
        }
    }

    /// The address at the start of `bytes`.
    fn read(self, bytes: &[u8]) -> Option<IpAddr> {
        match self {
            Family::V4 => bytes.first_chunk::<4>().map(|octets| (*octets).into()),
            Family::V6 => bytes.first_chunk::<16>().map(|octets| (*octets).into()),
        }
    }

    /// Splits a list of `count` addresses off.
    pub(super) fn split(self, bytes: &[u8], count: u16) -> Result<(Addresses<'_>, &[u8]), Malformed> {
        let length = usize::from(count) * self.width();
        let (bytes, rest) = bytes.split_at_checked(length).ok_or(Malformed::Truncated)?;
        Ok((Addresses { bytes, family: self }, rest))
    }

    /// The group at the start of `bytes`; zero stands for none.
    pub(super) fn queried_group(self, bytes: &[u8]) -> Result<Option<IpAddr>, Malformed> {
        let address = self.read(bytes).ok_or(Malformed::Truncated)?;
        match address.is_unspecified() {
            true => Ok(None),
            false => self.group(bytes).map(Some),
        }
    }

    /// The group at the start of `bytes`.
    pub(super) fn group(self, bytes: &[u8]) -> Result<IpAddr, Malformed> {
        let address = self.read(bytes).ok_or(Malformed::Truncated)?;
        if address.is_multicast() { Ok(address) } else { Err(Malformed::Group) }
    }
}

impl<'a> Addresses<'a> {
    /// The addresses, in order.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + 'a {
        let family = self.family;
        self.bytes.chunks_exact(family.width()).filter_map(move |octets| family.read(octets))
    }

    /// There are none.
    pub const fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}

/// The kind of a group record (RFC 3376 §4.2.12, RFC 3810 §5.2.12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordKind {
    /// MODE_IS_INCLUDE: the host listens only to the sources.
    IsInclude,
    /// MODE_IS_EXCLUDE: the host listens to all except the sources.
    IsExclude,
    /// CHANGE_TO_INCLUDE_MODE: as `IsInclude`, since now.
    ToInclude,
    /// CHANGE_TO_EXCLUDE_MODE: as `IsExclude`, since now.
    ToExclude,
    /// ALLOW_NEW_SOURCES: the host listens also to the sources.
    Allow,
    /// BLOCK_OLD_SOURCES: the host does not listen to the sources any more.
    Block,
}

impl RecordKind {
    const fn new(number: u8) -> Option<RecordKind> {
        Some(match number {
            1 => RecordKind::IsInclude,
            2 => RecordKind::IsExclude,
            3 => RecordKind::ToInclude,
            4 => RecordKind::ToExclude,
            5 => RecordKind::Allow,
            6 => RecordKind::Block,
            _ => return None,
        })
    }
}

/// What a host reports about one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GroupRecord<'a> {
    /// What changed, or how it is.
    pub kind: RecordKind,
    /// The group.
    pub group: IpAddr,
    /// The sources that this is about.
    pub sources: Addresses<'a>,
}

/// The group records of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Records<'a> {
    count: u16,
    bytes: &'a [u8],
    family: Family,
}

impl<'a> Records<'a> {
    /// `count` records at the start of `bytes`, all of them whole and about groups.
    pub(super) fn new(count: u16, bytes: &'a [u8], family: Family) -> Result<Records<'a>, Malformed> {
        let mut rest = bytes;
        for _ in 0..count {
            (_, rest) = split_record(rest, family)?;
        }
        Ok(Records { count, bytes, family })
    }

    /// The records whose kind is known, in order. Others are ignored (RFC 3376 §4.2.12).
    pub fn iter(&self) -> impl Iterator<Item = GroupRecord<'a>> + 'a {
        let Records { count, mut bytes, family } = *self;
        let records = (0..count).map_while(move |_| {
            let (record, rest) = split_record(bytes, family).ok()?;
            bytes = rest;
            Some(record)
        });
        records.flatten()
    }
}

/// The record at the start of `bytes`, `None` if its kind is unknown, and what follows.
fn split_record(bytes: &[u8], family: Family) -> Result<(Option<GroupRecord<'_>>, &[u8]), Malformed> {
    let (&[kind, auxiliary_words, high, low], rest) =
        bytes.split_first_chunk().ok_or(Malformed::Truncated)?;
    let group = family.group(rest)?;
    let (sources, rest) = family.split(&rest[family.width()..], u16::from_be_bytes([high, low]))?;
    let rest = rest.get(usize::from(auxiliary_words) * 4..).ok_or(Malformed::Truncated)?;
    Ok((RecordKind::new(kind).map(|kind| GroupRecord { kind, group, sources }), rest))
}

/// A query to send.
#[derive(Debug, Clone, Copy)]
pub struct QuerySpec<'a> {
    /// The group; `None` for a general query.
    pub group: Option<IpAddr>,
    /// Sources of that group. Only the first [`MAX_QUERY_SOURCES`] are sent.
    pub sources: &'a [IpAddr],
    /// The longest time that a host may wait before it reports.
    pub response: Duration,
    /// The time between two general queries.
    pub interval: Duration,
    /// How often queries are repeated (RFC 3376 §8.1), at most 7.
    pub robustness: u8,
}

/// The frame of a query from the MAC and IP address of a querier, in the newest version (IGMPv3, MLDv2): hosts of an
/// older version read the part that they know (RFC 3376 §7.2.1).
pub fn query_frame(mac: Mac, source: IpAddr, query: &QuerySpec<'_>) -> Vec<u8> {
    let (ethertype, packet) = match source {
        IpAddr::V4(source) => (EtherType::IPV4, igmp::query(source, query)),
        IpAddr::V6(source) => (EtherType::IPV6, mld::query(source, query)),
    };
    let all_hosts = if source.is_ipv4() { igmp::ALL_HOSTS.into() } else { super::ndp::ALL_NODES.into() };
    let destination = Mac::of_group(query.group.unwrap_or(all_hosts)).unwrap_or(Mac::BROADCAST);
    let mut frame = Vec::with_capacity(ETHERNET_HEADER + packet.len());
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&mac.0);
    frame.extend_from_slice(&ethertype.0.to_be_bytes());
    frame.extend_from_slice(&packet);
    frame
}

/// What follows the group in a query of IGMPv3 and MLDv2 (RFC 3376 §4.1, RFC 3810 §5.1).
pub(super) fn query_tail(query: &QuerySpec<'_>) -> Vec<u8> {
    let sources = &query.sources[..query.sources.len().min(MAX_QUERY_SOURCES)];
    let seconds = u32::try_from(query.interval.as_secs()).unwrap_or(u32::MAX);
    let mut bytes = vec![query.robustness.min(7), encode8(seconds)];
    bytes.extend_from_slice(&u16::try_from(sources.len()).unwrap_or(0).to_be_bytes());
    for source in sources {
        match source {
            IpAddr::V4(address) => bytes.extend_from_slice(&address.octets()),
            IpAddr::V6(address) => bytes.extend_from_slice(&address.octets()),
        }
    }
    bytes
}

/// The value of an 8-bit code: itself, or from 128 a floating-point number (RFC 3376 §4.1.1).
pub(super) const fn decode8(code: u8) -> u32 {
    decode(code as u32, 8)
}

/// The value of a 16-bit code: itself, or from 32768 a floating-point number (RFC 3810 §5.1.3).
pub(super) const fn decode16(code: u16) -> u32 {
    decode(code as u32, 16)
}

/// The greatest 8-bit code whose value is at most `value`.
#[allow(clippy::cast_possible_truncation, reason = "a code of 8 bits")]
pub(super) const fn encode8(value: u32) -> u8 {
    encode(value, 8) as u8
}

/// The greatest 16-bit code whose value is at most `value`.
#[allow(clippy::cast_possible_truncation, reason = "a code of 16 bits")]
pub(super) const fn encode16(value: u32) -> u16 {
    encode(value, 16) as u16
}

/// A code of `bits`: 1, an exponent of 3 bits, and the mantissa in the rest.
const fn decode(code: u32, bits: u32) -> u32 {
    let mantissa_bits = bits - 4;
    if code >> (bits - 1) == 0 {
        return code;
    }
    let exponent = (code >> mantissa_bits) & 0x7;
    let mantissa = code & ((1 << mantissa_bits) - 1);
    (mantissa | 1 << mantissa_bits) << (exponent + 3)
}

const fn encode(value: u32, bits: u32) -> u32 {
    let mantissa_bits = bits - 4;
    if value < 1 << (bits - 1) {
        return value;
    }
    let exponent = value.ilog2() - mantissa_bits - 3;
    if exponent > 7 {
        return (1 << bits) - 1;
    }
    let mantissa = (value >> (exponent + 3)) & ((1 << mantissa_bits) - 1);
    1 << (bits - 1) | exponent << mantissa_bits | mantissa
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_the_values_of_the_standards() {
        assert_eq!([0, 100, 127, 0x80, 0x8f, 0xff].map(decode8), [0, 100, 127, 128, 248, 31_744]);
        assert_eq!([0, 10_000, 0x7fff, 0x8000, 0xffff].map(decode16), [0, 10_000, 32_767, 32_768, 8_387_584]);
        assert_eq!([125, 127, 128, 260, u32::MAX].map(encode8), [125, 127, 0x80, 0x90, 0xff]);
    }

    #[test]
    fn encodes_the_greatest_value_that_fits() {
        for code in 0..=u8::MAX {
            assert_eq!(encode8(decode8(code)), code);
            assert!(code == u8::MAX || encode8(decode8(code + 1) - 1) == code);
        }
        for code in 0..=u16::MAX {
            assert_eq!(encode16(decode16(code)), code);
        }
    }
}
