//! Snooping in the control task, with real workers on the fake network.

use std::net::IpAddr;
use std::time::Duration;

use super::fake::{FakeControl, FakeNetwork, config, running};
use super::*;
use crate::control::config::StpMode;
use crate::control::event::{EventFilter, EventType};
use crate::control::report::{
    EdgeSetting, MdbEntryQuery, MdbReport, MdbState, NewMdbEntry, PortSettings, PortVlans, VlanQuery,
};
use crate::switch::Vid;
use crate::switch::mdb::MdbError;
use crate::wire::membership_tests as hosts;

const GROUP: &str = "239.1.1.1";

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// The frame of the host behind container1 with a message.
fn from_container1(running: &Running<FakeNetwork>, packet: &hosts::Packet) -> Vec<u8> {
    let reports = running.port_reports();
    let source = reports.iter().find(|port| port.ifname == "container1").unwrap().address;
    let (ethertype, packet) = packet;
    let destination = Mac::of_group(ip(GROUP)).unwrap();
    [&destination.0[..], &source.0, &ethertype.0.to_be_bytes(), packet].concat()
}

/// A switch without guard that queries, and the entries of its ports in the group.
async fn querier() -> (FakeControl, Running<FakeNetwork>) {
    running(config(|options| (options.mcast_querier, options.guard) = (Some(true), Some(false)))).await
}

fn members(report: &MdbReport) -> Vec<(String, IpAddr, MdbState)> {
    report.mdb.iter().map(|entry| (entry.port.clone(), entry.grp, entry.state)).collect()
}

#[tokio::test]
async fn queries_new_ports_and_notes_their_reports() {
    let (fake, mut running) = querier().await;
    let mut query = [0; 200];
    let length = fake.peer("container1").recv(&mut query).unwrap();
    assert_eq!(query[..6], [1, 0, 0x5e, 0, 0, 1]);
    assert!(length > 46 && query[14] == 0x46);
    let join = from_container1(&running, &hosts::join(ip(GROUP)));
    fake.peer("container1").send(&join).unwrap();
    let mut commands = mpsc::channel(1).1;
    // Serves until the worker has handed the report over.
    let expected = [("container1".to_owned(), ip(GROUP), MdbState::Temp)];
    while members(&running.mdb_report().unwrap()) != expected {
        let moment = tokio::time::sleep(Duration::from_millis(1));
        assert!(matches!(running.serve(&mut commands, moment).await, StopReason::Signal));
    }
    let report = running.mdb_report().unwrap();
    assert_eq!(
        (report.querier.len(), report.querier[0].active, report.querier[0].port.as_deref()),
        (2, false, None)
    );
    let events = running.recorded_events(&EventFilter::default());
    let added = events.iter().find(|event| event.kind == EventType::MdbAdded).unwrap();
    assert_eq!((added.ifname.as_deref(), added.group), (Some("container1"), Some(ip(GROUP))));
    running.remove_port("container1").unwrap();
    assert_eq!(members(&running.mdb_report().unwrap()), []);
}

/// The hosts behind a port are asked when the spanning tree lets it forward.
#[tokio::test]
async fn queries_ports_that_forward() {
    let edge = PortSettings { edge: Some(EdgeSetting::On), ..PortSettings::default() };
    let (fake, running) = running(config(|options| {
        (options.stp, options.mcast_querier) = (Some(StpMode::Rstp), Some(true));
        options.port.insert("container2".to_owned(), edge);
    }))
    .await;
    let state =
        |name: &str| running.port_reports().into_iter().find(|port| port.ifname == name).unwrap().state;
    assert_eq!((state("container1").as_str(), state("container2").as_str()), ("listening", "forwarding"));
    assert!(queries(&fake, "container2") > 0);
    assert_eq!(queries(&fake, "container1"), 0);
}

/// The number of IGMP queries among the frames that a port got.
fn queries(fake: &FakeControl, port: &str) -> usize {
    let (peer, mut frame) = (fake.peer(port), [0; 200]);
    peer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let frames =
        std::iter::from_fn(|| peer.recv(&mut frame).ok().map(|_| frame[..6] == [1, 0, 0x5e, 0, 0, 1]));
    frames.filter(|is_query| *is_query).count()
}

#[tokio::test]
async fn adds_and_deletes_entries() {
    let (_fake, mut running) = querier().await;
    let new = |port: &str, grp: &str, vid| NewMdbEntry {
        grp: ip(grp),
        port: port.to_owned(),
        src: None,
        vid,
        state: MdbState::Permanent,
    };
    running.add_mdb_entry(&new("container2", GROUP, None)).unwrap();
    let gone = MdbEntryQuery { grp: ip(GROUP), port: "container2".to_owned(), src: None, vid: None };
    assert_eq!(
        members(&running.mdb_report().unwrap()),
        [("container2".to_owned(), ip(GROUP), MdbState::Permanent)]
    );
    let mut refused = |new: &NewMdbEntry| running.add_mdb_entry(new).unwrap_err();
    assert!(matches!(refused(&new("container2", GROUP, None)), RunError::Mdb(MdbError::Exists)));
    assert!(matches!(
        refused(&new("container2", "224.0.0.1", None)),
        RunError::Mdb(MdbError::AlwaysFlooded(_))
    ));
    assert!(matches!(refused(&new("nobody", GROUP, None)), RunError::NoSuchPort(_)));
    assert!(matches!(refused(&new("container2", GROUP, Some(7))), RunError::Vlan(VlanError::NoVlan(7))));
    running.remove_mdb_entry(&gone).unwrap();
    assert!(matches!(running.remove_mdb_entry(&gone), Err(RunError::Mdb(MdbError::NotFound))));
}

/// A switch without guard that filters VLANs, and queries.
async fn querier_with_vlans() -> (FakeControl, Running<FakeNetwork>) {
    running(config(|options| {
        (options.mcast_querier, options.guard) = (Some(true), Some(false));
        options.vlan_filtering = Some(true);
    }))
    .await
}

/// Makes container1 a trunk of VLANs 10 and 11, and of 20 without tags.
fn make_trunk(running: &mut Running<FakeNetwork>) {
    let trunk =
        PortVlans { trunk: vec!["10-11".parse().unwrap()], native: Vid::new(20), ..PortVlans::default() };
    running.set_port("container1", &PortSettings { vlan: Some(trunk), ..PortSettings::default() }).unwrap();
}

/// The tag that each port gets is that of the VLAN.
#[tokio::test]
async fn queries_in_each_vlan() {
    let (fake, mut running) = querier_with_vlans().await;
    let peer = fake.peer("container1");
    let mut bytes = [0; 200];
    let mut next = || {
        let length = peer.recv(&mut bytes).unwrap();
        bytes[12..length].to_vec()
    };
    // IGMP and MLD, in VLAN 1.
    assert_eq!([next(), next()].map(|bytes| bytes[..2].to_vec()), [[0x08, 0x00], [0x86, 0xdd]]);
    make_trunk(&mut running);
    let mut tags: Vec<Vec<u8>> = (0..6).map(|_| next()[..4].to_vec()).collect();
    tags.sort();
    let (ten, eleven) = ([0x81, 0, 0, 10], [0x81, 0, 0, 11]);
    // Those of VLAN 20 have no tag.
    let expected = [[0x08, 0x00, 0x46, 0xc0], ten, ten, eleven, eleven, [0x86, 0xdd, 0x60, 0x00]];
    assert_eq!(tags, expected);
    peer.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(peer.recv(&mut [0; 200]).is_err(), "each query is sent once");
}

#[tokio::test]
async fn entries_are_those_of_a_vlan() {
    let (fake, mut running) = querier_with_vlans().await;
    make_trunk(&mut running);
    let join = from_container1(&running, &hosts::join(ip(GROUP)));
    fake.peer("container1").send(&[&join[..12], &[0x81, 0, 0, 11], &join[12..]].concat()).unwrap();
    let mut commands = mpsc::channel(1).1;
    while running.mdb_report().unwrap().mdb.is_empty() {
        let moment = tokio::time::sleep(Duration::from_millis(1));
        assert!(matches!(running.serve(&mut commands, moment).await, StopReason::Signal));
    }
    assert_eq!(running.mdb_report().unwrap().mdb[0].vid, Some(11));
    let add = |vid| NewMdbEntry {
        grp: ip(GROUP),
        port: "container1".to_owned(),
        src: None,
        vid,
        state: MdbState::Permanent,
    };
    running.add_mdb_entry(&add(None)).unwrap();
    let vids = |running: &mut Running<FakeNetwork>| -> Vec<Option<u16>> {
        running.mdb_report().unwrap().mdb.iter().map(|entry| entry.vid).collect()
    };
    assert_eq!(vids(&mut running), [Some(11), Some(20)], "without a choice, the VLAN of untagged frames");
    assert!(matches!(
        running.add_mdb_entry(&add(Some(12))),
        Err(RunError::Vlan(VlanError::NotMember(_, 12)))
    ));
    running
        .remove_vlans(&VlanQuery { ifname: "container1".to_owned(), vlan: "11".parse().unwrap() })
        .unwrap();
    assert_eq!(vids(&mut running), [Some(20)]);
}

#[tokio::test]
async fn settings_of_a_port_end_with_it() {
    let (_fake, mut running) = querier().await;
    let settings =
        PortSettings { mcast_router: Some(2), mcast_max_groups: Some(1), ..PortSettings::default() };
    running.set_port("container1", &settings).unwrap();
    let report = running.mdb_report().unwrap();
    assert_eq!(report.router["uswitch0"][0].port, "container1");
    assert_eq!((report.port.len(), report.port[0].mcast_max_groups), (1, 1));
    let bad = PortSettings { mcast_router: Some(0), mcast_max_groups: Some(4097), ..PortSettings::default() };
    assert!(running.set_port("container1", &bad).is_err());
    assert_eq!(running.mdb_report().unwrap(), report, "nothing has changed");
    running.remove_port("container1").unwrap();
    let report = running.mdb_report().unwrap();
    assert_eq!((report.router.len(), report.port.len()), (0, 0));
}

#[test]
fn knows_solicited_node_groups() {
    let is = |group| super::multicast::is_solicited_node(ip(group));
    assert!(is("ff02::1:ff00:0") && is("ff02::1:ffff:ffff"));
    assert!(!is("ff02::1:fe00:0") && !is("ff02::2") && !is("ff15::1:ff00:1") && !is("239.1.1.1"));
}

#[tokio::test]
async fn snooping_can_be_off() {
    let (_fake, mut running) = running(config(|options| options.mcast_snooping = Some(false))).await;
    assert!(matches!(running.mdb_report(), Err(RunError::NoSnooping)));
}
