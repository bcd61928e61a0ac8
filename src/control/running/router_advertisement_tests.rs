//! Router advertisements of the control task, with real workers on the fake network.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use super::fake::{FakeControl, config, running};
use super::*;
use crate::control::report::{NewPort, PortVlans, RouterAdvertisementReport};
use crate::switch::Vid;
use crate::switch::guard::autoconfigured;
use crate::wire::ndp::ALL_NODES_MAC;

const PREFIX: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x172, 0x16, 0, 0, 0, 0, 0);
/// Where the parts of the message are in a frame.
const TYPE: usize = 14 + 40;
const LIFETIME: std::ops::Range<usize> = TYPE + 6..TYPE + 8;

/// The router advertisements among the frames that a port has got.
fn advertisements(fake: &FakeControl, port: &str) -> Vec<Vec<u8>> {
    let (peer, mut frame) = (fake.peer(port), [0; 1500]);
    peer.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let frames = std::iter::from_fn(|| peer.recv(&mut frame).ok().map(|length| frame[..length].to_vec()));
    let is_advertisement = |frame: &Vec<u8>| frame[..6] == ALL_NODES_MAC.0 && frame[TYPE] == 134;
    frames.filter(is_advertisement).collect()
}

fn report(running: &Running<super::fake::FakeNetwork>) -> RouterAdvertisementReport {
    running.status().router_advertisements.unwrap()
}

#[tokio::test]
async fn ports_get_the_first_advertisement_at_once_and_a_last_one_at_the_end() {
    let (fake, running) = running(config(|options| options.ra = Some(true))).await;
    let report = report(&running);
    assert_eq!((report.sent, report.prefixes), (1, vec!["fd00:172:16::/64".parse().unwrap()]));
    assert_eq!(advertisements(&fake, "host").len(), 0, "the host is the router");
    let [first] = &advertisements(&fake, "container1")[..] else { panic!("not one") };
    assert_eq!(first[LIFETIME], 1800u16.to_be_bytes());
    running.stop();
    let [last] = &advertisements(&fake, "container1")[..] else { panic!("not one") };
    assert_eq!(last[LIFETIME], [0, 0]);
}

#[tokio::test]
async fn each_gateway_advertises_its_prefixes_in_its_vlan() {
    let (fake, mut running) = running(config(|options| {
        options.ra = Some(true);
        options.vlan_filtering = Some(true);
        options.vlan_gateway = vec!["10=2001:db8:10::1/64".into(), "20=172.16.20.1/24".into()];
    }))
    .await;
    let access = |vid: u16| Some(PortVlans { access: Vid::new(vid), ..PortVlans::default() });
    let new = |name: &str, vid| NewPort { name: Some(name.into()), vlan: access(vid), ..NewPort::default() };
    running.add_port(new("ten", 10)).unwrap();
    running.add_port(new("twenty", 20)).unwrap();
    running.router_solicited(10);
    running.router_solicited(20);
    assert_eq!((report(&running).sent, report(&running).solicited), (2, 2));
    let has = |frame: &[u8], prefix: Ipv6Addr| frame.windows(16).any(|bytes| bytes == prefix.octets());
    let [first] = &advertisements(&fake, "container1")[..] else { panic!("not one") };
    let ten: Ipv6Addr = "2001:db8:10::".parse().unwrap();
    assert!(has(first, PREFIX) && !has(first, ten));
    // The answer to the solicitation, 3 s after the first one.
    let mut commands = mpsc::channel(1).1;
    while report(&running).sent < 3 {
        let moment = tokio::time::sleep(Duration::from_millis(10));
        assert!(matches!(running.serve(&mut commands, moment).await, StopReason::Signal));
    }
    let [answer] = &advertisements(&fake, "ten")[..] else { panic!("not one") };
    assert!(has(answer, ten) && !has(answer, PREFIX));
    assert_eq!(advertisements(&fake, "twenty").len(), 0, "it has no IPv6 subnet");
}

#[tokio::test]
async fn guard_accepts_the_made_address_of_a_port_without_an_assigned_one() {
    let guarded = |options: &mut crate::control::Options| {
        (options.ra, options.guard, options.ports) = (Some(true), Some(true), Some(1));
    };
    let (fake, mut running) = running(config(guarded)).await;
    let none = NewPort { name: Some("none".into()), ip: Some(Vec::new()), ..NewPort::default() };
    running.add_port(none).unwrap();
    let made = |running: &Running<super::fake::FakeNetwork>, name: &str| {
        let id = running.port_named(name).unwrap();
        let record = &running.ports[&id];
        (record.may_have(autoconfigured(PREFIX, record.device.mac).into()), record.device.mac)
    };
    assert!(!made(&running, "container1").0 && made(&running, "none").0);
    let accepts: Vec<bool> = fake.specs().iter().map(|spec| spec.accept_ra).collect();
    assert_eq!(accepts[1..], [false, true]);
    // It cannot be assigned to another port.
    let address = IpAddr::from(autoconfigured(PREFIX, made(&running, "none").1));
    let thief = NewPort { ip: Some(vec![IpNet::new(address, 64).unwrap()]), ..NewPort::default() };
    let refused = running.add_port(thief).unwrap_err().to_string();
    assert!(refused.contains("is in use by none"), "{refused}");
}
