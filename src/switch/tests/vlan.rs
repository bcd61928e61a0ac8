//! Decisions of a switch that filters VLANs.

use super::*;
use crate::switch::vlan::{Member, VlanCounts, VlanFault};
use crate::wire::EthernetFrame;

pub(super) const TRUNK: PortId = P3;
const V10: Vid = vid(10);
const V20: Vid = vid(20);

const fn vid(number: u16) -> Vid {
    match Vid::new(number) {
        Some(vid) => vid,
        None => Vid::DEFAULT,
    }
}

/// The switch of the other tests. The host port and P1 are in VLAN 10, P2 in VLAN 20, each without tags. P3 is a trunk
/// of both.
pub(super) fn switch_with_vlans() -> Switch {
    let switch = switch().with_vlans(VlanSettings { filtering: true, ..VlanSettings::default() });
    switch.vlans.set_host(HOST);
    for (port, vid, member) in [
        (HOST, V10, Member::ACCESS),
        (P1, V10, Member::ACCESS),
        (P2, V20, Member::ACCESS),
        (TRUNK, V10, Member::TAGGED),
        (TRUNK, V20, Member::TAGGED),
    ] {
        switch.vlans.add(port, vid, member);
    }
    switch.fdb.add(T0, FdbKey { vlan: 10, mac: GATEWAY }, HOST, FdbState::Permanent).unwrap();
    switch
}

/// The frame with a tag.
pub(super) fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &tci.to_be_bytes(), &frame[12..]].concat()
}

fn outcome(switch: &Switch, ingress: PortId, bytes: &[u8]) -> Outcome {
    decide(switch, ingress, &Frame { bytes, vnet: VnetHeader::default() }).0
}

/// The copies of a frame.
fn copies(switch: &Switch, ingress: PortId, bytes: &[u8]) -> Vec<(PortId, Edit)> {
    outcome(switch, ingress, bytes).egress().iter().map(|egress| (egress.port, egress.edit)).collect()
}

#[test]
fn floods_stay_in_their_vlan() {
    let switch = switch_with_vlans();
    let broadcast = frame(Mac::BROADCAST, A, 60);
    assert_eq!(copies(&switch, P1, &broadcast), [(HOST, Edit::None), (TRUNK, Edit::Push(10))]);
    assert_eq!(copies(&switch, P2, &broadcast), [(TRUNK, Edit::Push(20))]);
    assert_eq!(copies(&switch, TRUNK, &tagged(&broadcast, 0xe014)), [(P2, Edit::Pop)]);
    assert_eq!(
        copies(&switch, P1, &tagged(&broadcast, 0xe000)),
        [(HOST, Edit::Pop), (TRUNK, Edit::Rewrite(0xe00a))]
    );
    switch.vlans.remove(TRUNK, V20);
    assert_eq!(outcome(&switch, P2, &broadcast).verdict(), Verdict::Drop(DropReason::NoEgress));
}

#[test]
fn learns_a_mac_in_each_vlan() {
    let switch = switch_with_vlans();
    run(&switch, P1, &frame(B, A, 60));
    let elsewhere = outcome(&switch, TRUNK, &tagged(&frame(B, A, 60), 20));
    assert_eq!((elsewhere.learned(), elsewhere.class().vid()), (Some(Learned::New), 20));
    assert_eq!(copies(&switch, TRUNK, &tagged(&frame(A, B, 60), 10)), [(P1, Edit::Pop)]);
    assert_eq!(copies(&switch, P2, &frame(A, B, 60)), [(TRUNK, Edit::Push(20))]);
    let moved = outcome(&switch, TRUNK, &tagged(&frame(B, A, 60), 10));
    assert_eq!(moved.learned(), Some(Learned::Moved { from: P1, after: 0 }));
}

#[test]
fn frames_of_other_vlans_are_dropped_on_ingress() {
    let switch = switch_with_vlans();
    for (port, bytes, expected) in [
        (P1, tagged(&frame(B, A, 60), 20), VlanFault::NotMember(20)),
        (TRUNK, frame(B, A, 60), VlanFault::NoPvid),
        (TRUNK, tagged(&frame(B, A, 60), 0), VlanFault::NoPvid),
    ] {
        let outcome = outcome(&switch, port, &bytes);
        assert_eq!((outcome.fault(), outcome.learned()), (Some(Fault::Vlan(expected)), None));
        assert_eq!(outcome.verdict(), Verdict::Drop(expected.reason()));
    }
}

#[test]
fn gateway_answers_in_the_vlan_of_the_host_port() {
    let switch = switch_with_vlans();
    let question = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 1]);
    for (port, bytes, edit) in [
        (P1, question.clone(), Edit::None),
        (P1, tagged(&question, 0xe000), Edit::Pop),
        (P1, tagged(&question, 10), Edit::Pop),
        (TRUNK, tagged(&question, 0xe00a), Edit::None),
    ] {
        let mut outcome = outcome(&switch, port, &bytes);
        let Verdict::Answer(answer) = outcome.verdict() else { panic!("{outcome:?}") };
        let mut reply = bytes.clone();
        reply.resize(bytes.len() + SwitchReply::GROWTH, 0);
        assert_eq!(answer.emit(&switch.gateway, &mut reply, bytes.len()), bytes.len());
        let behind_tag = EthernetFrame::new_checked(&reply).unwrap().innermost().1;
        let arp = Arp::parse(&reply[behind_tag..]).unwrap();
        assert_eq!(
            (arp.operation, arp.sender_mac, arp.target_ip),
            (Arp::REPLY, GATEWAY, [192, 0, 2, 10].into())
        );
        assert_eq!(reply[12..behind_tag], bytes[12..behind_tag], "the tag stays");
        switch.send_answer(T0.into(), &Frame { bytes: &reply, vnet: VnetHeader::default() }, &mut outcome);
        assert_eq!(outcome.egress(), [Egress { port, edit }]);
    }
    assert_eq!(run(&switch, P2, &question), Verdict::Flood, "in another VLAN it is another's address");
    assert_eq!(run(&switch, TRUNK, &tagged(&question, 20)), Verdict::Flood);
}

#[test]
fn gateway_addresses_are_free_in_other_vlans() {
    let switch = switch_with_vlans();
    let claim = arp(Mac::BROADCAST, [192, 0, 2, 1], [192, 0, 2, 9]);
    assert_eq!(run(&switch, P2, &claim), Verdict::Flood);
    for (port, bytes) in [(P1, claim.clone()), (P1, tagged(&claim, 10)), (TRUNK, tagged(&claim, 10))] {
        assert_eq!(run(&switch, port, &bytes), Verdict::Drop(DropReason::SpoofedGateway));
    }
    assert_eq!(
        run(&switch, P2, &frame(B, GATEWAY, 60)),
        Verdict::Drop(DropReason::SpoofedGateway),
        "its MAC is not"
    );
    assert_eq!(run(&switch, P2, &frame(GATEWAY, A, 60)), Verdict::Drop(DropReason::NoHostPort));
}

/// VLAN 20 has a gateway of its own, with a MAC that its device has got since, on the host port P4.
fn switch_with_vlan_gateway() -> (Switch, Mac) {
    let switch = switch_with_vlans();
    let own_mac = Mac([2, 0, 0, 0, 0x20, 1]);
    let gateway = Gateway { mac: own_mac.into(), ipv4: vec![[192, 0, 2, 129].into()], ipv6: Vec::new() };
    switch.vlans.set_gateway(V20, gateway);
    let p4 = switch.ports.add(Port { host: true, ..PORT }).unwrap();
    switch.vlans.add(p4, V20, Member::ACCESS);
    switch.fdb.add(T0, FdbKey { vlan: 20, mac: own_mac }, p4, FdbState::Permanent).unwrap();
    (switch, own_mac)
}

#[test]
fn gateway_of_a_vlan_answers_there_only() {
    let (switch, own_mac) = switch_with_vlan_gateway();
    let asks = |address| arp(Mac::BROADCAST, [192, 0, 2, 140], address);
    let (own, of_host_port) = (asks([192, 0, 2, 129]), asks([192, 0, 2, 1]));
    for (port, bytes, sender_mac) in
        [(P2, own.clone(), own_mac), (TRUNK, tagged(&own, 20), own_mac), (P1, of_host_port.clone(), GATEWAY)]
    {
        let outcome = outcome(&switch, port, &bytes);
        let Verdict::Answer(answer) = outcome.verdict() else { panic!("{outcome:?}") };
        let mut reply = [&bytes[..], &[0; SwitchReply::GROWTH]].concat();
        answer.emit(switch.gateway_of(&outcome), &mut reply, bytes.len());
        let behind_tag = EthernetFrame::new_checked(&reply).unwrap().innermost().1;
        assert_eq!(Arp::parse(&reply[behind_tag..]).unwrap().sender_mac, sender_mac);
    }
    for (port, bytes) in [(P1, own.clone()), (P2, of_host_port), (TRUNK, tagged(&own, 10))] {
        assert_eq!(run(&switch, port, &bytes), Verdict::Flood, "in another VLAN it is another's address");
    }
    assert_eq!(run(&switch, P2, &frame(own_mac, A, 60)), Verdict::Forward(PortId(4)));
    assert_eq!(run(&switch, P1, &frame(own_mac, B, 60)), Verdict::Flood);
}

#[test]
fn identity_of_a_vlans_gateway_is_protected_there() {
    let (switch, own_mac) = switch_with_vlan_gateway();
    let claim = arp(Mac::BROADCAST, [192, 0, 2, 129], [192, 0, 2, 9]);
    let spoofed = Verdict::Drop(DropReason::SpoofedGateway);
    for (port, bytes) in [
        (P2, claim.clone()),
        (TRUNK, tagged(&claim, 20)),
        (P2, frame(B, own_mac, 60)),
        (P2, frame(B, GATEWAY, 60)),
    ] {
        assert_eq!(run(&switch, port, &bytes), spoofed);
    }
    assert_eq!(run(&switch, P1, &claim), Verdict::Flood, "the address is free in VLAN 10");
    let addresses = vec![[192, 0, 2, 140].into()];
    switch.set_guard(P2, Some(&Identity { mac: A, addresses, ..Identity::default() }));
    assert_eq!(run(&switch, P2, &claim), spoofed);
}

#[test]
fn guard_checks_the_addresses_of_the_ports_own_vlan() {
    let switch = switch_with_vlans();
    switch.vlans.add(P1, V20, Member::TAGGED);
    let addresses = vec![[192, 0, 2, 10].into()];
    switch.set_guard(P1, Some(&Identity { mac: A, addresses, ..Identity::default() }));
    let foreign = arp(Mac::BROADCAST, [192, 0, 2, 66], [192, 0, 2, 9]);
    let spoofed = Verdict::Drop(DropReason::SpoofedArp);
    for bytes in [foreign.clone(), tagged(&foreign, 0), tagged(&foreign, 10)] {
        assert_eq!(run(&switch, P1, &bytes), spoofed);
    }
    assert_eq!(
        run(&switch, P1, &tagged(&foreign, 20)),
        Verdict::Flood,
        "addresses of another VLAN are not assigned"
    );
    assert_eq!(run(&switch, P1, &tagged(&frame(B, C, 60), 20)), Verdict::Drop(DropReason::SpoofedMac));
}

#[test]
fn mac_of_a_guarded_port_is_forgotten_in_every_vlan() {
    let switch = switch_with_vlans();
    run(&switch, P2, &frame(B, A, 60));
    switch.set_guard(P1, Some(&Identity { mac: A, addresses: Vec::new(), ..Identity::default() }));
    assert_eq!(switch.fdb.entry(FdbKey { vlan: 20, mac: A }), None);
}

#[test]
fn without_filtering_tags_pass_as_they_are() {
    let switch = switch();
    switch.vlans.add(P1, V10, Member::ACCESS);
    for tci in [0, 10, 20, 4095] {
        let bytes = tagged(&frame(Mac::BROADCAST, A, 60), tci);
        let expected = [(HOST, Edit::None), (P2, Edit::None), (P3, Edit::None)];
        assert_eq!(copies(&switch, P1, &bytes), expected);
    }
    assert_eq!(switch.fdb.entries().iter().map(|entry| entry.key.vlan).max(), Some(0));
}

/// As in the Linux bridge (`br_vlan_state_allowed`), and in that VLAN only.
#[test]
fn state_in_a_vlan_decides_about_learning_and_forwarding() {
    for state in PortState::ALL {
        let switch = switch_with_vlans();
        switch.vlans.set_state(TRUNK, V10, state);
        let (forwards, learns) = match state {
            PortState::Forwarding => (true, true),
            PortState::Learning => (false, true),
            PortState::Listening | PortState::Blocking | PortState::Disabled => (false, false),
        };
        let broadcast = frame(Mac::BROADCAST, A, 60);
        let received = outcome(&switch, TRUNK, &tagged(&broadcast, 10));
        let expected = if forwards { Verdict::Flood } else { Verdict::Drop(DropReason::IngressVlanState) };
        assert_eq!(received.verdict(), expected, "{state:?}");
        assert_eq!(switch.fdb.lookup(T0, FdbKey { vlan: 10, mac: A }).is_some(), learns, "{state:?}");
        let reached = outcome(&switch, P1, &broadcast).egress_ports().any(|port| port == TRUNK);
        assert_eq!(reached, forwards, "{state:?}");
        assert_eq!(outcome(&switch, TRUNK, &tagged(&broadcast, 20)).verdict(), Verdict::Flood, "{state:?}");
        // It ends with the membership.
        switch.vlans.remove(TRUNK, V10);
        switch.vlans.add(TRUNK, V10, Member::TAGGED);
        assert_eq!(switch.vlans.state(TRUNK, V10), PortState::Forwarding);
    }
}

/// A request from a port that does not forward is not answered, and a BPDU goes to control whatever the state.
#[test]
fn state_in_a_vlan_is_also_for_what_the_switch_answers() {
    let switch = switch_with_vlans().with_spanning_tree();
    let question = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 1]);
    assert!(matches!(outcome(&switch, P1, &question).verdict(), Verdict::Answer(_)));
    switch.vlans.set_state(P1, V10, PortState::Learning);
    assert_eq!(outcome(&switch, P1, &question).verdict(), Verdict::Drop(DropReason::IngressVlanState));
    switch.vlans.set_state(P1, V10, PortState::Blocking);
    assert_eq!(outcome(&switch, P1, &frame(Bpdu::GROUP, A, 60)).punt(), Some(Punt::Bpdu));
}

/// Received once, sent once for each copy, and without the tag's four bytes.
#[test]
fn counts_frames_of_a_vlan() {
    let switch = switch_with_vlans();
    let counters = Counters::new(switch.vlans.settings());
    let broadcast = frame(Mac::BROADCAST, A, 60);
    let frames = [(P1, broadcast.clone()), (TRUNK, tagged(&broadcast, 10)), (TRUNK, tagged(&broadcast, 30))];
    for (port, bytes) in frames {
        let outcome = outcome(&switch, port, &bytes);
        if let Some(class) = outcome.class().vlan {
            counters.count_in_vlan(class, &outcome, bytes.len());
        }
    }
    let counts = |vid| counters.vlan(vid).unwrap().read();
    let expected = VlanCounts { rx_bytes: 120, rx_packets: 2, tx_bytes: 240, tx_packets: 4 };
    assert_eq!((counts(V10), counts(V20)), (expected, VlanCounts::default()));
    assert!(Counters::default().vlan(V10).is_none(), "no memory without filtering");
}

/// Received on the port that got them, and a copy sent by each other, whatever its tag.
#[test]
fn counts_frames_of_a_port_in_a_vlan() {
    let switch = switch_with_vlans();
    let counters = Counters::new(&VlanSettings { stats_per_port: true, ..*switch.vlans.settings() });
    for (port, vid) in [(HOST, V10), (P1, V10), (TRUNK, V10), (TRUNK, V20)] {
        assert!(counters.count_in(port, vid));
    }
    let broadcast = frame(Mac::BROADCAST, A, 60);
    let count = |port, bytes: &[u8]| {
        let outcome = outcome(&switch, port, bytes);
        if let Some(class) = outcome.class().vlan {
            counters.count_in_vlan(class, &outcome, bytes.len());
            if let Verdict::Answer(_) = outcome.verdict() {
                counters.count_reply_in_vlan(&outcome, bytes.len());
            }
        }
    };
    count(P1, &broadcast);
    count(TRUNK, &tagged(&broadcast, 10));
    count(TRUNK, &tagged(&broadcast, 30));
    count(TRUNK, &tagged(&arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 1]), 10));
    let counts = |port, vid| {
        let VlanCounts { rx_packets, rx_bytes, tx_packets, tx_bytes } =
            counters.vlan_of_port(port, vid).unwrap().read();
        [rx_packets, rx_bytes, tx_packets, tx_bytes]
    };
    let request = 42;
    assert_eq!(counts(P1, V10), [1, 60, 1, 60]);
    assert_eq!(counts(HOST, V10), [0, 0, 2, 120]);
    assert_eq!(counts(TRUNK, V10), [2, 60 + request, 2, 60 + request]);
    assert_eq!(counts(TRUNK, V20), [0; 4]);
    assert!(counters.vlan_of_port(P2, V20).is_none(), "no counters were created for it");
    let usual = Counters::new(switch.vlans.settings());
    assert!(!usual.count_in(P1, V10) && usual.vlan_of_port(P1, V10).is_none(), "off by default");
}

#[test]
fn counters_of_ports_and_vlans_are_limited() {
    use crate::switch::vlan::PortVlanCounters;
    let counters = PortVlanCounters::default();
    let blocks = PortId::all().flat_map(|port| (0..64).map(move |n| (port, n * 64)));
    let mut blocks = blocks.filter_map(|(port, number)| Some((port, Vid::new(number)?)));
    let fits =
        blocks.by_ref().take(PortVlanCounters::MAX_BLOCKS).all(|(port, vid)| counters.count_in(port, vid));
    let (port, beyond) = blocks.next().unwrap();
    assert!(fits && !counters.count_in(port, beyond) && counters.get(port, beyond).is_none());
    assert!(counters.count_in(P1, vid(65)), "in a block that is there");
}

/// They are of no VLAN, as in the Linux bridge (`br_handle_frame`): also on a port without a PVID.
#[test]
fn bpdus_go_to_control_on_every_port() {
    let switch = switch_with_vlans().with_spanning_tree();
    for port in [P1, TRUNK] {
        let outcome = outcome(&switch, port, &frame(Bpdu::GROUP, A, 60));
        assert_eq!((outcome.verdict(), outcome.punt()), (Verdict::Drop(DropReason::Bpdu), Some(Punt::Bpdu)));
    }
}
