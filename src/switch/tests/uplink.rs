//! Uplinks with one MAC address for all hosts, in the decision.

use super::*;
use crate::switch::ipvlan::{Head, Uplink};

/// The MAC address of the uplink P2.
pub(super) const UPLINK: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x02]);
/// The addresses of A, and of B in the network behind the uplink.
const A4: [u8; 4] = [192, 0, 2, 10];
const B4: [u8; 4] = [192, 0, 2, 11];

fn ipv4(to: Mac, from: Mac, [source, destination]: [[u8; 4]; 2]) -> Vec<u8> {
    let header = [&[0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0][..], &source, &destination].concat();
    [&to.0[..], &from.0, &EtherType::IPV4.0.to_be_bytes(), &header, &[0; 20]].concat()
}

/// B, behind the uplink P2, is known.
pub(super) fn with_uplink() -> Switch {
    let switch = switch();
    assert!(switch.add_uplink(P2, UPLINK, vec![[192, 0, 2, 2].into()]));
    run(&switch, P2, &frame(Mac::BROADCAST, B, 60));
    switch
}

/// From B to this address of the uplink.
pub(super) fn from_network(address: [u8; 4]) -> Vec<u8> {
    ipv4(UPLINK, B, [B4, address])
}

/// A router advertisement of A to B, in which the MAC address may come after the bytes that are rewritten.
pub(super) fn long_advertisement() -> Vec<u8> {
    let message = [&[134][..], &[0; 15], &[3, 4], &[0; 30], &[3, 4], &[0; 30], &[3, 4], &[0; 30]].concat();
    let mut bytes = ipv6(58, &message);
    bytes[..6].copy_from_slice(&B.0);
    bytes
}

fn heads(outcome: &Outcome) -> Vec<&[u8]> {
    outcome.uplinks().iter().map(|copy| copy.head.bytes()).collect()
}

fn outcome_of(switch: &Switch, ingress: PortId, bytes: &[u8]) -> Outcome {
    decide(switch, ingress, &Frame { bytes, vnet: VnetHeader::default() }).0
}

#[test]
fn frames_leave_with_the_mac_of_the_uplink() {
    let switch = with_uplink();
    let sent = ipv4(B, A, [A4, B4]);
    let outcome = outcome_of(&switch, P1, &sent);
    assert_eq!(outcome.verdict(), Verdict::Forward(P2));
    assert_eq!((outcome.egress(), heads(&outcome)), (&[][..], vec![&ipv4(B, UPLINK, [A4, B4])[..]]));
    assert_eq!(outcome.egress_ports().collect::<Vec<_>>(), [P2]);
    let hosts = switch.uplinks.with(P2, Uplink::hosts).unwrap();
    assert_eq!(hosts, [(A4.into(), P1, A)]);
    // Other ports get the frame as it is.
    let outcome = outcome_of(&switch, P1, &arp(Mac::BROADCAST, A4, B4));
    assert_eq!((outcome.egress().len(), outcome.uplinks().len()), (2, 1));
    assert_eq!(heads(&outcome)[0][6..12], UPLINK.0);
    assert_eq!(heads(&outcome)[0][22..28], UPLINK.0, "the sender of ARP");
    assert!(!outcome_of(&switch, P1, &frame(A, C, 60)).is_rewritten(), "nothing stays for the next frame");
}

#[test]
fn frames_enter_for_the_host_with_the_address() {
    let switch = with_uplink();
    run(&switch, P1, &ipv4(B, A, [A4, B4]));
    let outcome = outcome_of(&switch, P2, &from_network(A4));
    assert_eq!(outcome.verdict(), Verdict::Forward(P1));
    assert_eq!(outcome.entered().map(Head::bytes), Some(&ipv4(A, B, [B4, A4])[..]));
    let other = Verdict::Drop(DropReason::UplinkOther);
    assert_eq!(run(&switch, P2, &from_network(B4)), other);
    assert_eq!(run(&switch, P2, &ipv4(A, B, [B4, A4])), other, "to another MAC address");
    assert_eq!(run(&switch, P2, &from_network([192, 0, 2, 2])), other, "to the host of the switch");
    assert_eq!(run(&switch, P2, &frame(Mac::BROADCAST, B, 60)), Verdict::Flood);
    // An access point that sends each host a copy.
    let outcome = outcome_of(&switch, P2, &from_network([224, 0, 0, 1]));
    assert_eq!((outcome.verdict(), outcome.egress().len()), (Verdict::Flood, 3));
    assert_eq!(outcome.entered().unwrap().bytes()[..6], [1, 0, 0x5e, 0, 0, 1]);
    assert_eq!(outcome.class().destination, Destination::Multicast);
    let outcome = outcome_of(&switch, P2, &from_network([255; 4]));
    assert_eq!(outcome.class().destination, Destination::Broadcast, "by its IP address");
    assert_eq!(outcome.entered().unwrap().bytes()[..6], Mac::BROADCAST.0);
}

#[test]
fn gateway_does_not_answer_the_network_behind_an_uplink() {
    let switch = with_uplink();
    let request = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 1]);
    assert!(matches!(run(&switch, P1, &request), Verdict::Answer(_)));
    assert_eq!(run(&switch, P2, &request), Verdict::Flood);
}

#[test]
fn a_trace_learns_no_address() {
    let switch = with_uplink();
    let bytes = ipv4(B, A, [A4, B4]);
    switch.trace(T0, P1, &Frame { bytes: &bytes, vnet: VnetHeader::default() }, &mut ());
    assert!(switch.uplinks.with(P2, Uplink::hosts).unwrap().is_empty());
}

#[test]
fn addresses_go_with_their_port_and_age() {
    let switch = with_uplink();
    let hosts = || switch.uplinks.with(P2, |uplink| uplink.hosts().len()).unwrap_or(0);
    run(&switch, P1, &ipv4(B, A, [A4, B4]));
    switch.uplinks.remove_port(P1);
    assert_eq!(hosts(), 0);
    run(&switch, P1, &ipv4(B, A, [A4, B4]));
    switch.uplinks.age(Tick(3000), 3000);
    assert_eq!(hosts(), 0);
    run(&switch, P1, &ipv4(B, A, [A4, B4]));
    switch.uplinks.set_addresses(P2, vec![A4.into()]);
    assert_eq!(hosts(), 0, "the device of the uplink has it now");
    switch.uplinks.set_mac(P2, C);
    assert_eq!(heads(&outcome_of(&switch, P1, &ipv4(B, A, [A4, B4])))[0][6..12], C.0);
    switch.remove_uplink(P2);
    assert_eq!(outcome_of(&switch, P1, &ipv4(B, A, [A4, B4])).egress(), [P2.into()]);
}
