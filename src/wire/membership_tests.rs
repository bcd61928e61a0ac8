//! Tests of IGMP and MLD, and the packets of hosts for the tests of other modules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::util;
use proptest::collection::vec;
use proptest::prelude::*;

use super::membership::{
    MAX_QUERY_SOURCES, Malformed, Message, Query, QuerySpec, RecordKind, ReportVersion, parse, query_frame,
};
use super::{ETHERNET_HEADER, EtherType, Mac};

/// The packet of a frame, and its EtherType.
pub(crate) type Packet = (EtherType, Vec<u8>);

const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const HOST6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);

/// A packet with an IGMP message, whose checksum is filled in.
fn igmp_to(destination: Ipv4Addr, mut message: Vec<u8>) -> Packet {
    let sum = util::checksum(&message, 1);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(24 + message.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x46, 0xc0, length[0], length[1], 0, 0, 0x40, 0, 1, 2, 0, 0];
    packet.extend(HOST4.octets());
    packet.extend(destination.octets());
    packet.extend([0x94, 4, 0, 0]);
    let sum = util::checksum(&packet, 5);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    packet.extend(message);
    (EtherType::IPV4, packet)
}

/// A packet with an MLD message, whose checksum is filled in.
fn mld_to(source: Ipv6Addr, destination: Ipv6Addr, mut message: Vec<u8>) -> Packet {
    message[2..4].fill(0);
    let sum = util::ipv6_checksum(&message, 1, &[], &source, &destination, IpNextHeaderProtocol(58));
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u16::try_from(8 + message.len()).unwrap().to_be_bytes();
    let mut packet = vec![0x60, 0, 0, 0, length[0], length[1], 0, 1];
    packet.extend(source.octets());
    packet.extend(destination.octets());
    packet.extend([58, 0, 5, 2, 0, 0, 1, 0]);
    packet.extend(message);
    (EtherType::IPV6, packet)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// A message of one group, of IGMPv2 or MLDv1.
fn simple(group: IpAddr, igmp: u8, mld: u8) -> Packet {
    match group {
        IpAddr::V4(to) => igmp_to(to, [vec![igmp, 0, 0, 0], octets(group)].concat()),
        IpAddr::V6(to) => mld_to(HOST6, to, [vec![mld, 0, 0, 0, 0, 0, 0, 0], octets(group)].concat()),
    }
}

/// The report of an IGMPv2 or MLDv1 host.
pub(crate) fn join(group: IpAddr) -> Packet {
    simple(group, 0x16, 131)
}

/// The report of an IGMPv1 host.
pub(crate) fn join_v1(group: IpAddr) -> Packet {
    simple(group, 0x12, 131)
}

/// An IGMPv2 leave, an MLDv1 done.
pub(crate) fn leave(group: IpAddr) -> Packet {
    simple(group, 0x17, 132)
}

/// A record of a report.
pub(crate) type RecordSpec = (u8, IpAddr, Vec<IpAddr>);

/// The report of an IGMPv3 or MLDv2 host. All groups are of one family.
pub(crate) fn report(records: &[RecordSpec]) -> Packet {
    let count = u16::try_from(records.len()).unwrap().to_be_bytes();
    let mut body = Vec::new();
    for (kind, group, sources) in records {
        body.extend([*kind, 0]);
        body.extend(u16::try_from(sources.len()).unwrap().to_be_bytes());
        body.extend(octets(*group));
        sources.iter().for_each(|source| body.extend(octets(*source)));
    }
    let is_ipv4 = records.first().is_none_or(|(_, group, _)| group.is_ipv4());
    let kind = if is_ipv4 { 0x22 } else { 143 };
    let message = [&[kind, 0, 0, 0, 0, 0, count[0], count[1]][..], &body].concat();
    match is_ipv4 {
        true => igmp_to(Ipv4Addr::new(224, 0, 0, 22), message),
        false => mld_to(HOST6, "ff02::16".parse().unwrap(), message),
    }
}

/// A general query of another querier.
pub(crate) fn query(source: IpAddr, group: Option<IpAddr>, sources: &[IpAddr]) -> Packet {
    let spec = QuerySpec {
        group,
        sources,
        response: Duration::from_secs(10),
        interval: Duration::from_secs(125),
        robustness: 2,
    };
    let frame = query_frame(Mac([2, 0, 0, 0, 0, 1]), source, &spec);
    let ethertype = EtherType(u16::from_be_bytes([frame[12], frame[13]]));
    (ethertype, frame[ETHERNET_HEADER..].to_vec())
}

/// The query of another querier for a group, with the S flag.
pub(crate) fn suppressed_query(group: Ipv4Addr) -> Packet {
    igmp_to(group, [&[0x11, 10, 0, 0][..], &group.octets(), &[0x0a, 125, 0, 0]].concat())
}

/// The advertisement of a multicast router.
pub(crate) fn router_advertisement(is_ipv6: bool) -> Packet {
    match is_ipv6 {
        false => igmp_to(Ipv4Addr::new(224, 0, 0, 106), vec![0x30, 20, 0, 0, 0, 0, 0, 0]),
        true => mld_to(HOST6, "ff02::6a".parse().unwrap(), vec![151, 20, 0, 0, 0, 0, 0, 0]),
    }
}

/// The hello of a PIM router.
pub(crate) fn pim_hello(is_ipv6: bool) -> Packet {
    let message = [0x20, 0, 0xdf, 0xff];
    let (ethertype, mut packet) = match is_ipv6 {
        false => igmp_to(Ipv4Addr::new(224, 0, 0, 13), message.to_vec()),
        true => {
            let mut packet = vec![0x60, 0, 0, 0, 0, 4, 103, 1];
            packet.extend(HOST6.octets());
            packet.extend("ff02::d".parse::<Ipv6Addr>().unwrap().octets());
            packet.extend(message);
            (EtherType::IPV6, packet)
        }
    };
    if !is_ipv6 {
        packet[9] = 103;
        packet[10..12].fill(0);
        let sum = util::checksum(&packet[..24], 5);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
    }
    (ethertype, packet)
}

fn parsed((ethertype, packet): &Packet) -> Result<Option<Message<'_>>, Malformed> {
    parse(*ethertype, packet)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn reads_messages_of_older_versions() {
    for group in ["239.1.1.1", "ff15::1"].map(ip) {
        let version = ReportVersion::V2;
        assert_eq!(parsed(&join(group)), Ok(Some(Message::Report { group, version })));
        assert_eq!(parsed(&leave(group)), Ok(Some(Message::Leave(group))));
    }
    let group = ip("239.1.1.1");
    let version = ReportVersion::V1;
    assert_eq!(parsed(&join_v1(group)), Ok(Some(Message::Report { group, version })));
    for is_ipv6 in [false, true] {
        assert_eq!(parsed(&router_advertisement(is_ipv6)), Ok(Some(Message::RouterAdvertisement)));
        assert_eq!(parsed(&pim_hello(is_ipv6)), Ok(None));
        let (ethertype, packet) = pim_hello(is_ipv6);
        assert!(super::pim::is_hello(ethertype, &packet));
        let (ethertype, packet) = join(group);
        assert!(!super::pim::is_hello(ethertype, &packet));
    }
}

#[test]
fn reads_queries_of_older_versions() {
    let general = igmp_to(Ipv4Addr::new(224, 0, 0, 1), vec![0x11, 0, 0, 0, 0, 0, 0, 0]);
    let expect = |packet: &Packet, group: Option<IpAddr>, millis| {
        let Ok(Some(Message::Query(query))) = parsed(packet) else { panic!("{:?}", parsed(packet)) };
        assert_eq!((query.group, query.response), (group, Duration::from_millis(millis)));
        assert!(query.sources.is_empty() && !query.suppress);
    };
    expect(&general, None, 10_000);
    let group = ip("239.1.1.1");
    let specific =
        |code| igmp_to(Ipv4Addr::new(239, 1, 1, 1), [vec![0x11, code, 0, 0], octets(group)].concat());
    expect(&specific(10), Some(group), 1000);
    expect(&specific(0), None, 10_000);
    let group = ip("ff15::1");
    let to: Ipv6Addr = "ff15::1".parse().unwrap();
    let specific = mld_to(HOST6, to, [vec![130, 0, 0, 0, 3, 0xe8, 0, 0], octets(group)].concat());
    expect(&specific, Some(group), 1000);
}

#[test]
fn reads_records_and_skips_unknown_ones_and_auxiliary_data() {
    let group = Ipv4Addr::new(239, 1, 1, 1).octets();
    let record = |kind: u8, words: u8| {
        [&[kind, words, 0, 0][..], &group, &vec![0xee; usize::from(words) * 4]].concat()
    };
    let head = vec![0x22, 0, 0, 0, 0, 0, 0, 3];
    let message = [head, record(4, 2), record(9, 0), record(3, 0)].concat();
    let packet = igmp_to(Ipv4Addr::new(224, 0, 0, 22), message);
    let Ok(Some(Message::Records(records))) = parsed(&packet) else { panic!() };
    let kinds: Vec<RecordKind> = records.iter().map(|record| record.kind).collect();
    assert_eq!(kinds, [RecordKind::ToExclude, RecordKind::ToInclude]);
}

#[test]
fn rejects_malformed_igmp() {
    let all_hosts = Ipv4Addr::new(224, 0, 0, 1);
    let group = Ipv4Addr::new(239, 1, 1, 1);
    let damaged = |at: usize, change: fn(u8) -> u8| {
        let (ethertype, mut packet) = join(group.into());
        packet[at] = change(packet[at]);
        (ethertype, packet)
    };
    let fragment = {
        let (ethertype, mut packet) = join(group.into());
        packet[6..8].copy_from_slice(&[0x20, 0]);
        packet[10..12].fill(0);
        let sum = util::checksum(&packet[..24], 5);
        packet[10..12].copy_from_slice(&sum.to_be_bytes());
        (ethertype, packet)
    };
    let unicast = [&[0x16, 0, 0, 0][..], &HOST4.octets()].concat();
    for (packet, why) in [
        (damaged(16, |_| 99), Malformed::Header),
        (damaged(0, |_| 0x45), Malformed::Header),
        (damaged(24, |kind| kind ^ 1), Malformed::Checksum),
        (fragment, Malformed::Fragment),
        (igmp_to(group, vec![0x16, 0, 0, 0, 239, 1, 1]), Malformed::Truncated),
        (igmp_to(group, unicast), Malformed::Group),
        (igmp_to(group, vec![0x11, 10, 0, 0, 0, 0, 0, 0]), Malformed::Destination),
        (igmp_to(all_hosts, vec![0x11, 10, 0, 0, 0, 0, 0, 0, 0, 0]), Malformed::Truncated),
        (igmp_to(all_hosts, vec![0x11, 10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]), Malformed::Truncated),
        (igmp_to(group, vec![0x22, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0]), Malformed::Truncated),
        (igmp_to(group, vec![0x22, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 239, 1, 1, 1]), Malformed::Truncated),
        (igmp_to(group, vec![0x22, 0, 0, 0, 0, 0, 0, 1, 1, 1, 0, 0, 239, 1, 1, 1]), Malformed::Truncated),
    ] {
        assert_eq!(parsed(&packet), Err(why), "{packet:02x?}");
    }
    assert_eq!(parsed(&igmp_to(group, vec![0x13, 0, 0, 0, 0, 0, 0, 0])), Ok(None), "DVMRP");
}

#[test]
fn rejects_malformed_mld() {
    let group: Ipv6Addr = "ff15::1".parse().unwrap();
    let report = |source: &str| {
        let message = [&[131, 0, 0, 0, 0, 0, 0, 0][..], &group.octets()].concat();
        mld_to(source.parse().unwrap(), group, message)
    };
    let damaged = |at: usize, value: u8| {
        let (ethertype, mut packet) = join(group.into());
        packet[at] = value;
        (ethertype, packet)
    };
    let query =
        |source: Ipv6Addr| mld_to(source, group, [vec![130, 0, 0, 0, 0, 9, 0, 0], vec![0; 16]].concat());
    for (packet, why) in [
        (damaged(4, 0xff), Malformed::Header),
        (damaged(7, 64), Malformed::NotLocal),
        (damaged(42, 1), Malformed::NotLocal),
        (damaged(45, 1), Malformed::NotLocal),
        (damaged(60, 0xaa), Malformed::Checksum),
        (report("2001:db8::1"), Malformed::Source),
        (query(Ipv6Addr::UNSPECIFIED), Malformed::Source),
        (query(HOST6), Malformed::Destination),
        (mld_to(HOST6, group, vec![131, 0, 0, 0, 0, 0, 0]), Malformed::Truncated),
        (mld_to(HOST6, group, vec![131, 0, 0, 0, 0, 0, 0, 0, 0xff]), Malformed::Truncated),
        (mld_to(HOST6, group, [vec![131, 0, 0, 0, 0, 0, 0, 0], vec![0; 16]].concat()), Malformed::Group),
        (
            mld_to(HOST6, group, [vec![130, 0, 0, 0, 0, 9, 0, 0], octets(group.into()), vec![0]].concat()),
            Malformed::Truncated,
        ),
    ] {
        assert_eq!(parsed(&packet), Err(why), "{packet:02x?}");
    }
    assert!(parsed(&report("::")).unwrap().is_some(), "a host that has no address yet may report");
    // Without hop-by-hop options it is not MLD.
    let (_, packet) = report("fe80::1");
    let plain = [&packet[..6], &[58, 1], &packet[8..40], &packet[48..]].concat();
    assert_eq!(parsed(&(EtherType::IPV6, plain)), Ok(None));
}

#[test]
fn finds_the_router_alert_behind_padding() {
    let (ethertype, packet) = join(ip("ff15::1"));
    let long = [&packet[..40], &[58, 1, 0, 1, 3, 9, 9, 9, 0, 0, 5, 2, 0, 0, 0, 0], &packet[48..]].concat();
    let length = u16::try_from(long.len() - 40).unwrap().to_be_bytes();
    let mut long = long;
    long[4..6].copy_from_slice(&length);
    assert!(parsed(&(ethertype, long)).unwrap().is_some());
}

fn group(is_ipv6: bool) -> impl Strategy<Value = IpAddr> {
    any::<u32>().prop_map(move |bits| match is_ipv6 {
        true => IpAddr::from(Ipv6Addr::from_bits(0xff15 << 112 | u128::from(bits))),
        false => IpAddr::from(Ipv4Addr::from_bits(0xe000_0000 | bits >> 4)),
    })
}

fn source(is_ipv6: bool) -> impl Strategy<Value = IpAddr> {
    any::<u32>().prop_map(move |bits| match is_ipv6 {
        true => IpAddr::from(Ipv6Addr::from_bits(0xfe80 << 112 | u128::from(bits))),
        false => IpAddr::from(Ipv4Addr::from_bits(bits)),
    })
}

fn records() -> impl Strategy<Value = Vec<RecordSpec>> {
    any::<bool>().prop_flat_map(|six| vec((1..=6_u8, group(six), vec(source(six), 0..5)), 1..6))
}

proptest! {
    /// Records are read as they were written, and not if one byte is missing or one bit is wrong.
    #[test]
    fn reads_each_record(records in records(), cut in 1..40_usize, bit in any::<prop::sample::Index>()) {
        let (ethertype, packet) = report(&records);
        let Ok(Some(Message::Records(found))) = parse(ethertype, &packet) else { panic!() };
        let found: Vec<RecordSpec> = found
            .iter()
            .map(|record| (record.kind as u8 + 1, record.group, record.sources.iter().collect()))
            .collect();
        prop_assert_eq!(&found, &records);
        prop_assert!(!matches!(parse(ethertype, &packet[..packet.len() - cut.min(packet.len())]), Ok(Some(_))));
        let start = if ethertype == EtherType::IPV4 { 24 } else { 48 };
        let bit = start * 8 + bit.index((packet.len() - start) * 8);
        let mut damaged = packet;
        damaged[bit / 8] ^= 1 << (bit % 8);
        prop_assert!(!matches!(parse(ethertype, &damaged), Ok(Some(_))));
    }

    /// pnet verifies the checksums of our queries, and our parser reads what was asked.
    #[test]
    fn sends_valid_queries(
        (from, group, sources) in any::<bool>().prop_flat_map(|six| {
            (source(six), prop::option::of(group(six)), vec(source(six), 0..80))
        }),
        millis in 0..200_000_u64,
    ) {
        let sources = if group.is_some() { sources } else { Vec::new() };
        let response = Duration::from_millis(millis);
        let spec =
            QuerySpec { group, sources: &sources, response, interval: Duration::from_secs(125), robustness: 2 };
        let frame = query_frame(Mac([2, 0, 0, 0, 0, 1]), from, &spec);
        prop_assert!(frame.len() <= ETHERNET_HEADER + 1280);
        let destination = group.unwrap_or(ip(if from.is_ipv4() { "224.0.0.1" } else { "ff02::1" }));
        prop_assert_eq!(&frame[..6], &Mac::of_group(destination).unwrap().0);
        let packet = &frame[ETHERNET_HEADER..];
        let ethertype = match from {
            IpAddr::V4(_) => {
                let ip = Ipv4Packet::new(packet).unwrap();
                prop_assert_eq!(ip.get_checksum(), pnet_packet::ipv4::checksum(&ip));
                prop_assert_eq!((ip.get_ttl(), usize::from(ip.get_total_length())), (1, packet.len()));
                prop_assert_eq!(util::checksum(&packet[24..], 1), u16::from_be_bytes([packet[26], packet[27]]));
                EtherType::IPV4
            }
            IpAddr::V6(from) => {
                let IpAddr::V6(to) = destination else { unreachable!() };
                let sum = util::ipv6_checksum(&packet[48..], 1, &[], &from, &to, IpNextHeaderProtocol(58));
                prop_assert_eq!(sum, u16::from_be_bytes([packet[50], packet[51]]));
                EtherType::IPV6
            }
        };
        let Ok(Some(Message::Query(query))) = parse(ethertype, packet) else { panic!() };
        let Query { source: read_source, group: read_group, sources: read, response: rounded, suppress } = query;
        prop_assert_eq!((read_source, read_group, suppress), (from, group, false));
        prop_assert!(read.iter().eq(sources.iter().copied().take(MAX_QUERY_SOURCES)));
        prop_assert!(rounded <= response && response.as_millis() <= rounded.as_millis() * 17 / 16 + 100);
    }

    #[test]
    fn arbitrary_packets_do_not_panic(is_ipv6: bool, start in vec(any::<u8>(), 0..120), records in records(), at in 0..100_usize) {
        let ethertype = if is_ipv6 { EtherType::IPV6 } else { EtherType::IPV4 };
        let _ = parse(ethertype, &start);
        let (ethertype, mut packet) = report(&records);
        packet.iter_mut().skip(at).zip(&start).for_each(|(byte, other)| *byte = *other);
        let _ = parse(ethertype, &packet);
        let _ = super::pim::is_hello(ethertype, &packet);
    }
}
