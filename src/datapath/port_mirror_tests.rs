//! The copies that a worker writes for mirrors.

use super::worker::WorkerCommand;
use super::worker_tests::{
    GATEWAY, H1, H2, OFFLOAD, WorkerFixture, ethernet, super_frame, who_has_the_gateway,
};
use crate::switch::vlan::Member;
use crate::switch::{
    DropReason, InjectedFrame, MirrorDirection, Port, PortCounts, PortId, PortMirror, Switch, Vid,
    VlanSettings,
};
use crate::wire::VnetHeader;

/// The destination of the mirrors.
const ANALYSER: u16 = 3;

fn mirror(from: u16) -> PortMirror {
    PortMirror {
        to: PortId(ANALYSER),
        from: Some([PortId(from)].into_iter().collect()),
        direction: MirrorDirection::Both,
        vlans: Vec::new(),
        snaplen: None,
    }
}

/// Four ports. H1 is behind port 0 and H2 behind port 1.
fn fixture(mirror: PortMirror, analyser: Port) -> WorkerFixture {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, OFFLOAD, analyser]);
    for (port, host) in [(0, H1), (1, H2)] {
        fixture.send(port, VnetHeader::default(), &ethernet([0xff; 6], host));
    }
    fixture.switch.add_mirror(mirror).unwrap();
    fixture
}

/// What reached the analyser, of the frames that left the switch.
fn copies(sent: Vec<(u16, VnetHeader, Vec<u8>)>) -> Vec<(VnetHeader, Vec<u8>)> {
    let of_analyser = sent.into_iter().filter(|(port, ..)| *port == ANALYSER);
    of_analyser.map(|(_, vnet, frame)| (vnet, frame)).collect()
}

#[track_caller]
fn assert_balanced(fixture: &WorkerFixture) -> PortCounts {
    let counts = |port| fixture.counters.port(PortId(port)).read();
    let all = (0..4).map(counts).fold(PortCounts::default(), |sum, port| sum.plus(&port));
    assert_eq!((all.in_flight(), all.unaccounted()), (0, 0), "{all:?}");
    counts(ANALYSER)
}

#[test]
fn copies_are_the_frames_with_their_offloads() {
    let mut fixture = fixture(mirror(0), OFFLOAD);
    let (vnet, bytes) = super_frame(2500);
    let sent = fixture.send(1, vnet, &bytes);
    assert_eq!(sent, [(0, vnet, bytes.clone()), (ANALYSER, vnet, bytes)]);
    let counts = assert_balanced(&fixture);
    assert_eq!((counts.mirrored, counts.forwarded), (1, 0));
}

#[test]
fn dropped_frames_are_copied() {
    let mut fixture = fixture(mirror(0), OFFLOAD);
    let spoofed = ethernet(H2, GATEWAY.0);
    let sent = fixture.send(0, VnetHeader::default(), &spoofed);
    assert_eq!(sent, [(ANALYSER, VnetHeader::default(), spoofed)]);
    assert_balanced(&fixture);
}

/// The first bytes of a super-frame are a frame without offloads. The frame itself keeps them.
#[test]
fn truncated_copies_have_no_offloads() {
    let mut fixture = fixture(PortMirror { snaplen: Some(100), ..mirror(0) }, OFFLOAD);
    let (vnet, bytes) = super_frame(2500);
    let sent = fixture.send(1, vnet, &bytes);
    assert_eq!(sent.iter().find(|(port, ..)| *port == 0), Some(&(0, vnet, bytes.clone())));
    assert_eq!(copies(sent), [(VnetHeader::default(), bytes[..100].to_vec())]);
    assert_eq!(assert_balanced(&fixture).tx_bytes, 64 + 64 + 100);
}

#[test]
fn destination_without_offload_gets_segments() {
    let mut fixture = fixture(mirror(0), Port { offload: false, ..OFFLOAD });
    let (vnet, bytes) = super_frame(2500);
    let received = copies(fixture.send(1, vnet, &bytes));
    let lengths: Vec<usize> = received.iter().map(|(_, frame)| frame.len()).collect();
    assert_eq!(lengths, [1054, 1054, 554]);
    assert!(received.iter().all(|(vnet, _)| vnet.is_complete()));
    let counts = assert_balanced(&fixture);
    assert_eq!((counts.mirrored, counts.segmented, counts.segments), (1, 1, 3));
}

#[test]
fn answers_and_their_questions_are_copied() {
    let mut fixture = fixture(mirror(0), OFFLOAD);
    let question = who_has_the_gateway();
    let sent = fixture.send(0, VnetHeader::default(), &question);
    let answer = sent.iter().find(|(port, ..)| *port == 0).unwrap().2.clone();
    assert_ne!(answer, question);
    let received: Vec<_> = copies(sent).into_iter().map(|(_, frame)| frame).collect();
    assert_eq!(received, [question, answer]);
    assert_eq!(assert_balanced(&fixture).mirrored, 2);
}

#[test]
fn injected_frames_are_copied_once() {
    let mut fixture = fixture(PortMirror { from: None, snaplen: Some(20), ..mirror(0) }, OFFLOAD);
    let frame = ethernet([0xff; 6], GATEWAY.0);
    let ports = vec![PortId(0), PortId(1)];
    fixture.run_command(WorkerCommand::Inject(InjectedFrame { ports, vid: None, bytes: frame.clone() }));
    let sent = fixture.net.received().into_iter().map(|(port, vnet, frame)| (port.0, vnet, frame));
    assert_eq!(copies(sent.collect()), [(VnetHeader::default(), frame[..20].to_vec())]);
    assert_balanced(&fixture);
}

/// Frames for the others are written all the same.
#[test]
fn full_destination_loses_copies_only() {
    let mut fixture = fixture(mirror(0), OFFLOAD);
    fixture.net.limit(1);
    let frame = ethernet(H1, H2);
    assert_eq!(fixture.send(1, VnetHeader::default(), &frame), [(0, VnetHeader::default(), frame)]);
    let counts = assert_balanced(&fixture);
    assert_eq!(counts.drops[DropReason::EgressQueueFull as usize], 1);
}

fn tagged(frame: &[u8], tci: u16) -> Vec<u8> {
    [&frame[..12], &[0x81, 0], &tci.to_be_bytes(), &frame[12..]].concat()
}

/// One received frame may leave in three forms: with a VLAN tag, without one, and with the priority tag that it had.
#[test]
fn copies_keep_the_tag_of_the_received_frame() {
    let filtering = |switch: Switch| {
        switch.with_vlans(VlanSettings { filtering: true, default_pvid: None, ..VlanSettings::default() })
    };
    let mut fixture = WorkerFixture::with_switch(&[OFFLOAD; 4], filtering);
    let vid = Vid::new(10).unwrap();
    for (port, member) in [(0, Member::ACCESS), (1, Member::ACCESS), (2, Member::TAGGED)] {
        fixture.switch.vlans.add(PortId(port), vid, member);
    }
    let broadcast = ethernet([0xff; 6], H1);
    fixture.switch.add_mirror(mirror(0)).unwrap();
    for tci in [None, Some(10), Some(0xe000)] {
        let received = tci.map_or(broadcast.clone(), |tci| tagged(&broadcast, tci));
        let mut sent = fixture.send(0, VnetHeader::default(), &received);
        sent.sort_by_key(|(port, ..)| *port);
        let frames: Vec<_> = sent.into_iter().map(|(_, _, frame)| frame).collect();
        let of_trunk = tagged(&broadcast, tci.unwrap_or(0) | 10);
        assert_eq!(frames, [broadcast.clone(), of_trunk, received], "{tci:?}");
    }
    // As it leaves on the trunk.
    fixture.switch.remove_mirror(PortId(ANALYSER));
    fixture.switch.add_mirror(PortMirror { snaplen: Some(20), ..mirror(2) }).unwrap();
    let sent = fixture.send(0, VnetHeader::default(), &broadcast);
    assert_eq!(copies(sent), [(VnetHeader::default(), tagged(&broadcast, 10)[..20].to_vec())]);
    assert_balanced(&fixture);
}
