//! Suppression of ARP and neighbour discovery: what the switch answers, and what ports with the flag do not get.

use std::net::{IpAddr, Ipv6Addr};

use super::*;
use crate::switch::vlan::Member;
use crate::wire::EthernetFrame;
use crate::wire::checksum::Sum;
use crate::wire::ip::{Ipv6, protocol};
use crate::wire::ndp::Ndp;

const A4: [u8; 4] = [192, 0, 2, 10];
const B4: [u8; 4] = [192, 0, 2, 11];
const UNKNOWN4: [u8; 4] = [192, 0, 2, 99];
const A6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10);
const B6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 11);
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;

/// B is bound to P2 and known there. P2 and P3 suppress.
fn suppressing() -> Switch {
    let switch = with_flag(P2, PortFlag::NeighSuppress, true);
    set_flag(&switch, P3, PortFlag::NeighSuppress, true);
    let addresses: Vec<IpAddr> = vec![Ipv4Addr::from(B4).into(), B6.into()];
    switch.set_guard(P2, Some(&Identity { mac: B, addresses, ..Identity::default() }));
    switch.fdb.learn(T0, key(B), P2);
    switch
}

/// Neighbour discovery from A.
fn nd(source: Ipv6Addr, destination: Ipv6Addr, kind: u8, flags: u8, target: Ipv6Addr) -> Vec<u8> {
    let mut message = [&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target.octets()].concat();
    let sum = Sum::pseudo_ipv6(source, destination, protocol::ICMPV6, 24).and(&message).finish();
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let header = [&[0x60, 0, 0, 0, 0, 24, 58, 255][..], &source.octets(), &destination.octets()].concat();
    let group = [0x33, 0x33, 0xff, 0, 0, 11];
    [&group[..], &A.0, &EtherType::IPV6.0.to_be_bytes(), &header, &message].concat()
}

fn solicitation(target: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    nd(A6, group, SOLICITATION, 0, target)
}

/// What happens to a frame from P1: the verdict, the ports that get it, and those that it is kept from.
fn sent(switch: &Switch, bytes: &[u8]) -> (Verdict, Vec<PortId>, Vec<(PortId, DropReason)>) {
    let (outcome, _) = decide(switch, P1, &Frame { bytes, vnet: VnetHeader::default() });
    (outcome.verdict(), outcome.egress_ports().collect(), outcome.refused().to_vec())
}

/// It is flooded to all ports, or kept from P2 and P3.
fn is_suppressed(switch: &Switch, bytes: &[u8]) -> bool {
    let (verdict, egress, refused) = sent(switch, bytes);
    assert_eq!(verdict, Verdict::Flood);
    match egress.as_slice() {
        [HOST] => assert_eq!(refused, [P2, P3].map(|port| (port, DropReason::NeighSuppress))),
        egress => assert_eq!((egress, &refused[..]), (&[HOST, P2, P3][..], &[][..])),
    }
    !refused.is_empty()
}

fn emitted(switch: &Switch, request: &[u8]) -> Vec<u8> {
    let Verdict::Answer(reply) = sent(switch, request).0 else { panic!("no reply") };
    let mut frame = [request, &[0xee; SwitchReply::GROWTH]].concat();
    let length = reply.emit(&switch.gateway, &mut frame, request.len());
    frame.truncate(length);
    frame
}

#[test]
fn answers_for_known_neighbours() {
    let switch = suppressing();
    let frame = emitted(&switch, &arp(Mac::BROADCAST, A4, B4));
    assert_eq!((&frame[..6], &frame[6..12]), (&A.0[..], &B.0[..]));
    let reply = Arp {
        operation: Arp::REPLY,
        sender_mac: B,
        sender_ip: B4.into(),
        target_mac: A,
        target_ip: A4.into(),
    };
    assert_eq!(Arp::parse(&frame[14..]), Some(reply));
    let frame = emitted(&switch, &solicitation(B6));
    assert_eq!((&frame[..6], &frame[6..12]), (&A.0[..], &B.0[..]));
    let packet = EthernetFrame::new_checked(&frame).unwrap().network().unwrap().1;
    let packet = Ipv6::parse(packet).unwrap();
    assert_eq!((packet.source, packet.destination, packet.hop_limit), (B6, A6, 255));
    assert_eq!(Ndp::parse(packet.payload), Some(Ndp::Advertisement(B6)));
    // Solicited and override, not a router; then the option with the address.
    assert_eq!((packet.payload[4], &packet.payload[24..]), (0x60, &[&[2, 1][..], &B.0].concat()[..]));
}

/// As `br_flood` does after `br_do_proxy_suppress_arp`.
#[test]
fn floods_answered_requests_to_ports_without_suppression() {
    let switch = suppressing();
    for request in [arp(Mac::BROADCAST, A4, B4), solicitation(B6)] {
        let (verdict, egress, refused) = sent(&switch, &request);
        assert!(matches!(verdict, Verdict::Answer(_)));
        assert_eq!(
            (egress, refused),
            (vec![HOST], [P2, P3].map(|port| (port, DropReason::NeighSuppress)).to_vec())
        );
        set_flag(&switch, HOST, PortFlag::NeighSuppress, true);
        let (verdict, egress, _) = sent(&switch, &request);
        assert!(matches!(verdict, Verdict::Answer(_)) && egress.is_empty());
        set_flag(&switch, HOST, PortFlag::NeighSuppress, false);
    }
    let counters = Counters::default();
    let (outcome, _) =
        decide(&switch, P1, &Frame { bytes: &arp(Mac::BROADCAST, A4, B4), vnet: VnetHeader::default() });
    counters.count(&outcome);
    let counts = counters.port(P1).read();
    assert_eq!(
        (counts.answered, counts.flooded, counts.flood_copies, outcome.drop_reason()),
        (1, 0, 3, None)
    );
}

#[test]
fn floods_requests_that_it_cannot_answer() {
    let switch = suppressing();
    assert!(!is_suppressed(&switch, &arp(Mac::BROADCAST, A4, UNKNOWN4)));
    assert!(!is_suppressed(&switch, &solicitation("2001:db8::99".parse().unwrap())));
    let mut bad = solicitation(B6);
    bad[56] ^= 1;
    assert!(is_suppressed(&switch, &bad), "a wrong checksum: no host answers");
    switch.fdb.flush(Some(P2));
    assert!(!is_suppressed(&switch, &arp(Mac::BROADCAST, A4, B4)), "its port is not known");
    switch.fdb.learn(T0, key(B), P2);
    switch.set_guard(P2, None);
    assert!(!is_suppressed(&switch, &arp(Mac::BROADCAST, A4, B4)), "its addresses are unknown");
}

#[test]
fn keeps_requests_for_neighbours_behind_other_ports() {
    let switch = suppressing();
    set_flag(&switch, P2, PortFlag::NeighSuppress, false);
    for request in [arp(Mac::BROADCAST, A4, B4), solicitation(B6)] {
        let expected = (Verdict::Flood, vec![HOST, P2], vec![(P3, DropReason::NeighSuppress)]);
        assert_eq!(sent(&switch, &request), expected);
    }
}

#[test]
fn keeps_announcements() {
    let switch = suppressing();
    let group: Ipv6Addr = "ff02::1:ff00:63".parse().unwrap();
    let unknown: Ipv6Addr = "2001:db8::63".parse().unwrap();
    for (what, bytes, suppressed) in [
        ("an ARP probe", arp(Mac::BROADCAST, [0; 4], B4), true),
        ("gratuitous ARP", arp(Mac::BROADCAST, A4, A4), true),
        ("ARP for a group", arp(Mac::BROADCAST, [0; 4], [224, 0, 0, 1]), false),
        ("DAD", nd(Ipv6Addr::UNSPECIFIED, group, SOLICITATION, 0, unknown), true),
        ("an unsolicited advertisement", nd(A6, group, ADVERTISEMENT, 0x20, A6), true),
        ("a solicited one", nd(A6, group, ADVERTISEMENT, 0x60, A6), false),
        ("not about neighbours", ipv6(58, &[128, 0, 0, 0, 0, 0, 0, 0]), false),
        ("a broadcast", frame(Mac::BROADCAST, A, 60), false),
    ] {
        assert_eq!(is_suppressed(&switch, &bytes), suppressed, "{what}");
    }
}

/// As with the Linux bridge, they look for hosts themselves.
#[test]
fn keeps_nothing_that_comes_from_such_a_port() {
    let switch = suppressing();
    set_flag(&switch, P1, PortFlag::NeighSuppress, true);
    for bytes in [arp(Mac::BROADCAST, A4, B4), arp(Mac::BROADCAST, A4, A4), solicitation(B6)] {
        assert!(!is_suppressed(&switch, &bytes));
    }
}

#[test]
fn ends_with_the_last_such_port() {
    let switch = suppressing();
    set_flag(&switch, P2, PortFlag::NeighSuppress, false);
    assert!(switch.ports.suppress_neighbours());
    switch.ports.remove(P3);
    assert!(!switch.ports.suppress_neighbours());
}

/// As the bridge knows them from its neighbour table. They are not checked.
#[test]
fn knows_addresses_of_ports_without_a_guard() {
    let switch = suppressing();
    switch.set_guard(P2, None);
    let identity = Identity { mac: B, addresses: vec![Ipv4Addr::from(B4).into()], ..Identity::default() };
    switch.neighbours.set(P2, Some(&identity));
    let proxy = SwitchReply::Proxy { address: Ipv4Addr::from(B4).into(), mac: B };
    assert_eq!(run(&switch, P1, &arp(Mac::BROADCAST, A4, B4)), Verdict::Answer(proxy));
    assert_eq!(run(&switch, P2, &arp(Mac::BROADCAST, UNKNOWN4, A4)), Verdict::Flood);
    switch.neighbours.set(P2, None);
    assert_eq!(run(&switch, P1, &arp(Mac::BROADCAST, A4, B4)), Verdict::Flood);
}

/// The addresses of a port are those in its own VLAN.
#[test]
fn knows_neighbours_of_the_same_vlan() {
    let switch = switch_with_vlans();
    let ten = Vid::new(10).unwrap();
    switch.vlans.add(P2, ten, Member::ACCESS);
    assert_eq!(switch.vlans.pvid(P1), Some(ten));
    set_flag(&switch, P2, PortFlag::NeighSuppress, true);
    let identity = Identity { mac: B, addresses: vec![Ipv4Addr::from(B4).into()], ..Identity::default() };
    switch.set_guard(P2, Some(&identity));
    let known = FdbKey { vlan: 10, mac: B };
    switch.fdb.add(T0, known, P2, FdbState::Static).unwrap();
    let request = arp(Mac::BROADCAST, A4, B4);
    let proxy = SwitchReply::Proxy { address: Ipv4Addr::from(B4).into(), mac: B };
    assert_eq!(run(&switch, P1, &request), Verdict::Answer(proxy));
    switch.vlans.add(P2, Vid::new(20).unwrap(), Member::ACCESS);
    assert_eq!(run(&switch, P1, &request), Verdict::Flood);
}
