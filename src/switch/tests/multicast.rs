//! Multicast snooping, in the decision.

use super::*;

pub(super) const GROUP_1: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 1);
pub(super) const GROUP_2: Ipv4Addr = Ipv4Addr::new(239, 1, 1, 2);

pub(super) fn join_of(group: Ipv4Addr) -> Packet {
    hosts::join(group.into())
}

/// The frame of A with a packet, to the group to which that is addressed.
pub(super) fn to_group((ethertype, packet): &Packet) -> Vec<u8> {
    let destination = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    let mac = Mac::of_group(destination.into()).unwrap();
    [&mac.0[..], &A.0, &ethertype.0.to_be_bytes(), packet].concat()
}

/// A UDP packet to a group.
pub(super) fn to_group_from_a(group: Ipv4Addr) -> Vec<u8> {
    let (ethertype, mut packet) = join_of(group);
    packet[9] = 17;
    to_group(&(ethertype, packet))
}

/// A switch that is the multicast querier, and has received these messages.
pub(super) fn snooping(messages: &[(PortId, Packet)]) -> Switch {
    let switch = switch();
    let mut snooping = mdb::Snooping::new(mdb::MdbSettings::default(), GATEWAY);
    snooping.set_querier(T0, [0], true);
    for (port, (ethertype, packet)) in messages {
        snooping.receive(mdb::ReceivedAt { now: T0, port: *port, vlan: 0 }, *ethertype, packet);
    }
    snooping.tick(Tick(100));
    switch.set_groups(Some(snooping.snapshot()));
    switch
}

/// The outcome of a frame from P1.
fn outcome(switch: &Switch, bytes: &[u8]) -> (Outcome, Vec<Step>) {
    decide(switch, P1, &Frame { bytes, vnet: VnetHeader::default() })
}

#[test]
fn sends_groups_to_their_members_only() {
    let switch = snooping(&[(P2, join_of(GROUP_1))]);
    let (outcome_1, steps) = outcome(&switch, &to_group_from_a(GROUP_1));
    assert!(outcome_1.egress_ports().eq([P2]));
    assert_eq!((outcome_1.verdict(), outcome_1.punt()), (Verdict::Flood, None));
    let class = mdb::Class::Data { group: GROUP_1.into(), source: Ipv4Addr::new(192, 0, 2, 11).into() };
    assert_eq!(steps.last(), Some(&Step::Snooped(class)));
    assert_eq!(outcome_1.class().destination, Destination::Group, "mcast_flood does not matter to members");
    assert_eq!(run(&switch, P1, &to_group_from_a(GROUP_2)), Verdict::Drop(DropReason::NoMember));
    assert_eq!(run(&switch, P2, &to_group_from_a(GROUP_1)), Verdict::Drop(DropReason::NoMember), "not back");
    assert_eq!(flood_set(&switch, 60).0, [HOST, P2, P3], "broadcast is not multicast");
    let (all, steps) = outcome(&switch, &to_group_from_a(Ipv4Addr::new(224, 0, 0, 251)));
    assert!(
        all.egress_ports().eq([HOST, P2, P3]) && !steps.iter().any(|step| matches!(step, Step::Snooped(_)))
    );
    switch.set_groups(None);
    assert!(outcome(&switch, &to_group_from_a(GROUP_2)).0.egress_ports().eq([HOST, P2, P3]), "off");
}

#[test]
fn hands_membership_messages_to_control() {
    let switch = snooping(&[(P3, hosts::pim_hello(false))]);
    let (report, _) = outcome(&switch, &to_group(&join_of(GROUP_1)));
    assert!(report.egress_ports().eq([P3]), "to the router only");
    assert_eq!(report.punt(), Some(Punt::Membership));
    let (leave, _) = outcome(&switch, &to_group(&hosts::leave(GROUP_1.into())));
    assert_eq!((leave.egress_ports().count(), leave.punt()), (3, Some(Punt::Membership)));
    let (dropped, _) = outcome(&switch, &frame(Mac::of_group(GROUP_1.into()).unwrap(), GATEWAY, 60));
    assert_eq!(dropped.punt(), None, "control sees only admitted frames");
}

#[test]
fn ports_that_do_not_forward_are_not_snooped() {
    let switch = snooping(&[(P3, hosts::pim_hello(false))]);
    for state in PortState::ALL {
        switch.ports.set_state(P1, state);
        let (report, _) = outcome(&switch, &to_group(&join_of(GROUP_1)));
        let is_snooped = state == PortState::Forwarding;
        assert_eq!(report.punt(), is_snooped.then_some(Punt::Membership), "{state:?}");
    }
    switch.ports.set_state(P1, PortState::Forwarding);
    switch.ports.set_state(P3, PortState::Blocking);
    let (report, _) = outcome(&switch, &to_group(&join_of(GROUP_1)));
    assert_eq!(report.verdict(), Verdict::Drop(DropReason::NoMember), "not to the router on a blocked port");
}
