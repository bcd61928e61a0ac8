//! Mirrors on the memory engine: what they see of which frame.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::mirror::{Direction, Mirror, RECORDS, Record, Wanted};
use super::worker::Command;
use super::worker_tests::{GATEWAY, H1, H2, OFFLOAD, Rig, ethernet, super_frame, who_has_the_gateway};
use crate::switch::fdb::Learned;
use crate::switch::{DropReason, GatewayReply, Port, PortId, Step, Verdict};
use crate::wire::{Mac, VnetHeader};
use crossbeam_channel::bounded;

const COMPLETE: VnetHeader =
    VnetHeader { flags: 0, gso_type: 0, hdr_len: 0, gso_size: 0, csum_start: 0, csum_offset: 0 };
const BROADCAST: [u8; 6] = [0xff; 6];

/// A mirror of `wanted`, which the worker has.
fn install(rig: &mut Rig, wanted: Wanted) -> Mirror {
    let (feed, mirror) = Mirror::new(wanted, Arc::new(|| ()), Arc::default());
    let (done, installed) = bounded(1);
    rig.tell(Command::Mirror { feed, done });
    installed.try_recv().unwrap();
    mirror
}

/// A switch of three ports that knows [`H2`] behind the last.
fn rig() -> Rig {
    let mut rig = Rig::new(&[OFFLOAD, OFFLOAD, OFFLOAD]);
    rig.send(2, COMPLETE, &ethernet(BROADCAST, H2));
    rig
}

fn records(mirror: &Mirror) -> Vec<Record> {
    std::iter::from_fn(|| mirror.take()).collect()
}

fn the_one(mirror: &Mirror) -> Record {
    let [record] = records(mirror).try_into().unwrap();
    record
}

/// Where a frame is to be seen, as numbers of ports.
fn crossings(record: &Record) -> Vec<(u16, Direction)> {
    record.crossings.iter().map(|(port, direction)| (port.0, *direction)).collect()
}

#[test]
fn a_frame_is_recorded_with_its_way_and_its_steps() {
    let mut rig = rig();
    let mirror = install(&mut rig, Wanted::default());
    let frame = ethernet(H2, H1);
    assert_eq!(rig.send(0, COMPLETE, &frame).len(), 1);
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
            Step::Verdict(Verdict::Forward(PortId(2))),
        ]
    );
    let transit = record.transit();
    assert_eq!(
        (transit.ingress, transit.egress, transit.drop_reason()),
        (Some(PortId(0)), &[PortId(2)][..], None)
    );
    assert_eq!(crossings(&record), [(0, Direction::In), (2, Direction::Out)]);
}

#[test]
fn a_flood_is_recorded_with_all_its_ports_and_those_that_refused() {
    let mut rig = Rig::new(&[OFFLOAD, OFFLOAD, Port { mtu: 40, ..OFFLOAD }]);
    let mirror = install(&mut rig, Wanted::default());
    rig.send(0, COMPLETE, &ethernet(BROADCAST, H1));
    // What an earlier flood was refused is not said of the next frame.
    rig.send(1, COMPLETE, &ethernet(H1, H2));
    let [flood, unicast] = records(&mirror).try_into().unwrap();
    let transit = flood.transit();
    assert_eq!((transit.verdict, transit.drop_reason()), (Verdict::Flood, None));
    assert_eq!(
        (transit.egress, transit.refused),
        (&[PortId(1)][..], &[(PortId(2), DropReason::Oversize)][..])
    );
    assert_eq!((unicast.transit().egress, unicast.transit().refused), (&[PortId(0)][..], &[][..]));
}

#[test]
fn a_drop_is_recorded_with_its_reason() {
    let mut rig = rig();
    let mirror = install(&mut rig, Wanted { drops_only: true, ..Wanted::default() });
    rig.send(0, COMPLETE, &ethernet(H2, H1));
    rig.send(0, COMPLETE, &ethernet(H2, GATEWAY.0));
    rig.switch.ports.set(PortId(2), Port { mtu: 40, ..OFFLOAD });
    rig.send(0, COMPLETE, &ethernet(H2, H1));
    rig.send(0, COMPLETE, &ethernet(BROADCAST, H1));
    for port in [1, 2] {
        rig.switch.ports.set(PortId(port), Port { up: false, ..OFFLOAD });
    }
    rig.send(0, COMPLETE, &ethernet(BROADCAST, H1));
    let reasons: Vec<_> = records(&mirror).iter().map(|record| record.transit().drop_reason()).collect();
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
fn a_question_to_the_switch_is_seen_in_and_its_answer_out() {
    let mut rig = rig();
    let mirror = install(&mut rig, Wanted::default());
    let request = who_has_the_gateway();
    let out = rig.send(0, COMPLETE, &request);
    let [question, answer] = records(&mirror).try_into().unwrap();
    assert_eq!(
        question.transit().verdict,
        Verdict::Answer(GatewayReply::Arp { address: [192, 0, 2, 1].into() })
    );
    assert_eq!((&question.bytes[..], &answer.bytes[..]), (&request[..], &out[0].2[..]));
    assert_eq!(crossings(&question), [(0, Direction::In)]);
    assert_eq!(crossings(&answer), [(0, Direction::Out)]);
}

#[test]
fn only_the_wanted_ports_and_directions() {
    let cases = [
        (None, Some(Direction::In), vec![(0, Direction::In)]),
        (None, Some(Direction::Out), vec![(2, Direction::Out)]),
        (Some(vec![PortId(2)]), None, vec![(2, Direction::Out)]),
        (Some(vec![PortId(0)]), Some(Direction::Out), vec![]),
        (Some(vec![PortId(1)]), None, vec![]),
    ];
    for (ports, direction, expected) in cases {
        let mut rig = rig();
        let wanted = Wanted { ports, direction, ..Wanted::default() };
        let case = format!("{wanted:?}");
        let mirror = install(&mut rig, wanted);
        rig.send(0, COMPLETE, &ethernet(H2, H1));
        let seen: Vec<_> = records(&mirror).iter().flat_map(crossings).collect();
        assert_eq!(seen, expected, "{case}");
    }
}

#[test]
fn a_super_frame_is_seen_whole_and_cut_at_the_snap_length() {
    let mut rig = rig();
    let mirror = install(&mut rig, Wanted { snaplen: 96, ..Wanted::default() });
    let (vnet, frame) = super_frame(5000);
    rig.send(0, vnet, &frame);
    let record = the_one(&mirror);
    assert_eq!((record.vnet, &record.bytes[..], record.length), (vnet, &frame[..96], frame.len()));
}

#[test]
fn a_full_mirror_loses_records_counts_them_and_forwards() {
    let mut rig = rig();
    let mirror = install(&mut rig, Wanted { direction: Some(Direction::Out), ..Wanted::default() });
    for _ in 0..RECORDS + 3 {
        assert_eq!(rig.send(0, COMPLETE, &ethernet(H2, H1)).len(), 1);
    }
    assert_eq!((mirror.lost(PortId(0)), mirror.lost(PortId(2))), (0, 3));
    assert_eq!(records(&mirror).len(), RECORDS);
    rig.send(0, COMPLETE, &ethernet(H2, H1));
    assert_eq!((mirror.lost(PortId(2)), records(&mirror).len()), (3, 1));
}

#[test]
fn no_more_records_than_the_limit() {
    let mut rig = rig();
    let mirror = install(&mut rig, Wanted { limit: 2, ..Wanted::default() });
    for _ in 0..4 {
        rig.send(0, COMPLETE, &ethernet(H2, H1));
    }
    assert_eq!(records(&mirror).len(), 2);
}

#[test]
fn a_port_that_went_is_wanted_no_more() {
    let mut rig = rig();
    let of_both = install(&mut rig, Wanted { ports: Some(vec![PortId(0), PortId(2)]), ..Wanted::default() });
    let of_one = install(&mut rig, Wanted { ports: Some(vec![PortId(2)]), ..Wanted::default() });
    let of_all = install(&mut rig, Wanted::default());
    let detach = |rig: &mut Rig, port| rig.tell(Command::Detach { port: PortId(port), done: bounded(1).0 });
    detach(&mut rig, 2);
    // As the next port in its place.
    rig.send(2, COMPLETE, &ethernet(BROADCAST, H2));
    assert_eq!(crossings(&the_one(&of_both)), [(0, Direction::Out)]);
    assert!(records(&of_one).is_empty());
    assert_eq!(crossings(&the_one(&of_all)).len(), 3);
    assert_eq!([&of_both, &of_one, &of_all].map(Mirror::is_over), [false, true, false]);
    detach(&mut rig, 0);
    assert_eq!([&of_both, &of_one, &of_all].map(Mirror::is_over), [true, true, false]);
}

#[test]
fn mirrors_do_not_know_of_each_other() {
    let mut rig = rig();
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let on_record = Arc::new(move || _ = counted.fetch_add(1, Ordering::Relaxed));
    let (feed, first) = Mirror::new(Wanted::default(), on_record, Arc::default());
    let (done, _installed) = bounded(1);
    rig.tell(Command::Mirror { feed, done });
    let second = install(&mut rig, Wanted::default());
    rig.send(0, COMPLETE, &ethernet(H2, H1));
    rig.tell(first.taken_off());
    rig.send(0, COMPLETE, &ethernet(H2, H1));
    assert_eq!((records(&first).len(), records(&second).len()), (1, 2));
    assert_eq!(calls.load(Ordering::Relaxed), 1);
}
