//! Port states, and BPDUs and other frames to reserved group addresses.

use super::*;

pub(super) fn with_spanning_tree() -> Switch {
    switch().with_spanning_tree()
}

/// Also on a port that does not forward, and with the MAC of the switch itself: then it has come back.
#[test]
fn spanning_tree_receives_bpdus_in_every_state() {
    for state in PortState::ALL {
        for source in [A, GATEWAY] {
            let switch = with_spanning_tree();
            switch.ports.set_state(P1, state);
            let mut outcome = Outcome::default();
            let bytes = frame(Bpdu::GROUP, source, 60);
            let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
            switch.process(Tick(0), P1, &frame, &mut outcome, &mut ());
            assert_eq!(outcome.verdict(), Verdict::Drop(DropReason::Bpdu), "{state:?}");
            assert_eq!(outcome.punt(), Some(Punt::Bpdu));
            assert!(switch.fdb.entry(key(A)).is_none(), "nothing is learned from it");
        }
    }
    assert_eq!(
        run(&with_spanning_tree(), P1, &frame(B, GATEWAY, 60)),
        Verdict::Drop(DropReason::SpoofedGateway)
    );
}

#[test]
fn forwards_bpdus_and_what_the_group_forward_mask_allows() {
    let reserved = |last| frame(Mac([1, 0x80, 0xc2, 0, 0, last]), A, 60);
    assert_eq!(run(&switch(), P1, &reserved(0)), Verdict::Flood);
    for last in 1..16 {
        assert_eq!(run(&switch(), P1, &reserved(last)), Verdict::Drop(DropReason::ReservedAddress), "{last}");
        let masked = switch().with_group_fwd_mask(1 << last);
        for other in 1..16 {
            let forwarded = run(&masked, P1, &reserved(other)) == Verdict::Flood;
            assert_eq!(forwarded, other == last, "bit {last}, address {other}");
        }
    }
}

/// As `br_handle_frame` in Linux `net/bridge/br_input.c`, and pause frames too.
#[test]
fn group_forward_mask_of_a_port_adds_to_that_of_the_switch() {
    let reserved = |last| frame(Mac([1, 0x80, 0xc2, 0, 0, last]), A, 60);
    let switch = switch().with_group_fwd_mask(1 << 0xe);
    switch.ports.set_group_fwd_mask(P1, 0b110);
    for last in 0..16 {
        let forwards = |port| run(&switch, port, &reserved(last)) == Verdict::Flood;
        assert_eq!(forwards(P1), [0, 1, 2, 0xe].contains(&last), "{last}");
        assert_eq!(forwards(P2), [0, 0xe].contains(&last), "{last} from another port");
    }
    switch.ports.remove(P1);
    assert_eq!(switch.ports.group_fwd_mask(P1), 0);
}

#[test]
fn a_port_may_forward_bpdus_past_the_spanning_tree() {
    let switch = with_spanning_tree();
    switch.ports.set_group_fwd_mask(P1, 1);
    let from_gateway = frame(Bpdu::GROUP, GATEWAY, 60);
    assert_eq!(run(&switch, P1, &frame(Bpdu::GROUP, A, 60)), Verdict::Flood);
    assert_eq!(run(&switch, P1, &from_gateway), Verdict::Drop(DropReason::SpoofedGateway));
    assert_eq!(run(&switch, P2, &frame(Bpdu::GROUP, A, 60)), Verdict::Drop(DropReason::Bpdu));
    switch.ports.set_state(P1, PortState::Blocking);
    assert_eq!(run(&switch, P1, &frame(Bpdu::GROUP, A, 60)), Verdict::Drop(DropReason::IngressBlocked));
}

#[test]
fn spanning_tree_states_decide_about_learning_and_forwarding() {
    for state in PortState::ALL {
        let switch = switch();
        switch.ports.set_state(P1, state);
        switch.ports.set(P1, PORT);
        assert_eq!(switch.ports.state(P1), state, "a change of the link keeps it");
        let (forwards, learns) = match state {
            PortState::Forwarding => (true, true),
            PortState::Learning => (false, true),
            PortState::Listening | PortState::Blocking | PortState::Disabled => (false, false),
        };
        let expected = if forwards { Verdict::Flood } else { Verdict::Drop(DropReason::IngressBlocked) };
        for destination in [B, Mac::BROADCAST] {
            assert_eq!(run(&switch, P1, &frame(destination, A, 60)), expected, "{state:?}");
        }
        assert_eq!(switch.fdb.lookup(T0, key(A)).is_some(), learns, "{state:?}");
        let bytes = frame(Mac::BROADCAST, C, 60);
        let broadcast = Frame { bytes: &bytes, vnet: VnetHeader::default() };
        let reached = decide(&switch, P3, &broadcast).0.egress_ports().any(|port| port == P1);
        assert_eq!(reached, forwards, "{state:?}");
        switch.ports.set_state(P1, PortState::Forwarding);
        assert_eq!(run(&switch, P1, &frame(Mac::BROADCAST, A, 60)), Verdict::Flood);
    }
}
