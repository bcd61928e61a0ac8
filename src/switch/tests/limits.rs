//! Storm control and rate limits in the decision.

use super::*;

/// The second frame from A to `destination` while a limit of a port allows one. B is known behind P2.
pub(super) fn limited(port: PortId, kind: LimitKind, destination: Mac) -> Verdict {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    switch.set_limit(port, kind, Some(Rate { per_second: 1, burst: 1 }));
    let first = run(&switch, P1, &frame(destination, A, 60));
    assert!(matches!(first, Verdict::Flood | Verdict::Forward(_)), "{first:?}");
    run(&switch, P1, &frame(destination, A, 60))
}

#[test]
fn limits_do_not_concern_other_frames_or_ports() {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    let one = Some(Rate { per_second: 1, burst: 1 });
    switch.set_limit(P1, LimitKind::StormBroadcast, one);
    switch.set_limit(P3, LimitKind::EgressRate, one);
    for _ in 0..3 {
        assert_eq!(run(&switch, P1, &frame(B, A, 60)), Verdict::Forward(P2));
        assert_eq!(run(&switch, P1, &frame(C, A, 60)), Verdict::Flood, "not broadcast");
        assert_eq!(run(&switch, P2, &frame(Mac::BROADCAST, B, 60)), Verdict::Flood);
    }
    let (_, refused) = flood_set(&switch, 60);
    assert_eq!(refused, [(P3, DropReason::EgressRate)]);
    switch.clear_limits(P3);
    assert_eq!(
        decide(&switch, P2, &Frame { bytes: &frame(C, B, 60), vnet: VnetHeader::default() }).0.refused(),
        []
    );
}

#[test]
fn a_trace_does_not_count_for_limits() {
    let switch = switch();
    switch.set_limit(P1, LimitKind::StormBroadcast, Some(Rate { per_second: 1, burst: 1 }));
    let bytes = frame(Mac::BROADCAST, A, 60);
    let of_trace =
        || switch.trace(T0, P1, &Frame { bytes: &bytes, vnet: VnetHeader::default() }, &mut ()).verdict();
    assert_eq!((of_trace(), of_trace()), (Verdict::Flood, Verdict::Flood));
    assert_eq!(run(&switch, P1, &bytes), Verdict::Flood);
    assert_eq!(of_trace(), Verdict::Drop(DropReason::StormBroadcast));
}

/// A frame beyond the ingress rate teaches nothing.
#[test]
fn does_not_learn_from_frames_beyond_the_ingress_rate() {
    let switch = switch();
    switch.set_limit(P1, LimitKind::IngressRate, Some(Rate { per_second: 1, burst: 1 }));
    run(&switch, P1, &frame(B, A, 60));
    run(&switch, P1, &frame(B, C, 60));
    assert_eq!(switch.fdb.lookup(T0, key(A)), Some(P1));
    assert_eq!(switch.fdb.lookup(T0, key(C)), None);
}

/// Also where snooping has found the ports of a group, so that its frames are not flooded.
#[test]
fn storm_control_limits_frames_to_known_groups() {
    let switch = snooping(&[(P2, join_of(GROUP_1))]);
    switch.set_limit(P1, LimitKind::StormMulticast, Some(Rate { per_second: 1, burst: 1 }));
    assert_eq!(run(&switch, P1, &to_group_from_a(GROUP_1)), Verdict::Flood);
    assert_eq!(run(&switch, P1, &to_group_from_a(GROUP_1)), Verdict::Drop(DropReason::StormMulticast));
}

/// A change of the link keeps them. A new port with the number of a deleted one has none.
#[test]
fn limits_belong_to_the_port() {
    let switch = switch();
    switch.set_limit(P1, LimitKind::IngressRate, Some(Rate { per_second: 1, burst: 1 }));
    switch.ports.set(P1, PORT);
    run(&switch, P1, &frame(B, A, 60));
    let beyond = Verdict::Drop(DropReason::IngressRate);
    assert_eq!(run(&switch, P1, &frame(B, A, 60)), beyond);
    switch.clear_limits(P1);
    switch.ports.remove(P1);
    assert_eq!(switch.ports.add(PORT), Some(P1));
    assert!((0..3).all(|_| run(&switch, P1, &frame(B, A, 60)) != beyond));
}
