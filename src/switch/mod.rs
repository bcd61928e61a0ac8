//! The decisions of a learning bridge (IEEE 802.1D-2004 clause 7), sans-IO: the same frame, state
//! and time give the same verdict. No device, clock or thread of its own; every method takes `&self`,
//! so that any number of workers share one [`Switch`] without a lock on a frame's way.

pub mod counters;
pub mod fdb;
mod forward;
pub mod gateway;
pub mod observer;
pub mod port;
#[cfg(test)]
mod tests;
pub mod time;
pub mod verdict;

pub use counters::{Counters, LearnCounter, PortCounters, PortCounts};
pub use fdb::Fdb;
pub use forward::OffloadFault;
pub use gateway::{Claim, Gateway, GatewayReply};
pub use observer::{Observer, Step, Steps};
pub use port::{Port, PortId, Ports};
pub use time::Tick;
pub use verdict::{DropReason, Side, Verdict};

use fdb::DryRun;
use forward::Forwarding;

use crate::wire::VnetHeader;

/// A frame as it came in: no FCS, and what the kernel left to do on it.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// From the destination address on.
    pub bytes: &'a [u8],
    /// Checksum and segmentation still to do.
    pub vnet: VnetHeader,
}

/// What a switch is made with.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// How long a learned address lives without a frame from it, in ticks (802.1D-2004 table 7-5: 300 s).
    pub ageing: u32,
    /// Most entries in the forwarding database.
    pub fdb_max: usize,
    /// Secret for the hash of the forwarding database, so that nobody can aim at one chain.
    pub seed: u64,
    /// The switch's own leg.
    pub gateway: Gateway,
}

/// A learning switch: ports, the forwarding database, the gateway.
#[derive(Debug)]
pub struct Switch {
    /// The port table.
    pub ports: Ports,
    /// The forwarding database.
    pub fdb: Fdb,
    /// The switch's own leg.
    pub gateway: Gateway,
}

impl Switch {
    /// A switch without ports.
    pub fn new(settings: SwitchConfig) -> Switch {
        let fdb = Fdb::new(settings.fdb_max, settings.ageing, settings.seed);
        Switch { ports: Ports::new(), fdb, gateway: settings.gateway }
    }

    /// Decides what happens to one frame that came in on `ingress` at time `now`, and learns from it.
    /// `observer` hears each step; with `&mut ()` the telling compiles away.
    #[inline]
    pub fn process<O: Observer>(
        &self,
        now: Tick,
        ingress: PortId,
        frame: &Frame<'_>,
        observer: &mut O,
    ) -> Verdict {
        let verdict = Forwarding { switch: self, now, ingress, frame }.decide(&self.fdb, observer);
        observer.note(Step::Verdict(verdict));
        verdict
    }

    /// What [`Switch::process`] would do with the frame, by the same code; nothing changes.
    pub fn trace<O: Observer>(
        &self,
        now: Tick,
        ingress: PortId,
        frame: &Frame<'_>,
        observer: &mut O,
    ) -> Verdict {
        let verdict =
            Forwarding { switch: self, now, ingress, frame }.decide(DryRun::new(&self.fdb), observer);
        observer.note(Step::Verdict(verdict));
        verdict
    }

    /// The egress ports of a flooded frame, each with why it may not go there, if it may not.
    /// A port that is down or the ingress itself is not part of the flood and not listed.
    pub fn flood_set(
        &self,
        ingress: PortId,
        wire_length: usize,
    ) -> impl Iterator<Item = (PortId, Result<(), DropReason>)> + '_ {
        self.flood_decisions(ingress, wire_length)
            .filter(|(_, outcome)| !matches!(outcome, Err(DropReason::Filtered | DropReason::EgressDown)))
    }

    /// All ports, each with why a flooded frame may not go there, if it may not.
    pub fn flood_decisions(
        &self,
        ingress: PortId,
        wire_length: usize,
    ) -> impl Iterator<Item = (PortId, Result<(), DropReason>)> + '_ {
        self.ports.iter().map(move |egress| (egress, self.ports.may_deliver(ingress, egress, wire_length)))
    }
}
