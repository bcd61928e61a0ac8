//! Impaired ports on the memory engine.

use std::time::Duration;

use super::impairment::LinkSetup;
use super::worker::WorkerCommand;
use super::worker_tests::{
    GATEWAY, H1, H2, OFFLOAD, WorkerFixture, ethernet, super_frame, who_has_the_gateway,
};
use super::{Impairment, MAX_FRAMES, Probability};
use crate::switch::{DropReason, PortCounts, PortId, Side, Tick};
use crate::wire::VnetHeader;
use crossbeam_channel::bounded;

const ONE: PortId = PortId(0);
const TWO: PortId = PortId(1);

/// Two ports that know each other: H1 on the first, H2 on the second.
fn fixture() -> WorkerFixture {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD]);
    fixture.send(0, VnetHeader::default(), &ethernet(H2, H1));
    fixture.send(1, VnetHeader::default(), &ethernet(H1, H2));
    fixture
}

fn impair(fixture: &mut WorkerFixture, port: PortId, side: Side, edit: impl FnOnce(&mut Impairment)) {
    let mut impairment = Impairment::default();
    edit(&mut impairment);
    let (done, reply) = bounded(1);
    let setup = LinkSetup { impairment, seed: 7, ..LinkSetup::default() };
    fixture.run_command(WorkerCommand::Impair { port, side, setup, done });
    reply.recv().unwrap();
}

/// Runs a turn at this time without new frames, and returns the frames that left the switch.
fn turn(fixture: &mut WorkerFixture, tick: u32) -> Vec<(u16, Vec<u8>)> {
    assert!(fixture.worker.turn_at(Tick(tick)).unwrap().is_continue());
    fixture.net.received().into_iter().map(|(port, _, frame)| (port.0, frame)).collect()
}

fn assert_balanced(fixture: &WorkerFixture) {
    let counts = [ONE, TWO].map(|port| fixture.counters.port(port).read());
    assert!(counts.iter().all(|port| port.unaccounted() == 0), "{counts:?}");
    assert_eq!(counts.iter().fold(PortCounts::default(), |sum, port| sum.plus(port)).in_flight(), 0);
}

fn second(impairment: &mut Impairment) {
    impairment.delay = Duration::from_secs(1);
}

#[test]
fn delays_frames_for_a_port() {
    let mut fixture = fixture();
    impair(&mut fixture, TWO, Side::Egress, second);
    let frame = ethernet(H2, H1);
    assert_eq!(fixture.send(0, VnetHeader::default(), &frame), []);
    assert_eq!(fixture.send(1, VnetHeader::default(), &ethernet(H1, H2)).len(), 1, "only in one direction");
    assert_eq!(turn(&mut fixture, 10), []);
    assert_eq!(turn(&mut fixture, 11), [(1, frame)]);
    assert_balanced(&fixture);
}

#[test]
fn delays_frames_from_a_port_before_the_decision() {
    let mut fixture = fixture();
    impair(&mut fixture, ONE, Side::Ingress, second);
    let frame = ethernet(H2, H1);
    let before = fixture.counters.port(ONE).rx_frames.value();
    assert_eq!(fixture.send(0, VnetHeader::default(), &frame), []);
    assert_eq!(fixture.counters.port(ONE).rx_frames.value(), before);
    assert_eq!(fixture.send(1, VnetHeader::default(), &ethernet(H1, H2)).len(), 1);
    assert_eq!(turn(&mut fixture, 11), [(1, frame)]);
    assert_eq!(fixture.counters.port(ONE).rx_frames.value(), before + 1);
    assert_balanced(&fixture);
}

#[test]
fn delays_the_answers_of_the_gateway() {
    let mut fixture = fixture();
    impair(&mut fixture, ONE, Side::Ingress, second);
    impair(&mut fixture, ONE, Side::Egress, second);
    assert_eq!(fixture.send(0, VnetHeader::default(), &who_has_the_gateway()), []);
    assert_eq!(turn(&mut fixture, 11), []);
    let answers = turn(&mut fixture, 21);
    assert_eq!((answers.len(), answers[0].0), (1, 0));
    assert_eq!(answers[0].1[6..12], GATEWAY.0);
    assert_balanced(&fixture);
}

/// A lost packet is a packet, not 64 KiB.
#[test]
fn segments_super_frames_first() {
    for (port, side) in [(TWO, Side::Ingress), (ONE, Side::Egress)] {
        let mut fixture = fixture();
        impair(&mut fixture, port, side, |it| it.delay = Duration::from_millis(1));
        let (vnet, frame) = super_frame(4500);
        assert_eq!(fixture.send(1, vnet, &frame), []);
        let sent = turn(&mut fixture, 2);
        let lengths: Vec<usize> = sent.iter().map(|(_, frame)| frame.len() - 54).collect();
        assert_eq!(lengths, [1000, 1000, 1000, 1000, 500], "{side:?}");
        assert!(sent.iter().all(|(port, _)| *port == 0));
        assert_balanced(&fixture);
    }
}

#[test]
fn loses_frames_on_their_side() {
    let frame = ethernet(H2, H1);
    for (port, side, reason) in
        [(ONE, Side::Ingress, DropReason::IngressLoss), (TWO, Side::Egress, DropReason::EgressLoss)]
    {
        let mut fixture = fixture();
        impair(&mut fixture, port, side, |it| it.loss = Probability::ONE);
        assert_eq!(fixture.send(0, VnetHeader::default(), &frame), []);
        assert_eq!(turn(&mut fixture, 50), []);
        assert_eq!(fixture.counters.port(port).drops[reason as usize].value(), 1);
        assert_balanced(&fixture);
    }
}

#[test]
fn duplicates_frames_on_both_sides() {
    let frame = ethernet(H2, H1);
    for (port, side) in [(ONE, Side::Ingress), (TWO, Side::Egress)] {
        let mut fixture = fixture();
        impair(&mut fixture, port, side, |it| it.duplicate = Probability::ONE);
        let sent = fixture.send(0, VnetHeader::default(), &frame);
        assert_eq!(sent.len(), 2, "{side:?}");
        assert_balanced(&fixture);
    }
}

#[test]
fn drops_frames_beyond_the_queue() {
    let frame = ethernet(H2, H1);
    for (port, side, reason) in
        [(ONE, Side::Ingress, DropReason::IngressDelayFull), (TWO, Side::Egress, DropReason::EgressDelayFull)]
    {
        let mut fixture = fixture();
        impair(&mut fixture, port, side, second);
        (0..MAX_FRAMES + 3).for_each(|_| assert_eq!(fixture.send(0, VnetHeader::default(), &frame), []));
        assert_eq!(fixture.counters.port(port).drops[reason as usize].value(), 3);
        // A turn has a limit too.
        let turns: usize = (0..20).map(|_| turn(&mut fixture, 11).len()).sum();
        assert_eq!(turns, MAX_FRAMES);
        assert_balanced(&fixture);
    }
}

#[test]
fn without_impairment_frames_that_wait_leave_at_once() {
    let mut fixture = fixture();
    impair(&mut fixture, TWO, Side::Egress, second);
    let frame = ethernet(H2, H1);
    fixture.send(0, VnetHeader::default(), &frame);
    impair(&mut fixture, TWO, Side::Egress, |_| {});
    assert_eq!(turn(&mut fixture, 1), [(1, frame.clone())]);
    assert_eq!(fixture.send(0, VnetHeader::default(), &frame).len(), 1);
    assert!(fixture.worker.impaired.is_empty() && !fixture.worker.detour);
    assert_balanced(&fixture);
}

/// A port on a socket is detached when its peer closes it, and attached again for the next peer.
#[test]
fn detached_port_drops_waiting_frames_and_stays_impaired() {
    let mut fixture = fixture();
    impair(&mut fixture, TWO, Side::Egress, second);
    impair(&mut fixture, ONE, Side::Ingress, second);
    fixture.send(1, VnetHeader::default(), &ethernet(H1, H2));
    fixture.send(0, VnetHeader::default(), &ethernet(H2, H1));
    turn(&mut fixture, 11);
    fixture.send(0, VnetHeader::default(), &ethernet(H2, H1));
    for port in [ONE, TWO] {
        let (done, _reply) = bounded(1);
        fixture.run_command(WorkerCommand::Detach { port, done });
    }
    let drops = |port: PortId, reason: DropReason| fixture.counters.port(port).drops[reason as usize].value();
    assert_eq!((drops(ONE, DropReason::IngressDown), drops(TWO, DropReason::EgressDown)), (1, 1));
    assert!(!fixture.worker.impaired.is_empty());
    assert_balanced(&fixture);
}

/// What is on the wire arrives.
#[test]
fn sends_frames_that_wait_for_a_port_that_was_blocked_meanwhile() {
    let mut fixture = fixture();
    impair(&mut fixture, TWO, Side::Egress, second);
    fixture.send(0, VnetHeader::default(), &ethernet(H2, H1));
    fixture.switch.ports.block(TWO);
    assert_eq!(turn(&mut fixture, 11).len(), 1);
    assert_balanced(&fixture);
}

#[test]
fn drops_frames_for_a_port_that_went_down_meanwhile() {
    let mut fixture = fixture();
    impair(&mut fixture, TWO, Side::Egress, second);
    fixture.send(0, VnetHeader::default(), &ethernet(H2, H1));
    fixture.switch.ports.set(TWO, crate::switch::Port { up: false, ..OFFLOAD });
    assert_eq!(turn(&mut fixture, 11), []);
    assert_eq!(fixture.counters.port(TWO).drops[DropReason::EgressDown as usize].value(), 1);
    assert_balanced(&fixture);
}
