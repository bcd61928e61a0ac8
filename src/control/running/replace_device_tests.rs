//! Ports whose device is gone and that get another one, on the fake network.

use super::Running;
use super::fake::{FakeControl, FakeNetwork, config, running};
use crate::control::report::{NewPort, PortLimit, PortLimits, PortReport, PortSettings};
use crate::control::topology::LinkChange;

/// A switch whose port container1 has settings, and has lost its device.
async fn with_gone_port() -> (FakeControl, Running<FakeNetwork>, PortReport) {
    let (fake, mut running) = running(config(|options| options.ports = Some(2))).await;
    let egress_rate = Some(PortLimit { rate: 1_000_000, burst: Some(9000) });
    let settings = PortSettings {
        isolated: Some(true),
        fdb_max_learned: Some(7),
        group_fwd_mask: Some(1),
        limits: PortLimits { egress_rate, ..PortLimits::default() },
        ..PortSettings::default()
    };
    let port = running.set_port("container1", &settings).unwrap();
    let id = running.port_named("container1").unwrap();
    running.link_changed(id, &LinkChange::Gone);
    (fake, running, port)
}

fn container1() -> NewPort {
    NewPort { name: Some("container1".into()), replace: true, ..NewPort::default() }
}

fn report(running: &Running<FakeNetwork>) -> PortReport {
    running.port_reports().into_iter().find(|port| port.ifname == "container1").unwrap()
}

#[tokio::test]
async fn port_keeps_its_settings() {
    let (fake, mut running, before) = with_gone_port().await;
    assert_eq!(running.add_port(container1()).unwrap().port, before);
    assert_eq!(report(&running), before);
    assert_eq!(fake.log().iter().filter(|line| *line == "make container1").count(), 2);
}

#[tokio::test]
async fn settings_of_the_request_take_precedence() {
    let (_fake, mut running, before) = with_gone_port().await;
    let request = NewPort { guard: Some(true), mtu: Some(1400), ..container1() };
    let port = running.add_port(request).unwrap().port;
    assert_eq!((port.source_guard, port.mtu, port.limits), (true, 1400, before.limits));
}

#[tokio::test]
async fn port_stays_as_it_is_if_there_is_no_device() {
    let (fake, mut running, _) = with_gone_port().await;
    let before = report(&running);
    fake.fail_device("container1");
    running.add_port(container1()).unwrap_err();
    assert_eq!(report(&running), before);
    running.remove_port("container1").unwrap();
}

#[tokio::test]
async fn device_forwards_again() {
    let (fake, mut running, _) = with_gone_port().await;
    running.add_port(container1()).unwrap();
    let frame = {
        let mut frame = [0xff; 60];
        frame[6..12].copy_from_slice(&[2, 0, 0, 0, 0, 1]);
        frame
    };
    fake.peer("container1").send(&frame).unwrap();
    let mut received = [0; 100];
    assert_eq!(fake.peer("container2").recv(&mut received).unwrap(), 60);
}

#[tokio::test]
async fn notice_about_the_guard_is_only_of_a_port_without() {
    let guarded = config(|options| (options.ports, options.guard) = (Some(2), Some(true)));
    let (_fake, mut running) = running(guarded).await;
    let id = running.port_named("container1").unwrap();
    running.link_changed(id, &LinkChange::Gone);
    let of = |name: &str, replace| NewPort {
        name: Some(name.to_owned()),
        netns: Some(format!("/run/netns/{name}")),
        replace,
        ..NewPort::default()
    };
    let is_off = |notices: Vec<String>| notices.iter().any(|notice| notice.contains("the guard is off"));
    assert!(!is_off(running.add_port(of("container1", true)).unwrap().notices), "it has kept its guard");
    assert!(is_off(running.add_port(of("web", false)).unwrap().notices));
}
