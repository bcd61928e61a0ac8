//! What a new port is when it forwards its first frame.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use ipnet::IpNet;

use super::Running;
use super::fake::{FakeControl, FakeNetwork, config, running};
use crate::control::Options;
use crate::control::report::{NewPort, PortSettings, PortVlans};
use crate::control::topology::PortNetns;
use crate::switch::fdb::{BucketHash, Stations};
use crate::switch::{FastDatapath, FastState, Identity, Membership, PortId, Vid};

/// Notes the states of ports, as they are told to a fast datapath.
#[derive(Debug)]
struct States {
    seen: Mutex<Vec<FastState>>,
    stations: Stations,
}

impl States {
    /// For each time that a port forwarded: whether it had settings.
    fn while_up(&self) -> Vec<bool> {
        self.seen
            .lock()
            .unwrap()
            .iter()
            .filter(|state| state.up)
            .map(|state| state.slow.is_some() || state.isolated)
            .collect()
    }
}

impl FastDatapath for States {
    fn stations(&self) -> &Stations {
        &self.stations
    }
    fn ticks_since(&self, _: u32) -> u32 {
        0
    }
    fn device(&self, _: PortId) -> Option<u32> {
        None
    }
    fn set_state(&self, _: PortId, state: FastState) {
        self.seen.lock().unwrap().push(state);
    }
    fn set_vlan(&self, _: PortId, _: Vid, _: Membership) {}
    fn set_identity(&self, _: PortId, _: Option<&Identity>) {}
    fn watch(&self, _: Option<&[PortId]>, _: bool) {}
}

/// A switch with one port, and this configuration file.
async fn running_with(file: &str) -> (FakeControl, Running<FakeNetwork>, Arc<States>) {
    let of_file: Options = toml::from_str(file).unwrap();
    let (fake, running) = running(config(|options| {
        (options.hub, options.port) = (of_file.hub, of_file.port);
        options.ports = Some(1);
    }))
    .await;
    let stations = Stations::new(Box::new(Vec::<AtomicU64>::new()), BucketHash::new(2, [0, 1]));
    let states = Arc::new(States { seen: Mutex::default(), stations });
    let told: Arc<dyn FastDatapath> = states.clone();
    running.switch.add_fast_datapath(&told);
    (fake, running, states)
}

#[tokio::test]
async fn a_new_port_has_its_settings_before_it_forwards() {
    for file in [
        "hub = true",
        "[port.container2]\nisolated = true",
        "[port.container2.limits]\negress_rate = { rate = 1000000 }",
        "[port.container2.impairment.egress]\nloss = 1.0",
    ] {
        let (_fake, mut running, states) = running_with(file).await;
        running.add_port(NewPort::default()).unwrap();
        let up = states.while_up();
        assert!(!up.is_empty() && up.iter().all(|has_settings| *has_settings), "{file}: {up:?}");
    }
}

#[tokio::test]
async fn a_new_port_that_is_down_never_forwards() {
    let (_fake, mut running, states) = running_with("[port.container2]\nadmin_state = \"down\"").await;
    running.add_port(NewPort::default()).unwrap();
    assert!(states.while_up().is_empty());
}

#[tokio::test]
async fn a_new_port_whose_settings_fail_is_not_added() {
    let (fake, mut running, states) = running_with("[port.container2]\nadmin_state = \"down\"").await;
    fake.fail_carrier();
    running.add_port(NewPort::default()).unwrap_err();
    assert!(states.while_up().is_empty());
    assert!(running.port_named("container2").is_err(), "the port is there");
    assert!(fake.log().iter().any(|line| line.contains("remove container2")), "{:?}", fake.log());
}

/// VLAN 10 has room for two containers, and container1 is in it.
fn with_vlan_gateway(options: &mut Options) {
    options.ports = Some(3);
    options.vlan_filtering = Some(true);
    options.vlan_gateway = vec!["10=192.0.2.2/29,2001:db8:10::1/64".to_owned()];
    options
        .port
        .insert("container1".to_owned(), PortSettings { vlan: in_vlan(10), ..PortSettings::default() });
}

fn in_vlan(vid: u16) -> Option<PortVlans> {
    Some(PortVlans { access: Vid::new(vid), ..PortVlans::default() })
}

/// The addresses and the default routes of a container.
fn plan_of(fake: &FakeControl, name: &str) -> (Vec<String>, Vec<String>) {
    let specs = fake.specs();
    let spec = specs.iter().rfind(|spec| spec.netns == PortNetns::New(name.to_owned())).unwrap();
    let texts = |nets: &[IpNet]| nets.iter().map(ToString::to_string).collect();
    (texts(&spec.addresses), spec.gateways.iter().map(ToString::to_string).collect())
}

#[tokio::test]
async fn a_port_has_an_address_in_its_vlan_and_the_gateway_there() {
    let (fake, mut running) = running(config(with_vlan_gateway)).await;
    let plan = |addresses: [&str; 2], gateways: [&str; 2]| {
        (addresses.map(str::to_owned).to_vec(), gateways.map(str::to_owned).to_vec())
    };
    let of_vlan = |v4: &str, v6: &str| plan([v4, v6], ["192.0.2.2", "2001:db8:10::1"]);
    // Its number is 1, and that address is the gateway's.
    assert_eq!(plan_of(&fake, "container1"), of_vlan("192.0.2.3/29", "2001:db8:10::2/64"));
    assert_eq!(
        plan_of(&fake, "container2"),
        plan(["172.16.0.3/24", "fd00:172:16::3/64"], ["172.16.0.1", "fd00:172:16::1"])
    );
    let mut add = |name: &str, vid| {
        let vlan = in_vlan(vid);
        running.add_port(NewPort { name: Some(name.to_owned()), vlan, ..NewPort::default() })
    };
    add("four", 10).unwrap();
    assert_eq!(plan_of(&fake, "four"), of_vlan("192.0.2.5/29", "2001:db8:10::5/64"));
    // VLAN 30 has no gateway of its own.
    add("five", 30).unwrap();
    assert_eq!(plan_of(&fake, "five").0[0], "172.16.0.6/24");
    // The subnet of VLAN 10 has no sixth address.
    add("six", 10).unwrap();
    assert_eq!(plan_of(&fake, "six").0, ["192.0.2.4/29", "2001:db8:10::7/64"]);
    add("seven", 10).unwrap();
    assert_eq!(add("eight", 10).unwrap_err().to_string(), SUBNET_IS_FULL);
}

const SUBNET_IS_FULL: &str =
    "192.0.2.0/29 has no free address left: choose an address yourself, or delete a port first";
