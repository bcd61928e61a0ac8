//! When members are forgotten, and what is asked before.

use super::*;

const GROUPS: [&str; 2] = ["239.1.1.1", "ff15::1"];

#[test]
fn forgets_a_member_that_does_not_report() {
    for group in GROUPS {
        let mut lab = Lab::querier();
        lab.receive(1, &hosts::join(ip(group)));
        lab.wait(100 * SECOND);
        lab.receive(1, &hosts::join(ip(group)));
        lab.wait(260 * SECOND - 1);
        assert_eq!(lab.group(group), Some(vec![1]));
        lab.wait(1);
        assert_eq!(lab.group(group), Some(vec![]));
    }
}

#[test]
fn asks_after_a_leave_and_forgets_after_no_answer() {
    for group in GROUPS {
        let mut lab = Lab::querier();
        lab.receive(1, &hosts::join(ip(group)));
        lab.receive(2, &hosts::join(ip(group)));
        lab.receive(1, &hosts::leave(ip(group)));
        let asked = [(Some(1), Some(ip(group)), Vec::new())];
        assert_eq!(lab.queries(), asked);
        lab.wait(SECOND);
        assert_eq!(lab.queries(), asked, "asked twice: mcast_last_member_count");
        lab.wait(SECOND - 1);
        assert_eq!(lab.group(group), Some(vec![1, 2]));
        lab.wait(1);
        assert_eq!((lab.group(group), lab.queries()), (Some(vec![2]), Vec::new()));
    }
}

#[test]
fn keeps_a_member_that_answers() {
    for group in GROUPS {
        let mut lab = Lab::querier();
        lab.receive(1, &hosts::join(ip(group)));
        lab.receive(1, &hosts::report(&[(3, ip(group), Vec::new())]));
        assert_eq!(lab.queries().len(), 1);
        lab.receive(1, &hosts::join(ip(group)));
        lab.wait(5 * SECOND);
        assert_eq!((lab.group(group), lab.queries().len()), (Some(vec![1]), 0), "it is not asked again");
    }
}

#[test]
fn asks_for_sources_that_are_left() {
    let (group, a, b) = (ip("239.1.1.1"), ip("192.0.2.1"), ip("192.0.2.2"));
    let mut lab = Lab::querier();
    lab.receive(1, &hosts::report(&[(5, group, vec![a, b])]));
    lab.receive(1, &hosts::report(&[(6, group, vec![b])]));
    assert_eq!(lab.queries(), [(Some(1), Some(group), vec![b])]);
    lab.wait(2 * SECOND);
    assert_eq!((lab.data(group, a), lab.data(group, b)), (Some(vec![1]), Some(vec![])));
    lab.queries();
    lab.receive(1, &hosts::report(&[(3, group, vec![b])]));
    assert_eq!(lab.queries(), [(Some(1), Some(group), vec![a])]);
    lab.wait(2 * SECOND);
    assert_eq!((lab.data(group, a), lab.data(group, b)), (Some(vec![]), Some(vec![1])));
}

#[test]
fn the_end_of_the_group_timer_leaves_the_wanted_sources() {
    let (group, a, b) = (ip("239.1.1.1"), ip("192.0.2.1"), ip("192.0.2.2"));
    let mut lab = Lab::querier();
    lab.receive(1, &hosts::report(&[(4, group, vec![a])]));
    assert_eq!((lab.data(group, a), lab.data(group, b)), (Some(vec![]), Some(vec![1])));
    lab.receive(1, &hosts::report(&[(3, group, vec![a])]));
    lab.wait(2 * SECOND);
    assert_eq!((lab.data(group, a), lab.data(group, b)), (Some(vec![1]), Some(vec![])));
    assert_eq!(lab.entries(), ["port 1 grp 239.1.1.1 temp", "port 1 grp 239.1.1.1 src 192.0.2.1 temp"]);
    lab.wait(258 * SECOND);
    assert_eq!(lab.entries(), [""; 0]);
}

#[test]
fn fast_leave_does_not_ask() {
    let (group, source) = (ip("239.1.1.1"), ip("192.0.2.1"));
    let mut lab = Lab::querier();
    lab.snooping.set_port(PortId(1), MdbPortSettings { fast_leave: true, ..MdbPortSettings::default() });
    lab.receive(1, &hosts::join(group));
    lab.receive(1, &hosts::leave(group));
    assert_eq!((lab.group("239.1.1.1"), lab.queries()), (Some(vec![]), Vec::new()));
    lab.receive(1, &hosts::report(&[(5, group, vec![source])]));
    lab.receive(1, &hosts::report(&[(6, group, vec![source])]));
    assert_eq!((lab.data(group, source), lab.queries()), (Some(vec![]), Vec::new()));
}

#[test]
fn another_querier_asks_itself() {
    for group in GROUPS {
        let querier = if ip(group).is_ipv4() { ip("192.0.2.254") } else { ip("fe80::fe") };
        let mut lab = Lab::other_querier();
        for port in [1, 2] {
            lab.receive(port, &hosts::join(ip(group)));
        }
        lab.receive(1, &hosts::leave(ip(group)));
        lab.wait(5 * SECOND);
        assert_eq!((lab.group(group), lab.queries().len()), (Some(vec![1, 2, 9]), 0));
        // Its query has a response time of 10 s here, and is repeated once.
        lab.receive(9, &hosts::query(querier, Some(ip(group)), &[]));
        lab.receive(2, &hosts::join(ip(group)));
        lab.wait(20 * SECOND - 1);
        assert_eq!(lab.group(group), Some(vec![1, 2, 9]));
        lab.wait(1);
        assert_eq!(lab.group(group), Some(vec![2, 9]));
    }
}

#[test]
fn obeys_queries_for_sources() {
    let (group, a, b) = (ip("239.1.1.1"), ip("192.0.2.1"), ip("192.0.2.2"));
    let mut lab = Lab::other_querier();
    lab.receive(1, &hosts::report(&[(5, group, vec![a, b])]));
    lab.receive(9, &hosts::query(ip("192.0.2.254"), Some(group), &[b]));
    lab.wait(20 * SECOND);
    assert_eq!((lab.data(group, a), lab.data(group, b)), (Some(vec![1, 9]), Some(vec![9])));
}

#[test]
fn a_query_with_the_suppress_flag_changes_no_timer() {
    let mut lab = Lab::other_querier();
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    lab.receive(9, &hosts::suppressed_query("239.1.1.1".parse().unwrap()));
    lab.wait(100 * SECOND);
    assert_eq!(lab.group("239.1.1.1"), Some(vec![1, 9]));
}

#[test]
fn without_a_querier_a_leave_is_believed_after_the_time_for_an_answer() {
    let mut lab = Lab::new(MdbSettings::default());
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    lab.receive(1, &hosts::leave(ip("239.1.1.1")));
    assert_eq!((lab.entries().len(), lab.queries().len()), (1, 0));
    lab.wait(2 * SECOND);
    assert_eq!(lab.entries().len(), 0);
}

#[test]
fn a_leave_of_no_member_changes_nothing() {
    let mut lab = Lab::querier();
    lab.receive(1, &hosts::join(ip("239.1.1.1")));
    lab.receive(2, &hosts::leave(ip("239.1.1.1")));
    lab.receive(
        2,
        &hosts::report(&[(6, ip("239.1.1.1"), vec![ip("192.0.2.1")]), (3, ip("239.1.1.2"), Vec::new())]),
    );
    assert_eq!((lab.entries().len(), lab.queries().len()), (1, 0));
}

#[test]
fn permanent_entries_stay() {
    let (group, source) = (ip("239.1.1.1"), ip("192.0.2.1"));
    let mut lab = Lab::querier();
    let new =
        |source| NewEntry { key: GroupKey { vlan: 0, group }, source, port: PortId(1), permanent: true };
    lab.snooping.add(lab.now, &new(None)).unwrap();
    lab.receive(1, &hosts::leave(group));
    lab.receive(1, &hosts::report(&[(4, group, vec![source])]));
    lab.wait(1000 * SECOND);
    assert_eq!(lab.data(group, source), Some(vec![1]));
    assert_eq!(lab.snooping.add(lab.now, &new(None)), Err(MdbError::Exists));
    lab.snooping.delete(new(None).key, None, PortId(1)).unwrap();
    assert_eq!(lab.snooping.delete(new(None).key, None, PortId(1)), Err(MdbError::NotFound));
    lab.snooping.add(lab.now, &new(Some(source))).unwrap();
    // A host joins and leaves beside it.
    lab.receive(1, &hosts::join(group));
    lab.receive(1, &hosts::report(&[(3, group, Vec::new())]));
    lab.wait(2 * SECOND);
    assert_eq!((lab.data(group, source), lab.group("239.1.1.1")), (Some(vec![1]), Some(vec![])));
    assert_eq!(lab.entries(), ["port 1 grp 239.1.1.1 src 192.0.2.1 permanent"]);
    lab.snooping.delete(new(None).key, Some(source), PortId(1)).unwrap();
    assert_eq!(lab.entries(), [""; 0]);
}

#[test]
fn temporary_entries_end() {
    let mut lab = Lab::querier();
    for source in [None, Some(ip("192.0.2.1"))] {
        let key = GroupKey { vlan: 0, group: ip("239.1.1.1") };
        lab.snooping.add(lab.now, &NewEntry { key, source, port: PortId(1), permanent: false }).unwrap();
    }
    let states: Vec<EntryState> = lab.snooping.entries(lab.now).iter().map(|entry| entry.state).collect();
    assert_eq!(states, [EntryState::Temporary(Some(2600)); 2]);
    lab.wait(260 * SECOND);
    assert_eq!(lab.entries(), [""; 0]);
}
