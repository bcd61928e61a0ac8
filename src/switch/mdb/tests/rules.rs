//! Where frames go.

use super::*;

#[test]
fn floods_where_no_querier_is_known() {
    let mut lab = Lab::new(MdbSettings::default());
    for group in ["239.1.1.1", "ff15::1"] {
        lab.receive(1, &hosts::join(ip(group)));
        assert_eq!(lab.group(group), None);
    }
    assert_eq!(lab.entries().len(), 2, "reports are noted nevertheless");
}

#[test]
fn floods_until_hosts_have_had_the_time_to_report() {
    let mut lab = Lab::new(MdbSettings::default());
    lab.hear_queries();
    lab.wait(10 * SECOND - 1);
    assert_eq!((lab.group("239.1.1.1"), lab.group("ff15::1")), (None, None));
    lab.wait(1);
    assert_eq!((lab.group("239.1.1.1"), lab.group("ff15::1")), (Some(vec![9]), Some(vec![9])));
}

#[test]
fn forwards_to_members_and_routers() {
    let mut lab = Lab::other_querier();
    for group in ["239.1.1.1", "ff15::1"] {
        lab.receive(1, &hosts::join(ip(group)));
        lab.receive(3, &hosts::join(ip(group)));
        assert_eq!(lab.group(group), Some(vec![1, 3, 9]));
    }
    assert_eq!(lab.group("239.1.1.2"), Some(vec![9]), "an unregistered group goes to routers only");
}

#[test]
fn one_ip_version_does_not_need_the_querier_of_the_other() {
    let mut lab = Lab::new(MdbSettings::default());
    lab.receive(9, &hosts::query(ip("192.0.2.254"), None, &[]));
    lab.wait(10 * SECOND);
    assert_eq!((lab.group("239.1.1.1"), lab.group("ff15::1")), (Some(vec![9]), None));
}

#[test]
fn vlans_are_apart() {
    let mut lab = Lab::other_querier();
    lab.receive_in(7, 9, &hosts::query(ip("192.0.2.254"), None, &[]));
    lab.wait(10 * SECOND);
    lab.receive_in(7, 2, &hosts::join(ip("239.1.1.1")));
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    let data = Class::Data { group: ip("239.1.1.1"), source: ip("192.0.2.1") };
    assert_eq!(lab.scope(0, data), Some(vec![1, 9]));
    assert_eq!(lab.scope(7, data), Some(vec![2, 9]));
    assert_eq!(lab.scope(8, data), None, "this VLAN has no querier");
}

#[test]
fn always_floods_groups_that_hosts_do_not_report() {
    let mut lab = Lab::other_querier();
    for group in ["224.0.0.1", "224.0.0.251", "ff02::1"] {
        lab.receive(1, &hosts::join(ip(group)));
        lab.receive(1, &hosts::report(&[(4, ip(group), Vec::new())]));
        assert_eq!(lab.group(group), None, "{group}");
    }
    assert_eq!(lab.entries(), [""; 0]);
    lab.receive(1, &hosts::join(ip("ff02::fb")));
    assert_eq!(lab.group("ff02::fb"), Some(vec![1, 9]), "hosts report link-local groups of IPv6");
}

#[test]
fn sends_reports_to_routers_only_and_other_messages_everywhere() {
    let mut lab = Lab::other_querier();
    let scope = |lab: &mut Lab, (ethertype, packet): Packet| lab.scope(0, classify(ethertype, &packet));
    for group in ["239.1.1.1", "ff15::1"].map(ip) {
        assert_eq!(scope(&mut lab, hosts::join(group)), Some(vec![9]));
        assert_eq!(scope(&mut lab, hosts::report(&[(4, group, Vec::new())])), Some(vec![9]));
        assert_eq!(scope(&mut lab, hosts::leave(group)), None);
        let source = if group.is_ipv4() { "192.0.2.7" } else { "fe80::7" };
        assert_eq!(scope(&mut lab, hosts::query(ip(source), Some(group), &[])), None);
        assert_eq!(scope(&mut lab, hosts::pim_hello(group.is_ipv6())), None);
        assert_eq!(scope(&mut lab, hosts::router_advertisement(group.is_ipv6())), None);
    }
    let mut alone = Lab::new(MdbSettings::default());
    assert_eq!(scope(&mut alone, hosts::join(ip("239.1.1.1"))), None, "no router is known");
}

#[test]
fn classifies_frames() {
    let (ethertype, packet) = hosts::join(ip("239.1.1.1"));
    assert_eq!(classify(ethertype, &packet), Class::Message { group: ip("239.1.1.1"), is_report: true });
    for length in 0..20 {
        assert_eq!(classify(ethertype, &packet[..length]), Class::Other);
    }
    let mut data = packet.clone();
    data[9] = 17;
    assert_eq!(classify(ethertype, &data), Class::Data { group: ip("239.1.1.1"), source: ip("192.0.2.11") });
    // An IP unicast address in a frame to a group: somebody's cluster. It is flooded as before.
    data[16..20].copy_from_slice(&[192, 0, 2, 9]);
    assert_eq!(classify(ethertype, &data), Class::Other);
    assert_eq!(classify(EtherType::ARP, &data), Class::Other);
    let (ethertype, mut packet) = hosts::join(ip("ff15::1"));
    packet[6] = 17;
    assert_eq!(classify(ethertype, &packet), Class::Data { group: ip("ff15::1"), source: ip("fe80::1") });
    assert_eq!(classify(ethertype, &packet[..39]), Class::Other);
}

#[test]
fn forwards_by_source() {
    let mut lab = Lab::other_querier();
    for (group, a, b) in [("239.1.1.1", "192.0.2.1", "192.0.2.2"), ("ff15::1", "2001:db8::1", "2001:db8::2")]
    {
        let (group, a, b) = (ip(group), ip(a), ip(b));
        lab.receive(1, &hosts::report(&[(3, group, vec![a])]));
        lab.receive(2, &hosts::report(&[(4, group, vec![a])]));
        lab.receive(3, &hosts::join(group));
        assert_eq!(lab.data(group, a), Some(vec![1, 3, 9]), "port 2 excludes it");
        assert_eq!(lab.data(group, b), Some(vec![2, 3, 9]), "port 1 does not include it");
        // A router gets everything, also what hosts behind its port exclude.
        lab.receive(9, &hosts::report(&[(4, group, vec![a])]));
        assert_eq!(lab.data(group, a), Some(vec![1, 3, 9]));
    }
    assert_eq!(
        lab.entries()[..8],
        [
            "port 1 grp 239.1.1.1 temp",
            "port 1 grp 239.1.1.1 src 192.0.2.1 temp",
            "port 2 grp 239.1.1.1 temp exclude",
            "port 2 grp 239.1.1.1 src 192.0.2.1 temp blocked",
            "port 3 grp 239.1.1.1 temp exclude",
            "port 9 grp 239.1.1.1 temp exclude",
            "port 9 grp 239.1.1.1 src 192.0.2.1 temp blocked",
            "port 1 grp ff15::1 temp",
        ]
    );
}

#[test]
fn an_older_host_turns_source_filters_off() {
    let mut lab = Lab::other_querier();
    let (group, source) = (ip("239.1.1.1"), ip("192.0.2.1"));
    lab.receive(1, &hosts::report(&[(3, group, vec![source])]));
    lab.receive(1, &hosts::join(group));
    assert_eq!(lab.group("239.1.1.1"), Some(vec![1, 9]));
    lab.receive(1, &hosts::report(&[(6, group, vec![source])]));
    lab.receive(1, &hosts::report(&[(4, group, vec![source])]));
    assert_eq!(lab.data(group, source), Some(vec![1, 9]), "BLOCK and the sources of TO_EX are ignored");
    lab.receive(2, &hosts::join_v1(group));
    lab.receive(2, &hosts::leave(group));
    lab.snooping.tick(lab.now);
    lab.receive(9, &hosts::query(ip("192.0.2.254"), None, &[]));
    lab.wait(30 * SECOND);
    assert_eq!(lab.group("239.1.1.1"), Some(vec![1, 2, 9]), "hosts of version 1 send no leave");
}

#[test]
fn finds_routers_by_queries_hellos_and_advertisements() {
    let mut lab = Lab::other_querier();
    for is_ipv6 in [false, true] {
        lab.receive(4, &hosts::pim_hello(is_ipv6));
        lab.receive(5, &hosts::router_advertisement(is_ipv6));
    }
    assert_eq!((lab.group("239.1.1.1"), lab.group("ff15::1")), (Some(vec![4, 5, 9]), Some(vec![4, 5, 9])));
    assert_eq!(lab.snooping.take_events().len(), 4);
    lab.snooping.port_down(PortId(4));
    assert_eq!(lab.group("239.1.1.1"), Some(vec![5, 9]));
}

#[test]
fn the_mode_of_a_port_decides_whether_it_is_a_router_port() {
    let mut lab = Lab::other_querier();
    let set = |lab: &mut Lab, port, router| {
        lab.snooping.set_port(PortId(port), MdbPortSettings { router, ..MdbPortSettings::default() });
    };
    lab.receive(1, &hosts::join(ip("239.1.1.2")));
    assert_eq!(lab.group("239.1.1.2"), Some(vec![1, 9]));
    set(&mut lab, 2, RouterMode::Permanent);
    assert_eq!(lab.group("239.1.1.1"), Some(vec![2, 9]));
    assert_eq!(lab.group("239.1.1.2"), Some(vec![1, 2, 9]));
    set(&mut lab, 9, RouterMode::Disabled);
    assert_eq!((lab.group("239.1.1.1"), lab.group("ff15::1")), (Some(vec![2]), Some(vec![2])));
    lab.hear_queries();
    lab.receive(9, &hosts::pim_hello(false));
    assert_eq!(lab.group("239.1.1.1"), Some(vec![2]), "nothing is learned there");
    set(&mut lab, 9, RouterMode::Learned);
    set(&mut lab, 2, RouterMode::Learned);
    lab.hear_queries();
    assert_eq!(lab.group("239.1.1.1"), Some(vec![9]));
    let routers: Vec<PortId> = lab.snooping.routers(lab.now).iter().map(|router| router.port).collect();
    assert_eq!(routers, [PortId(9), PortId(9)], "of both IP versions");
}

#[test]
fn forgets_a_port_that_is_down_or_removed() {
    let mut lab = Lab::other_querier();
    let key = |group: &str| GroupKey { vlan: 0, group: ip(group) };
    for (group, permanent) in [("239.1.1.1", true), ("239.1.1.2", false)] {
        let new = NewEntry { key: key(group), source: None, port: PortId(1), permanent };
        lab.snooping.add(lab.now, &new).unwrap();
    }
    lab.receive(1, &hosts::join(ip("ff15::1")));
    lab.snooping.port_down(PortId(1));
    assert_eq!(lab.entries(), ["port 1 grp 239.1.1.1 permanent exclude"]);
    lab.snooping.port_removed(PortId(1));
    assert_eq!((lab.entries().len(), lab.group("239.1.1.1")), (0, Some(vec![9])));
}

#[test]
fn reports_changes_as_events() {
    let mut lab = Lab::other_querier();
    let (group, source) = (ip("239.1.1.1"), ip("192.0.2.1"));
    let key = GroupKey { vlan: 0, group };
    let event = |change, source| MdbEvent::Group { change, key, source, port: PortId(1) };
    lab.receive(1, &hosts::report(&[(4, group, vec![source])]));
    let added = [event(EntryChange::Added, None), event(EntryChange::Added, Some(source))];
    assert_eq!(lab.snooping.take_events(), added);
    lab.receive(1, &hosts::report(&[(4, group, vec![source])]));
    assert_eq!(lab.snooping.take_events(), [], "nothing is new");
    lab.snooping.port_down(PortId(1));
    let removed = [event(EntryChange::Removed, None), event(EntryChange::Removed, Some(source))];
    assert_eq!(lab.snooping.take_events(), removed);
}

#[test]
fn a_snapshot_changes_only_when_forwarding_does() {
    let mut lab = Lab::other_querier();
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    let before = lab.snooping.snapshot();
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    lab.wait(SECOND);
    assert!(std::sync::Arc::ptr_eq(&before, &lab.snooping.snapshot()));
    lab.receive(2, &hosts::join(ip("239.1.1.1")));
    assert!(!std::sync::Arc::ptr_eq(&before, &lab.snooping.snapshot()));
    let class = Class::Data { group: ip("239.1.1.1"), source: ip("192.0.2.1") };
    let Scope::Ports(old) = before.scope(0, class) else { panic!() };
    assert!(!old.contains(PortId(2)), "a worker keeps the snapshot that it reads");
}
