//! What a new port is when it forwards its first frame.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};

use super::fake::{config, running};
use crate::control::report::NewPort;
use crate::switch::fdb::{BucketHash, Stations};
use crate::switch::{FastDatapath, FastState, Identity, PortId};

/// Notes the states of ports, as they are told to a fast datapath.
#[derive(Debug)]
struct States {
    seen: Mutex<Vec<FastState>>,
    stations: Stations,
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
    fn watch(&self, _: bool) {}
}

#[tokio::test]
async fn a_new_port_has_its_flags_before_it_forwards() {
    let (_fake, mut running) = running(config(|options| options.hub = Some(true))).await;
    let stations = Stations::new(Box::new(Vec::<AtomicU64>::new()), BucketHash::new(2, [0, 1]));
    let states = Arc::new(States { seen: Mutex::default(), stations });
    let told: Arc<dyn FastDatapath> = states.clone();
    running.switch.add_fast_datapath(&told);
    running.add_port(NewPort::default()).unwrap();
    let seen = states.seen.lock().unwrap();
    let up: Vec<bool> = seen.iter().filter(|state| state.up).map(|state| state.slow).collect();
    assert!(!up.is_empty() && up.iter().all(|has_flags| *has_flags), "{seen:?}");
}
