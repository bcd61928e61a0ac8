//! Copies of frames for control, and frames of control.

use std::net::IpAddr;

use super::PUNTS_PER_PORT;
use super::punt::PuntedFrame;
use super::worker::Command;
use super::worker_tests::{GATEWAY, H1, OFFLOAD, WorkerFixture, ethernet};
use crate::switch::mdb::{MdbSettings, Snooping};
use crate::switch::{Port, PortId, Punt, Tick};
use crate::wire::membership_tests as hosts;
use crate::wire::{Mac, VnetHeader};

/// A worker of a switch that snoops, and knows no querier.
fn snooping(ports: &[Port]) -> WorkerFixture {
    let fixture = WorkerFixture::new(ports);
    let snapshot = Snooping::new(MdbSettings::default(), GATEWAY).snapshot();
    fixture.switch.mdb.publish(Some(snapshot));
    fixture
}

/// The report of a host.
fn report() -> Vec<u8> {
    let group: IpAddr = [239, 1, 1, 1].into();
    let (ethertype, packet) = hosts::join(group);
    [&Mac::of_group(group).unwrap().0[..], &H1, &ethertype.0.to_be_bytes(), &packet].concat()
}

#[test]
fn copies_messages_for_control() {
    let mut fixture = snooping(&[OFFLOAD, OFFLOAD]);
    let frame = report();
    assert_eq!(fixture.send(0, VnetHeader::default(), &frame).len(), 1, "it is forwarded as well");
    fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1));
    let punted: Vec<PuntedFrame> = fixture.punts.frames().collect();
    let bytes = frame.into();
    assert_eq!(
        punted,
        [PuntedFrame { at: Tick(1), port: PortId(0), vlan: 0, punt: Punt::Membership, bytes }]
    );
}

#[test]
fn limits_the_copies_and_counts_the_others() {
    let mut fixture = snooping(&[OFFLOAD, OFFLOAD]);
    let limit = usize::from(PUNTS_PER_PORT);
    for _ in 0..limit + 5 {
        assert_eq!(fixture.send(0, VnetHeader::default(), &report()).len(), 1);
    }
    assert_eq!((fixture.punts.frames().count(), fixture.punts.lost()), (limit, 5));
    let mut jumbo = report();
    jumbo.resize(10_000, 0);
    fixture.send(1, VnetHeader::default(), &jumbo);
    assert_eq!((fixture.punts.frames().count(), fixture.punts.lost()), (0, 6));
}

#[test]
fn sends_frames_of_control_and_counts_them() {
    let mut fixture = snooping(&[OFFLOAD, OFFLOAD, OFFLOAD]);
    let frame = ethernet([0xff; 6], H1);
    fixture.run_command(Command::Inject { ports: vec![PortId(0), PortId(2)], frame: frame.clone() });
    fixture.run_command(Command::Inject { ports: vec![PortId(0)], frame: vec![0; 1 << 20] });
    let sent: Vec<_> = fixture.net.received().into_iter().map(|(port, _, frame)| (port.0, frame)).collect();
    assert_eq!(sent, [(0, frame.clone()), (2, frame)], "and none that no buffer can hold");
    let counts = fixture.counters.port(PortId(0)).read();
    assert_eq!((counts.injected, counts.tx_frames, counts.in_flight()), (1, 1, 0));
}
