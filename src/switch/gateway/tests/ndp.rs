//! Neighbour discovery and ICMPv6: the replies of the gateway, and hosts that use its address.

use super::*;

/// An ICMPv6 message of type `kind` with a valid checksum.
fn icmp(addresses: (Ipv6Addr, Ipv6Addr), kind: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0][..], body].concat();
    let (source, destination) = addresses;
    let sum = pnet_packet::icmpv6::checksum(&Icmpv6Packet::new(&message).unwrap(), &source, &destination);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// `payload` of type `next` after an IPv6 header.
fn ipv6(addresses: (Ipv6Addr, Ipv6Addr), next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length[0], length[1], next, 255];
    let (source, destination) = addresses;
    let packet = [&fixed[..], &source.octets(), &destination.octets(), payload].concat();
    ethernet(Mac([0x33, 0x33, 0xff, 0x12, 0x34, 0x56]), EtherType::IPV6, &packet)
}

/// A message that names a target, with options.
fn about(addresses: (Ipv6Addr, Ipv6Addr), kind: u8, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    ipv6(addresses, 58, &icmp(addresses, kind, &[&[0; 4], &target.octets()[..], options].concat()))
}

const SOURCE_OPTION: [u8; 8] = [1, 1, 2, 0, 0x5e, 0, 0x53, 0x0a];

#[test]
fn answers_neighbour_solicitation() {
    for (to, options) in [(GROUP6, &SOURCE_OPTION[..]), (GROUP6, &[]), (GATEWAY6, &[])] {
        let frame = emitted(&about((HOST6, to), 135, GATEWAY6, options));
        assert_eq!(frame[..6], HOST.0);
        advertises(&frame, HOST6, 0xe0);
    }
}

#[test]
fn answers_duplicate_address_detection() {
    let frame = emitted(&about((Ipv6Addr::UNSPECIFIED, GROUP6), 135, GATEWAY6, &[]));
    assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
    advertises(&frame, "ff02::1".parse().unwrap(), 0xa0);
}

fn advertises(frame: &[u8], to: Ipv6Addr, flags: u8) {
    let packet = Ipv6Packet::new(&frame[14..]).unwrap();
    assert_eq!((packet.get_source(), packet.get_destination()), (GATEWAY6, to));
    assert_eq!((packet.get_hop_limit(), packet.get_payload_length()), (255, 32));
    assert_eq!((packet.get_version(), packet.get_next_header().0), (6, 58));
    assert_eq!(frame.len(), 14 + 40 + 32);
    let icmp = Icmpv6Packet::new(packet.payload()).unwrap();
    assert_eq!(icmp.get_checksum(), pnet_packet::icmpv6::checksum(&icmp, &GATEWAY6, &to));
    let advert = NeighborAdvertPacket::new(packet.payload()).unwrap();
    assert_eq!((advert.get_icmpv6_type().0, advert.get_icmpv6_code().0), (136, 0));
    assert_eq!((advert.get_flags(), advert.get_reserved()), (flags, 0));
    assert_eq!(advert.get_target_addr(), GATEWAY6);
    let options = advert.get_options();
    assert_eq!(options.len(), 1);
    assert_eq!(options[0].option_type, NdpOptionTypes::TargetLLAddr);
    assert_eq!((options[0].length, &options[0].data[..]), (1, &GATEWAY.0[..]));
}

#[test]
fn ignores_invalid_solicitations() {
    let good = about((HOST6, GROUP6), 135, GATEWAY6, &SOURCE_OPTION);
    assert!(answer(&good).is_some());
    for (what, at) in [("hop limit", 21), ("code", 55), ("checksum", 56), ("target", 77), ("option", 80)] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(answer(&bad), None, "{what}");
    }
    assert_eq!(answer(&good[..good.len() - 1]), None, "cut short");
    let unspecified = Ipv6Addr::UNSPECIFIED;
    for (what, addresses, target, options) in [
        ("for another target", (HOST6, GROUP6), OTHER6, &[][..]),
        ("option of length 0", (HOST6, GROUP6), GATEWAY6, &[1, 0, 0, 0, 0, 0, 0, 0]),
        ("option cut short", (HOST6, GROUP6), GATEWAY6, &[1, 2, 0, 0, 0, 0, 0, 0]),
        ("half an option", (HOST6, GROUP6), GATEWAY6, &[1]),
        ("a probe with a source link-layer address", (unspecified, GROUP6), GATEWAY6, &SOURCE_OPTION),
        ("a probe to another group", (unspecified, "ff02::1".parse().unwrap()), GATEWAY6, &[]),
    ] {
        assert_eq!(answer(&about(addresses, 135, target, options)), None, "{what}");
    }
}

#[test]
fn rejects_gateway_address_as_nd_source_or_target() {
    let (source, target) = (Claim::SourceAddress(GATEWAY6.into()), Claim::NeighbourTarget(GATEWAY6));
    for kind in [133, 134, 135, 136, 137] {
        assert_eq!(claim(&about((GATEWAY6, OTHER6), kind, OTHER6, &[])), Some(source), "{kind}");
    }
    for kind in [136, 137] {
        assert_eq!(claim(&about((HOST6, OTHER6), kind, GATEWAY6, &[])), Some(target), "{kind}");
        assert_eq!(claim(&about((HOST6, OTHER6), kind, HOST6, &[])), None, "{kind}");
    }
    assert_eq!(claim(&about((HOST6, GROUP6), 135, GATEWAY6, &[])), None, "a request");
    assert_eq!(claim(&about((Ipv6Addr::UNSPECIFIED, GROUP6), 135, GATEWAY6, &[])), None, "a probe");
    assert_eq!(claim(&about((HOST6, OTHER6), 128, GATEWAY6, &[])), None, "an echo request");
    assert_eq!(claim(&about((GATEWAY6, OTHER6), 128, OTHER6, &[])), Some(source), "an echo request");
    assert_eq!(claim(&about((GATEWAY6, OTHER6), 2, OTHER6, &[])), Some(source), "packet too big");
}

#[test]
fn inspects_nd_behind_extension_header_chains() {
    let addresses = (HOST6, OTHER6);
    let message = icmp(addresses, 136, &[&[0; 4], &GATEWAY6.octets()[..]].concat());
    let options = |next: u8| [next, 0, 1, 4, 0, 0, 0, 0];
    for headers in [[options(58)].concat(), [options(60), options(60), options(60), options(58)].concat()] {
        let payload = [&headers[..], &message].concat();
        assert!(claim(&ipv6(addresses, 0, &payload)).is_some());
    }
    let many: Vec<u8> = [0; 500].iter().flat_map(|_| options(60)).chain(options(58)).collect();
    let frame = ipv6(addresses, 60, &[&many[..], &message].concat());
    assert_eq!(violation(&frame), Some(Violation::TooManyHeaders));
}

#[test]
fn rejects_fragmented_nd() {
    let addresses = (HOST6, OTHER6);
    let echo = icmp(addresses, 128, b"\0\x07\0\x01");
    let message = icmp(addresses, 136, &[&[0; 4], &OTHER6.octets()[..]].concat());
    let atomic = [58, 0, 0, 0, 0, 0, 0, 7];
    let first = [58, 0, 0, 1, 0, 0, 0, 7];
    let later = [58, 0, 0, 9, 0, 0, 0, 7];
    let fragment = |header: [u8; 8], rest: &[u8]| violation(&ipv6(addresses, 44, &[&header, rest].concat()));
    assert_eq!(fragment(atomic, &message), Some(Violation::FragmentedNd));
    assert_eq!(fragment(first, &message), Some(Violation::FragmentedNd));
    assert_eq!(fragment(first, &[]), Some(Violation::FragmentedNd), "its type is in a later fragment");
    let options = [60, 0, 0, 1, 0, 0, 0, 7];
    assert_eq!(
        fragment(options, &[58, 0, 1]),
        Some(Violation::FragmentedNd),
        "its headers are in a later fragment"
    );
    assert_eq!(fragment(first, &echo), None);
    assert_eq!(fragment(later, &message), None, "receivers discard it without the first");
}

#[test]
fn inspects_nd_behind_each_extension_header_type() {
    let addresses = (HOST6, OTHER6);
    let message = icmp(addresses, 136, &[&[0; 4], &GATEWAY6.octets()[..]].concat());
    for (what, number, header) in [
        ("hop-by-hop", 0, &[58, 0, 1, 4, 0, 0, 0, 0][..]),
        ("destination options of 16 octets", 60, &[58, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("routing type 0, none left", 43, &[58, 0, 0, 0, 0, 0, 0, 0]),
        ("routing type 2, none left", 43, &[&[58, 2, 2, 0, 0, 0, 0, 0][..], &OTHER6.octets()].concat()),
        ("segment routing, none left", 43, &[&[58, 2, 4, 0, 0, 0, 0, 0][..], &OTHER6.octets()].concat()),
        ("authentication, 12 octets", 51, &[58, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0, 1]),
    ] {
        let frame = ipv6(addresses, number, &[header, &message].concat());
        assert_eq!(claim(&frame), Some(Claim::NeighbourTarget(GATEWAY6)), "{what}");
        let priority = tagged(&tagged(&frame, EtherType::S_TAG, 0), EtherType::C_TAG, 0);
        assert_eq!(claim(&priority), Some(Claim::NeighbourTarget(GATEWAY6)), "{what}, tagged");
    }
}

#[test]
fn inspects_nd_with_payload_length_zero() {
    const LENGTH: std::ops::Range<usize> = 18..20;
    let addresses = (HOST6, OTHER6);
    let message = icmp(addresses, 136, &[&[0; 4], &GATEWAY6.octets()[..]].concat());
    let behind_padding = [&[58, 0, 1, 4, 0, 0, 0, 0], &message[..]].concat();
    let twice = [&[60, 0, 1, 4, 0, 0, 0, 0], &behind_padding[..]].concat();
    for (number, payload) in [(0, behind_padding), (0, twice), (58, message)] {
        let mut frame = ipv6(addresses, number, &payload);
        frame[LENGTH].fill(0);
        assert_eq!(claim(&frame), Some(Claim::NeighbourTarget(GATEWAY6)), "{number}");
        assert_eq!(claim(&[&frame[..], &[0; 6]].concat()), Some(Claim::NeighbourTarget(GATEWAY6)));
    }
    let mut request = about((HOST6, GROUP6), 135, GATEWAY6, &SOURCE_OPTION);
    request[LENGTH].fill(0);
    assert_eq!(answer(&request), None, "it has no payload");
}

#[test]
fn ignores_fragmented_solicitation() {
    let message = icmp((HOST6, GROUP6), 135, &[&[0; 4], &GATEWAY6.octets()[..]].concat());
    let payload = [&[58, 0, 0, 1, 0, 0, 0, 7], &message[..]].concat();
    assert_eq!(answer(&ipv6((HOST6, GROUP6), 44, &payload)), None);
}

#[test]
fn answers_icmpv6_echo() {
    let mut request = ipv6((HOST6, GATEWAY6), 58, &icmp((HOST6, GATEWAY6), 128, b"\0\x07\0\x01data."));
    request[..6].copy_from_slice(&GATEWAY.0);
    request[21] = 1;
    let reply = emitted(&request);
    assert_eq!((reply.len(), &reply[..6]), (request.len(), &HOST.0[..]));
    let packet = Ipv6Packet::new(&reply[14..]).unwrap();
    assert_eq!((packet.get_source(), packet.get_destination()), (GATEWAY6, HOST6));
    assert_eq!(packet.get_hop_limit(), 64);
    let icmp = Icmpv6Packet::new(packet.payload()).unwrap();
    assert_eq!((icmp.get_icmpv6_type().0, icmp.get_icmpv6_code().0), (129, 0));
    assert_eq!(icmp.get_checksum(), pnet_packet::icmpv6::checksum(&icmp, &GATEWAY6, &HOST6));
    assert_eq!(icmp.payload(), b"\0\x07\0\x01data.");
}

#[test]
fn leaves_unusual_icmpv6_echo_to_the_host() {
    let to_us = |frame: &[u8]| [&GATEWAY.0[..], &frame[6..]].concat();
    let body = b"\0\x07\0\x01";
    let echo = |addresses| to_us(&ipv6(addresses, 58, &icmp(addresses, 128, body)));
    assert_eq!(answer(&echo((HOST6, GATEWAY6))), Some(SwitchReply::Echo6));
    assert_eq!(answer(&ipv6((HOST6, GATEWAY6), 58, &icmp((HOST6, GATEWAY6), 128, body))), None, "group");
    for addresses in [
        (HOST6, OTHER6),
        (GATEWAY6, GATEWAY6),
        (Ipv6Addr::UNSPECIFIED, GATEWAY6),
        (Ipv6Addr::LOCALHOST, GATEWAY6),
        ("ff02::1".parse().unwrap(), GATEWAY6),
    ] {
        assert_eq!(answer(&echo(addresses)), None, "{addresses:?}");
    }
    let behind = [&[58, 0, 1, 4, 0, 0, 0, 0], &icmp((HOST6, GATEWAY6), 128, body)[..]].concat();
    assert_eq!(answer(&to_us(&ipv6((HOST6, GATEWAY6), 60, &behind))), None, "an extension header");
}
