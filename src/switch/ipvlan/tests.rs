//! Frames of hosts that leave by an uplink and enter by it, and the table of their addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::egress::{rewrite, sender};
use super::ingress::deliver;
use super::*;
use crate::switch::{PortId, Tick};
use crate::wire::arp::Arp;
use crate::wire::checksum::{Sum, checksum};
use crate::wire::ip::protocol;
use crate::wire::ndp::link_addresses;
use crate::wire::{EtherType, EthernetFrame, Mac, VnetHeader};

const UPLINK: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x01]);
const HOST: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0a]);
const OTHER: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0b]);
const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 11);
const COMPLETE: VnetHeader =
    VnetHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };

fn ethernet(to: Mac, from: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &from.0, &ethertype.0.to_be_bytes(), payload].concat()
}

/// With two tags.
fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x88, 0xa8, 0, 7, 0x81, 0, 0, 9], &frame[12..]].concat()
}

fn arp(operation: u16, target_mac: Mac, target_ip: Ipv4Addr) -> Vec<u8> {
    let arp = Arp { operation, sender_mac: HOST, sender_ip: HOST4, target_mac, target_ip };
    ethernet(Mac::BROADCAST, HOST, EtherType::ARP, &arp.emit())
}

/// An ICMPv6 message of the host, with its checksum.
fn icmpv6(destination: Ipv6Addr, message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).unwrap();
    let mut message = message.to_vec();
    let sum = Sum::pseudo_ipv6(HOST6, destination, protocol::ICMPV6, length.into()).and(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = [&[0x60, 0, 0, 0][..], &length.to_be_bytes(), &[protocol::ICMPV6, 255]].concat();
    let packet = [&header[..], &HOST6.octets(), &destination.octets(), &message].concat();
    ethernet(OTHER, HOST, EtherType::IPV6, &packet)
}

/// A message of neighbour discovery: its type, its fixed part after the checksum, and an option with this MAC address.
fn nd(kind: u8, fixed: usize, option: u8, mac: Mac) -> Vec<u8> {
    let mut message = vec![0; 4 + fixed];
    message[0] = kind;
    [&message[..], &[option, 1], &mac.0].concat()
}

const SOLICITATION: (u8, usize, u8) = (135, 20, 1);

fn checksum_is_right(frame: &[u8], at: usize) -> bool {
    let message = &frame[at + 40..];
    let length = u32::try_from(message.len()).unwrap();
    let address = |at: usize| Ipv6Addr::from(<[u8; 16]>::try_from(&frame[at..at + 16]).unwrap());
    Sum::pseudo_ipv6(address(at + 8), address(at + 24), protocol::ICMPV6, length).and(message).finish() == 0
}

/// The rewritten frame, of which only the head may be changed.
#[track_caller]
fn rewritten(frame: &[u8], expected: Rewritten) -> Vec<u8> {
    let mut bytes = frame.to_vec();
    let head = bytes.len().min(HEAD);
    assert_eq!(rewrite(&mut bytes[..head], &COMPLETE, UPLINK), Ok(expected));
    assert_eq!(EthernetFrame::new_checked(&bytes).unwrap().src(), UPLINK);
    assert_eq!(bytes.len(), frame.len());
    bytes
}

#[test]
fn arp_is_from_the_uplink() {
    for operation in [Arp::REQUEST, Arp::REPLY] {
        for tag in [<[u8]>::to_vec, tagged] as [fn(&[u8]) -> Vec<u8>; 2] {
            let frame = tag(&arp(operation, OTHER, OTHER4));
            let bytes = rewritten(&frame, Rewritten::Arp);
            let message = Arp::parse(&bytes[bytes.len() - Arp::LEN..]).unwrap();
            assert_eq!((message.sender_mac, message.sender_ip, message.target_mac), (UPLINK, HOST4, OTHER));
        }
    }
    let bytes = rewritten(&arp(Arp::REPLY, HOST, HOST4), Rewritten::Arp);
    assert_eq!(Arp::parse(&bytes[14..]).unwrap().target_mac, UPLINK, "an announcement");
}

/// Router solicitation and advertisement, neighbour solicitation and advertisement.
#[test]
fn neighbour_discovery_is_from_the_uplink() {
    for (kind, fixed, option) in [(133, 4, 1), (134, 12, 1), SOLICITATION, (136, 20, 2)] {
        let frame = icmpv6(OTHER6, &nd(kind, fixed, option, HOST));
        assert!(checksum_is_right(&frame, 14));
        let bytes = rewritten(&frame, Rewritten::Neighbour);
        assert_eq!(link_addresses(&bytes[54..]).unwrap().collect::<Vec<_>>(), [UPLINK], "{kind}");
        assert!(checksum_is_right(&bytes, 14), "{kind}");
        let bytes = rewritten(&tagged(&frame), Rewritten::Neighbour);
        assert!(checksum_is_right(&bytes, 22), "{kind}");
    }
}

/// Duplicate address detection has no link-layer address. An advertisement of a redirect's target has that of another
/// host.
#[test]
fn keeps_messages_without_the_address_of_the_host() {
    for message in [nd(135, 20, 14, HOST), nd(137, 36, 2, OTHER), nd(128, 20, 1, HOST)] {
        let frame = icmpv6(OTHER6, &message);
        let bytes = rewritten(&frame, Rewritten::Source);
        assert_eq!(bytes[12..], frame[12..]);
    }
    rewritten(&icmpv6(OTHER6, &nd(137, 36, 2, HOST)), Rewritten::Neighbour);
}

/// A checksum that the device completes later is made of the bytes that are then in the frame.
#[test]
fn leaves_partial_checksums() {
    let (kind, fixed, option) = SOLICITATION;
    let mut frame = icmpv6(OTHER6, &nd(kind, fixed, option, HOST));
    frame[56..58].copy_from_slice(&[0x12, 0x34]);
    let vnet = VnetHeader { flags: VnetHeader::NEEDS_CSUM, csum_start: 54, csum_offset: 2, ..COMPLETE };
    rewrite(&mut frame, &vnet, UPLINK).unwrap();
    assert_eq!(frame[56..58], [0x12, 0x34]);
    assert_eq!(link_addresses(&frame[54..]).unwrap().collect::<Vec<_>>(), [UPLINK]);
}

/// What follows the bytes that may be changed may contain the address.
#[test]
fn refuses_a_message_that_is_too_long() {
    let (kind, fixed, _) = (134, 12, 1);
    let prefix = [&[3, 4][..], &[0; 30]].concat();
    let message = [&nd(kind, fixed, 99, HOST)[..], &prefix, &prefix, &[1, 1], &HOST.0].concat();
    let mut frame = icmpv6(OTHER6, &message);
    let before = frame.clone();
    assert_eq!(rewrite(&mut frame[..HEAD], &COMPLETE, UPLINK), Err(Unrewritable));
    assert_eq!(frame, before);
    assert_eq!(rewrite(&mut frame, &COMPLETE, UPLINK), Ok(Rewritten::Neighbour));
    assert!(checksum_is_right(&frame, 14));
}

/// A DHCP message of the host, with its UDP checksum unless that is 0.
fn dhcp(flags: u16, ciaddr: Ipv4Addr, with_checksum: bool) -> Vec<u8> {
    let mut message = vec![0; 240];
    message[..4].copy_from_slice(&[1, 1, 6, 0]);
    message[10..12].copy_from_slice(&flags.to_be_bytes());
    message[12..16].copy_from_slice(&ciaddr.octets());
    message[28..34].copy_from_slice(&HOST.0);
    let length = u16::try_from(message.len() + 8).unwrap();
    let mut udp = [&[0, 68, 0, 67][..], &length.to_be_bytes(), &[0, 0], &message].concat();
    if with_checksum {
        let sum = Sum::pseudo_ipv4(ciaddr, Ipv4Addr::BROADCAST, protocol::UDP, length).and(&udp).finish();
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
    }
    let mut header = [&[0x45, 0][..], &(length + 20).to_be_bytes(), &[0, 0, 0, 0, 64, 17, 0, 0]].concat();
    header.extend([ciaddr.octets(), [255; 4]].concat());
    let sum = checksum(&header);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(Mac::BROADCAST, HOST, EtherType::IPV4, &[header, udp].concat())
}

#[test]
fn dhcp_client_asks_for_a_broadcast() {
    let none = Ipv4Addr::UNSPECIFIED;
    let expected = dhcp(0x8000, none, true);
    let bytes = rewritten(&dhcp(0, none, true), Rewritten::Dhcp);
    assert_eq!(bytes[12..], expected[12..], "flag and checksum, and the client's own address in chaddr");
    assert_eq!(rewritten(&dhcp(0, none, false), Rewritten::Dhcp)[12..], dhcp(0x8000, none, false)[12..]);
    // It has the flag, or an address at which it gets the reply.
    for frame in [expected, dhcp(0, HOST4, true)] {
        assert_eq!(rewritten(&frame, Rewritten::Source)[12..], frame[12..]);
    }
}

#[test]
fn other_frames_change_their_source_only() {
    let later_fragment = [0x45, 0, 0, 200, 0, 0, 0, 9, 64, 17, 0, 0];
    for (ethertype, payload) in
        [(EtherType(0x88b5), &[1; 300][..]), (EtherType::IPV4, &later_fragment), (EtherType::ARP, &[0; 20])]
    {
        let frame = ethernet(OTHER, HOST, ethertype, payload);
        let bytes = rewritten(&frame, Rewritten::Source);
        assert_eq!((&bytes[..6], &bytes[12..]), (&frame[..6], &frame[12..]));
    }
}

fn inbound(frame: &[u8]) -> Inbound {
    Inbound::of(&EthernetFrame::new_checked(frame).unwrap(), UPLINK)
}

fn ipv4_to(to: Mac, from: Mac, destination: Ipv4Addr) -> Vec<u8> {
    ethernet(to, from, EtherType::IPV4, &[&[0x45; 16][..], &destination.octets(), &[9; 40]].concat())
}

#[test]
fn finds_the_host_of_a_frame_by_its_destination_address() {
    let to_host = Inbound::Host(HOST4.into());
    assert_eq!(inbound(&ipv4_to(UPLINK, OTHER, HOST4)), to_host);
    assert_eq!(inbound(&tagged(&ipv4_to(UPLINK, OTHER, HOST4))), to_host);
    assert_eq!(inbound(&ipv4_to(OTHER, HOST, HOST4)), Inbound::Other);
    assert_eq!(inbound(&ipv4_to(UPLINK, UPLINK, HOST4)), Inbound::Reflected);
    assert_eq!(inbound(&ipv4_to(Mac::BROADCAST, UPLINK, HOST4)), Inbound::Reflected);
    assert_eq!(inbound(&ipv4_to(Mac::BROADCAST, OTHER, HOST4)), Inbound::Group);
    let group = Mac([1, 0, 0x5e, 0, 0, 0xfb]);
    assert_eq!(
        inbound(&ipv4_to(UPLINK, OTHER, Ipv4Addr::new(224, 0, 0, 251))),
        Inbound::GroupAsUnicast(group)
    );
    let mut packet = [0x60; 40];
    packet[24..].copy_from_slice(&HOST6.octets());
    assert_eq!(inbound(&ethernet(UPLINK, OTHER, EtherType::IPV6, &packet)), Inbound::Host(HOST6.into()));
    assert_eq!(inbound(&ethernet(UPLINK, OTHER, EtherType::IPV6, &packet[..39])), Inbound::Other);
    assert_eq!(inbound(&ethernet(UPLINK, OTHER, EtherType(0x88b5), &packet)), Inbound::Other);
}

#[test]
fn arp_reply_reaches_the_host_that_asked() {
    let reply = Arp {
        operation: Arp::REPLY,
        sender_mac: OTHER,
        sender_ip: OTHER4,
        target_mac: UPLINK,
        target_ip: HOST4,
    };
    let mut frame = ethernet(UPLINK, OTHER, EtherType::ARP, &reply.emit());
    assert_eq!(inbound(&frame), Inbound::Host(HOST4.into()));
    deliver(&mut frame, UPLINK, HOST);
    assert_eq!(frame, ethernet(HOST, OTHER, EtherType::ARP, &Arp { target_mac: HOST, ..reply }.emit()));
    // That of a third host stays.
    let mut frame = ethernet(UPLINK, OTHER, EtherType::ARP, &Arp { target_mac: OTHER, ..reply }.emit());
    deliver(&mut frame, UPLINK, HOST);
    assert_eq!(Arp::parse(&frame[14..]).unwrap().target_mac, OTHER);
}

#[test]
fn sender_proves_its_address() {
    let of = |frame: &[u8]| sender(&EthernetFrame::new_checked(frame).unwrap());
    assert_eq!(of(&arp(Arp::REQUEST, Mac::ZERO, OTHER4)), Some(HOST4.into()));
    assert_eq!(of(&tagged(&icmpv6(OTHER6, &[128; 8]))), Some(HOST6.into()));
    assert_eq!(of(&dhcp(0, HOST4, true)), Some(HOST4.into()));
    assert_eq!(of(&ethernet(OTHER, HOST, EtherType(0x88b5), &[1; 60])), None);
}

const P1: (PortId, Mac) = (PortId(1), HOST);
const P2: (PortId, Mac) = (PortId(2), OTHER);

fn address(last: u8) -> IpAddr {
    Ipv4Addr::new(192, 0, 2, last).into()
}

#[test]
fn learns_addresses_and_their_moves() {
    let mut hosts = Hosts::new(8, vec![address(1)]);
    assert_eq!(hosts.learn(Tick(0), address(10), P1), LearnedHost::New);
    assert_eq!(hosts.learn(Tick(5), address(10), P1), LearnedHost::Known);
    assert!(hosts.is_fresh(Tick(14), address(10), P1) && !hosts.is_fresh(Tick(15), address(10), P1));
    assert!(!hosts.is_fresh(Tick(5), address(10), P2) && !hosts.is_fresh(Tick(5), address(11), P1));
    assert_eq!(hosts.learn(Tick(6), address(10), P2), LearnedHost::Moved);
    assert_eq!(hosts.find(address(10)), Some(P2));
    for refused in [
        "192.0.2.1",
        "0.0.0.0",
        "0.1.2.3",
        "127.0.0.1",
        "224.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "ff02::1",
    ] {
        assert_eq!(hosts.learn(Tick(6), refused.parse().unwrap(), P1), LearnedHost::Refused, "{refused}");
    }
    let counted = HostCounters { learned: 1, moved: 1, refused: 9, evicted: 0, aged: 0 };
    assert_eq!((hosts.counters(), hosts.len()), (counted, 1));
}

#[test]
fn evicts_from_the_port_with_most_addresses() {
    let mut hosts = Hosts::new(8, Vec::new());
    hosts.learn(Tick(0), address(200), P2);
    for last in 1..100 {
        hosts.learn(Tick(last.into()), address(last), P1);
    }
    assert_eq!((hosts.len(), hosts.counters().evicted), (8, 92));
    assert_eq!(hosts.find(address(200)), Some(P2), "although it was not used for the longest time");
    assert_eq!((hosts.find(address(92)), hosts.find(address(93))), (None, Some(P1)));
}

#[test]
fn forgets_unused_addresses_and_those_of_a_port() {
    let mut hosts = Hosts::new(8, Vec::new());
    for (tick, last, host) in [(0, 1, P1), (10, 2, P2), (20, 3, P1), (20, 4, P2)] {
        hosts.learn(Tick(tick), address(last), host);
    }
    hosts.age(Tick(29), 20);
    assert_eq!((hosts.find(address(1)), hosts.find(address(2)), hosts.counters().aged), (None, Some(P2), 1));
    hosts.remove_port(PortId(2));
    assert_eq!((hosts.len(), hosts.find(address(3))), (1, Some(P1)));
    hosts.remove_port(PortId(1));
    assert!(hosts.is_empty());
}

/// Frames that look like those that are rewritten.
fn frames() -> impl Strategy<Value = Vec<u8>> {
    let (kind, fixed, option) = SOLICITATION;
    let samples = vec![
        arp(Arp::REQUEST, Mac::ZERO, OTHER4),
        icmpv6(OTHER6, &nd(kind, fixed, option, HOST)),
        icmpv6(OTHER6, &nd(134, 12, 1, HOST)),
        icmpv6(OTHER6, &nd(137, 36, 2, HOST)),
        dhcp(0, Ipv4Addr::UNSPECIFIED, true),
        tagged(&dhcp(0, Ipv4Addr::UNSPECIFIED, true)),
        ipv4_to(UPLINK, OTHER, HOST4),
        Vec::new(),
    ];
    let noise = prop::collection::vec((0..200_usize, any::<u8>()), 0..6);
    (prop::sample::select(samples), noise, prop::collection::vec(any::<u8>(), 0..100), 0..300_usize).prop_map(
        |(mut frame, noise, more, length)| {
            for (at, byte) in noise {
                if let Some(place) = frame.get_mut(at) {
                    *place = byte;
                }
            }
            frame.extend(more);
            frame.truncate(length);
            frame
        },
    )
}

proptest! {
    /// Whatever a host sends, its MAC address is not the source, and the length and the destination are the same. The
    /// first bytes are enough, unless it is refused.
    #[test]
    fn any_frame_is_rewritten(frame in frames(), start in 0..80_u16, offset in 0..10_u16, flags in 0..2_u8) {
        let vnet = VnetHeader { flags, csum_start: start, csum_offset: offset, ..COMPLETE };
        let (mut whole, mut cut) = (frame.clone(), frame.clone());
        let outcome = rewrite(&mut whole, &vnet, UPLINK);
        let head = cut.len().min(HEAD);
        match rewrite(&mut cut[..head], &vnet, UPLINK) {
            Ok(rewritten) => prop_assert_eq!((Ok(rewritten), &cut), (outcome, &whole)),
            Err(Unrewritable) => prop_assert_eq!(&cut, &frame),
        }
        if let (Some(after), Ok(_)) = (EthernetFrame::new_checked(&whole), outcome) {
            prop_assert_eq!((after.src(), &whole[..6], whole.len()), (UPLINK, &frame[..6], frame.len()));
        }
    }

    /// A right checksum stays right.
    #[test]
    fn checksums_stay_right(mac in any::<[u8; 6]>(), uplink in any::<[u8; 6]>(), kind in 0..4_usize) {
        let (kind, fixed, option) = [(133, 4, 1), (134, 12, 1), SOLICITATION, (136, 20, 2)][kind];
        let mut frame = icmpv6(OTHER6, &nd(kind, fixed, option, Mac(mac)));
        prop_assert_eq!(rewrite(&mut frame, &COMPLETE, Mac(uplink)), Ok(Rewritten::Neighbour));
        prop_assert!(checksum_is_right(&frame, 14));
    }

    #[test]
    fn any_frame_is_delivered(mut frame in frames()) {
        let before = frame.clone();
        deliver(&mut frame, UPLINK, HOST);
        prop_assert_eq!(frame.len(), before.len());
        if let Some(view) = EthernetFrame::new_checked(&frame) {
            prop_assert_eq!(view.dst(), HOST);
            let _ = (Inbound::of(&view, UPLINK), sender(&view));
        }
    }

    /// The table is bounded, and finds what was learned last.
    #[test]
    fn table_is_bounded(steps in prop::collection::vec((0..5_u32, 0..30_u8, 0..3_u16, 0..20_u8), 0..200)) {
        let mut hosts = Hosts::new(10, Vec::new());
        let mut now = 0;
        for (later, last, port, action) in steps {
            now += later;
            let host = (PortId(port), Mac::from_u64(port.into()));
            match action {
                0 => hosts.remove_port(PortId(port)),
                1 => hosts.age(Tick(now), 20),
                _ => {
                    hosts.learn(Tick(now), address(last), host);
                    prop_assert_eq!(hosts.find(address(last)), Some(host));
                }
            }
            let found = (0..30).filter(|last| hosts.find(address(*last)).is_some()).count();
            prop_assert_eq!(found, hosts.len());
            prop_assert!(found <= 10);
        }
    }
}
