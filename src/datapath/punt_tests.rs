//! Copies of frames for control, and frames of control.

use std::net::IpAddr;

use etherparse::PacketBuilder;

use super::PUNTS_PER_PORT;
use super::punt::{DHCPV6_PER_PORT, PuntedFrame};
use super::worker::WorkerCommand;
use super::worker_tests::{GATEWAY, H1, OFFLOAD, WorkerFixture, ethernet};
use crate::switch::mdb::{MdbSettings, Snooping};
use crate::switch::{InjectedFrame, Port, PortId, Punt, Switch, Tick};
use crate::wire::dhcpv6::{ALL_SERVERS, ALL_SERVERS_MAC};
use crate::wire::membership_tests as hosts;
use crate::wire::{Bpdu, Mac, VnetHeader};

/// A worker of a switch that snoops, knows no querier, and has a spanning tree.
fn snooping(ports: &[Port]) -> WorkerFixture {
    let fixture = WorkerFixture::with_switch(ports, Switch::with_spanning_tree);
    let snapshot = Snooping::new(MdbSettings::default(), GATEWAY).snapshot();
    fixture.switch.set_groups(Some(snapshot));
    fixture
}

/// The report of a host.
fn report() -> Vec<u8> {
    let group: IpAddr = [239, 1, 1, 1].into();
    let (ethertype, packet) = hosts::join(group);
    [&Mac::of_group(group).unwrap().0[..], &H1, &ethertype.0.to_be_bytes(), &packet].concat()
}

/// The number of copies of a kind that wait, and of those that are lost. Takes all that wait.
fn punted(fixture: &WorkerFixture, kind: Punt) -> (usize, u64) {
    let count = fixture.punts.frames().filter(|frame| frame.punt == kind).count();
    (count, fixture.punts.lost(kind))
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
    assert_eq!(punted(&fixture, Punt::Membership), (limit, 5));
    let mut jumbo = report();
    jumbo.resize(10_000, 0);
    fixture.send(1, VnetHeader::default(), &jumbo);
    assert_eq!(punted(&fixture, Punt::Membership), (0, 6));
}

/// Control works longer for these than for others.
#[test]
fn limits_messages_to_dhcpv6_servers_more() {
    let mut fixture = WorkerFixture::with_switch(&[OFFLOAD, OFFLOAD], Switch::with_dhcpv6);
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
    let packet = PacketBuilder::ethernet2(H1, ALL_SERVERS_MAC.0).ipv6(source, ALL_SERVERS.octets(), 1);
    let mut message = Vec::new();
    packet.udp(546, 547).write_to_vec(&mut message, &[1, 0, 0, 0]).unwrap();
    let limit = usize::from(DHCPV6_PER_PORT);
    assert!(limit < usize::from(PUNTS_PER_PORT));
    for _ in 0..limit + 5 {
        fixture.send(0, VnetHeader::default(), &message);
    }
    assert_eq!(punted(&fixture, Punt::Dhcpv6), (limit, 5));
}

/// Neither the rate limit nor a full queue of one kind has an effect on the other.
#[test]
fn a_flood_of_one_kind_does_not_displace_the_other() {
    let (report, bpdu) = (report(), Bpdu::Tcn.emit(Mac(H1)).to_vec());
    for (flood, kind, single, other) in
        [(&report, Punt::Membership, &bpdu, Punt::Bpdu), (&bpdu, Punt::Bpdu, &report, Punt::Membership)]
    {
        let mut fixture = snooping(&[OFFLOAD, OFFLOAD]);
        let seconds = 6;
        for second in 0..seconds {
            for _ in 0..PUNTS_PER_PORT {
                fixture.send_at(Tick(second * Tick::PER_SECOND), 0, VnetHeader::default(), flood);
            }
        }
        let last = Tick((seconds - 1) * Tick::PER_SECOND);
        fixture.send_at(last, 0, VnetHeader::default(), single);
        let kinds: Vec<Punt> = fixture.punts.frames().map(|frame| frame.punt).collect();
        assert_eq!(kinds.iter().filter(|punt| **punt == other).count(), 1);
        assert!(fixture.punts.lost(kind) > 0, "its queue was full");
        assert_eq!(fixture.punts.lost(other), 0);
    }
}

#[test]
fn sends_frames_of_control_and_counts_them() {
    let mut fixture = snooping(&[OFFLOAD, OFFLOAD, OFFLOAD]);
    let frame = ethernet([0xff; 6], H1);
    let inject = |ports, bytes| WorkerCommand::Inject(InjectedFrame { ports, vid: None, bytes });
    fixture.run_command(inject(vec![PortId(0), PortId(2)], frame.clone()));
    fixture.run_command(inject(vec![PortId(0)], vec![0; 1 << 20]));
    let sent: Vec<_> = fixture.net.received().into_iter().map(|(port, _, frame)| (port.0, frame)).collect();
    assert_eq!(sent, [(0, frame.clone()), (2, frame)], "and none that no buffer can hold");
    let counts = fixture.counters.port(PortId(0)).read();
    assert_eq!((counts.injected, counts.tx_frames, counts.in_flight()), (1, 1, 0));
}
