//! Everything is bounded, and what is refused is counted.

use super::super::membership::MAX_SOURCES;
use super::*;

fn group(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([239, 1, high, low])
}

fn source(number: u16) -> IpAddr {
    let [high, low] = number.to_be_bytes();
    IpAddr::from([192, 0, high, low])
}

fn small(hash_max: usize) -> Lab {
    let mut lab = Lab::new(MdbSettings { hash_max, ..MdbSettings::default() });
    lab.hear_queries();
    lab.wait(10 * SECOND);
    lab.snooping.take_events();
    lab
}

#[test]
fn floods_all_groups_while_the_table_is_full() {
    let mut lab = small(4);
    for number in 0..4 {
        lab.receive(1, &hosts::join(group(number)));
    }
    assert_eq!(lab.group("239.1.0.9"), Some(vec![9]));
    lab.receive(2, &hosts::join(group(4)));
    assert_eq!(lab.snooping.counts().refused_full, 1);
    assert!(lab.snooping.take_events().contains(&MdbEvent::Full));
    assert_eq!((lab.group("239.1.0.9"), lab.group("239.1.0.4")), (None, None), "its member gets it");
    assert_eq!(lab.entries().len(), 4);
    // It ends when nothing was refused for a membership interval.
    lab.wait(100 * SECOND);
    lab.receive(2, &hosts::join(group(4)));
    lab.hear_queries();
    lab.wait(200 * SECOND);
    assert_eq!(lab.group("239.1.0.9"), None);
    lab.hear_queries();
    lab.wait(60 * SECOND);
    assert_eq!(lab.group("239.1.0.9"), Some(vec![9]));
    lab.receive(2, &hosts::join(group(4)));
    assert_eq!(lab.group("239.1.0.4"), Some(vec![2, 9]));
}

#[test]
fn sources_count_as_groups() {
    let mut lab = small(4);
    lab.receive(1, &hosts::report(&[(5, group(1), vec![source(1), source(2), source(3), source(4)])]));
    assert_eq!((lab.entries().len(), lab.snooping.counts().refused_full), (4, 1));
    lab.receive(2, &hosts::report(&[(5, group(1), vec![source(1)])]));
    assert_eq!(lab.snooping.counts().refused_full, 2, "the table is full");
    lab.snooping.port_down(PortId(1));
    assert_eq!((lab.entries().len(), lab.snooping.table.entries()), (0, 0));
}

#[test]
fn a_port_has_no_more_groups_than_it_may() {
    let mut lab = Lab::other_querier();
    lab.snooping.set_port(PortId(1), MdbPortSettings { max_groups: 2, ..MdbPortSettings::default() });
    for number in 0..3 {
        lab.receive(1, &hosts::join(group(number)));
        lab.receive(2, &hosts::join(group(number)));
    }
    assert_eq!(lab.snooping.counts().refused_limit, 1);
    assert_eq!((lab.group("239.1.0.1"), lab.group("239.1.0.2")), (Some(vec![1, 2, 9]), Some(vec![2, 9])));
    let key = GroupKey { vlan: 0, group: group(7) };
    let new = NewEntry { key, source: None, port: PortId(1), permanent: true };
    assert_eq!(lab.snooping.add(lab.now, &new), Err(MdbError::PortLimit(2)));
    lab.receive(1, &hosts::join(group(0)));
    assert_eq!(lab.snooping.counts().refused_limit, 1, "a member is refreshed");
}

#[test]
fn a_member_has_a_limited_number_of_sources() {
    let mut lab = Lab::other_querier();
    let most = u16::try_from(MAX_SOURCES).unwrap();
    lab.receive(1, &hosts::report(&[(5, group(1), (0..most + 3).map(source).collect())]));
    assert_eq!((lab.entries().len(), lab.snooping.counts().refused_limit), (MAX_SOURCES + 1, 3));
    assert_eq!(lab.data(group(1), source(most - 1)), Some(vec![1, 9]));
    assert_eq!(lab.data(group(1), source(most)), Some(vec![9]));
}

#[test]
fn all_ports_together_have_a_limited_number_of_entries() {
    let mut lab = small(4);
    for port in 10..90 {
        lab.receive(port, &hosts::join(group(1)));
    }
    assert_eq!((lab.entries().len(), lab.snooping.counts().refused_full), (64, 16));
}

#[test]
fn events_that_are_not_taken_are_bounded() {
    let mut lab = Lab::new(MdbSettings::default());
    for number in 0..1024 {
        lab.receive(1, &hosts::join(group(number)));
    }
    lab.receive(1, &hosts::pim_hello(false));
    assert_eq!(lab.snooping.take_events().len(), 1024);
    assert_eq!(lab.snooping.counts().lost_events, 1);
}

#[test]
fn queries_that_are_not_taken_are_bounded() {
    let mut lab = Lab::querier();
    for port in 0..4700 {
        lab.snooping.port_up(PortId(port), |_| true);
    }
    assert_eq!((lab.queries().len(), lab.snooping.counts().lost_queries), (9212, 188));
}

#[test]
fn refuses_invalid_entries() {
    let mut lab = Lab::other_querier();
    let mut add = |group: &str, source: Option<&str>| {
        let key = GroupKey { vlan: 0, group: ip(group) };
        let new = NewEntry { key, source: source.map(ip), port: PortId(1), permanent: false };
        lab.snooping.add(lab.now, &new)
    };
    assert_eq!(add("192.0.2.1", None), Err(MdbError::NotAGroup(ip("192.0.2.1"))));
    for group in ["224.0.0.5", "ff02::1"] {
        assert_eq!(add(group, None), Err(MdbError::AlwaysFlooded(ip(group))));
    }
    for source in ["239.1.1.2", "0.0.0.0", "2001:db8::1"] {
        let error = MdbError::BadSource(ip(source), ip("239.1.1.1"));
        assert_eq!(add("239.1.1.1", Some(source)), Err(error));
    }
    assert_eq!(lab.entries(), [""; 0]);
}

#[test]
fn refuses_entries_in_a_full_table() {
    let mut lab = small(1);
    let mut add = |group| {
        let key = GroupKey { vlan: 0, group };
        lab.snooping.add(lab.now, &NewEntry { key, source: None, port: PortId(1), permanent: true })
    };
    assert_eq!((add(group(1)), add(group(2))), (Ok(()), Err(MdbError::Full(1))));
    assert_eq!(lab.group("239.1.0.2"), Some(vec![9]), "an entry by hand that is refused changes nothing");
}
