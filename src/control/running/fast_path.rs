//! The kernel fast path of a running switch.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tracing::info;

use super::{HostNetwork, RunError, Running};
use crate::control::config::FastPathChoice;
use crate::control::topology::Topology;
use crate::control::trace::TraceDatapath;
use crate::fastpath::{FastPath, NoFlood, WhySlow};
use crate::switch::vlan::VlanCounts;
use crate::switch::{Destination, FastDatapath, Outcome, PortCounts, PortId, Verdict, Vid};

impl Running<Topology> {
    /// Loads the fast path, so that the ports that are added from now on use it.
    pub(super) fn start_fast_path(&mut self) -> Result<(), RunError> {
        match (self.config.fast_path, self.of_no_use()) {
            (FastPathChoice::Off, _) => return Ok(()),
            (FastPathChoice::Auto, Some(why)) => {
                self.fast_path_note = Some(format!("no kernel fast path: {why}"));
                return Ok(());
            }
            _ => {}
        }
        let random = RandomState::new();
        let seed = [0, 1].map(|n| random.hash_one(n));
        let gateways = self.config.gateways_by_vlan();
        let made = FastPath::new(self.config.fdb_max, seed, gateways).map(Arc::new);
        let used = made.map_err(RunError::from).and_then(|fast| {
            self.network.use_fast_path(Arc::clone(&fast))?;
            Ok(fast)
        });
        match used {
            Ok(fast) => {
                let shared: Arc<dyn FastDatapath> = fast.clone();
                self.switch.add_fast_datapath(&shared);
                self.start_awake_cpus(&fast);
                self.fast_path = Some(fast);
                Ok(())
            }
            Err(why) if self.config.fast_path == FastPathChoice::Auto => {
                info!(%why, "no fast path");
                self.fast_path_note = Some(why.to_string());
                Ok(())
            }
            Err(why) => Err(why),
        }
    }

    /// Why the workers would decide about each frame, so that a fast path only costs.
    fn of_no_use(&self) -> Option<&'static str> {
        let config = &self.config;
        [(config.hub, "the switch is a hub"), (!config.offload, "the ports have no offload")]
            .into_iter()
            .find_map(|(is_so, why)| is_so.then_some(why))
    }
}

impl<M: HostNetwork> Running<M> {
    /// Why the workers decide about all frames of a port, if there is a fast path.
    pub(super) fn why_slow(&self, port: PortId) -> Option<String> {
        let why = self.fast_path.as_ref()?.why_port_is_slow(port)?;
        Some(why.text().to_owned())
    }

    /// Which datapath would take a frame; `None` if there are only the workers.
    pub(super) fn datapath_of(&self, outcome: &Outcome, frame: &[u8]) -> Option<TraceDatapath> {
        let fast = self.fast_path.as_ref()?;
        let worker = |why: &str| Some(TraceDatapath::Worker { why: why.to_owned() });
        let ingress = outcome.ingress();
        let slow = match (outcome.verdict(), outcome.class().destination) {
            (Verdict::Forward(to), _) => fast.why_frame_is_slow(ingress, to, frame),
            (Verdict::Flood, Destination::Group) => {
                return worker("the kernel floods only what goes to all ports");
            }
            (Verdict::Flood, _) => fast.why_flood_is_slow(ingress, frame, outcome.class().wire_length),
            _ => return worker("it is neither forwarded nor flooded"),
        };
        let of = |port: PortId, why: &str| format!("of {}: {why}", self.ports[&port].name);
        let why = match slow {
            None => return Some(TraceDatapath::Kernel),
            Some(WhySlow::Port(port, why)) => of(port, why.text()),
            Some(WhySlow::FloodPort(port, why)) => of(port, why.text()),
            Some(WhySlow::Vlan(port)) => of(port, NoFlood::Tagged.text()),
            Some(WhySlow::Isolated) => {
                "it is flooded from an isolated port, and another port is isolated".to_owned()
            }
            Some(WhySlow::Length) => "it is flooded, and longer than the MTU of a port".to_owned(),
            Some(WhySlow::Hairpin) => "it leaves on its ingress port (hairpin)".to_owned(),
            Some(WhySlow::Frame(why)) => why.text().to_owned(),
            Some(WhySlow::FromGateway) => "it is from an address of a gateway".to_owned(),
            Some(WhySlow::EchoToHost) => "the gateway may answer it".to_owned(),
            Some(WhySlow::Station(mac)) => format!("the kernel does not know {mac} yet"),
        };
        Some(TraceDatapath::Worker { why })
    }

    /// What the fast path has forwarded in a VLAN, from and to a port (`None`: all ports).
    pub(super) fn fast_counts_in_vlan(&self, port: Option<PortId>, vid: Vid) -> VlanCounts {
        let Some(fast) = &self.fast_path else { return VlanCounts::default() };
        let counts = match port {
            None => fast.total_counts_in_vlan(vid),
            Some(port) => fast.counts_in_vlan(port, vid),
        };
        VlanCounts {
            rx_bytes: counts.rx_bytes,
            rx_packets: counts.rx_frames,
            tx_bytes: counts.tx_bytes,
            tx_packets: counts.tx_frames,
        }
    }

    /// Adds what the fast path has forwarded to what the workers have counted.
    pub(super) fn add_fast_counts(&self, id: PortId, mut counts: PortCounts) -> PortCounts {
        let Some(fast) = &self.fast_path else { return counts };
        let fast = fast.counts(id);
        counts.rx_frames += fast.rx_frames;
        counts.rx_bytes += fast.rx_bytes;
        // A flood that the kernel is counting may be in one of the two only.
        counts.forwarded += fast.rx_frames.saturating_sub(fast.flooded);
        counts.flooded += fast.flooded;
        counts.flood_copies += fast.flood_copies;
        counts.tx_frames += fast.tx_frames;
        counts.tx_bytes += fast.tx_bytes;
        counts
    }
}
