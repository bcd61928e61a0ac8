//! Tests of the control task with real workers on the fake network.

use std::net::IpAddr;

use super::fake::{FakeControl, FakeNetwork, config, fdb_reports, running};
use super::*;
use crate::control::event::{Event, EventFilter, EventType};
use crate::control::report::{
    AdminState, FdbEntryQuery, FdbFilter, FdbFlushQuery, NewFdbEntry, NewFdbState, NewPort, PortReport,
    PortSettings, SwitchSettings, SwitchState,
};
use crate::control::topology::{LinkChange, NatChange, PortNetns};
use crate::switch::DropReason;

const HOST_MAC: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 1]);

/// A broadcast frame from `source`.
fn broadcast(source: Mac) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend(source.0);
    frame.extend([0x88, 0xb5]); // local experimental EtherType
    frame.resize(60, 0);
    frame
}

/// Sends a broadcast frame into a port and waits until it leaves another.
fn send_across(fake: &FakeControl, from: &str, to: &str, source: Mac) {
    let frame = broadcast(source);
    fake.peer(from).send(&frame).unwrap();
    let mut received = [0; 100];
    let length = fake.peer(to).recv(&mut received).unwrap();
    assert_eq!(received[..length], frame);
}

fn port<'a>(reports: &'a [PortReport], name: &str) -> &'a PortReport {
    reports.iter().find(|port| port.ifname == name).unwrap()
}

pub(super) fn entry_of(mac: Mac) -> FdbEntryQuery {
    FdbEntryQuery { mac, vlan: None, ifname: None }
}

fn names(running: &Running<FakeNetwork>) -> Vec<String> {
    running.port_reports().into_iter().map(|port| port.ifname).collect()
}

fn port_of(running: &mut Running<FakeNetwork>, mac: Mac) -> Option<String> {
    let filter = FdbFilter { mac: Some(mac), ..FdbFilter::default() };
    fdb_reports(running, &filter).pop().map(|entry| entry.ifname)
}

fn new_port(edit: impl FnOnce(&mut NewPort)) -> NewPort {
    let mut request = NewPort::default();
    edit(&mut request);
    request
}

#[tokio::test]
async fn start_creates_host_port_and_containers() {
    let (fake, running) = running(config(|_| {})).await;
    assert_eq!(fake.log(), ["make host", "make container1", "make container2"]);
    let second = &fake.specs()[2];
    assert_eq!(second.netns, PortNetns::New("container2".into()));
    assert_eq!(second.addresses, ["172.16.0.3/24".parse().unwrap(), "fd00:172:16::3/64".parse().unwrap()]);
    assert_eq!(second.gateways, ["172.16.0.1", "fd00:172:16::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
    assert_eq!(second.mac, "02:de:a5:ad:00:02".parse().ok());
    let reports = running.port_reports();
    assert!(reports.iter().all(|port| port.state == "forwarding"));
    assert_eq!(reports.iter().map(|port| port.ifindex).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(port(&reports, "host").address, running.status().gateway.mac);
    assert!(running.stop().is_empty());
}

#[tokio::test]
async fn internal_switch_has_no_host_port() {
    let (fake, mut running) = running(config(|options| options.internal = Some(true))).await;
    assert_eq!(fake.log(), ["make container1", "make container2"]);
    assert_eq!(fdb_reports(&mut running, &FdbFilter::default()), []);
}

#[tokio::test]
async fn failed_or_interrupted_start_stops_creating_ports() {
    let (fake, network) = FakeControl::new();
    fake.fail_device("container2");
    let config = config(|options| options.ports = Some(3));
    let mut broken = Running::on(network, config.clone(), (EngineKind::Poll, None)).unwrap();
    assert!(matches!(broken.add_first_ports(|| false).await, Err(RunError::Topology(_))));
    broken.stop();
    assert_eq!(fake.log(), ["make host", "make container1", "fail container2", "teardown"]);

    let (fake, network) = FakeControl::new();
    let mut broken = Running::on(network, config, (EngineKind::Poll, None)).unwrap();
    let mut polls = 0;
    let interrupted = || {
        polls += 1;
        polls == 2
    };
    assert!(matches!(broken.add_first_ports(interrupted).await, Err(RunError::Interrupted)));
    assert_eq!(fake.log(), ["make host", "make container1"]);
}

#[tokio::test]
async fn forwards_learns_and_counts_frames() {
    let (fake, mut running) = running(config(|_| {})).await;
    send_across(&fake, "container1", "container2", HOST_MAC);
    assert_eq!(port_of(&mut running, HOST_MAC).as_deref(), Some("container1"));
    // Workers attach a port between two turns, so the frame's turn is over.
    running.add_port(NewPort::default()).unwrap();
    let stats = running.stats();
    let (first, second) = (&stats[1], &stats[2]);
    assert_eq!((first.rx_frames, first.rx_bytes, first.flooded), (1, 60, 1));
    assert_eq!((second.tx_frames, second.rx_frames), (1, 0));
    assert_eq!(running.status().rx_frames, 1);
}

#[tokio::test]
async fn deleted_port_frees_its_number_and_counters() {
    let (fake, mut running) = running(config(|_| {})).await;
    send_across(&fake, "container1", "container2", HOST_MAC);
    running.remove_port("container1").unwrap();
    assert_eq!(names(&running), ["host", "container2"]);
    assert_eq!(port_of(&mut running, HOST_MAC), None);
    let again = running.add_port(NewPort::default()).unwrap().port;
    assert_eq!(again.ifname, "container1");
    assert_eq!(again.addresses[0].to_string(), "172.16.0.2/24");
    let fresh = running.stats().into_iter().find(|port| port.ifname == "container1").unwrap();
    assert_eq!((fresh.rx_frames, fresh.flooded), (0, 0));
    assert_eq!(running.status().rx_frames, 1, "since the start");
    assert_eq!(fake.log()[3..], ["remove container1", "make container1"]);
    send_across(&fake, "container1", "container2", HOST_MAC);
}

#[tokio::test]
async fn refuses_to_delete_host_and_unknown_ports() {
    let (_bench, mut running) = running(config(|_| {})).await;
    assert!(matches!(running.remove_port("host"), Err(RunError::HostPort)));
    assert!(matches!(running.remove_port("container9"), Err(RunError::NoSuchPort(_))));
}

#[tokio::test]
async fn port_goes_down_and_up() {
    let (fake, mut running) = running(config(|_| {})).await;
    send_across(&fake, "container1", "container2", HOST_MAC);
    let id = running.ports.values().find(|port| port.name == "container1").unwrap().device.id;
    running.device_changed(id, &LinkChange::State { up: false, carrier: true, mtu: 9000 });
    let reports = running.port_reports();
    let down = port(&reports, "container1");
    assert_eq!((down.state.as_str(), down.operstate.as_str(), down.mtu), ("disabled", "DOWN", 9000));
    assert_eq!(down.flags, ["BROADCAST", "MULTICAST"]);
    assert_eq!(port_of(&mut running, HOST_MAC), None);
    assert_eq!(running.status().ports_up, 2);
    running.device_changed(id, &LinkChange::State { up: true, carrier: true, mtu: 1500 });
    assert_eq!(port(&running.port_reports(), "container1").state, "forwarding");
    send_across(&fake, "container1", "container2", HOST_MAC);
}

#[tokio::test]
async fn port_that_is_set_down_drops_frames_and_stays_down() {
    let (fake, mut running) = running(config(|_| {})).await;
    let set = |state| PortSettings { admin_state: Some(state), ..PortSettings::default() };
    let down = running.set_port("container1", &set(AdminState::Down)).unwrap();
    assert_eq!((down.state.as_str(), down.operstate.as_str()), ("disabled", "DOWN"));
    assert_eq!(running.status().ports_up, 2);
    let id = running.port_named("container1").unwrap();
    let device = running.ports[&id].device.id;
    // The container turns its carrier on.
    running.device_changed(device, &LinkChange::State { up: true, carrier: true, mtu: 1500 });
    fake.peer("container1").send(&broadcast(HOST_MAC)).unwrap();
    while running.totals(id).drops[DropReason::IngressDown as usize] == 0 {
        std::thread::yield_now();
    }
    running.set_port("container1", &set(AdminState::Up)).unwrap();
    send_across(&fake, "container1", "container2", HOST_MAC);
    let carriers = fake.log().into_iter().filter(|line| line.starts_with("carrier")).collect::<Vec<_>>();
    assert_eq!(carriers, ["carrier container1 off", "carrier container1 off", "carrier container1 on"]);
}

#[tokio::test]
async fn port_whose_carrier_is_refused_keeps_its_settings() {
    let (fake, mut running) = running(config(|_| {})).await;
    fake.fail_device("container1");
    let both =
        PortSettings { admin_state: Some(AdminState::Down), guard: Some(true), ..PortSettings::default() };
    running.set_port("container1", &both).unwrap_err();
    let report = running.port_reports().remove(1);
    assert_eq!((report.admin_state, report.source_guard), (AdminState::Up, false));
}

#[tokio::test]
async fn follows_changes_of_a_device() {
    let (fake, mut running) = running(config(|_| {})).await;
    let device = |running: &Running<_>, name: &str| {
        running.ports.values().find(|port| port.name == name).unwrap().device.id
    };
    let (host, one) = (device(&running, "host"), device(&running, "container1"));
    let address: ipnet::IpNet = "192.0.2.7/24".parse().unwrap();
    for change in [
        LinkChange::Mac(HOST_MAC),
        LinkChange::Name("lan0".into()),
        LinkChange::Netns { netns: Some("/run/netns/own".into()), ino: 7, ifindex: 9 },
        LinkChange::Addresses(vec![address]),
    ] {
        running.device_changed(one, &change);
    }
    let reports = running.port_reports();
    let report = port(&reports, "container1");
    assert_eq!(
        (report.address, report.link.as_str(), &report.addresses[..]),
        (HOST_MAC, "lan0", &[address][..])
    );
    assert_eq!((report.netns.as_deref(), report.netns_ino), (Some("/run/netns/own"), Some(7)));
    assert_eq!(report.device_ifindex, 9);
    let gateway = Mac([2, 0, 0x5e, 0, 0x53, 0x77]);
    running.device_changed(host, &LinkChange::Mac(gateway));
    assert_eq!(running.status().gateway.mac, gateway);
    assert_eq!(port_of(&mut running, gateway).as_deref(), Some("host"));
    let announced: Vec<String> = fake.announced().into_iter().map(|(name, _)| name).collect();
    // All at the start, and those whose MAC changed.
    assert_eq!(announced, ["host", "container1", "container2", "container1", "host"]);
}

#[tokio::test]
async fn port_without_device_stays_listed_until_deleted() {
    let (fake, mut running) = running(config(|options| options.ports = Some(3))).await;
    let id = running.ports.values().find(|port| port.name == "container1").unwrap().device.id;
    for _ in 0..2 {
        running.device_changed(id, &LinkChange::Gone);
        assert_eq!(port(&running.port_reports(), "container1").operstate, "NOTPRESENT");
    }
    running.device_changed(id, &LinkChange::State { up: true, carrier: true, mtu: 1500 });
    assert_eq!(port(&running.port_reports(), "container1").state, "disabled");
    send_across(&fake, "container2", "container3", HOST_MAC);
    running.remove_port("container1").unwrap();
    assert_eq!(names(&running), ["host", "container2", "container3"]);
}

#[tokio::test]
async fn removes_device_when_workers_refuse_the_port() {
    let (fake, mut running) = running(config(|_| {})).await;
    let workers = std::mem::replace(
        &mut running.datapath,
        Datapath::start(
            &running.switch,
            &datapath::DatapathSettings {
                workers: 2,
                engine: EngineKind::Poll,
                busy_poll: datapath::BusyPoll::default(),
                placement: datapath::Placement::default(),
                on_notice: Arc::new(|| {}),
            },
        )
        .unwrap(),
    );
    // One queue for two workers.
    assert!(running.add_port(NewPort::default()).is_err());
    assert_eq!(fake.log()[3..], ["make container3", "remove container3"]);
    assert_eq!(running.switch.ports.iter().count(), 3);
    workers.stop();
}

#[tokio::test]
async fn adds_port_with_all_options() {
    let (fake, mut running) = running(config(|_| {})).await;
    let made = running
        .add_port(new_port(|request| {
            request.name = Some("web".into());
            request.netns = Some("4711".into());
            request.ip = Some(vec!["172.16.0.50/24".parse().unwrap()]);
            request.mac = Some(HOST_MAC);
            request.ifname = Some("lan0".into());
            request.offload = Some(false);
            request.mtu = Some(900);
        }))
        .unwrap()
        .port;
    assert_eq!((made.ifname.as_str(), made.address, made.mtu, made.offload), ("web", HOST_MAC, 900, false));
    let spec = fake.specs().pop().unwrap();
    assert_eq!(spec.netns, PortNetns::Existing("/proc/4711/ns/net".into()));
    assert_eq!((spec.ifname.as_str(), spec.offload), ("lan0", false));
    assert_eq!(spec.gateways, ["172.16.0.1".parse::<IpAddr>().unwrap()]);
}

#[tokio::test]
async fn added_port_carries_its_notices() {
    let (fake, mut running) = running(config(|_| {})).await;
    fake.add_notice("a route stays");
    assert_eq!(running.add_port(NewPort::default()).unwrap().notices, ["a route stays"]);
    assert_eq!(running.add_port(NewPort::default()).unwrap().notices, [""; 0]);
}

#[tokio::test]
async fn notices_of_a_failed_port_are_not_shown_with_the_next() {
    let (fake, mut running) = running(config(|_| {})).await;
    fake.add_notice("a route stays");
    fake.fail_device("broken");
    running.add_port(new_port(|request| request.name = Some("broken".into()))).unwrap_err();
    assert_eq!(running.add_port(NewPort::default()).unwrap().notices, [""; 0]);
}

#[tokio::test]
async fn names_port_after_existing_namespace() {
    let (fake, mut running) = running(config(|_| {})).await;
    for (netns, name, path) in [
        ("own", "own", "/run/netns/own"),
        ("/run/netns/other", "other", "/run/netns/other"),
        ("/proc/7/ns/net", "pid7", "/proc/7/ns/net"),
        ("8", "pid8", "/proc/8/ns/net"),
    ] {
        let made = running.add_port(new_port(|request| request.netns = Some(netns.into()))).unwrap().port;
        assert_eq!(made.ifname, name);
        assert_eq!(fake.specs().pop().unwrap().netns, PortNetns::Existing(path.into()));
    }
    for netns in ["a/b", "../x", "", "a b"] {
        let refused = running.add_port(new_port(|request| request.netns = Some(netns.into())));
        assert!(matches!(refused, Err(RunError::BadNetns(_))), "{netns}");
    }
}

#[tokio::test]
async fn skips_numbers_whose_name_or_address_is_taken() {
    let (_bench, mut running) = running(config(|_| {})).await;
    running.add_port(new_port(|request| request.ip = Some(vec!["172.16.0.5/24".parse().unwrap()]))).unwrap();
    running.add_port(new_port(|request| request.name = Some("container5".into()))).unwrap();
    assert_eq!(names(&running)[3..], ["container3", "container5"]);
    // 3 is taken by name, 4 by address (172.16.0.5), and container5 took 5.
    assert_eq!(running.add_port(NewPort::default()).unwrap().port.ifname, "container6");
    running.add_port(new_port(|request| request.mac = "02:de:a5:ad:00:08".parse().ok())).unwrap();
    let next = running.add_port(NewPort::default()).unwrap().port;
    assert_eq!((next.ifname.as_str(), next.address.0[5]), ("container9", 9));
}

/// Checks that each request is refused with its reason, and that no device is made.
async fn refuses(request: impl IntoIterator<Item = (NewPort, &str)>) {
    let (fake, mut running) = running(config(|options| {
        options.subnet = vec!["10.0.0.0/30".into()];
        options.ports = Some(1);
    }))
    .await;
    for (request, why) in request {
        let error = running.add_port(request).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
    assert_eq!(fake.log(), ["make host", "make container1"]);
}

#[tokio::test]
async fn rejects_invalid_port_names_and_addresses() {
    let ip = |ip: &str| vec![ip.parse().unwrap()];
    refuses([
        (new_port(|_| {}), "10.0.0.0/30 has no free address left"),
        (new_port(|request| request.ip = Some(ip("10.0.0.1/30"))), "10.0.0.1 is the gateway's"),
        (
            new_port(|request| request.ip = Some(ip("10.0.0.3/30"))),
            "10.0.0.3 is the gateway's, a network, broadcast",
        ),
        (new_port(|request| request.ip = Some(ip("10.0.0.2/30"))), "10.0.0.2 is in use by container1"),
        (
            new_port(|request| request.ip = Some(ip("127.0.0.1/8"))),
            "127.0.0.1 is the gateway's, a network, broadcast or special",
        ),
        (
            new_port(|request| request.ip = Some([ip("10.9.0.1/24"), ip("10.9.0.1/16")].concat())),
            "in use by this port",
        ),
        (new_port(|request| request.ip = Some(ip("10.9.0.1/24").repeat(17))), "17 addresses"),
        (new_port(|request| request.name = Some("container1".into())), "port container1 exists already"),
        (new_port(|request| request.name = Some("host".into())), "'host' cannot name a container"),
        (new_port(|request| request.name = Some("a/b".into())), "'a/b' cannot name a container"),
        (
            new_port(|request| request.ifname = Some("0123456789abcdef".into())),
            "cannot name a network device",
        ),
    ])
    .await;
}

#[tokio::test]
async fn rejects_invalid_device_settings() {
    let with_ip = |edit: fn(&mut NewPort)| {
        new_port(|request| {
            request.ip = Some(vec!["10.9.0.1/24".parse().unwrap()]);
            edit(request);
        })
    };
    refuses([
        (with_ip(|request| request.mac = Some(Mac::BROADCAST)), "is a group address or zero"),
        (with_ip(|request| request.mac = Some(Mac::ZERO)), "is a group address or zero"),
        (with_ip(|request| request.mac = "02:de:a5:ad:00:00".parse().ok()), "is in use by the gateway"),
        (with_ip(|request| request.mac = "02:de:a5:ad:00:01".parse().ok()), "is in use by container1"),
        (with_ip(|request| request.mtu = Some(67)), "67 is out of range"),
        (with_ip(|request| request.mtu = Some(65522)), "65522 is out of range"),
    ])
    .await;
}

#[tokio::test]
async fn adds_removes_and_flushes_fdb_entries() {
    let (_bench, mut running) = running(config(|_| {})).await;
    let entry = |mac, ifname: &str, state| NewFdbEntry {
        mac,
        ifname: ifname.into(),
        vlan: None,
        state,
        sticky: false,
    };
    let of_port = |name: &str| FdbFlushQuery { ifname: Some(name.into()), ..FdbFlushQuery::default() };
    running.add_fdb_entry(&entry(HOST_MAC, "container2", NewFdbState::Static)).unwrap();
    let again = entry(HOST_MAC, "container1", NewFdbState::Static);
    assert!(
        matches!(running.add_fdb_entry(&again), Err(RunError::EntryExists(_, port)) if port == "container2")
    );
    let dynamic = Mac([2, 0, 0, 0, 0, 7]);
    running.add_fdb_entry(&entry(dynamic, "container1", NewFdbState::Dynamic)).unwrap();
    let shown = fdb_reports(&mut running, &FdbFilter::default());
    let shown: Vec<_> = shown.iter().map(|entry| (entry.ifname.as_str(), entry.state.as_str())).collect();
    assert_eq!(shown, [("host", "permanent"), ("container1", ""), ("container2", "static")]);
    assert_eq!(running.flush_fdb(&of_port("container2")).unwrap(), 0);
    assert_eq!(running.flush_fdb(&FdbFlushQuery::default()).unwrap(), 1);
    assert_eq!(port_of(&mut running, HOST_MAC).as_deref(), Some("container2"));
    let elsewhere = FdbEntryQuery { ifname: Some("container1".into()), ..entry_of(HOST_MAC) };
    running.remove_fdb_entry(&elsewhere).unwrap_err();
    running.remove_fdb_entry(&entry_of(HOST_MAC)).unwrap();
    assert!(matches!(running.remove_fdb_entry(&entry_of(HOST_MAC)), Err(RunError::NoSuchEntry(_))));
    let gateway = running.status().gateway.mac;
    assert!(matches!(running.remove_fdb_entry(&entry_of(gateway)), Err(RunError::GatewayEntry(_))));
    let stolen = entry(gateway, "container1", NewFdbState::Static);
    assert!(matches!(running.replace_fdb_entry(&stolen), Err(RunError::GatewayEntry(_))));
    let elsewhere = entry(HOST_MAC, "container1", NewFdbState::Permanent);
    assert!(matches!(running.add_fdb_entry(&elsewhere), Err(RunError::PermanentEntry)));
    let group = entry(Mac::BROADCAST, "container1", NewFdbState::Static);
    assert!(matches!(running.add_fdb_entry(&group), Err(RunError::Fdb(_))));
    let nowhere = entry(HOST_MAC, "container9", NewFdbState::Static);
    assert!(matches!(running.add_fdb_entry(&nowhere), Err(RunError::NoSuchPort(_))));
    assert!(matches!(running.flush_fdb(&of_port("container9")), Err(RunError::NoSuchPort(_))));
}

#[tokio::test]
async fn flushes_entries_by_kind() {
    use NewFdbState::{Dynamic, Permanent, Static};
    let (_bench, mut running) = running(config(|_| {})).await;
    let query = |edit: fn(&mut FdbFlushQuery)| {
        let mut query = FdbFlushQuery::default();
        edit(&mut query);
        query
    };
    let mut flushed = |edit: fn(&mut FdbFlushQuery)| {
        let kinds = [(1, Dynamic, false), (2, Dynamic, true), (3, Static, false), (4, Static, true)];
        for (n, state, sticky) in kinds {
            let (mac, ifname) = (Mac([2, 0, 0, 0, 1, n]), "container1".to_owned());
            running.replace_fdb_entry(&NewFdbEntry { mac, ifname, vlan: None, state, sticky }).unwrap();
        }
        let (mac, ifname) = (Mac([2, 0, 0, 0, 1, 5]), "host".to_owned());
        let own = NewFdbEntry { mac, ifname, vlan: None, state: Permanent, sticky: false };
        running.replace_fdb_entry(&own).unwrap();
        let listed = |running: &mut Running<_>| {
            let entries = fdb_reports(running, &FdbFilter::default()).into_iter();
            entries.map(|entry| entry.mac.0[5]).filter(|n| (1..=5).contains(n)).collect::<Vec<u8>>()
        };
        let before = listed(&mut running);
        running.flush_fdb(&query(edit)).unwrap();
        let after = listed(&mut running);
        assert!(running.status().fdb > 0, "the gateway's entry stays");
        let mut gone: Vec<u8> = before.into_iter().filter(|n| !after.contains(n)).collect();
        gone.sort_unstable();
        gone
    };
    assert_eq!(flushed(|_| {}), [1, 2], "the learned ones");
    assert_eq!(flushed(|query| query.static_ = Some(true)), [3, 4]);
    assert_eq!(flushed(|query| (query.static_, query.sticky) = (Some(true), Some(false))), [3]);
    assert_eq!(flushed(|query| query.static_ = Some(false)), [1, 2, 5]);
    assert_eq!(flushed(|query| query.sticky = Some(true)), [2, 4]);
    assert_eq!(flushed(|query| query.permanent = Some(true)), [5]);
    assert_eq!(flushed(|query| query.permanent = Some(false)), [1, 2, 3, 4]);
    assert_eq!(flushed(|query| query.dynamic = Some(false)), [3, 4, 5]);
    assert_eq!(flushed(|query| query.vlan = Some(7)), [] as [u8; 0]);
}

#[tokio::test]
async fn ageing_time_changes_live() {
    let (fake, mut running) = running(config(|options| options.ageing_time = Some(100))).await;
    send_across(&fake, "container1", "container2", HOST_MAC);
    let set = |seconds| SwitchSettings { ageing_time: Some(seconds), ..SwitchSettings::default() };
    assert_eq!(running.set_switch(&set(1)).unwrap().ageing_time, 1);
    assert!(running.until(running.next_ageing) <= Duration::from_secs(1));
    for out_of_range in [0, 1_000_001] {
        let error = running.set_switch(&set(out_of_range)).unwrap_err();
        assert!(matches!(error, RunError::Invalid(_)), "{error}");
    }
    assert_eq!(running.status().ageing_time, 1);
}

#[tokio::test]
async fn filters_fdb_entries() {
    let (fake, mut running) = running(config(|_| {})).await;
    send_across(&fake, "container1", "container2", HOST_MAC);
    let shown = |running: &mut Running<FakeNetwork>, edit: fn(&mut FdbFilter)| {
        let mut filter = FdbFilter::default();
        edit(&mut filter);
        fdb_reports(running, &filter).len()
    };
    assert_eq!(shown(&mut running, |filter| filter.ifname = Some("container1".into())), 1);
    assert_eq!(shown(&mut running, |filter| filter.ifname = Some("container2".into())), 0);
    assert_eq!(shown(&mut running, |filter| filter.vlan = Some(0)), 2);
    assert_eq!(shown(&mut running, |filter| filter.vlan = Some(7)), 0);
}

#[tokio::test]
async fn ageing_timer_waits_for_the_next_expiry() {
    let (fake, mut running) = running(config(|options| options.ageing_time = Some(100))).await;
    running.age();
    // Nothing can expire yet: an entry learned now expires in 100 s.
    assert!(running.until(running.next_ageing) > Duration::from_secs(99));
    send_across(&fake, "container1", "container2", HOST_MAC);
    running.age();
    let left = running.until(running.next_ageing);
    assert!(left > Duration::from_secs(90) && left < Duration::from_secs(101), "{left:?}");
}

#[tokio::test]
async fn does_not_show_expired_entries() {
    let (_bench, mut running) = running(config(|options| options.ageing_time = Some(1))).await;
    let entry = NewFdbEntry {
        mac: HOST_MAC,
        ifname: "container1".into(),
        vlan: None,
        state: NewFdbState::Dynamic,
        sticky: false,
    };
    running.add_fdb_entry(&entry).unwrap();
    let aged = async {
        while port_of(&mut running, HOST_MAC).is_some() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), aged).await.expect("it ages");
    running.age();
    assert_eq!(running.status().fdb, 1); // the gateway's
}

#[tokio::test]
async fn worker_failure_stops_the_switch() {
    let (_bench, mut running) = running(config(|_| {})).await;
    running.failure = Some("its engine failed".into());
    let (_handle, mut commands) = Handle::new();
    let end = running.serve(&mut commands, std::future::pending()).await;
    assert!(matches!(end, StopReason::WorkerFailed(why) if why == "its engine failed"));
}

#[tokio::test]
async fn changed_nftables_table_degrades_the_switch_until_it_is_restored() {
    let (fake, mut running) = running(config(|_| {})).await;
    fake.change_nat(NatChange::Failed { why: "nft is missing".into() });
    let NetworkChange::Nat(change) = running.network.next_change().await else { panic!("another change") };
    running.nat_changed(change);
    let status = running.status();
    assert_eq!((status.state, status.nat_fault.as_deref()), (SwitchState::Degraded, Some("nft is missing")));
    running.nat_changed(NatChange::Restored { by: Some("nft".into()) });
    assert_eq!(running.status().state, SwitchState::Running);
    let kinds: Vec<EventType> =
        running.events.history.events(&EventFilter::default()).iter().map(|event| event.kind).collect();
    assert_eq!(kinds[kinds.len() - 2..], [EventType::NatFailed, EventType::NatRestored]);
}

#[tokio::test]
async fn stalled_worker_delays_no_command_and_no_stop() {
    let (fake, mut running) = running(config(|_| {})).await;
    let blocker = running.datapath.block_worker(0);
    running.check_workers_now();
    let status = running.status();
    assert_eq!((status.state, status.stalled_workers), (SwitchState::Degraded, vec![0]));

    let refused = running.add_port(new_port(|port| port.name = Some("late".into()))).unwrap_err();
    assert!(refused.to_string().contains("worker 0 of the switch does not respond"), "{refused}");
    running.remove_port("container1").unwrap();
    assert_eq!(names(&running), ["host", "container2"]);
    assert_eq!(fake.log()[3..], ["make late", "remove late", "remove container1"]);
    assert!(fake.peer("container1").send(b"frame").is_ok(), "the worker keeps its queue");

    drop(blocker);
    while running.status().state == SwitchState::Degraded {
        running.check_workers_now();
    }
    // The engine closes the queue in the turn after the command.
    while fake.peer("container1").send(b"frame").is_ok() {
        running.update_watchdog();
    }
    running.add_port(new_port(|port| port.name = Some("late".into()))).unwrap();
    let kinds = |event: &Event| (event.kind, event.worker);
    let events = running.events.history.events(&EventFilter::default());
    let expected = [(EventType::WorkerStalled, Some(0)), (EventType::WorkerRecovered, Some(0))];
    assert_eq!(events.iter().map(kinds).filter(|(_, worker)| worker.is_some()).collect::<Vec<_>>(), expected);

    let _blocker = running.datapath.block_worker(0);
    assert!(running.stop().is_empty());
    assert_eq!(fake.log().last().unwrap(), "teardown");
}
