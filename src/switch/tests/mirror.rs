//! Port mirroring in the decision.

use super::vlan::{TRUNK, tagged};
use super::*;

/// A mirror of whole frames in both directions.
pub(super) fn mirror(from: PortId, to: PortId) -> PortMirror {
    PortMirror {
        to,
        from: Some([from].into_iter().collect()),
        direction: MirrorDirection::Both,
        vlans: Vec::new(),
        snaplen: None,
    }
}

fn rx(from: PortId, to: PortId) -> PortMirror {
    PortMirror { direction: MirrorDirection::Rx, ..mirror(from, to) }
}

fn tx(from: PortId, to: PortId) -> PortMirror {
    PortMirror { direction: MirrorDirection::Tx, ..mirror(from, to) }
}

/// A switch with this mirror, which knows A behind P1 and B behind P2.
fn mirroring(mirror: PortMirror) -> Switch {
    let switch = switch();
    run(&switch, P1, &frame(Mac::BROADCAST, A, 60));
    run(&switch, P2, &frame(Mac::BROADCAST, B, 60));
    switch.add_mirror(mirror).unwrap();
    switch
}

fn outcome_of(switch: &Switch, ingress: PortId, bytes: &[u8], vnet: VnetHeader) -> Outcome {
    decide(switch, ingress, &Frame { bytes, vnet }).0
}

/// The copies of a complete frame.
fn copies(switch: &Switch, ingress: PortId, bytes: &[u8]) -> Vec<MirrorCopy> {
    outcome_of(switch, ingress, bytes, VnetHeader::default()).copies().to_vec()
}

fn copy(to: PortId, edit: Edit, form: CopyForm) -> MirrorCopy {
    MirrorCopy { egress: Egress { port: to, edit }, form: Ok(form) }
}

fn whole(to: PortId) -> [MirrorCopy; 1] {
    [copy(to, Edit::None, CopyForm::Whole)]
}

#[test]
fn copies_the_directions_that_it_is_asked_for() {
    let (from_a, from_b) = (frame(B, A, 60), frame(A, B, 60));
    for (mirror, received, sent) in [
        (rx(P1, P3), whole(P3).to_vec(), vec![]),
        (tx(P1, P3), vec![], whole(P3).to_vec()),
        (mirror(P1, P3), whole(P3).to_vec(), whole(P3).to_vec()),
        (mirror(HOST, P3), vec![], vec![]),
    ] {
        let switch = mirroring(mirror);
        assert_eq!(copies(&switch, P1, &from_a), received);
        assert_eq!(copies(&switch, P2, &from_b), sent);
        assert_eq!(run(&switch, P1, &from_a), Verdict::Forward(P2), "the frame takes its way");
    }
}

/// By unicast between two of its ports, and by a flood to all of them.
#[test]
fn copies_a_frame_once() {
    let all = PortMirror { from: None, ..mirror(P1, P3) };
    let switch = mirroring(all);
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)), whole(P3));
    let outcome = outcome_of(&switch, P1, &frame(Mac::BROADCAST, A, 60), VnetHeader::default());
    assert_eq!(
        outcome.egress_ports().collect::<Vec<_>>(),
        [HOST, P2],
        "the destination is not part of the flood"
    );
    assert_eq!(outcome.copies(), whole(P3));
}

#[test]
fn copies_frames_that_are_dropped_when_they_are_received() {
    let switch = mirroring(rx(P1, P3));
    for bytes in [frame(B, GATEWAY, 60), frame(A, A, 60), frame(B, Mac([3, 0, 0, 0, 0, 1]), 60)] {
        let outcome = outcome_of(&switch, P1, &bytes, VnetHeader::default());
        assert!(matches!(outcome.verdict(), Verdict::Drop(_)), "{outcome:?}");
        assert_eq!(outcome.copies(), whole(P3));
    }
    assert_eq!(copies(&switch, P1, &frame(B, A, 13)), [], "not a frame");
    switch.ports.set_state(P1, PortState::Blocking);
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)), whole(P3));
    switch.ports.set(P1, Port { up: false, ..PORT });
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)), [], "a port that is down receives nothing");
}

#[test]
fn does_not_copy_frames_that_are_not_sent() {
    let switch = mirroring(tx(P2, P3));
    assert_eq!(copies(&switch, P1, &frame(B, A, 1519)), []);
    switch.set_limit(P2, LimitKind::EgressRate, Some(Rate { per_second: 1, burst: 1 }));
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)), whole(P3));
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)), []);
}

#[test]
fn destination_is_reserved_for_copies() {
    let switch = mirroring(mirror(P1, P2));
    assert!(switch.fdb.entry(key(B)).is_none(), "its learned addresses are forgotten");
    let dropped = Verdict::Drop(DropReason::IngressMirror);
    assert_eq!(run(&switch, P2, &frame(A, B, 60)), dropped);
    assert_eq!(run(&switch, P2, &arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 1])), dropped);
    assert!(switch.fdb.entry(key(B)).is_none());
    assert_eq!(flood_set(&switch, 60), (vec![HOST, P3], vec![]));
    assert!(switch.remove_mirror(P2) && !switch.remove_mirror(P2));
    assert_eq!(run(&switch, P2, &frame(A, B, 60)), Verdict::Forward(P1));
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)), []);
}

#[test]
fn truncates_to_the_snaplen() {
    let switch = mirroring(PortMirror { snaplen: Some(60), ..mirror(P1, P3) });
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)), whole(P3));
    let truncated = copy(P3, Edit::None, CopyForm::Bytes { length: 60 });
    assert_eq!(copies(&switch, P1, &frame(B, A, 61)), [truncated]);
    // A super-frame becomes one frame: its first bytes.
    let outcome = outcome_of(&switch, P1, &frame(B, A, 40_000), super_frame_header(1000));
    assert_eq!((outcome.copies(), outcome.segments()), (&[truncated][..], 0));
}

#[test]
fn segments_copies_for_a_destination_without_offload() {
    let switch = mirroring(mirror(P1, P3));
    let mut bytes = frame(B, A, 40_000);
    bytes[14..24].copy_from_slice(&[0x45, 0, 0x9c, 0x32, 0, 0, 0, 0, 64, 6]);
    bytes[46] = 5 << 4;
    assert_eq!(outcome_of(&switch, P1, &bytes, super_frame_header(1000)).copies(), whole(P3));
    switch.ports.set(P3, Port { offload: false, ..PORT });
    let outcome = outcome_of(&switch, P1, &bytes, super_frame_header(1000));
    assert_eq!(outcome.copies(), [copy(P3, Edit::None, CopyForm::Segmented)]);
    assert_eq!((outcome.segments(), outcome.segmented()), (40, &[][..]));
}

/// Neither could another port use the header.
#[test]
fn copies_a_frame_with_an_impossible_header_without_it() {
    let switch = mirroring(mirror(P1, P3));
    let vnet = VnetHeader { gso_type: 1, ..VnetHeader::default() };
    let outcome = outcome_of(&switch, P1, &frame(B, A, 60), vnet);
    assert_eq!(outcome.verdict(), Verdict::Drop(DropReason::BadOffload));
    assert_eq!(outcome.copies(), [copy(P3, Edit::None, CopyForm::Bytes { length: 60 })]);
}

#[test]
fn destination_that_cannot_take_a_copy_refuses_it() {
    let switch = mirroring(mirror(P1, P3));
    let form = |length| copies(&switch, P1, &frame(B, A, length))[0].form;
    switch.ports.set(P3, Port { mtu: 100, ..PORT });
    assert_eq!((form(118), form(119)), (Ok(CopyForm::Whole), Err(DropReason::Oversize)));
    switch.set_limit(P3, LimitKind::EgressRate, Some(Rate { per_second: 1, burst: 1 }));
    assert_eq!((form(60), form(60)), (Ok(CopyForm::Whole), Err(DropReason::EgressRate)));
    switch.ports.set(P3, Port { up: false, ..PORT });
    assert_eq!(form(60), Err(DropReason::EgressDown));
    let outcome = outcome_of(&switch, P1, &frame(B, A, 60), VnetHeader::default());
    assert_eq!((outcome.verdict(), outcome.is_drop()), (Verdict::Forward(P2), false));
}

/// A switch that filters VLANs, with a fifth port.
fn with_vlans() -> (Switch, PortId) {
    let switch = switch_with_vlans();
    let analyser = switch.ports.add(PORT).unwrap();
    (switch, analyser)
}

#[test]
fn copies_have_the_tag_of_their_port() {
    let (switch, analyser) = with_vlans();
    switch.add_mirror(mirror(TRUNK, analyser)).unwrap();
    // From the access port P1, VLAN 10, to the trunk.
    let sent = copies(&switch, P1, &frame(Mac::BROADCAST, A, 60));
    assert_eq!(sent, [copy(analyser, Edit::Push(10), CopyForm::Whole)]);
    let received = copies(&switch, TRUNK, &tagged(&frame(Mac::BROADCAST, C, 60), 10));
    assert_eq!(received, whole(analyser));
    // Neither the tagged nor the untagged form of the frame has a priority tag.
    switch.remove_mirror(analyser);
    switch.add_mirror(mirror(P1, analyser)).unwrap();
    let priority = tagged(&frame(Mac::BROADCAST, A, 60), 0xe000);
    assert_eq!(copies(&switch, P1, &priority), [copy(analyser, Edit::None, CopyForm::Bytes { length: 64 })]);
}

#[test]
fn copies_frames_of_its_vlans() {
    let (switch, analyser) = with_vlans();
    let vlans = vec!["9-10".parse().unwrap()];
    switch.add_mirror(PortMirror { from: None, vlans, ..mirror(P1, analyser) }).unwrap();
    let is_copied = |port, bytes: &[u8]| !copies(&switch, port, bytes).is_empty();
    assert!(is_copied(P1, &frame(B, A, 60)));
    assert!(is_copied(TRUNK, &tagged(&frame(B, C, 60), 10)));
    assert!(!is_copied(P2, &frame(A, B, 60)), "VLAN 20");
    assert!(!is_copied(TRUNK, &tagged(&frame(B, C, 60), 30)), "of no VLAN of the port");
    assert!(is_copied(P1, &frame(B, GATEWAY, 60)), "dropped, and of VLAN 10");
}

/// The question as it was received, and the answer as it is sent.
#[test]
fn copies_answers_of_the_gateway() {
    for (mirror, question, answer) in
        [(rx(P1, P3), 1, 0), (tx(P1, P3), 0, 1), (mirror(P1, P3), 1, 1), (mirror(P2, P3), 0, 0)]
    {
        let switch = mirroring(mirror);
        let bytes = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 1]);
        let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
        let mut outcome = decide(&switch, P1, &frame).0;
        assert_eq!(outcome.copies().len(), question);
        switch.send_answer(T0.into(), &frame, &mut outcome);
        assert_eq!((outcome.verdict(), outcome.copies().len()), (Verdict::Forward(P1), answer));
    }
}

#[test]
fn copies_injected_frames() {
    let switch = mirroring(tx(P1, P3));
    let mut outcome = Outcome::default();
    for (ports, expected) in [(vec![P1, P2], 1), (vec![P2], 0)] {
        let injected = InjectedFrame { ports, vid: None, bytes: frame(Bpdu::GROUP, GATEWAY, 60) };
        switch.mirror_injected(T0.into(), &injected, &mut outcome);
        assert_eq!(outcome.copies().len(), expected);
    }
}

#[test]
fn refuses_mirrors_that_conflict() {
    let switch = switch();
    let add = |mirror| switch.add_mirror(mirror).unwrap_err();
    switch.add_mirror(mirror(P1, P2)).unwrap();
    assert_eq!(add(mirror(P3, P2)), MirrorConflict::Taken);
    assert_eq!(add(mirror(P3, P3)), MirrorConflict::ToItself);
    assert_eq!(add(mirror(P2, P3)), MirrorConflict::SourceIsDestination(P2));
    assert_eq!(add(mirror(P3, P1)), MirrorConflict::DestinationIsSource(P2));
    assert_eq!(switch.mirrors.list(), [mirror(P1, P2)], "nothing is changed");
    for port in 4..=PortMirrors::MAX + 2 {
        assert_eq!(switch.ports.add(PORT).map(PortId::index), Some(port));
        switch.add_mirror(mirror(P1, PortId(u16::try_from(port).unwrap()))).unwrap();
    }
    assert_eq!(add(mirror(P1, P3)), MirrorConflict::TooMany);
    assert_eq!(copies(&switch, P1, &frame(B, A, 60)).len(), PortMirrors::MAX);
}

#[test]
fn mirrors_follow_the_ports() {
    let switch = switch();
    switch.add_mirror(PortMirror { from: None, ..rx(P1, P3) }).unwrap();
    let new = switch.ports.add(PORT).unwrap();
    assert_eq!(copies(&switch, new, &frame(B, A, 60)), []);
    switch.mirror_new_port(new);
    assert_eq!(copies(&switch, new, &frame(B, A, 60)), whole(P3));
    switch.add_mirror(mirror(P1, P2)).unwrap();
    assert_eq!(switch.unmirror_port(new), [], "a mirror of all ports stays");
    assert_eq!(switch.unmirror_port(P1), [P2], "it has no source any more");
    assert_eq!(switch.unmirror_port(P3), [P3]);
    assert_eq!(switch.mirrors.list(), []);
    assert_eq!(run(&switch, P3, &frame(Mac::BROADCAST, C, 60)), Verdict::Flood);
}
