//! The decision as a whole: its verdicts, with the steps that lead to them.

mod dhcpv6;
mod drop_reasons;
mod limits;
mod loopback;
mod mirror;
mod multicast;
mod neigh_suppress;
mod offload;
mod port_flags;
mod router_solicitation;
mod spanning_tree;
mod uplink;
mod vlan;

use std::net::Ipv4Addr;

use self::limits::limited;
use self::loopback::packet;
use self::mirror::mirror;
use self::multicast::{GROUP_1, GROUP_2, join_of, snooping, to_group, to_group_from_a};
use self::offload::super_frame_header;
use self::port_flags::{set_flag, with_flag};
use self::spanning_tree::with_spanning_tree;
use self::uplink::{UPLINK, from_network, long_advertisement, with_uplink};
use self::vlan::switch_with_vlans;
use super::fdb::{FdbEntry, FdbKey, FdbState, Learned};
use super::*;
use crate::wire::arp::Arp;
use crate::wire::membership_tests::{self as hosts, Packet};
use crate::wire::{Bpdu, EtherType, Mac};

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

/// An IPv6 packet from the link-local address of A to all nodes.
fn ipv6(next: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len().to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length[6], length[7], next, 255];
    let group = [&[0xff, 2][..], &[0; 13], &[1]].concat();
    let packet = [&fixed[..], &guard::link_local(A).octets(), &group, payload].concat();
    [&Mac::BROADCAST.0[..], &A.0, &EtherType::IPV6.0.to_be_bytes(), &packet].concat()
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
