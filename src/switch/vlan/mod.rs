//! VLANs, with the rules and words of the Linux bridge (`net/bridge/br_vlan.c`; IEEE 802.1Q-2022 clause 8.6).
//!
//! A switch that filters VLANs classifies each received frame ([`Vlans::classify`]): a tag with a VLAN identifier
//! selects that VLAN; a frame without one, or with a priority tag (VID 0), belongs to the port's VLAN (PVID). A frame
//! of a VLAN leaves only on ports that are members of it, each with or without its tag ([`Member::untagged`]). A tag of
//! another protocol than the switch's ([`VlanSettings::protocol`]) is payload.
//!
//! Without filtering no frame is classified, and tags pass as they are.
//!
//! Control changes the VLANs of a port while the workers read them, without a lock: each VLAN has two sets of ports.
//! They are made when the VLAN gets its first member, and kept: at most 4 MiB for all 4094 VLANs. The tables that are
//! always there need 72 KiB. A port can have another state in a VLAN than in the others ([`Vlans::set_state`]).

mod classify;
mod counters;
mod members;
mod port_counters;
mod state;
#[cfg(test)]
mod tests;
mod vid;

use std::sync::atomic::AtomicU16;
use std::sync::{Arc, OnceLock};

use serde::{Deserialize, Serialize};

pub use self::classify::{Classified, VlanFault};
pub use self::counters::{VlanCounters, VlanCounts};
pub use self::members::Member;
pub use self::port_counters::PortVlanCounters;
use self::state::PortStates;
pub use self::vid::{ParseVidError, Vid, VidRange};
use super::port_set::SharedPortSet;
use super::{FastDatapath, Gateway, PortId, Ports};
use crate::wire::EtherType;

/// The protocol of a switch's VLAN tags.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum VlanProtocol {
    /// Customer tags, TPID 0x8100.
    #[default]
    #[serde(rename = "802.1Q", alias = "802.1q")]
    Dot1q,
    /// Service tags (provider bridges, "QinQ"), TPID 0x88a8.
    #[serde(rename = "802.1ad")]
    Dot1ad,
}

impl VlanProtocol {
    /// The TPID of its tags.
    pub const fn tpid(self) -> EtherType {
        match self {
            VlanProtocol::Dot1q => EtherType::C_TAG,
            VlanProtocol::Dot1ad => EtherType::S_TAG,
        }
    }
}

/// The VLAN settings of a switch, with the names of `ip link ... type bridge`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VlanSettings {
    /// `vlan_filtering`: classify frames, and keep VLANs apart.
    pub filtering: bool,
    /// `vlan_protocol`.
    pub protocol: VlanProtocol,
    /// `vlan_default_pvid`: the VLAN of a new port, which is its PVID and untagged; `None`: it has no VLAN.
    pub default_pvid: Option<Vid>,
    /// `vlan_stats_per_port`: count the frames of each port in each VLAN.
    pub stats_per_port: bool,
}

impl Default for VlanSettings {
    /// Those of a new Linux bridge.
    fn default() -> VlanSettings {
        VlanSettings {
            filtering: false,
            protocol: VlanProtocol::Dot1q,
            default_pvid: Some(Vid::DEFAULT),
            stats_per_port: false,
        }
    }
}

/// The VLANs of a switch and their members.
#[derive(Debug)]
pub struct Vlans {
    settings: VlanSettings,
    /// The PVID of each port; 0: none.
    pvids: Box<[AtomicU16]>,
    /// The number of the host port.
    host: AtomicU16,
    /// By VID. One that never had a member costs 16 bytes.
    vlans: Box<[OnceLock<Box<Vlan>>]>,
    /// A second datapath, which is told of changes.
    fast: OnceLock<Arc<dyn FastDatapath>>,
}

/// The ports of a VLAN.
#[derive(Debug, Default)]
pub struct Vlan {
    /// All of them.
    pub(super) members: SharedPortSet,
    /// Those on which its frames leave without a tag.
    untagged: SharedPortSet,
    /// The states of its ports, once one of them is not forwarding.
    states: OnceLock<Box<PortStates>>,
    /// The gateway that has its addresses in this VLAN.
    gateway: OnceLock<Box<Gateway>>,
}

impl Default for Vlans {
    fn default() -> Vlans {
        Vlans::new(VlanSettings::default())
    }
}

impl Vlans {
    /// No port is in a VLAN yet.
    pub fn new(settings: VlanSettings) -> Vlans {
        Vlans {
            settings,
            pvids: (0..Ports::MAX).map(|_| AtomicU16::new(0)).collect(),
            host: AtomicU16::new(u16::MAX),
            vlans: (0..=Vid::MAX).map(|_| OnceLock::new()).collect(),
            fast: OnceLock::new(),
        }
    }

    /// The settings.
    pub const fn settings(&self) -> &VlanSettings {
        &self.settings
    }

    /// The TPID of the switch's tags.
    #[inline]
    pub const fn tpid(&self) -> EtherType {
        self.settings.protocol.tpid()
    }

    /// A VLAN that has or had members.
    #[inline]
    fn vlan(&self, number: u16) -> Option<&Vlan> {
        self.vlans.get(usize::from(number))?.get().map(|vlan| &**vlan)
    }

    /// Gives a VLAN a gateway of its own, before the switch forwards. It has one at most.
    pub fn set_gateway(&self, vid: Vid, gateway: Gateway) {
        let vlan = self.vlans[usize::from(vid.get())].get_or_init(Box::default);
        vlan.gateway.get_or_init(|| Box::new(gateway));
    }

    /// The gateway that a VLAN has of its own.
    #[inline]
    pub fn gateway(&self, vid: Vid) -> Option<&Gateway> {
        self.vlan(vid.get())?.gateway.get().map(|gateway| &**gateway)
    }

    /// Whether a port is a member of a VLAN.
    #[inline]
    pub fn is_member(&self, port: PortId, vid: Vid) -> bool {
        self.vlan(vid.get()).is_some_and(|vlan| vlan.members.contains(port))
    }

    /// Whether frames of a VLAN leave a port without their tag.
    #[inline]
    pub fn is_untagged(&self, port: PortId, vid: Vid) -> bool {
        self.vlan(vid.get()).is_some_and(|vlan| vlan.untagged.contains(port))
    }

    /// The VLANs that have members.
    pub fn in_use(&self) -> impl Iterator<Item = Vid> + '_ {
        Vid::all().filter(|vid| self.vlan(vid.get()).is_some_and(|vlan| !vlan.members.is_empty()))
    }

    /// The members of a VLAN, in the order of their numbers: the scope of a flood.
    pub fn members(&self, vid: Vid) -> impl Iterator<Item = PortId> + '_ {
        self.vlan(vid.get()).into_iter().flat_map(|vlan| vlan.members.iter())
    }
}
