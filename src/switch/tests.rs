//! The decision as a whole: every verdict and every drop reason, with the steps that lead to it.

mod vlan;

use std::net::Ipv4Addr;

mod dhcpv6;
mod limits;
mod loopback;
mod mirror;
mod neigh_suppress;
mod router_solicitation;
mod uplink;

use limits::limited;
use loopback::packet;
use mirror::mirror;
use uplink::{UPLINK, from_network, long_advertisement, with_uplink};

use super::fdb::{FdbEntry, FdbKey, FdbState, Learned};
use super::*;
use crate::wire::arp::Arp;
use crate::wire::membership_tests::{self as hosts, Packet};
use crate::wire::{Bpdu, EtherType, Mac};
use vlan::switch_with_vlans;

const GATEWAY: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x01]);
const A: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0a]);
const B: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0b]);
const C: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0c]);
const T0: Tick = Tick(0);

const PORT: Port = Port { up: true, host: false, offload: true, mtu: 1500 };
const HOST: PortId = PortId(0);
const P1: PortId = PortId(1);
const P2: PortId = PortId(2);
const P3: PortId = PortId(3);

/// A host port and three others.
fn switch() -> Switch {
    let switch = without_host_port();
    switch.ports.set(HOST, Port { host: true, ..PORT });
    switch.fdb.add(T0, key(GATEWAY), HOST, FdbState::Permanent).unwrap();
    switch
}

/// Three ports, and a fourth one that is down.
fn without_host_port() -> Switch {
    let gateway = Gateway { mac: GATEWAY.into(), ipv4: vec![[192, 0, 2, 1].into()], ipv6: Vec::new() };
    let switch = Switch::new(SwitchConfig { ageing: 3000, fdb_max: 64, seed: 7, gateway });
    for port in [HOST, P1, P2, P3] {
        assert_eq!(switch.ports.add(PORT), Some(port));
    }
    switch.ports.set(HOST, Port { up: false, ..PORT });
    switch
}

fn key(mac: Mac) -> FdbKey {
    FdbKey { vlan: 0, mac }
}

/// From `source` to `destination`, `length` bytes in all.
fn frame(destination: Mac, source: Mac, length: usize) -> Vec<u8> {
    let mut bytes = [destination.0, source.0].concat();
    bytes.extend(EtherType::IPV4.0.to_be_bytes());
    bytes.resize(length, 0);
    bytes
}

/// An ARP message from A.
fn arp(destination: Mac, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    let arp = Arp {
        operation: Arp::REQUEST,
        sender_mac: A,
        sender_ip: sender.into(),
        target_mac: Mac::ZERO,
        target_ip: target.into(),
    };
    [&destination.0[..], &A.0, &EtherType::ARP.0.to_be_bytes(), &arp.emit()].concat()
}

impl Observer for Vec<Step> {
    fn note(&mut self, step: Step) {
        self.push(step);
    }
}

fn run(switch: &Switch, ingress: PortId, bytes: &[u8]) -> Verdict {
    run_with(switch, ingress, bytes, VnetHeader::default()).0
}

/// The verdict, and the steps before it.
fn run_with(switch: &Switch, ingress: PortId, bytes: &[u8], vnet: VnetHeader) -> (Verdict, Vec<Step>) {
    let (outcome, steps) = decide(switch, ingress, &Frame { bytes, vnet });
    (outcome.verdict(), steps)
}

fn decide(switch: &Switch, ingress: PortId, frame: &Frame<'_>) -> (Outcome, Vec<Step>) {
    let (mut outcome, mut both) = (Outcome::default(), (Vec::new(), Steps::default()));
    switch.process(T0, ingress, frame, &mut outcome, &mut both);
    let (mut steps, in_place) = both;
    steps.retain(|step| !matches!(step, Step::NotFlooded(..)));
    assert!(in_place.iter().eq(steps.iter().copied()), "no room for {steps:?}");
    (outcome, steps)
}

fn fault(switch: &Switch, bytes: &[u8], vnet: VnetHeader) -> Option<Fault> {
    let (outcome, _) = decide(switch, P1, &Frame { bytes, vnet });
    let fault = outcome.fault()?;
    assert_eq!(outcome.verdict(), Verdict::Drop(fault.reason()));
    Some(fault)
}

/// The ports that get a broadcast from P1, and those that cannot take it.
fn flood_set(switch: &Switch, length: usize) -> (Vec<PortId>, Vec<(PortId, DropReason)>) {
    let bytes = frame(Mac::BROADCAST, A, length);
    let (outcome, _) = decide(switch, P1, &Frame { bytes: &bytes, vnet: VnetHeader::default() });
    (outcome.egress_ports().collect(), outcome.refused().to_vec())
}

#[test]
fn floods_unknown_unicast_and_forwards_known_unicast() {
    let switch = switch();
    let (verdict, steps) = run_with(&switch, P1, &frame(B, A, 60), VnetHeader::default());
    assert_eq!(verdict, Verdict::Flood);
    let admitted = [Step::Ingress(PORT), Step::Source(A), Step::Admitted];
    assert_eq!(steps[..3], admitted);
    assert_eq!(steps[3..], [Step::Learned(Learned::New), Step::LookedUp(None)]);
    assert_eq!(run(&switch, P2, &frame(A, B, 60)), Verdict::Forward(P1));
    let (verdict, steps) = run_with(&switch, P1, &frame(B, A, 60), VnetHeader::default());
    assert_eq!(verdict, Verdict::Forward(P2));
    assert_eq!(steps[3..], [Step::Learned(Learned::Known), Step::LookedUp(Some(P2))]);
}

#[test]
fn follows_a_mac_that_moves() {
    let switch = switch();
    run(&switch, P1, &frame(B, A, 60));
    let (_, steps) = run_with(&switch, P3, &frame(B, A, 60), VnetHeader::default());
    assert_eq!(steps[3], Step::Learned(Learned::Moved { from: P1, after: 0 }));
    assert_eq!(run(&switch, P2, &frame(A, B, 60)), Verdict::Forward(P3));
}

#[test]
fn floods_group_addresses_to_ports_that_are_up_except_ingress() {
    let switch = switch();
    for group in [Mac::BROADCAST, Mac([1, 0, 0x5e, 0, 0, 1]), Mac([1, 0x80, 0xc2, 0, 0, 0x10])] {
        assert_eq!(run(&switch, P1, &frame(group, A, 60)), Verdict::Flood, "{group}");
    }
    switch.ports.set(P3, Port { up: false, ..PORT });
    assert_eq!(flood_set(&switch, 60), (vec![HOST, P2], vec![]));
    switch.ports.set(P2, Port { mtu: 100, ..PORT });
    assert_eq!(flood_set(&switch, 119), (vec![HOST], vec![(P2, DropReason::Oversize)]));
    assert_eq!(flood_set(&switch, 118), (vec![HOST, P2], vec![]));
}

/// Of TCP over IPv4 without options and without a tag.
fn super_frame_header(gso_size: u16) -> VnetHeader {
    VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: VnetHeader::GSO_TCPV4,
        gso_size,
        csum_start: 34,
        csum_offset: 16,
        hdr_len: 54,
    }
}

#[test]
fn checks_mtu_against_segment_length() {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    let mut bytes = frame(B, A, 40_000);
    bytes[46] = 5 << 4;
    assert_eq!(run_with(&switch, P1, &bytes, super_frame_header(1464)).0, Verdict::Forward(P2));
    let refused = Verdict::Refused { egress: P2, reason: DropReason::Oversize };
    assert_eq!(run_with(&switch, P1, &bytes, super_frame_header(1465)).0, refused);
    assert_eq!(run_with(&switch, P1, &bytes[..1519], VnetHeader::default()).0, refused);
    assert_eq!(run_with(&switch, P1, &bytes[..1518], VnetHeader::default()).0, Verdict::Forward(P2));
}

/// As a Linux bridge: one tag is not counted (the kernel takes it off), and one more tag fits.
#[test]
fn frames_with_two_tags_may_be_full_size() {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    let verdict = |tags: &[u8], payload: usize| {
        let mut bytes = [&B.0[..], &A.0, tags, &EtherType::IPV4.0.to_be_bytes()].concat();
        bytes.resize(bytes.len() + payload, 0);
        run(&switch, P1, &bytes)
    };
    let refused = Verdict::Refused { egress: P2, reason: DropReason::Oversize };
    let (customer, service, other) = ([0x81, 0, 0, 5], [0x88, 0xa8, 0, 5], [0x91, 0, 0, 5]);
    for tags in [[service, customer].concat(), [customer, customer].concat(), other.to_vec()] {
        assert_eq!(verdict(&tags, 1500), Verdict::Forward(P2), "{tags:?}");
        assert_eq!(verdict(&tags, 1501), refused, "{tags:?}");
    }
    assert_eq!(verdict(&customer, 1504), Verdict::Forward(P2));
    assert_eq!(verdict(&customer, 1505), refused);
    assert_eq!(verdict(&[customer; 3].concat(), 1500), refused);
}

#[test]
fn answers_arp_for_the_gateway() {
    let switch = switch();
    let answer = SwitchReply::Arp { address: [192, 0, 2, 1].into() };
    for destination in [Mac::BROADCAST, GATEWAY] {
        let request = arp(destination, [192, 0, 2, 10], [192, 0, 2, 1]);
        let (verdict, steps) = run_with(&switch, P1, &request, VnetHeader::default());
        assert_eq!((verdict, steps[4]), (Verdict::Answer(answer), Step::Asked(Some(answer))));
    }
    let other = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 11]);
    let (verdict, steps) = run_with(&switch, P1, &other, VnetHeader::default());
    assert_eq!((verdict, steps[4]), (Verdict::Flood, Step::Asked(None)));
    assert_eq!(run(&switch, P1, &frame(GATEWAY, A, 60)), Verdict::Forward(HOST));
    let to_b = arp(B, [192, 0, 2, 10], [192, 0, 2, 1]);
    assert_eq!(run(&switch, P1, &to_b), Verdict::Flood, "not sent to the gateway");
}

#[test]
fn rejects_arp_request_with_unfinished_checksum() {
    let switch = switch();
    let vnet = VnetHeader { flags: VnetHeader::NEEDS_CSUM, csum_start: 14, ..VnetHeader::default() };
    let request = arp(GATEWAY, [192, 0, 2, 10], [192, 0, 2, 1]);
    assert_eq!(run_with(&switch, P1, &request, vnet).0, Verdict::Drop(DropReason::BadOffload));
}

#[test]
fn host_port_may_use_gateway_addresses() {
    let switch = switch();
    run(&switch, P1, &frame(B, A, 60));
    assert_eq!(run(&switch, HOST, &frame(A, GATEWAY, 60)), Verdict::Forward(P1));
    let mut announcement = arp(Mac::BROADCAST, [192, 0, 2, 1], [192, 0, 2, 1]);
    announcement[6..12].copy_from_slice(&GATEWAY.0);
    assert_eq!(run(&switch, HOST, &announcement), Verdict::Flood);
    let request = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 1]);
    assert_eq!(
        run(&switch, HOST, &request),
        Verdict::Flood,
        "the host port's own requests go to the containers"
    );
    assert_eq!(run(&switch, HOST, &frame(GATEWAY, GATEWAY, 60)), Verdict::Drop(DropReason::Filtered));
}

#[test]
fn does_not_learn_from_rejected_frames() {
    let switch = switch();
    run(&switch, P1, &arp(Mac::BROADCAST, [192, 0, 2, 1], [192, 0, 2, 1]));
    run(&switch, P1, &frame(Mac([1, 0x80, 0xc2, 0, 0, 0xe]), A, 60));
    run(&switch, P1, &frame(B, GATEWAY, 60));
    let own = FdbEntry { key: key(GATEWAY), port: HOST, kind: FdbState::Permanent.into(), seen: T0 };
    assert_eq!(switch.fdb.entries(), [own]);
}

#[test]
fn rejects_impossible_virtio_net_headers() {
    let fault = |length, vnet| match fault(&switch(), &frame(B, A, length), vnet)? {
        Fault::Offload(fault) => Some(fault),
        other => panic!("{other:?}"),
    };
    let sum = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    assert_eq!(fault(52, sum), None);
    assert_eq!(fault(51, sum), Some(OffloadFault::ChecksumOutside));
    assert_eq!(fault(60, VnetHeader { csum_start: 13, ..sum }), Some(OffloadFault::ChecksumOutside));
    let far = VnetHeader { csum_start: u16::MAX, csum_offset: u16::MAX, ..sum };
    assert_eq!(fault(60, far), Some(OffloadFault::ChecksumOutside));
    assert_eq!(fault(60, VnetHeader { flags: VnetHeader::DATA_VALID, ..far }), None, "nothing to sum");
    for gso_type in [1, 4, 5, 0x81, 0x84] {
        let vnet = VnetHeader { gso_type, gso_size: 1, ..sum };
        assert_eq!(fault(60, vnet), None);
        assert_eq!(fault(60, VnetHeader { gso_size: 0, ..vnet }), Some(OffloadFault::NoSegmentSize));
        assert_eq!(fault(60, VnetHeader { flags: 0, ..vnet }), Some(OffloadFault::NoChecksum));
    }
    for gso_type in [2, 3, 6, 0x80, 0x85] {
        let vnet = VnetHeader { gso_type, gso_size: 1, ..sum };
        assert_eq!(fault(60, vnet), Some(OffloadFault::UnknownType), "{gso_type}");
    }
}

#[test]
fn rejects_checksum_offload_inside_checked_headers() {
    let overwrites = |packet: &[u8], tags: &[u8], at: u16| {
        let bytes = [&B.0[..], &A.0, tags, packet, &[0; 80]].concat();
        let csum_start = if tags.is_empty() { 14 } else { at.min(18) };
        let vnet = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            csum_start,
            csum_offset: at - csum_start,
            ..VnetHeader::default()
        };
        fault(&switch(), &bytes, vnet) == Some(Fault::Offload(OffloadFault::ChecksumInHeaders))
    };
    let ipv4 = |words: u8, protocol: u8| [0x08, 0, 0x40 | words, 0, 0, 40, 0, 0, 0, 0, 64, protocol];
    let ipv6 = |next: u8| [0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, next, 64];
    let behind_options = [&ipv6(60)[..], &[0; 32], &[17, 0, 1, 4, 0, 0, 0, 0]].concat();
    for (what, packet, first) in [
        ("UDP", &ipv4(5, 17)[..], 34),
        ("TCP and options", &ipv4(6, 6), 38),
        ("an impossible header", &ipv4(0, 6), 34),
        ("TCP, IPv6", &ipv6(6), 54),
        ("UDP behind options", &behind_options, 62),
        ("another EtherType", &[0x88, 0xb5], 14),
    ] {
        assert!(first == 14 || overwrites(packet, &[], first - 1), "{what}");
        assert!(!overwrites(packet, &[], first), "{what}");
        let tag = [0x81, 0, 0, 5];
        assert!(overwrites(packet, &tag, first + 3), "{what}, tagged");
        assert!(!overwrites(packet, &tag, first + 4), "{what}, tagged");
    }
    for (what, packet) in
        [("ARP", &[0x08, 0x06][..]), ("ICMP", &ipv4(5, 1)), ("ICMPv6", &ipv6(58)), ("endless", &ipv6(0))]
    {
        assert!([14, 28, 54, 70].iter().all(|&at| overwrites(packet, &[], at)), "{what}");
    }
}

const GROUP_1: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
const GROUP_2: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 2);

fn join_of(group: Ipv4Addr) -> Packet {
    hosts::join(group.into())
}

/// The frame of A with a packet, to the group to which that is addressed.
fn to_group((ethertype, packet): &Packet) -> Vec<u8> {
    let destination = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    let mac = Mac::of_group(destination.into()).unwrap();
    [&mac.0[..], &A.0, &ethertype.0.to_be_bytes(), packet].concat()
}

/// A UDP packet to a group.
fn to_group_from_a(group: Ipv4Addr) -> Vec<u8> {
    let (ethertype, mut packet) = join_of(group);
    packet[9] = 17;
    to_group(&(ethertype, packet))
}

/// A switch that is the multicast querier, and has received these messages.
fn snooping(messages: &[(PortId, Packet)]) -> Switch {
    let switch = switch();
    let mut snooping = mdb::Snooping::new(mdb::MdbSettings::default(), GATEWAY);
    snooping.set_querier(T0, [0], true);
    for (port, (ethertype, packet)) in messages {
        snooping.receive(mdb::Arrival { now: T0, port: *port, vlan: 0 }, *ethertype, packet);
    }
    snooping.tick(Tick(100));
    switch.set_groups(Some(snooping.snapshot()));
    switch
}

/// The outcome of a frame from P1.
fn outcome(switch: &Switch, bytes: &[u8]) -> (Outcome, Vec<Step>) {
    decide(switch, P1, &Frame { bytes, vnet: VnetHeader::default() })
}

#[test]
fn sends_groups_to_their_members_only() {
    let switch = snooping(&[(P2, join_of(GROUP_1))]);
    let (outcome_1, steps) = outcome(&switch, &to_group_from_a(GROUP_1));
    assert!(outcome_1.egress_ports().eq([P2]));
    assert_eq!((outcome_1.verdict(), outcome_1.punt()), (Verdict::Flood, None));
    let class = mdb::Class::Data { group: GROUP_1.into(), source: Ipv4Addr::new(192, 0, 2, 11).into() };
    assert_eq!(steps.last(), Some(&Step::Snooped(class)));
    assert_eq!(outcome_1.class().destination, Destination::Group, "mcast_flood does not matter to members");
    assert_eq!(run(&switch, P1, &to_group_from_a(GROUP_2)), Verdict::Drop(DropReason::NoMember));
    assert_eq!(run(&switch, P2, &to_group_from_a(GROUP_1)), Verdict::Drop(DropReason::NoMember), "not back");
    assert_eq!(flood_set(&switch, 60).0, [HOST, P2, P3], "a broadcast is no group");
    let (all, steps) = outcome(&switch, &to_group_from_a(Ipv4Addr::new(224, 0, 0, 251)));
    assert!(
        all.egress_ports().eq([HOST, P2, P3]) && !steps.iter().any(|step| matches!(step, Step::Snooped(_)))
    );
    switch.set_groups(None);
    assert!(outcome(&switch, &to_group_from_a(GROUP_2)).0.egress_ports().eq([HOST, P2, P3]), "off");
}

#[test]
fn hands_membership_messages_to_control() {
    let switch = snooping(&[(P3, hosts::pim_hello(false))]);
    let (report, _) = outcome(&switch, &to_group(&join_of(GROUP_1)));
    assert!(report.egress_ports().eq([P3]), "to the router only");
    assert_eq!(report.punt(), Some(Punt::Membership));
    let (leave, _) = outcome(&switch, &to_group(&hosts::leave(GROUP_1.into())));
    assert_eq!((leave.egress_ports().count(), leave.punt()), (3, Some(Punt::Membership)));
    let (dropped, _) = outcome(&switch, &frame(Mac::of_group(GROUP_1.into()).unwrap(), GATEWAY, 60));
    assert_eq!(dropped.punt(), None, "control sees only admitted frames");
}

#[test]
fn ports_that_do_not_forward_are_not_snooped() {
    let switch = snooping(&[(P3, hosts::pim_hello(false))]);
    for state in PortState::ALL {
        switch.ports.set_state(P1, state);
        let (report, _) = outcome(&switch, &to_group(&join_of(GROUP_1)));
        let is_snooped = state == PortState::Forwarding;
        assert_eq!(report.punt(), is_snooped.then_some(Punt::Membership), "{state:?}");
    }
    switch.ports.set_state(P1, PortState::Forwarding);
    switch.ports.set_state(P3, PortState::Blocking);
    let (report, _) = outcome(&switch, &to_group(&join_of(GROUP_1)));
    assert_eq!(report.verdict(), Verdict::Drop(DropReason::NoMember), "not to the router on a blocked port");
}

/// How a drop reason comes about.
enum Producer {
    /// By this decision.
    Decision(fn() -> Verdict),
    /// By this flood, at P2.
    Flood(fn() -> Outcome),
    /// When the datapath carries a verdict out: `tests/arch.rs` lists the tests.
    Datapath,
}

/// The frame from the guarded port P1 of A, with the address 192.0.2.10.
fn guarded(bytes: &[u8]) -> Verdict {
    let switch = switch();
    let addresses = vec![[192, 0, 2, 10].into()];
    switch.set_guard(P1, Some(&Identity { mac: A, addresses, ..Identity::default() }));
    run(&switch, P1, bytes)
}

/// An IPv6 packet from the link-local address of A to all nodes.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length[6], length[7], next, 255];
    let group = [&[0xff, 2][..], &[0; 13], &[1]].concat();
    let packet = [&fixed[..], &guard::link_local(A).octets(), &group, payload].concat();
    [&Mac::BROADCAST.0[..], &A.0, &EtherType::IPV6.0.to_be_bytes(), &packet].concat()
}

/// A UDP datagram over IPv4 from 192.0.2.`host`.
fn udp(host: u8, ports: [u8; 4]) -> Vec<u8> {
    let header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, host, 192, 0, 2, 11];
    [&B.0[..], &A.0, &EtherType::IPV4.0.to_be_bytes(), &header, &ports, &[0, 8, 0, 0]].concat()
}

fn set_flag(switch: &Switch, port: PortId, flag: PortFlag, on: bool) {
    let mut flags = switch.ports.flags(port);
    flags.set(flag, on);
    switch.ports.set_flags(port, flags);
}

fn with_flag(port: PortId, flag: PortFlag, on: bool) -> Switch {
    let switch = switch();
    set_flag(&switch, port, flag, on);
    switch
}

/// P2, behind which B is known, is down.
fn with_p2_down() -> Switch {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    switch.ports.set(P2, Port { up: false, ..PORT });
    switch
}

/// P2, behind which B is known, is blocked.
fn with_p2_blocked() -> Switch {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    switch.ports.block(P2);
    switch
}

fn with_spanning_tree() -> Switch {
    switch().with_spanning_tree()
}

/// A super-frame to P2, which takes no offload. In large segments it is not TCP, as its header says.
fn to_port_without_offload(gso_size: u16) -> Verdict {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    switch.ports.set(P2, Port { offload: false, ..PORT });
    let mut bytes = frame(B, A, 40_000);
    let is_tcp = gso_size < 1000;
    bytes[14..24].copy_from_slice(&[0x45, 0, 0x9c, 0x32, 0, 0, 0, 0, 64, 6 * u8::from(is_tcp)]);
    bytes[46] = 5 << 4;
    run_with(&switch, P1, &bytes, super_frame_header(gso_size)).0
}

/// A new reason does not compile until it is here.
#[allow(clippy::too_many_lines, reason = "a line or two for each reason")]
fn producer(reason: DropReason) -> Producer {
    use Producer::{Datapath, Decision, Flood};
    match reason {
        DropReason::Runt => Decision(|| run(&switch(), P1, &frame(B, A, 13))),
        DropReason::BadSource => Decision(|| run(&switch(), P1, &frame(B, Mac([3, 0, 0, 0, 0, 1]), 60))),
        DropReason::ReservedAddress => {
            Decision(|| run(&switch(), P1, &frame(Mac([1, 0x80, 0xc2, 0, 0, 0xe]), A, 60)))
        }
        DropReason::Bpdu => Decision(|| run(&with_spanning_tree(), P1, &frame(Bpdu::GROUP, A, 60))),
        DropReason::Filtered => Decision(|| run(&switch(), P1, &frame(A, A, 60))),
        DropReason::IngressDown => Decision(|| run(&with_p2_down(), P2, &frame(A, B, 60))),
        DropReason::IngressBlocked => Decision(|| run(&with_p2_blocked(), P2, &frame(A, B, 60))),
        DropReason::SpoofedGateway => Decision(|| run(&switch(), P1, &frame(B, GATEWAY, 60))),
        DropReason::SpoofedMac => Decision(|| guarded(&frame(B, C, 60))),
        DropReason::SpoofedIp => Decision(|| guarded(&udp(12, [0x13, 0x88, 0, 53]))),
        DropReason::SpoofedArp => Decision(|| guarded(&arp(B, [192, 0, 2, 12], [192, 0, 2, 11]))),
        DropReason::SpoofedNd => Decision(|| guarded(&ipv6(58, &[&[136][..], &[0; 23]].concat()))),
        DropReason::FragmentedNd => {
            Decision(|| guarded(&ipv6(44, &[&[58, 0, 0, 1, 0, 0, 0, 7, 136][..], &[0; 23]].concat())))
        }
        DropReason::RogueDhcp => Decision(|| guarded(&udp(10, [0, 67, 0, 68]))),
        DropReason::RogueRa => Decision(|| guarded(&ipv6(58, &[&[134][..], &[0; 15]].concat()))),
        DropReason::TooManyHeaders => {
            Decision(|| run(&switch(), P1, &ipv6(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(17))))
        }
        DropReason::NoHostPort => Decision(|| run(&without_host_port(), P1, &frame(GATEWAY, A, 60))),
        DropReason::VlanNotMember => Decision(|| {
            run(&switch_with_vlans(), P1, &[&frame(B, A, 12)[..12], &[0x81, 0, 0, 20, 8, 0]].concat())
        }),
        DropReason::NoPvid => Decision(|| run(&switch_with_vlans(), P3, &frame(B, A, 60))),
        DropReason::BadOffload => Decision(|| {
            let vnet = VnetHeader { gso_type: 1, ..VnetHeader::default() };
            run_with(&switch(), P1, &frame(B, A, 60), vnet).0
        }),
        DropReason::IngressVlanState => Decision(|| {
            let switch = switch_with_vlans();
            switch.vlans.set_state(P1, Vid::new(10).unwrap(), PortState::Blocking);
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::EgressVlanState => Decision(|| {
            let switch = switch_with_vlans();
            switch.vlans.add(P2, Vid::new(10).unwrap(), super::vlan::Member::TAGGED);
            switch.vlans.set_state(P2, Vid::new(10).unwrap(), PortState::Learning);
            switch.fdb.add(T0, FdbKey { vlan: 10, mac: B }, P2, FdbState::Static).unwrap();
            run(&switch, P1, &frame(B, A, 60))
        }),
        // A static entry.
        DropReason::EgressVlan => Decision(|| {
            let switch = switch_with_vlans();
            switch.fdb.add(T0, FdbKey { vlan: 10, mac: B }, P2, FdbState::Static).unwrap();
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::IngressMirror => Decision(|| {
            let switch = switch();
            switch.add_mirror(mirror(P1, P2)).unwrap();
            run(&switch, P2, &frame(A, B, 60))
        }),
        DropReason::UplinkReflected => Decision(|| run(&with_uplink(), P2, &frame(A, UPLINK, 60))),
        DropReason::UplinkOther => Decision(|| run(&with_uplink(), P2, &from_network([192, 0, 2, 99]))),
        DropReason::UplinkTooLong => Decision(|| run(&with_uplink(), P1, &long_advertisement())),
        // A static entry: the learned ones are forgotten.
        DropReason::EgressMirror => Decision(|| {
            let switch = switch();
            switch.fdb.add(T0, key(B), P2, FdbState::Static).unwrap();
            switch.add_mirror(mirror(P3, P2)).unwrap();
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::EgressDown => Decision(|| run(&with_p2_down(), P1, &frame(B, A, 60))),
        DropReason::EgressBlocked => Decision(|| run(&with_p2_blocked(), P1, &frame(B, A, 60))),
        DropReason::Oversize => Decision(|| {
            let switch = switch();
            run(&switch, P2, &frame(A, B, 60));
            run(&switch, P1, &frame(B, A, 1519))
        }),
        DropReason::Locked => Decision(|| run(&with_flag(P1, PortFlag::Locked, true), P1, &frame(B, A, 60))),
        DropReason::Isolated => Decision(|| {
            let switch = with_flag(P1, PortFlag::Isolated, true);
            run(&switch, P2, &frame(A, B, 60));
            set_flag(&switch, P2, PortFlag::Isolated, true);
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::NeighSuppress => Flood(|| {
            let bytes = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 10]);
            let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
            decide(&with_flag(P2, PortFlag::NeighSuppress, true), P1, &frame).0
        }),
        DropReason::Martian => Decision(|| {
            let switch = switch();
            switch.ports.set(P2, Port { host: true, ..PORT });
            run(&switch, P2, &frame(A, B, 60));
            run(&switch, P1, &packet(B, [[192, 0, 2, 10], [127, 0, 0, 1]]))
        }),
        DropReason::FloodOff => Flood(|| {
            let bytes = frame(C, A, 60);
            let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
            decide(&with_flag(P2, PortFlag::Flood, false), P1, &frame).0
        }),
        DropReason::StormBroadcast => Decision(|| limited(P1, LimitKind::StormBroadcast, Mac::BROADCAST)),
        DropReason::StormUnknownUnicast => Decision(|| limited(P1, LimitKind::StormUnknownUnicast, C)),
        DropReason::StormMulticast => {
            Decision(|| limited(P1, LimitKind::StormMulticast, Mac([1, 0, 0x5e, 0, 0, 1])))
        }
        DropReason::IngressRate => Decision(|| limited(P1, LimitKind::IngressRate, B)),
        DropReason::EgressRate => Decision(|| limited(P2, LimitKind::EgressRate, B)),
        DropReason::NoEgress => Decision(|| {
            let switch = without_host_port();
            for port in [P2, P3] {
                switch.ports.set(port, Port { up: false, ..PORT });
            }
            run(&switch, P1, &frame(Mac::BROADCAST, A, 60))
        }),
        DropReason::NoMember => Decision(|| run(&snooping(&[]), P1, &to_group(&join_of(GROUP_2)))),
        DropReason::TooManySegments => Decision(|| to_port_without_offload(8)),
        DropReason::Unsegmentable => Decision(|| to_port_without_offload(1460)),
        DropReason::EgressQueueFull
        | DropReason::EgressRefused
        | DropReason::EgressThrottled
        | DropReason::IngressLoss
        | DropReason::IngressDelayFull
        | DropReason::EgressLoss
        | DropReason::EgressDelayFull => Datapath,
    }
}

#[test]
fn produces_every_drop_reason() {
    for &reason in DropReason::ALL {
        let decide = match producer(reason) {
            Producer::Decision(decide) => decide,
            Producer::Flood(decide) => {
                assert_eq!(decide().refused(), [(P2, reason)]);
                continue;
            }
            Producer::Datapath => continue,
        };
        let expected = match reason.side() {
            Side::Ingress => Verdict::Drop(reason),
            Side::Egress => Verdict::Refused { egress: P2, reason },
        };
        assert_eq!(decide(), expected);
    }
}

/// Also on a port that does not forward, and with the MAC of the switch itself: then it has come back.
#[test]
fn spanning_tree_receives_bpdus_in_every_state() {
    for state in PortState::ALL {
        for source in [A, GATEWAY] {
            let switch = with_spanning_tree();
            switch.ports.set_state(P1, state);
            let mut outcome = Outcome::default();
            let bytes = frame(Bpdu::GROUP, source, 60);
            let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
            switch.process(Tick(0), P1, &frame, &mut outcome, &mut ());
            assert_eq!(outcome.verdict(), Verdict::Drop(DropReason::Bpdu), "{state:?}");
            assert_eq!(outcome.punt(), Some(Punt::Bpdu));
            assert!(switch.fdb.entry(key(A)).is_none(), "nothing is learned from it");
        }
    }
    assert_eq!(
        run(&with_spanning_tree(), P1, &frame(B, GATEWAY, 60)),
        Verdict::Drop(DropReason::SpoofedGateway)
    );
}

#[test]
fn only_a_forwarding_port_forwards_and_a_learning_port_learns() {
    for (state, learns) in
        [(PortState::Learning, true), (PortState::Listening, false), (PortState::Blocking, false)]
    {
        let switch = switch();
        switch.ports.set_state(P1, state);
        let blocked = Verdict::Drop(DropReason::IngressBlocked);
        assert_eq!(run(&switch, P1, &frame(Mac::BROADCAST, A, 60)), blocked);
        assert_eq!(switch.fdb.entry(key(A)).is_some(), learns, "{state:?}");
        switch.ports.set(P1, PORT);
        assert_eq!(switch.ports.state(P1), state, "another setting does not change it");
        switch.ports.set_state(P1, PortState::Forwarding);
        assert_eq!(run(&switch, P1, &frame(Mac::BROADCAST, A, 60)), Verdict::Flood);
    }
}

#[test]
fn forwards_bpdus_and_what_the_group_forward_mask_allows() {
    let reserved = |last| frame(Mac([1, 0x80, 0xc2, 0, 0, last]), A, 60);
    assert_eq!(run(&switch(), P1, &reserved(0)), Verdict::Flood);
    for last in 1..16 {
        assert_eq!(run(&switch(), P1, &reserved(last)), Verdict::Drop(DropReason::ReservedAddress), "{last}");
        let masked = switch().with_group_fwd_mask(1 << last);
        for other in 1..16 {
            let forwarded = run(&masked, P1, &reserved(other)) == Verdict::Flood;
            assert_eq!(forwarded, other == last, "bit {last}, address {other}");
        }
    }
}

/// As `br_handle_frame` in Linux `net/bridge/br_input.c`, and pause frames too.
#[test]
fn group_forward_mask_of_a_port_adds_to_that_of_the_switch() {
    let reserved = |last| frame(Mac([1, 0x80, 0xc2, 0, 0, last]), A, 60);
    let switch = switch().with_group_fwd_mask(1 << 0xe);
    switch.ports.set_group_fwd_mask(P1, 0b110);
    for last in 0..16 {
        let forwards = |port| run(&switch, port, &reserved(last)) == Verdict::Flood;
        assert_eq!(forwards(P1), [0, 1, 2, 0xe].contains(&last), "{last}");
        assert_eq!(forwards(P2), [0, 0xe].contains(&last), "{last} from another port");
    }
    switch.ports.remove(P1);
    assert_eq!(switch.ports.group_fwd_mask(P1), 0);
}

#[test]
fn a_port_may_forward_bpdus_past_the_spanning_tree() {
    let switch = with_spanning_tree();
    switch.ports.set_group_fwd_mask(P1, 1);
    let from_gateway = frame(Bpdu::GROUP, GATEWAY, 60);
    assert_eq!(run(&switch, P1, &frame(Bpdu::GROUP, A, 60)), Verdict::Flood);
    assert_eq!(run(&switch, P1, &from_gateway), Verdict::Drop(DropReason::SpoofedGateway));
    assert_eq!(run(&switch, P2, &frame(Bpdu::GROUP, A, 60)), Verdict::Drop(DropReason::Bpdu));
    switch.ports.set_state(P1, PortState::Blocking);
    assert_eq!(run(&switch, P1, &frame(Bpdu::GROUP, A, 60)), Verdict::Drop(DropReason::IngressBlocked));
}

#[test]
fn drops_more_variants_of_the_same_reasons() {
    assert_eq!(run(&switch(), PortId(9), &frame(B, A, 60)), Verdict::Drop(DropReason::IngressDown));
    assert_eq!(run(&switch(), PortId(u16::MAX), &[]), Verdict::Drop(DropReason::IngressDown));
    assert_eq!(run(&switch(), P1, &[]), Verdict::Drop(DropReason::Runt));
    assert_eq!(run(&switch(), P1, &frame(B, Mac::ZERO, 60)), Verdict::Drop(DropReason::BadSource));
    let claim = arp(Mac::BROADCAST, [192, 0, 2, 1], [192, 0, 2, 11]);
    let violation = Violation::Gateway(Claim::ArpAddress([192, 0, 2, 1].into()));
    assert_eq!(violation.reason(), DropReason::SpoofedGateway);
    assert_eq!(fault(&switch(), &claim, VnetHeader::default()), Some(Fault::Violation(violation)));
}

#[test]
fn floods_to_aged_mac() {
    let switch = switch();
    run(&switch, P1, &frame(B, A, 60));
    let bytes = frame(A, C, 60);
    let ask = |now| {
        let mut outcome = Outcome::default();
        let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
        switch.process(now, P2, &frame, &mut outcome, &mut ());
        outcome.verdict()
    };
    assert_eq!(ask(Tick(2999)), Verdict::Forward(P1));
    assert_eq!(ask(Tick(3000)), Verdict::Flood);
}

#[test]
fn a_flood_reaches_only_ports_that_take_its_kind() {
    let reached = |flag, destination| {
        let bytes = frame(destination, A, 60);
        let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
        let (outcome, _) = decide(&with_flag(P2, flag, false), P1, &frame);
        outcome.egress_ports().any(|port| port == P2)
    };
    let multicast = Mac([1, 0, 0x5e, 0, 0, 1]);
    for (flag, own) in
        [(PortFlag::Flood, C), (PortFlag::McastFlood, multicast), (PortFlag::BcastFlood, Mac::BROADCAST)]
    {
        for destination in [C, multicast, Mac::BROADCAST] {
            assert_eq!(reached(flag, destination), destination != own, "{flag:?} to {destination}");
        }
    }
    let switch = with_flag(P2, PortFlag::Flood, false);
    run(&switch, P2, &frame(A, B, 60));
    assert_eq!(run(&switch, P1, &frame(B, A, 60)), Verdict::Forward(P2), "known unicast is not flooded");
}

#[test]
fn isolated_ports_reach_only_others() {
    let switch = with_flag(P1, PortFlag::Isolated, true);
    set_flag(&switch, P2, PortFlag::Isolated, true);
    assert_eq!(flood_set(&switch, 60), (vec![HOST, P3], vec![]));
    run(&switch, P3, &frame(A, C, 60));
    assert_eq!(run(&switch, P1, &frame(C, A, 60)), Verdict::Forward(P3));
    assert_eq!(run(&switch, P3, &frame(A, C, 60)), Verdict::Forward(P1));
}

#[test]
fn a_hairpin_port_gets_its_own_frames() {
    let switch = with_flag(P1, PortFlag::Hairpin, true);
    assert_eq!(flood_set(&switch, 60), (vec![HOST, P1, P2, P3], vec![]));
    assert_eq!(run(&switch, P1, &frame(A, B, 60)), Verdict::Forward(P1));
    assert_eq!(run(&switch, P2, &frame(C, C, 60)), Verdict::Drop(DropReason::Filtered));
}

#[test]
fn learns_nothing_from_a_port_without_learning_or_of_a_hub() {
    for flag in [PortFlag::Learning, PortFlag::Hub] {
        let switch = with_flag(P1, flag, !flag.default());
        let (_, steps) = run_with(&switch, P1, &frame(B, A, 60), VnetHeader::default());
        assert_eq!(steps[3], Step::Learned(Learned::Off), "{flag:?}");
        assert_eq!(switch.fdb.lookup(T0, key(A)), None, "{flag:?}");
    }
}

/// Also if the destination is known, and to the gateway.
#[test]
fn floods_all_frames_of_a_hub() {
    let switch = with_flag(P1, PortFlag::Hub, true);
    run(&switch, P2, &frame(A, B, 60));
    for destination in [B, GATEWAY] {
        assert_eq!(run(&switch, P1, &frame(destination, A, 60)), Verdict::Flood, "{destination}");
    }
    assert_eq!(run(&switch, P3, &frame(B, C, 60)), Verdict::Forward(P2), "other ports learn");
}

/// An address is on a locked port if it was added there, or learned before.
#[test]
fn a_locked_port_accepts_only_its_known_addresses() {
    let switch = switch();
    run(&switch, P1, &frame(B, A, 60));
    run(&switch, P2, &frame(A, B, 60));
    set_flag(&switch, P1, PortFlag::Locked, true);
    assert_eq!(run(&switch, P1, &frame(B, A, 60)), Verdict::Forward(P2));
    for source in [B, C] {
        assert_eq!(run(&switch, P1, &frame(A, source, 60)), Verdict::Drop(DropReason::Locked), "{source}");
    }
    assert_eq!(switch.fdb.lookup(T0, key(B)), Some(P2), "not moved");
}

#[test]
fn spanning_tree_states_decide_about_learning_and_forwarding() {
    for state in PortState::ALL {
        let switch = switch();
        switch.ports.set_state(P1, state);
        switch.ports.set(P1, PORT);
        assert_eq!(switch.ports.state(P1), state, "a change of the link keeps it");
        let (forwards, learns) = match state {
            PortState::Forwarding => (true, true),
            PortState::Learning => (false, true),
            PortState::Listening | PortState::Blocking | PortState::Disabled => (false, false),
        };
        let verdict = run(&switch, P1, &frame(B, A, 60));
        let expected = if forwards { Verdict::Flood } else { Verdict::Drop(DropReason::IngressBlocked) };
        assert_eq!(verdict, expected, "{state:?}");
        assert_eq!(switch.fdb.lookup(T0, key(A)).is_some(), learns, "{state:?}");
        let bytes = frame(Mac::BROADCAST, C, 60);
        let broadcast = Frame { bytes: &bytes, vnet: VnetHeader::default() };
        let reached = decide(&switch, P3, &broadcast).0.egress_ports().any(|port| port == P1);
        assert_eq!(reached, forwards, "{state:?}");
    }
}
