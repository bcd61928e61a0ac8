//! The settings of ports that are on or off, in the decision.

use super::*;

pub(super) fn set_flag(switch: &Switch, port: PortId, flag: PortFlag, on: bool) {
    let mut flags = switch.ports.flags(port);
    flags.set(flag, on);
    switch.ports.set_flags(port, flags);
}

pub(super) fn with_flag(port: PortId, flag: PortFlag, on: bool) -> Switch {
    let switch = switch();
    set_flag(&switch, port, flag, on);
    switch
}

#[test]
fn a_flood_reaches_only_ports_that_take_its_kind() {
    let reached = |flag, destination| {
        let bytes = frame(destination, A, 60);
        let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
        let (outcome, _) = decide(&with_flag(P2, flag, false), P1, &frame);
        outcome.egress_ports().any(|port| port == P2)
    };
    let multicast = Mac([1, 0, 0x5e, 0, 0, 1]);
    for (flag, own) in
        [(PortFlag::Flood, C), (PortFlag::McastFlood, multicast), (PortFlag::BcastFlood, Mac::BROADCAST)]
    {
        for destination in [C, multicast, Mac::BROADCAST] {
            assert_eq!(reached(flag, destination), destination != own, "{flag:?} to {destination}");
        }
    }
    let switch = with_flag(P2, PortFlag::Flood, false);
    run(&switch, P2, &frame(A, B, 60));
    assert_eq!(run(&switch, P1, &frame(B, A, 60)), Verdict::Forward(P2), "known unicast is not flooded");
}

#[test]
fn isolated_ports_reach_only_others() {
    let switch = with_flag(P1, PortFlag::Isolated, true);
    set_flag(&switch, P2, PortFlag::Isolated, true);
    assert_eq!(flood_set(&switch, 60), (vec![HOST, P3], vec![]));
    run(&switch, P3, &frame(A, C, 60));
    assert_eq!(run(&switch, P1, &frame(C, A, 60)), Verdict::Forward(P3));
    assert_eq!(run(&switch, P3, &frame(A, C, 60)), Verdict::Forward(P1));
}

#[test]
fn a_hairpin_port_gets_its_own_frames() {
    let switch = with_flag(P1, PortFlag::Hairpin, true);
    assert_eq!(flood_set(&switch, 60), (vec![HOST, P1, P2, P3], vec![]));
    assert_eq!(run(&switch, P1, &frame(A, B, 60)), Verdict::Forward(P1));
    assert_eq!(run(&switch, P2, &frame(C, C, 60)), Verdict::Drop(DropReason::Filtered));
}

#[test]
fn learns_nothing_from_a_port_without_learning_or_of_a_hub() {
    for flag in [PortFlag::Learning, PortFlag::Hub] {
        let switch = with_flag(P1, flag, !flag.default());
        let (_, steps) = run_with(&switch, P1, &frame(B, A, 60), VnetHeader::default());
        assert_eq!(steps[3], Step::Learned(Learned::Off), "{flag:?}");
        assert_eq!(switch.fdb.lookup(T0, key(A)), None, "{flag:?}");
    }
}

/// Also if the destination is known, and to the gateway.
#[test]
fn floods_all_frames_of_a_hub() {
    let switch = with_flag(P1, PortFlag::Hub, true);
    run(&switch, P2, &frame(A, B, 60));
    for destination in [B, GATEWAY] {
        assert_eq!(run(&switch, P1, &frame(destination, A, 60)), Verdict::Flood, "{destination}");
    }
    assert_eq!(run(&switch, P3, &frame(B, C, 60)), Verdict::Forward(P2), "other ports learn");
}

/// An address is on a locked port if it was added there, or learned before.
#[test]
fn a_locked_port_accepts_only_its_known_addresses() {
    let switch = switch();
    run(&switch, P1, &frame(B, A, 60));
    run(&switch, P2, &frame(A, B, 60));
    set_flag(&switch, P1, PortFlag::Locked, true);
    assert_eq!(run(&switch, P1, &frame(B, A, 60)), Verdict::Forward(P2));
    for source in [B, C] {
        assert_eq!(run(&switch, P1, &frame(A, source, 60)), Verdict::Drop(DropReason::Locked), "{source}");
    }
    assert_eq!(switch.fdb.lookup(T0, key(B)), Some(P2), "not moved");
}
