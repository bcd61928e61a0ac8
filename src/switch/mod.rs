//! The forwarding decisions of a learning bridge (IEEE 802.1D-2004 clause 7), sans-IO. The same frame,
//! state and time give the same outcome. It uses no device, clock or thread. Every method takes
//! `&self`, so that any number of workers share one [`Switch`], and forwarding known unicast takes no lock.

mod admission;
pub mod counters;
pub mod fast_datapath;
pub mod fdb;
mod forward;
pub mod gateway;
mod group;
pub mod guard;
pub mod ipvlan;
mod limits;
pub mod loop_detection;
pub mod mdb;
mod meter;
pub mod mirror;
mod neigh_suppress;
pub mod observer;
mod offload;
pub mod outcome;
pub mod port;
pub mod port_flags;
pub mod port_set;
mod port_state;
pub mod segmentation;
pub mod stp;
#[cfg(test)]
mod tests;
pub mod time;
pub mod verdict;
pub mod violation;
pub mod vlan;

use std::net::IpAddr;
use std::sync::Arc;

pub use counters::{Counters, PortCounters, PortCounts};
pub use fast_datapath::{FastDatapath, FastState, Membership, SlowPort, Watch};
pub use fdb::Fdb;
pub use gateway::{Claim, Gateway, SharedMac, SwitchReply};
pub use guard::{Guards, Identity};
pub use limits::LimitKind;
pub use meter::Rate;
pub use mirror::{CopyForm, MirrorConflict, MirrorCopy, MirrorDirection, PortMirror, PortMirrors};
pub use observer::{Observer, Step, Steps};
pub use offload::OffloadFault;
pub use outcome::{Destination, Edit, Egress, Fault, FrameClass, Outcome, Punt};
pub use port::{EgressPort, Port, PortId, Ports};
pub(crate) use port_flags::with_port_flags;
pub use port_flags::{PortFlag, PortFlags};
pub use port_set::PortSet;
pub use port_state::PortState;
pub use time::{Now, Tick};
pub use verdict::{DropReason, Side, Verdict};
pub use violation::Violation;
pub use vlan::{Vid, VlanSettings, Vlans};

use fdb::DryRun;
use forward::Forwarding;
use ipvlan::Uplinks;
use limits::Limits;
use loop_detection::{LoopDetector, SharedDetector};
use mdb::Mdb;
use meter::{MeterTime, Metering};

use crate::wire::{Bpdu, Mac, VnetHeader};

/// A received frame, without FCS, and its virtio-net header.
#[derive(Debug, Clone, Copy)]
pub struct Frame<'a> {
    /// The frame, starting with the destination address.
    pub bytes: &'a [u8],
    /// Offloads that the receiver must complete: checksum and segmentation.
    pub vnet: VnetHeader,
}

/// A complete frame that the switch itself has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InjectedFrame {
    /// The ports to which it is sent.
    pub ports: Vec<PortId>,
    /// Its VLAN, if the switch filters VLANs and it has one.
    pub vid: Option<Vid>,
    /// The frame, with the tag that it has on these ports.
    pub bytes: Vec<u8>,
}

/// The configuration of a switch.
#[derive(Debug, Clone)]
pub struct SwitchConfig {
    /// Ageing time of learned addresses, in ticks (802.1D-2004 table 7-5: 300 s).
    pub ageing: u32,
    /// Maximum number of entries in the forwarding database.
    pub fdb_max: usize,
    /// Secret key for the hash of the forwarding database, against chosen collisions.
    pub seed: u64,
    /// The gateway.
    pub gateway: Gateway,
}

/// A learning switch: port table, forwarding database, gateway.
#[derive(Debug)]
pub struct Switch {
    /// The port table.
    pub ports: Ports,
    /// The forwarding database.
    pub fdb: Fdb,
    /// The identities of the guarded ports. Set with [`Switch::set_guard`].
    pub guards: Guards,
    /// The addresses of the ports without a guard, as far as they are known. They are not checked.
    pub neighbours: Guards,
    /// Storm control and rate limits. Set with [`Switch::set_limit`].
    limits: Limits,
    /// The mirrors. Changed with [`Switch::add_mirror`].
    pub mirrors: PortMirrors,
    /// The uplinks with one MAC address for all hosts. Added with [`Switch::add_uplink`].
    pub uplinks: Uplinks,
    /// The gateway.
    pub gateway: Gateway,
    /// The ports of each multicast group, where snooping is on. Set with [`Switch::set_groups`].
    mdb: Mdb,
    /// The VLANs of the ports.
    pub vlans: Vlans,
    /// The reserved group addresses 01:80:C2:00:00:0X that are forwarded: bit X.
    group_fwd_mask: u16,
    /// Control runs a spanning tree and gets the BPDUs.
    spanning_tree: bool,
    /// Control sends router advertisements and gets the solicitations.
    router_advertisements: bool,
    /// Control serves DHCPv6 and gets the messages of clients.
    dhcpv6: bool,
    /// Finds loops, unless that is off.
    loops: Option<SharedDetector>,
}

impl Switch {
    /// The bit of 01:80:C2:00:00:00 in a mask. A bridge that does not run a spanning tree forwards BPDUs, so that the bridges around it find
    /// loops through it (`br_handle_frame` in Linux `net/bridge/br_input.c`).
    const BPDU_BIT: u16 = 1;

    /// A switch without ports.
    pub fn new(settings: SwitchConfig) -> Switch {
        let fdb = Fdb::new(settings.fdb_max, settings.ageing, settings.seed);
        Switch {
            ports: Ports::new(),
            fdb,
            guards: Guards::default(),
            neighbours: Guards::default(),
            limits: Limits::default(),
            mirrors: PortMirrors::default(),
            uplinks: Uplinks::default(),
            gateway: settings.gateway,
            mdb: Mdb::default(),
            vlans: Vlans::default(),
            group_fwd_mask: Self::BPDU_BIT,
            spanning_tree: false,
            router_advertisements: false,
            dhcpv6: false,
            loops: None,
        }
    }

    /// The same switch, which also forwards these reserved group addresses, as with `group_fwd_mask` of the Linux
    /// bridge: bit X stands for 01:80:C2:00:00:0X.
    #[must_use]
    pub fn with_group_fwd_mask(self, mask: u16) -> Switch {
        Switch { group_fwd_mask: mask | Self::BPDU_BIT, ..self }
    }

    /// The same switch with a spanning tree: BPDUs go to control, whatever the state of the port.
    #[must_use]
    pub fn with_spanning_tree(self) -> Switch {
        Switch { spanning_tree: true, ..self }
    }

    /// The same switch, whose control also gets router solicitations.
    #[must_use]
    pub fn with_router_advertisements(self) -> Switch {
        Switch { router_advertisements: true, ..self }
    }

    /// The same switch, whose control also gets the messages of DHCPv6 clients.
    #[must_use]
    pub fn with_dhcpv6(self) -> Switch {
        Switch { dhcpv6: true, ..self }
    }

    /// The same switch, which also finds loops and blocks their ports. `seed` is secret.
    #[must_use]
    pub fn with_loop_detection(self, seed: u64) -> Switch {
        Switch { loops: Some(LoopDetector::new(seed).into()), ..self }
    }

    /// The same switch with these VLAN settings.
    #[must_use]
    pub fn with_vlans(self, settings: VlanSettings) -> Switch {
        Switch { vlans: Vlans::new(settings), ..self }
    }

    /// The gateway in a VLAN: its own, or the switch's gateway in the VLAN of the host port's untagged frames.
    fn gateway_in(&self, vid: Vid) -> Option<&Gateway> {
        let of_host_port = || (self.vlans.host_vid() == Some(vid)).then_some(&self.gateway);
        self.vlans.gateway(vid).or_else(of_host_port)
    }

    /// The gateway that answers a frame.
    pub fn gateway_of(&self, outcome: &Outcome) -> &Gateway {
        let in_vlan = outcome.class().vlan.and_then(|class| self.gateway_in(class.vid));
        in_vlan.unwrap_or(&self.gateway)
    }

    /// The MAC addresses of the gateways.
    pub fn gateway_macs(&self) -> impl Iterator<Item = Mac> + '_ {
        let of_vlans = Vid::all().filter_map(|vid| self.vlans.gateway(vid));
        of_vlans.chain([&self.gateway]).map(|gateway| gateway.mac.get())
    }

    /// Whether frames from a port to a reserved group address are forwarded.
    fn forwards_reserved(&self, ingress: PortId, group: Mac) -> bool {
        let [.., last] = group.0;
        (self.group_fwd_mask | self.ports.group_fwd_mask(ingress)) & (1 << (last & 0xf)) != 0
    }

    /// Whether a frame is a BPDU for the spanning tree of this switch: there is one, and the port does not forward
    /// BPDUs.
    fn is_own_bpdu(&self, ingress: PortId, group: Mac) -> bool {
        self.spanning_tree && group == Bpdu::GROUP && self.ports.group_fwd_mask(ingress) & Self::BPDU_BIT == 0
    }

    /// Turns the guard of a port on with this identity, or off. The MAC of a guarded port is not learned on another
    /// port.
    pub fn set_guard(&self, port: PortId, identity: Option<&Identity>) {
        if let Some(fast) = self.fast_datapath() {
            fast.set_identity(port, identity);
        }
        self.guards.set(port, identity);
        self.fdb.reserve(port, identity.map(|identity| identity.mac));
    }

    /// Makes a port an uplink, whose device has these addresses, unless it is one. False if there are [`Uplinks::MAX`].
    pub fn add_uplink(&self, port: PortId, mac: Mac, addresses: Vec<IpAddr>) -> bool {
        if self.uplinks.contains(port) {
            return true;
        }
        let added = self.uplinks.add(port, mac, addresses);
        self.ports.set_uplink(port, added);
        added
    }

    /// Makes a port a usual one.
    pub fn remove_uplink(&self, port: PortId) {
        self.ports.set_uplink(port, false);
        self.uplinks.remove(port);
    }

    /// Sets or ends a limit of a port.
    pub fn set_limit(&self, port: PortId, kind: LimitKind, rate: Option<Rate>) {
        let limited = self.limits.set(port, kind, rate);
        self.ports.set_limited(port, limited);
    }

    /// Ends all limits of a port.
    pub fn clear_limits(&self, port: PortId) {
        LimitKind::ALL.into_iter().for_each(|kind| self.set_limit(port, kind, None));
    }

    /// Allocates what a thread needs to read the tables, so that no frame has to: arc-swap does that when a thread
    /// first reads.
    pub fn prepare_thread(&self) {
        drop(self.mdb.load());
    }

    /// Lets workers read what snooping knows from now on; `None`: it is off, and all groups are flooded.
    pub fn set_groups(&self, groups: Option<Arc<mdb::MdbSnapshot>>) {
        self.mdb.publish(groups);
        if !self.mdb.floods_all() {
            self.fdb.unshare_groups();
        }
    }

    /// Lets a second datapath forward known unicast and floods, from now on.
    pub fn add_fast_datapath(&self, fast: &Arc<dyn FastDatapath>) {
        self.ports.set_fast_datapath(Arc::clone(fast));
        self.vlans.set_fast_datapath(Arc::clone(fast));
        self.fdb.share_with(Arc::clone(fast));
    }

    /// Lets the second datapath forward such frames, if what was known of them still holds. They may overtake frames that
    /// a worker has not sent yet.
    pub fn share(&self, share: &fdb::Share) {
        self.fdb.share(share, || self.mdb.floods_all());
    }

    /// Stops the second datapath from flooding frames to this address, because one came with the source of another port.
    /// That may be a loop, and the workers find it only if they see both copies of a frame.
    pub fn unshare_flood(&self, destination: fdb::FdbKey) {
        self.fdb.unshare_flood(destination);
    }

    /// The second datapath.
    pub fn fast_datapath(&self) -> Option<&Arc<dyn FastDatapath>> {
        self.fdb.shared_with()
    }

    /// Decides what to do with one frame received on `ingress` at time `now`, and learns its source. `observer`
    /// receives each step; with `&mut ()` this compiles to nothing.
    #[allow(clippy::too_many_arguments, reason = "when, where and what came in, and who is told")]
    #[inline]
    pub fn process<O: Observer>(
        &self,
        now: impl Into<Now>,
        ingress: PortId,
        frame: &Frame<'_>,
        outcome: &mut Outcome,
        observer: &mut O,
    ) {
        let now = now.into();
        if self.vlans.settings().filtering {
            return self.process_with_vlans(now, ingress, frame, outcome, observer);
        }
        let at = MeterTime { now, metering: Metering::Take };
        Forwarding::<false> { switch: self, at, ingress, frame }.decide(&self.fdb, outcome, observer);
    }

    #[allow(clippy::too_many_arguments, reason = "those of `process`")]
    #[inline(never)]
    fn process_with_vlans<O: Observer>(
        &self,
        now: Now,
        ingress: PortId,
        frame: &Frame<'_>,
        outcome: &mut Outcome,
        observer: &mut O,
    ) {
        let at = MeterTime { now, metering: Metering::Take };
        Forwarding::<true> { switch: self, at, ingress, frame }.decide(&self.fdb, outcome, observer);
    }

    /// What [`Switch::process`] would do with the frame. Runs the same code, and changes nothing.
    pub fn trace<O: Observer>(
        &self,
        now: impl Into<Now>,
        ingress: PortId,
        frame: &Frame<'_>,
        observer: &mut O,
    ) -> Outcome {
        let mut outcome = Outcome::default();
        let dry_run = DryRun::new(&self.fdb);
        let at = MeterTime { now: now.into(), metering: Metering::Peek };
        if self.vlans.settings().filtering {
            Forwarding::<true> { switch: self, at, ingress, frame }.decide(dry_run, &mut outcome, observer);
        } else {
            Forwarding::<false> { switch: self, at, ingress, frame }.decide(dry_run, &mut outcome, observer);
        }
        outcome
    }
}
