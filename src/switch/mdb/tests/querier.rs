//! Election of the querier, and the queries of the switch.

use super::*;

/// The general queries that are made in this time, by the second.
fn seconds_of_queries(lab: &mut Lab, seconds: u32) -> Vec<u32> {
    let start = lab.now.0;
    let mut made = Vec::new();
    for _ in 0..seconds * SECOND {
        lab.wait(1);
        let queries = lab.queries();
        assert!(queries.iter().all(|query| *query == (None, None, Vec::new())));
        // IGMP and MLD are in step.
        assert!(queries.is_empty() || queries.len() == 2, "{queries:?}");
        made.extend(queries.first().map(|_| (lab.now.0 - start) / SECOND));
    }
    made
}

#[test]
fn queries_at_once_and_then_more_rarely() {
    let mut lab = Lab::new(MdbSettings::default());
    lab.snooping.set_querier(lab.now, [0], true);
    assert_eq!(lab.queries().len(), 2);
    assert_eq!(seconds_of_queries(&mut lab, 300), [31, 156, 281]);
    lab.snooping.set_querier(lab.now, [0], false);
    assert_eq!(seconds_of_queries(&mut lab, 300), [0; 0]);
    assert_eq!(lab.group("239.1.1.1"), None, "there is no querier any more");
    assert_eq!(lab.snooping.next_deadline(), None);
}

#[test]
fn asks_the_hosts_of_a_port_that_comes_up() {
    let mut lab = Lab::querier();
    lab.snooping.port_up(PortId(5), |_| true);
    assert_eq!(lab.queries(), [(Some(5), None, Vec::new()), (Some(5), None, Vec::new())]);
    let mut lab = Lab::other_querier();
    lab.snooping.port_up(PortId(5), |_| true);
    assert_eq!(lab.queries(), []);
}

#[test]
fn gives_way_to_another_querier_and_takes_over_when_it_is_silent() {
    let mut lab = Lab::querier();
    lab.hear_queries();
    // The link-local address of MLD is lower than that of the other querier; 0.0.0.0 of IGMP always gives way.
    let own6 = crate::switch::guard::link_local(MAC);
    assert!(ip("fe80::fe") < IpAddr::from(own6));
    let elected = |source: &str, is_ipv6| {
        let link = LinkKey { vlan: 0, is_ipv6 };
        let until = Tick(lab.now.0 + 255 * SECOND);
        MdbEvent::Querier { link, other: Some(OtherQuerier { address: ip(source), port: PortId(9), until }) }
    };
    let expected = [elected("192.0.2.254", false), elected("fe80::fe", true)];
    let events = lab.snooping.take_events();
    assert!(expected.iter().all(|event| events.contains(event)), "{events:?}");
    assert_eq!(lab.group("239.1.1.1"), Some(vec![9]), "snooping goes on");
    lab.wait(255 * SECOND - 1);
    assert_eq!(lab.queries(), []);
    lab.wait(1);
    assert_eq!(lab.queries().len(), 2);
    assert_eq!(lab.group("239.1.1.1"), Some(vec![]), "the router is forgotten with it");
}

#[test]
fn floods_again_when_the_only_querier_is_silent() {
    let mut lab = Lab::other_querier();
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    lab.wait(245 * SECOND - 1);
    assert_eq!(lab.group("239.1.1.1"), Some(vec![1, 9]));
    lab.wait(1);
    assert_eq!(lab.group("239.1.1.1"), None);
    let events = lab.snooping.take_events();
    let link = LinkKey { vlan: 0, is_ipv6: false };
    assert!(events.contains(&MdbEvent::Querier { link, other: None }), "{events:?}");
}

#[test]
fn the_lowest_address_is_elected() {
    let mut lab = Lab::other_querier();
    lab.receive(3, &hosts::query(ip("192.0.2.255"), None, &[]));
    assert_eq!(lab.group("239.1.1.1"), Some(vec![9]), "a higher address is ignored");
    lab.receive(3, &hosts::query(ip("192.0.2.253"), None, &[]));
    assert_eq!(lab.group("239.1.1.1"), Some(vec![3, 9]));
    lab.receive(9, &hosts::query(ip("192.0.2.254"), None, &[]));
    lab.wait(246 * SECOND);
    assert_eq!(lab.group("239.1.1.1"), Some(vec![3]), "the one that lost is silent, and no router any more");
}

/// Control may be busy, and call the switch later than it asked.
#[test]
fn does_what_was_due_when_it_is_called_late() {
    let mut lab = Lab::new(MdbSettings::default());
    lab.hear_queries();
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    lab.now = Tick(lab.now.0 + 11 * SECOND);
    assert!(lab.snooping.next_deadline().is_some_and(|due| due <= lab.now));
    lab.snooping.tick(lab.now);
    assert_eq!(lab.group("239.1.1.1"), Some(vec![1, 9]));
    lab.now = Tick(lab.now.0 + 1000 * SECOND);
    assert!(lab.snooping.next_deadline().is_some_and(|due| due <= lab.now));
    lab.snooping.tick(lab.now);
    assert_eq!((lab.group("239.1.1.1"), lab.entries().len(), lab.snooping.next_deadline()), (None, 0, None));
}

#[test]
fn ignores_malformed_queries() {
    let mut lab = Lab::new(MdbSettings::default());
    let (ethertype, mut packet) = hosts::query(ip("192.0.2.254"), None, &[]);
    packet[25] ^= 1;
    lab.receive(9, &(ethertype, packet));
    lab.wait(20 * SECOND);
    assert_eq!(lab.group("239.1.1.1"), None);
    assert_eq!((lab.snooping.counts().malformed, lab.snooping.counts().queries), (1, 0));
}

#[test]
fn queries_in_several_vlans() {
    let mut lab = Lab::new(MdbSettings::default());
    lab.snooping.set_querier(lab.now, [10, 20, 30], true);
    lab.snooping.set_querier(lab.now, [20], false);
    assert_eq!(lab.snooping.queried_vlans().into_iter().collect::<Vec<_>>(), [10, 30]);
    lab.snooping.take_queries();
    lab.snooping.port_up(PortId(1), |vlan| vlan == 30);
    let vlans: Vec<u16> = lab.snooping.take_queries().iter().map(|query| query.vlan).collect();
    assert_eq!(vlans, [30, 30]);
}
