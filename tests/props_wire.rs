//! Property tests of the wire layer over random frames. Frames are built by etherparse, and the results are
//! read and summed by pnet_packet. Neither shares code with the layer under test.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv6Extensions, Ipv6Header, Ipv6RawExtHeader,
    PacketBuilder, SingleVlanHeader, TcpHeader, VlanHeader, VlanId,
};
use pnet_packet::ip::IpNextHeaderProtocol;
use pnet_packet::ipv4::Ipv4Packet;
use pnet_packet::ipv6::Ipv6Packet;
use pnet_packet::tcp::TcpPacket;
use pnet_packet::udp::UdpPacket;
use pnet_packet::{Packet, tcp, udp, util};
use proptest::collection::vec;
use proptest::prelude::*;
use uswitch::wire::checksum::{self, Sum};
use uswitch::wire::filter::Filter;
use uswitch::wire::segment::MAX_SEGMENTS;
use uswitch::wire::{EtherType, EthernetFrame, Mac, Pretty, Segments, VnetHeader, wire_length};

const FIN: u8 = 0x01;
const PSH: u8 = 0x08;
const CWR: u8 = 0x80;

/// The payload of a flow, to be sent as one super-frame.
#[derive(Debug, Clone)]
struct Flow {
    source: IpAddr,
    destination: IpAddr,
    /// Hop-by-hop options of this many octets after the first two, over IPv6: 6, 14 or 22.
    extension: Option<usize>,
    tags: Vec<u16>,
    identification: u16,
    transport: Transport,
    payload: Vec<u8>,
    gso_size: u16,
}

#[derive(Debug, Clone)]
enum Transport {
    Tcp {
        sequence: u32,
        flags: u8,
        /** NOPs, in fours. */
        options: usize,
    },
    Udp,
}

impl Flow {
    fn number(&self) -> u8 {
        if matches!(self.transport, Transport::Tcp { .. }) { 6 } else { 17 }
    }

    /// Bytes before the transport header.
    fn l4(&self) -> usize {
        let network = if self.source.is_ipv4() { 20 } else { 40 + self.extension.map_or(0, |n| n + 2) };
        14 + 4 * self.tags.len() + network
    }

    fn headers(&self) -> usize {
        self.l4()
            + match self.transport {
                Transport::Tcp { options, .. } => 20 + 4 * options,
                Transport::Udp => 8,
            }
    }

    fn checksum_offset(&self) -> usize {
        if self.number() == 6 { 16 } else { 6 }
    }

    fn ip(&self, identification: u16) -> IpHeaders {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let header = Ipv4Header {
                    identification,
                    time_to_live: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv4Header::default()
                };
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    hop_limit: 64,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                let options = |n| Ipv6RawExtHeader::new_raw(IpNumber::TCP, &vec![0; n]).unwrap();
                let extensions =
                    Ipv6Extensions { hop_by_hop_options: self.extension.map(options), ..Default::default() };
                IpHeaders::Ipv6(header, extensions)
            }
            _ => unreachable!("both are of one family"),
        }
    }

    /// The complete frame that a sender without offload builds for one range of the payload: the expected
    /// segment.
    fn piece(&self, number: usize, last: bool, before: usize, payload: &[u8]) -> Vec<u8> {
        let identification = self.identification.wrapping_add(u16::try_from(number).unwrap());
        let start = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let tag =
            |vid: u16| SingleVlanHeader { vlan_id: VlanId::try_new(vid).unwrap(), ..Default::default() };
        let ip = match self.tags[..] {
            [] => start.ip(self.ip(identification)),
            [vid] => start.vlan(VlanHeader::Single(tag(vid))).ip(self.ip(identification)),
            [outer, inner, ..] => start
                .double_vlan(VlanId::try_new(outer).unwrap(), VlanId::try_new(inner).unwrap())
                .ip(self.ip(identification)),
        };
        let mut frame = Vec::new();
        match self.transport {
            Transport::Tcp { sequence, flags, options } => {
                let flags = flags & if last { 0xff } else { !(FIN | PSH) };
                let flags = flags & if number == 0 { 0xff } else { !CWR };
                let header = self.tcp(sequence.wrapping_add(u32::try_from(before).unwrap()), flags, options);
                ip.tcp_header(header).write_to_vec(&mut frame, payload).unwrap();
            }
            Transport::Udp => ip.udp(5000, 53).write_to_vec(&mut frame, payload).unwrap(),
        }
        frame
    }

    fn tcp(&self, sequence: u32, flags: u8, options: usize) -> TcpHeader {
        let mut header = TcpHeader::new(40000, 80, sequence, 502);
        header.acknowledgment_number = 77;
        header.fin = flags & FIN != 0;
        header.syn = flags & 0x02 != 0;
        header.rst = flags & 0x04 != 0;
        header.psh = flags & PSH != 0;
        header.ack = flags & 0x10 != 0;
        header.ece = flags & 0x40 != 0;
        header.cwr = flags & CWR != 0;
        header.set_options_raw(&vec![1; 4 * options]).unwrap();
        header
    }

    fn pieces(&self) -> Vec<Vec<u8>> {
        let size = usize::from(self.gso_size);
        let count = self.payload.len().div_ceil(size).max(1);
        (0..count)
            .map(|n| {
                let payload = &self.payload[n * size..self.payload.len().min((n + 1) * size)];
                self.piece(n, n + 1 == count, n * size, payload)
            })
            .collect()
    }

    /// The super-frame as the kernel hands it over: its checksum field has the folded pseudo-header.
    fn super_frame(&self) -> (Vec<u8>, VnetHeader) {
        let mut frame = self.piece(0, true, 0, &self.payload);
        let field = self.l4() + self.checksum_offset();
        let seed = self.pseudo(frame.len() - self.l4());
        frame[field..field + 2].copy_from_slice(&seed.to_be_bytes());
        let gso_type = match (&self.transport, self.source) {
            (Transport::Udp, _) => VnetHeader::GSO_UDP_L4,
            (Transport::Tcp { flags, .. }, source) => {
                let version = if source.is_ipv4() { VnetHeader::GSO_TCPV4 } else { VnetHeader::GSO_TCPV6 };
                version | if flags & CWR != 0 { VnetHeader::GSO_ECN } else { 0 }
            }
        };
        let vnet = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            gso_type,
            hdr_len: u16::try_from(self.headers()).unwrap(),
            gso_size: self.gso_size,
            csum_start: u16::try_from(self.l4()).unwrap(),
            csum_offset: u16::try_from(self.checksum_offset()).unwrap(),
        };
        (frame, vnet)
    }

    /// The folded pseudo-header, computed by pnet: the checksum of it alone, complemented.
    fn pseudo(&self, length: usize) -> u16 {
        // Zeros add nothing to the sum but their length.
        let (zeros, number) = (vec![0; length], IpNextHeaderProtocol(self.number()));
        !match (self.source, self.destination) {
            (IpAddr::V4(a), IpAddr::V4(b)) => util::ipv4_checksum(&zeros, usize::MAX, &[], &a, &b, number),
            (IpAddr::V6(a), IpAddr::V6(b)) => util::ipv6_checksum(&zeros, usize::MAX, &[], &a, &b, number),
            _ => unreachable!("both are of one family"),
        }
    }
}

fn addresses() -> impl Strategy<Value = (IpAddr, IpAddr)> {
    prop_oneof![
        any::<(Ipv4Addr, Ipv4Addr)>().prop_map(|(a, b)| (IpAddr::V4(a), IpAddr::V4(b))),
        any::<(Ipv6Addr, Ipv6Addr)>().prop_map(|(a, b)| (IpAddr::V6(a), IpAddr::V6(b))),
    ]
}

fn transport() -> impl Strategy<Value = Transport> {
    let tcp = (any::<u32>(), any::<u8>(), 0..=10usize)
        .prop_map(|(sequence, flags, options)| Transport::Tcp { sequence, flags: flags & !0x20, options });
    prop_oneof![tcp, Just(Transport::Udp)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    let bytes = |length: usize, salt: u32| {
        (0..length)
            .map(|n| (u32::try_from(n).unwrap() ^ salt).wrapping_mul(0x9e37_79b9).to_be_bytes()[0])
            .collect()
    };
    (prop_oneof![4 => 0..3000usize, 1 => 60_000..=65_300usize], any::<u32>())
        .prop_map(move |(length, salt)| bytes(length, salt))
}

prop_compose! {
    fn flow()(
        (source, destination) in addresses(),
        extension in prop::option::of(prop_oneof![Just(6), Just(14), Just(22)]),
        tags in vec(0..4095u16, 0..=2),
        identification in any::<u16>(),
        transport in transport(),
        payload in payload(),
        gso_size in prop_oneof![32..200u16, 1000..9000u16, Just(1448), Just(u16::MAX)],
    ) -> Flow {
        Flow { source, destination, extension, tags, identification, transport, payload, gso_size }
    }
}

fn vnet() -> impl Strategy<Value = VnetHeader> {
    any::<[u8; VnetHeader::LEN]>().prop_map(|bytes| VnetHeader::parse(&bytes).unwrap())
}

/// All segments, each in a buffer of the exact length.
fn drain(mut segments: Segments<'_>) -> Vec<Vec<u8>> {
    let (longest, mut all) = (segments.longest(), Vec::new());
    loop {
        let mut out = vec![0xee; longest];
        match segments.next_into(&mut out) {
            Some(length) => all.push(out[..length].to_vec()),
            None => return all,
        }
    }
}

/// Zero and 0xffff are the same number in one's complement. Which one is written matters only for UDP.
fn zero_as_ones(checksum: u16) -> u16 {
    if checksum == 0 { 0xffff } else { checksum }
}

/// pnet_packet accepts every length and checksum, from the IP header on.
fn pnet_agrees(flow: &Flow, frame: &[u8]) -> Result<(), TestCaseError> {
    let packet = &frame[14 + 4 * flow.tags.len()..];
    let extension = flow.extension.map_or(0, |n| n + 2);
    match (flow.source, flow.destination) {
        (IpAddr::V4(a), IpAddr::V4(b)) => {
            let ip = Ipv4Packet::new(packet).unwrap();
            prop_assert_eq!(usize::from(ip.get_total_length()), packet.len());
            prop_assert_eq!(ip.get_checksum(), pnet_packet::ipv4::checksum(&ip));
            let (found, right) = match flow.transport {
                Transport::Tcp { .. } => {
                    let segment = TcpPacket::new(ip.payload()).unwrap();
                    (segment.get_checksum(), tcp::ipv4_checksum(&segment, &a, &b))
                }
                Transport::Udp => {
                    let datagram = UdpPacket::new(ip.payload()).unwrap();
                    prop_assert_eq!(usize::from(datagram.get_length()), ip.payload().len());
                    (datagram.get_checksum(), udp::ipv4_checksum(&datagram, &a, &b))
                }
            };
            prop_assert_eq!(found, zero_as_ones(right));
        }
        (IpAddr::V6(a), IpAddr::V6(b)) => {
            let ip = Ipv6Packet::new(packet).unwrap();
            prop_assert_eq!(usize::from(ip.get_payload_length()), packet.len() - 40);
            let segment = &ip.payload()[extension..];
            let (found, right) = match flow.transport {
                Transport::Tcp { .. } => {
                    let segment = TcpPacket::new(segment).unwrap();
                    (segment.get_checksum(), tcp::ipv6_checksum(&segment, &a, &b))
                }
                Transport::Udp => {
                    let datagram = UdpPacket::new(segment).unwrap();
                    prop_assert_eq!(usize::from(datagram.get_length()), segment.len());
                    (datagram.get_checksum(), udp::ipv6_checksum(&datagram, &a, &b))
                }
            };
            prop_assert_eq!(found, zero_as_ones(right));
        }
        _ => unreachable!("both are of one family"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Each segment is, byte for byte, what etherparse builds for that range, and pnet_packet verifies it.
    #[test]
    fn segments_match_a_sender_without_offload(flow in flow()) {
        let (frame, vnet) = flow.super_frame();
        prop_assume!(frame.len() <= 65_535 && flow.pieces().len() <= MAX_SEGMENTS);
        let segments = Segments::new(&frame, &vnet).unwrap();
        prop_assert!(segments.longest() <= flow.headers() + usize::from(flow.gso_size));
        let outer_tag = 4 * flow.tags.len().min(1);
        prop_assert_eq!(wire_length(&frame, &vnet) + outer_tag, segments.longest());
        let (found, mut expected) = (drain(segments), flow.pieces());
        prop_assert_eq!(found.len(), expected.len());
        let (mut sequence, mut payload) = (None, Vec::new());
        for (found, expected) in found.iter().zip(&mut expected) {
            pnet_agrees(&flow, found)?;
            if let Transport::Tcp { .. } = flow.transport {
                let segment = TcpPacket::new(&found[flow.l4()..]).unwrap();
                prop_assert_eq!(segment.get_sequence(), sequence.unwrap_or(segment.get_sequence()));
                let length = u32::try_from(found.len() - flow.headers()).unwrap();
                sequence = Some(segment.get_sequence().wrapping_add(length));
            }
            let field = flow.l4() + flow.checksum_offset();
            let checksum = u16::from_be_bytes([expected[field], expected[field + 1]]);
            expected[field..field + 2].copy_from_slice(&zero_as_ones(checksum).to_be_bytes());
            prop_assert_eq!(found, expected);
            payload.extend_from_slice(&found[flow.headers()..]);
        }
        prop_assert_eq!(payload, flow.payload);
    }

    /// A frame with a partial checksum gets the right one; a complete frame is unchanged.
    #[test]
    fn completes_checksums(flow in flow()) {
        let (frame, vnet) = flow.super_frame();
        prop_assume!(frame.len() <= 65_535);
        let unfinished = VnetHeader { gso_type: VnetHeader::GSO_NONE, gso_size: 0, ..vnet };
        let completed = drain(Segments::new(&frame, &unfinished).unwrap());
        prop_assert_eq!(completed.len(), 1);
        pnet_agrees(&flow, &completed[0])?;
        let again = drain(Segments::new(&completed[0], &VnetHeader::default()).unwrap());
        prop_assert_eq!(again, completed);
    }

    /// A super-frame and its header, damaged anywhere, give segments or an error, in bounded work.
    #[test]
    fn damaged_super_frames_do_not_panic(
        flow in flow(),
        damage in vec((0..128usize, any::<u8>()), 0..6),
        header_damage in vec((0..VnetHeader::LEN, any::<u8>()), 0..3),
        cut in 0..200usize,
    ) {
        let (mut frame, vnet) = flow.super_frame();
        for (at, value) in damage {
            if let Some(byte) = frame.get_mut(at) { *byte = value; }
        }
        frame.truncate(if cut < 128 { frame.len() - cut.min(frame.len()) } else { frame.len() });
        let mut header = vnet.emit();
        for (at, value) in header_damage { header[at] = value; }
        check_invariants(&frame, &VnetHeader::parse(&header).unwrap())?;
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(frame in vec(any::<u8>(), 0..200), vnet in vnet()) {
        check_invariants(&frame, &vnet)?;
    }

    #[test]
    fn checksum_matches_pnet(bytes in vec(any::<u8>(), 1..3000), start in 0..64usize) {
        let bytes = &bytes[start.min(bytes.len() - 1)..];
        prop_assert_eq!(checksum::checksum(bytes), util::checksum(bytes, usize::MAX));
    }

    #[test]
    fn incremental_update_matches_full_checksum(words in vec(any::<u16>(), 2..40), at in any::<prop::sample::Index>(), new: u16) {
        let sum = |words: &[u16]| words.iter().fold(Sum::ZERO, |sum, word| sum.and_word(*word)).finish();
        let (mut changed, at) = (words.clone(), at.index(words.len()));
        changed[at] = new;
        prop_assume!(changed.iter().any(|word| *word != 0));
        prop_assert_eq!(checksum::update(sum(&words), words[at], new), sum(&changed));
    }

    #[test]
    fn complete_writes_two_bytes_or_none(mut frame in vec(any::<u8>(), 0..200), start in 0..220usize, offset in 0..220usize) {
        let before = frame.clone();
        match checksum::complete(&mut frame, start, offset) {
            Ok(()) => {
                prop_assert_ne!(&frame[start + offset..start + offset + 2], &[0, 0]);
                frame[start + offset..start + offset + 2].copy_from_slice(&before[start + offset..start + offset + 2]);
            }
            Err(_) => prop_assert!(start + offset + 2 > frame.len()),
        }
        prop_assert_eq!(frame, before);
    }

    #[test]
    fn vnet_header_round_trip(bytes: [u8; VnetHeader::LEN]) {
        let header = VnetHeader::parse(&bytes).unwrap();
        prop_assert_eq!(&header.emit()[..10], &bytes[..10]);
        prop_assert_eq!(VnetHeader::parse(&header.emit()), Some(header));
    }

    #[test]
    fn mac_round_trip(octets: [u8; 6], text: String) {
        let mac = Mac(octets);
        prop_assert_eq!(mac.to_string().parse(), Ok(mac));
        prop_assert_eq!(Mac::from_u64(mac.as_u64()), mac);
        if let Ok(parsed) = text.parse::<Mac>() {
            prop_assert_eq!(parsed.to_string(), text.to_lowercase().replace('-', ":"));
        }
    }

    /// The EtherType behind priority tags is found. Frames with more than eight have no network packet.
    #[test]
    fn skips_priority_tags(tags in vec((any::<bool>(), 0..16u16), 0..=16), behind in any::<[u8; 8]>()) {
        prop_assume!(!EtherType(u16::from_be_bytes([behind[0], behind[1]])).is_vlan());
        let mut frame = vec![0; 12];
        for (service, priority) in &tags {
            let tpid = if *service { EtherType::S_TAG } else { EtherType::C_TAG };
            frame.extend(tpid.0.to_be_bytes());
            frame.extend((priority << 12).to_be_bytes());
        }
        frame.extend(behind);
        let view = EthernetFrame::new_checked(&frame).unwrap();
        if tags.len() > 8 {
            prop_assert_eq!(view.network(), None);
            return Ok(());
        }
        let ethertype = EtherType(u16::from_be_bytes([behind[0], behind[1]]));
        prop_assert_eq!(view.l3(), (ethertype, 14 + 4 * tags.len()));
        prop_assert_eq!(view.innermost(), view.l3());
    }
}

/// Words of the filter language, and some others.
const WORDS: &[&str] = &[
    "arp",
    "icmp",
    "icmp6",
    "ip",
    "ip6",
    "tcp",
    "udp",
    "vlan",
    "100",
    "ether",
    "src",
    "dst",
    "host",
    "net",
    "port",
    "192.0.2.1",
    "fd00::/8",
    "02:00:00:00:00:01",
    "and",
    "or",
    "not",
    "(",
    ")",
    "!",
    "&&",
    "||",
    "&",
    "\u{e9}",
    "9999999",
];

proptest! {
    /// Any text gives a filter or a one-line error, and a filter accepts any frame.
    #[test]
    fn arbitrary_filters_do_not_panic(
        text in ".{0,80}",
        words in vec(proptest::sample::select(WORDS), 0..20),
        glue in prop_oneof![Just(""), Just(" ")],
        frame in vec(any::<u8>(), 0..100),
    ) {
        for expression in [text, words.join(glue)] {
            match Filter::parse(&expression) {
                Ok(filter) => _ = filter.matches(&frame),
                Err(error) => prop_assert!(!error.to_string().is_empty()),
            }
        }
    }

    /// `not` inverts the result for every frame, except for runts.
    #[test]
    fn filter_and_its_negation_disagree(words in vec(proptest::sample::select(WORDS), 1..6), frame in vec(any::<u8>(), 14..100)) {
        let expression = words.join(" ");
        if let Ok(filter) = Filter::parse(&expression) {
            let contrary = Filter::parse(&format!("not ({expression})")).unwrap();
            prop_assert_ne!(filter.matches(&frame), contrary.matches(&frame));
        }
    }
}

/// Calls every function that accepts a frame, and checks invariants.
fn check_invariants(frame: &[u8], vnet: &VnetHeader) -> Result<(), TestCaseError> {
    prop_assert!(!Pretty(frame).to_string().contains('\n'));
    prop_assert!(wire_length(frame, vnet) <= frame.len());
    prop_assert!(wire_length(frame, &VnetHeader::default()) <= frame.len());
    if let Some(view) = EthernetFrame::new_checked(frame) {
        prop_assert!(view.l3().1 <= view.innermost().1 && view.innermost().1 <= frame.len());
        prop_assert_eq!(&frame[..6], &view.dst().0);
        prop_assert_eq!(&frame[6..12], &view.src().0);
        prop_assert_eq!(&frame[14..], view.payload());
        prop_assert_eq!(view.vlan_tag().is_some(), view.untagged_length() < frame.len());
    }
    let Ok(segments) = Segments::new(frame, vnet) else { return Ok(()) };
    prop_assert!((1..=MAX_SEGMENTS).contains(&segments.remaining()));
    prop_assert!(segments.longest() <= frame.len());
    let (longest, count) = (segments.longest(), segments.remaining());
    let outer_tag = frame.len() - wire_length(frame, &VnetHeader::default());
    prop_assert!(
        wire_length(frame, vnet) + outer_tag >= longest,
        "the MTU check never sees too small a length"
    );
    let all = drain(segments);
    prop_assert_eq!(all.len(), count);
    prop_assert_eq!(all.iter().map(Vec::len).max(), Some(longest));
    Ok(())
}
