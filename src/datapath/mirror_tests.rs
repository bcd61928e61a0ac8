//! Mirrors on the memory engine: which frames they record, and what of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::mirror::{Direction, Mirror, MirrorRecord, MirrorSpec, RECORDS};
use super::worker::WorkerCommand;
use super::worker_tests::{
    GATEWAY, H1, H2, OFFLOAD, WorkerFixture, ethernet, super_frame, who_has_the_gateway,
};
use crate::switch::fdb::Learned;
use crate::switch::{DropReason, Port, PortId, Step, SwitchReply, Verdict};
use crate::wire::{Mac, VnetHeader};
use crossbeam_channel::bounded;

const COMPLETE: VnetHeader =
    VnetHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };
const BROADCAST: [u8; 6] = [0xff; 6];

/// A mirror of `wanted`, installed on the worker.
fn install(fixture: &mut WorkerFixture, wanted: MirrorSpec) -> Mirror {
    let (sender, mirror) = Mirror::new(wanted, Arc::new(|| ()), Arc::default());
    let (done, installed) = bounded(1);
    fixture.run_command(WorkerCommand::Mirror { sender, done });
    installed.try_recv().unwrap();
    mirror
}

/// A switch of three ports that knows [`H2`] behind the last.
fn fixture() -> WorkerFixture {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, OFFLOAD]);
    fixture.send(2, COMPLETE, &ethernet(BROADCAST, H2));
    fixture
}

fn records(mirror: &Mirror) -> Vec<MirrorRecord> {
    std::iter::from_fn(|| mirror.take()).collect()
}

fn the_one(mirror: &Mirror) -> MirrorRecord {
    let [record] = records(mirror).try_into().unwrap();
    record
}

fn egress(record: &MirrorRecord) -> Vec<PortId> {
    record.outcome.egress_ports().collect()
}

/// The crossings of a record, as port numbers.
fn crossings(record: &MirrorRecord) -> Vec<(u16, Direction)> {
    record.crossings.iter().map(|(port, direction)| (port.0, *direction)).collect()
}

#[test]
fn records_path_and_steps_of_a_frame() {
    let mut fixture = fixture();
    let mirror = install(&mut fixture, MirrorSpec::default());
    let frame = ethernet(H2, H1);
    assert_eq!(fixture.send(0, COMPLETE, &frame).len(), 1);
    let record = the_one(&mirror);
    assert_eq!((&record.bytes[..], record.length, record.vnet), (&frame[..], frame.len(), COMPLETE));
    assert_eq!(
        record.steps.iter().collect::<Vec<_>>(),
        [
            Step::Ingress(OFFLOAD),
            Step::Source(Mac(H1)),
            Step::Admitted,
            Step::Learned(Learned::New),
            Step::LookedUp(Some(PortId(2))),
        ]
    );
    assert_eq!((record.ingress, record.outcome.verdict()), (Some(PortId(0)), Verdict::Forward(PortId(2))));
    assert_eq!((egress(&record), record.outcome.drop_reason()), (vec![PortId(2)], None));
    assert_eq!(crossings(&record), [(0, Direction::In), (2, Direction::Out)]);
}

#[test]
fn records_flood_with_reached_and_refused_ports() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, Port { mtu: 40, ..OFFLOAD }]);
    let mirror = install(&mut fixture, MirrorSpec::default());
    fixture.send(0, COMPLETE, &ethernet(BROADCAST, H1));
    // The refused ports of an earlier flood do not appear in the next record.
    fixture.send(1, COMPLETE, &ethernet(H1, H2));
    let [flood, unicast] = records(&mirror).try_into().unwrap();
    assert_eq!((flood.outcome.verdict(), flood.outcome.drop_reason()), (Verdict::Flood, None));
    assert_eq!(
        (egress(&flood), flood.outcome.refused()),
        (vec![PortId(1)], &[(PortId(2), DropReason::Oversize)][..])
    );
    assert_eq!((egress(&unicast), unicast.outcome.refused()), (vec![PortId(0)], &[][..]));
}

#[test]
fn records_drop_with_reason() {
    let mut fixture = fixture();
    let mirror = install(&mut fixture, MirrorSpec { drops_only: true, ..MirrorSpec::default() });
    fixture.send(0, COMPLETE, &ethernet(H2, H1));
    fixture.send(0, COMPLETE, &ethernet(H2, GATEWAY.0));
    fixture.switch.ports.set(PortId(2), Port { mtu: 40, ..OFFLOAD });
    fixture.send(0, COMPLETE, &ethernet(H2, H1));
    fixture.send(0, COMPLETE, &ethernet(BROADCAST, H1));
    for port in [1, 2] {
        fixture.switch.ports.set(PortId(port), Port { up: false, ..OFFLOAD });
    }
    fixture.send(0, COMPLETE, &ethernet(BROADCAST, H1));
    let reasons: Vec<_> = records(&mirror).iter().map(|record| record.outcome.drop_reason()).collect();
    let partly_refused = None;
    assert_eq!(
        reasons,
        [
            Some(DropReason::SpoofedGateway),
            Some(DropReason::Oversize),
            partly_refused,
            Some(DropReason::NoEgress)
        ]
    );
}

#[test]
fn records_request_in_and_gateway_answer_out() {
    let mut fixture = fixture();
    let mirror = install(&mut fixture, MirrorSpec::default());
    let request = who_has_the_gateway();
    let out = fixture.send(0, COMPLETE, &request);
    let [question, answer] = records(&mirror).try_into().unwrap();
    assert_eq!(
        question.outcome.verdict(),
        Verdict::Answer(SwitchReply::Arp { address: [192, 0, 2, 1].into() })
    );
    assert_eq!((&question.bytes[..], &answer.bytes[..]), (&request[..], &out[0].2[..]));
    assert_eq!(crossings(&question), [(0, Direction::In)]);
    assert_eq!(crossings(&answer), [(0, Direction::Out)]);
}

#[test]
fn records_only_wanted_ports_and_directions() {
    let cases = [
        (None, Some(Direction::In), vec![(0, Direction::In)]),
        (None, Some(Direction::Out), vec![(2, Direction::Out)]),
        (Some(vec![PortId(2)]), None, vec![(2, Direction::Out)]),
        (Some(vec![PortId(0)]), Some(Direction::Out), vec![]),
        (Some(vec![PortId(1)]), None, vec![]),
    ];
    for (ports, direction, expected) in cases {
        let mut fixture = fixture();
        let wanted = MirrorSpec { ports, direction, ..MirrorSpec::default() };
        let case = format!("{wanted:?}");
        let mirror = install(&mut fixture, wanted);
        fixture.send(0, COMPLETE, &ethernet(H2, H1));
        let seen: Vec<_> = records(&mirror).iter().flat_map(crossings).collect();
        assert_eq!(seen, expected, "{case}");
    }
}

#[test]
fn records_super_frame_up_to_snaplen() {
    let mut fixture = fixture();
    let mirror = install(&mut fixture, MirrorSpec { snaplen: 96, ..MirrorSpec::default() });
    let (vnet, frame) = super_frame(5000);
    fixture.send(0, vnet, &frame);
    let record = the_one(&mirror);
    assert_eq!((record.vnet, &record.bytes[..], record.length), (vnet, &frame[..96], frame.len()));
}

#[test]
fn full_mirror_counts_lost_records_and_still_forwards() {
    let mut fixture = fixture();
    let mirror =
        install(&mut fixture, MirrorSpec { direction: Some(Direction::Out), ..MirrorSpec::default() });
    for _ in 0..RECORDS + 3 {
        assert_eq!(fixture.send(0, COMPLETE, &ethernet(H2, H1)).len(), 1);
    }
    assert_eq!((mirror.lost(PortId(0)), mirror.lost(PortId(2))), (0, 3));
    assert_eq!(records(&mirror).len(), RECORDS);
    fixture.send(0, COMPLETE, &ethernet(H2, H1));
    assert_eq!((mirror.lost(PortId(2)), records(&mirror).len()), (3, 1));
}

#[test]
fn stops_at_the_record_limit() {
    let mut fixture = fixture();
    let mirror = install(&mut fixture, MirrorSpec { limit: 2, ..MirrorSpec::default() });
    for _ in 0..4 {
        fixture.send(0, COMPLETE, &ethernet(H2, H1));
    }
    assert_eq!(records(&mirror).len(), 2);
}

#[test]
fn mirror_ends_with_its_last_port() {
    let mut fixture = fixture();
    let of_both = install(
        &mut fixture,
        MirrorSpec { ports: Some(vec![PortId(0), PortId(2)]), ..MirrorSpec::default() },
    );
    let of_one = install(&mut fixture, MirrorSpec { ports: Some(vec![PortId(2)]), ..MirrorSpec::default() });
    let of_all = install(&mut fixture, MirrorSpec::default());
    let detach = |fixture: &mut WorkerFixture, port| {
        fixture.run_command(WorkerCommand::Detach { port: PortId(port), done: bounded(1).0 });
    };
    detach(&mut fixture, 2);
    // A new port reuses the number.
    fixture.send(2, COMPLETE, &ethernet(BROADCAST, H2));
    assert_eq!(crossings(&the_one(&of_both)), [(0, Direction::Out)]);
    assert!(records(&of_one).is_empty());
    assert_eq!(crossings(&the_one(&of_all)).len(), 3);
    assert_eq!([&of_both, &of_one, &of_all].map(Mirror::is_finished), [false, true, false]);
    detach(&mut fixture, 0);
    assert_eq!([&of_both, &of_one, &of_all].map(Mirror::is_finished), [true, true, false]);
}

#[test]
fn mirrors_are_independent() {
    let mut fixture = fixture();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let on_record = Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed));
    let (sender, first) = Mirror::new(MirrorSpec::default(), on_record, Arc::default());
    let (done, _installed) = bounded(1);
    fixture.run_command(WorkerCommand::Mirror { sender, done });
    let second = install(&mut fixture, MirrorSpec::default());
    fixture.send(0, COMPLETE, &ethernet(H2, H1));
    fixture.run_command(first.remove_command());
    fixture.send(0, COMPLETE, &ethernet(H2, H1));
    assert_eq!((records(&first).len(), records(&second).len()), (1, 2));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}
