//! Requests are built and replies are parsed with `pnet_packet`, an independent implementation.

use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket};
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::icmp::IcmpPacket;
use pnet_packet::icmpv6::Icmpv6Packet;
use pnet_packet::icmpv6::ndp::{NdpOptionTypes, NeighborAdvertPacket};
use pnet_packet::ipv4::{self, Ipv4Packet, MutableIpv4Packet};
use pnet_packet::ipv6::Ipv6Packet;

use super::*;
use crate::wire::arp::Arp;

const GATEWAY: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x01]);
const HOST: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0a]);
const OTHER: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0b]);
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 11);
/// The solicited-node group of [`GATEWAY6`].
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);

fn gateway() -> Gateway {
    Gateway {
        mac: GATEWAY.into(),
        ipv4: vec![OTHER4.octets().map(|_| 9).into(), GATEWAY4],
        ipv6: vec![GATEWAY6],
    }
}

fn ethernet(to: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &HOST.0, &ethertype.0.to_be_bytes(), payload].concat()
}

/// With a tag after the addresses.
fn tagged(frame: &[u8], tpid: EtherType, vid: u8) -> Vec<u8> {
    [&frame[..12], &tpid.0.to_be_bytes(), &[0xe0, vid], &frame[12..]].concat()
}

fn arp(operation: u16, sender: (Mac, Ipv4Addr), target_ip: Ipv4Addr) -> Vec<u8> {
    let message =
        Arp { operation, sender_mac: sender.0, sender_ip: sender.1, target_mac: Mac::ZERO, target_ip };
    ethernet(Mac::BROADCAST, EtherType::ARP, &message.emit())
}

fn violation(frame: &[u8]) -> Option<Violation> {
    gateway().check(&EthernetFrame::new_checked(frame).unwrap()).err()
}

fn claim(frame: &[u8]) -> Option<Claim> {
    match violation(frame) {
        Some(Violation::Gateway(claim)) => Some(claim),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

fn answer(frame: &[u8]) -> Option<GatewayReply> {
    gateway().answer(&EthernetFrame::new_checked(frame).unwrap())
}

/// The bytes of the reply to `request`, which must have one.
fn emitted(request: &[u8]) -> Vec<u8> {
    let mut frame = [request, &[0xee; GatewayReply::GROWTH]].concat();
    let length = answer(request).expect("a reply").emit(&gateway(), &mut frame, request.len());
    frame.truncate(length);
    let ethernet = EthernetPacket::new(&frame).unwrap();
    assert_eq!(ethernet.get_source().octets(), GATEWAY.0);
    frame
}

mod arp_tests {
    use super::*;

    #[test]
    fn answers_requests_and_probes() {
        for sender in [HOST4, Ipv4Addr::UNSPECIFIED] {
            for padding in [0, 18] {
                let mut request = arp(Arp::REQUEST, (HOST, sender), GATEWAY4);
                request.resize(request.len() + padding, 0);
                let reply = emitted(&request);
                assert_eq!(reply.len(), request.len());
                assert_eq!(reply[..6], HOST.0);
                let reply = ArpPacket::new(&reply[14..]).unwrap();
                assert_eq!(reply.get_operation(), ArpOperations::Reply);
                assert_eq!(reply.get_hardware_type(), ArpHardwareTypes::Ethernet);
                assert_eq!((reply.get_hw_addr_len(), reply.get_proto_addr_len()), (6, 4));
                assert_eq!(reply.get_sender_hw_addr().octets(), GATEWAY.0);
                assert_eq!(reply.get_sender_proto_addr(), GATEWAY4);
                assert_eq!(reply.get_target_hw_addr().octets(), HOST.0);
                assert_eq!(reply.get_target_proto_addr(), sender);
            }
        }
    }

    #[test]
    fn ignores_requests_for_other_addresses() {
        assert_eq!(answer(&arp(Arp::REQUEST, (HOST, HOST4), OTHER4)), None);
        assert_eq!(answer(&arp(Arp::REPLY, (HOST, HOST4), GATEWAY4)), None);
        assert_eq!(answer(&arp(Arp::REQUEST, (HOST, HOST4), GATEWAY4)[..41]), None);
    }

    #[test]
    fn rejects_gateway_address_as_arp_sender() {
        for operation in [Arp::REQUEST, Arp::REPLY, 3, 9] {
            let frame = arp(operation, (HOST, GATEWAY4), GATEWAY4);
            assert_eq!(claim(&frame), Some(Claim::ArpAddress(GATEWAY4)));
            let to_one = [&OTHER.0[..], &arp(operation, (HOST, GATEWAY4), OTHER4)[6..]].concat();
            assert_eq!(claim(&to_one), Some(Claim::ArpAddress(GATEWAY4)));
        }
        assert_eq!(claim(&arp(Arp::REPLY, (GATEWAY, HOST4), OTHER4)), Some(Claim::ArpMac));
        assert_eq!(claim(&arp(Arp::REQUEST, (HOST, HOST4), GATEWAY4)), None);
        assert_eq!(
            claim(&arp(Arp::REQUEST, (HOST, HOST4), HOST4)),
            None,
            "an announcement of its own address"
        );
        assert_eq!(claim(&arp(Arp::REQUEST, (HOST, Ipv4Addr::UNSPECIFIED), GATEWAY4)), None, "a probe");
    }

    #[test]
    fn inspects_priority_tagged_frames_but_not_vlans() {
        let frame = arp(Arp::REPLY, (HOST, GATEWAY4), OTHER4);
        for tpid in [EtherType::C_TAG, EtherType::S_TAG] {
            let once = tagged(&frame, tpid, 0);
            assert_eq!(claim(&once), Some(Claim::ArpAddress(GATEWAY4)));
            assert_eq!(claim(&tagged(&once, EtherType::C_TAG, 0)), Some(Claim::ArpAddress(GATEWAY4)));
            assert_eq!(claim(&tagged(&frame, tpid, 5)), None);
        }
        let request = tagged(&arp(Arp::REQUEST, (HOST, HOST4), GATEWAY4), EtherType::C_TAG, 0);
        let reply = emitted(&request);
        assert_eq!(reply[12..18], request[12..18], "the tag stays");
        assert_eq!(ArpPacket::new(&reply[18..]).unwrap().get_operation(), ArpOperations::Reply);
    }
}

mod ndp_tests {
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
        for (what, at) in [("hop limit", 21), ("code", 55), ("checksum", 56), ("target", 77), ("option", 80)]
        {
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
        for headers in [[options(58)].concat(), [options(60), options(60), options(60), options(58)].concat()]
        {
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
        let fragment =
            |header: [u8; 8], rest: &[u8]| violation(&ipv6(addresses, 44, &[&header, rest].concat()));
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
        assert_eq!(answer(&echo((HOST6, GATEWAY6))), Some(GatewayReply::Echo6));
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
}

mod icmp_echo_tests {
    use super::*;

    fn echo(change: impl Fn(&mut MutableIpv4Packet<'_>)) -> Vec<u8> {
        let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, b'o', b'd', b'd'];
        let sum = pnet_packet::icmp::checksum(&IcmpPacket::new(&message).unwrap());
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let mut bytes = [&[0; 20][..], &message].concat();
        let mut packet = MutableIpv4Packet::new(&mut bytes).unwrap();
        packet.set_version(4);
        packet.set_header_length(5);
        packet.set_total_length(31);
        packet.set_ttl(255);
        packet.set_next_level_protocol(pnet_packet::ip::IpNextHeaderProtocols::Icmp);
        packet.set_source(HOST4);
        packet.set_destination(GATEWAY4);
        change(&mut packet);
        packet.set_checksum(ipv4::checksum(&packet.to_immutable()));
        ethernet(GATEWAY, EtherType::IPV4, &[&bytes[..], &[0; 15]].concat())
    }

    #[test]
    fn answers_icmp_echo() {
        for ttl in [1, 64, 255] {
            let reply = emitted(&echo(|packet| packet.set_ttl(ttl)));
            assert_eq!((reply.len(), &reply[..6]), (60, &HOST.0[..]));
            let packet = Ipv4Packet::new(&reply[14..]).unwrap();
            assert_eq!((packet.get_source(), packet.get_destination()), (GATEWAY4, HOST4));
            assert_eq!((packet.get_ttl(), packet.get_checksum()), (64, ipv4::checksum(&packet)));
            let icmp = IcmpPacket::new(packet.payload()).unwrap();
            assert_eq!((icmp.get_icmp_type().0, icmp.get_icmp_code().0), (0, 0));
            assert_eq!(icmp.get_checksum(), pnet_packet::icmp::checksum(&icmp));
            assert_eq!(icmp.payload(), b"\x12\x34\0\x01odd");
        }
    }

    #[test]
    fn leaves_unusual_icmp_echo_to_the_host() {
        type Change = fn(&mut MutableIpv4Packet<'_>);
        let cases: [(&str, Change); 10] = [
            ("first fragment", |packet| packet.set_flags(1)),
            ("last fragment", |packet| packet.set_fragment_offset(1)),
            ("longer than the frame", |packet| packet.set_total_length(47)),
            ("shorter than its header", |packet| packet.set_total_length(27)),
            ("to another address", |packet| packet.set_destination(OTHER4)),
            ("from the gateway", |packet| packet.set_source(GATEWAY4)),
            ("from the unspecified address", |packet| packet.set_source(Ipv4Addr::UNSPECIFIED)),
            ("from the broadcast address", |packet| packet.set_source(Ipv4Addr::BROADCAST)),
            ("from a group", |packet| packet.set_source(Ipv4Addr::new(224, 0, 0, 1))),
            ("from a loopback address", |packet| packet.set_source(Ipv4Addr::LOCALHOST)),
        ];
        for (what, change) in cases {
            assert_eq!(answer(&echo(change)), None, "{what}");
        }
        let good = echo(|_| {});
        assert_eq!(answer(&good), Some(GatewayReply::Echo));
        let mut options = [&good[..34], &[1; 4], &good[34..]].concat();
        let mut packet = MutableIpv4Packet::new(&mut options[14..]).unwrap();
        packet.set_header_length(6);
        packet.set_total_length(35);
        packet.set_checksum(ipv4::checksum(&packet.to_immutable()));
        assert_eq!(answer(&options), None, "options");
        for (what, at) in [("to a group", 5), ("bad header checksum", 24), ("not a request", 34)] {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert_eq!(answer(&bad), None, "{what}");
        }
    }
}

mod icmp_redirect_tests {
    use super::*;

    const HEADER_SUM: std::ops::Range<usize> = 10..12;

    /// A redirect from `source` to another gateway, about a packet to TEST-NET-2; `change` is made before the
    /// header's sum.
    fn redirect(source: Ipv4Addr, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
        let fixed = [0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0];
        let about =
            [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 11, 198, 51, 100, 1][..], &[0; 8]];
        let message = [&[5, 1, 0, 0][..], &HOST4.octets(), &about.concat()].concat();
        let mut packet = [&fixed[..], &source.octets(), &OTHER4.octets(), &message].concat();
        change(&mut packet);
        let sum = ipv4::checksum(&Ipv4Packet::new(&packet).unwrap());
        packet[HEADER_SUM].copy_from_slice(&sum.to_be_bytes());
        ethernet(OTHER, EtherType::IPV4, &packet)
    }

    #[test]
    fn rejects_redirects_from_the_gateway_address() {
        type Change = fn(&mut Vec<u8>);
        let cases: [(&str, Change); 6] = [
            ("plain", |_| {}),
            ("for the network", |packet| packet[21] = 0),
            ("the first fragment", |packet| packet[6] = 0x20),
            ("with options", |packet| {
                packet[0] = 0x46;
                packet[3] += 4;
                packet.splice(20..20, [1; 4]);
            }),
            ("of total length 0", |packet| packet[3] = 0),
            ("padded", |packet| packet.extend([0; 4])),
        ];
        for (what, change) in cases {
            let frame = redirect(GATEWAY4, change);
            assert_eq!(claim(&frame), Some(Claim::SourceAddress(GATEWAY4.into())), "{what}");
            let tagged = tagged(&frame, EtherType::C_TAG, 0);
            assert_eq!(claim(&tagged), Some(Claim::SourceAddress(GATEWAY4.into())), "{what}, tagged");
        }
    }

    #[test]
    fn rejects_any_packet_from_the_gateway_address() {
        for kind in [0, 3, 8, 11] {
            let frame = redirect(GATEWAY4, |packet| packet[20] = kind);
            assert_eq!(claim(&frame), Some(Claim::SourceAddress(GATEWAY4.into())), "ICMP type {kind}");
        }
        for protocol in [6, 17] {
            let frame = redirect(GATEWAY4, |packet| packet[9] = protocol);
            assert_eq!(claim(&frame), Some(Claim::SourceAddress(GATEWAY4.into())), "protocol {protocol}");
        }
        assert_eq!(claim(&redirect(OTHER4, |_| {})), None);
        for length in 14..34 {
            assert_eq!(claim(&redirect(GATEWAY4, |_| {})[..length]), None, "cut at {length}");
        }
    }
}

#[test]
fn emits_nothing_for_a_frame_that_is_not_the_request() {
    let answers = [
        GatewayReply::Arp { address: GATEWAY4 },
        GatewayReply::Neighbour { address: GATEWAY6 },
        GatewayReply::Echo,
        GatewayReply::Echo6,
    ];
    for answer in answers {
        for length in 0..80 {
            let mut frame = [0x45; 80];
            assert_eq!(answer.emit(&gateway(), &mut frame, length), 0);
            assert_eq!(frame, [0x45; 80]);
        }
        assert_eq!(answer.emit(&gateway(), &mut [0; 20], 30), 0, "a length beyond the buffer");
    }
}
