//! What a new port is when it forwards its first frame.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::Running;
use super::fake::{FakeControl, FakeNetwork, config, running};
use crate::control::Options;
use crate::control::report::NewPort;
use crate::switch::fdb::{BucketHash, Stations};
use crate::switch::{FastDatapath, FastState, Identity, PortId};

/// Notes the states of ports, as they are told to a fast datapath.
#[derive(Debug)]
struct States {
    seen: Mutex<Vec<FastState>>,
    stations: Stations,
}

impl States {
    /// For each time that a port forwarded: whether it had settings.
    fn while_up(&self) -> Vec<bool> {
        self.seen.lock().unwrap().iter().filter(|state| state.up).map(|state| state.slow.is_some()).collect()
    }
}

impl FastDatapath for States {
    fn stations(&self) -> &Stations {
        &self.stations
    }
    fn device(&self, _: PortId) -> Option<u32> {
        None
    }
    fn set_state(&self, _: PortId, state: FastState) {
        self.seen.lock().unwrap().push(state);
    }
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
