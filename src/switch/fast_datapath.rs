//! What the switch tells a second datapath, which forwards known unicast and floods itself ([`crate::fastpath`]).
//!
//! Whatever changes a decision calls this before the change is done, so that no frame takes the old way afterwards.

use std::fmt::Debug;
use std::sync::Arc;

use super::fdb::Stations;
use super::{Identity, PortId, Vid};

/// A datapath beside the workers.
pub trait FastDatapath: Debug + Send + Sync {
    /// The stations whose frames it forwards.
    fn stations(&self) -> &Stations;
    /// Ticks of the switch since this tick of its own clock ([`Stations::last_seen`]).
    fn ticks_since(&self, seen: u32) -> u32;
    /// The device by which it knows a port; `None`: the port is not one of its own.
    fn device(&self, port: PortId) -> Option<u32>;
    /// The state of a port.
    fn set_state(&self, port: PortId, state: FastState);
    /// How a port is in a VLAN, if the switch filters VLANs. Without any, only frames without a VLAN are forwarded.
    fn set_vlan(&self, port: PortId, vid: Vid, membership: Membership);
    /// The addresses that a guarded port may use; `None`: the guard is off.
    fn set_identity(&self, port: PortId, identity: Option<&Identity>);
    /// While the frames of these ports are watched (`None`: of all), the workers decide about all of them.
    fn watch(&self, ports: Option<&[PortId]>, watched: bool);
}

/// How a port is in a VLAN, as far as a fast datapath needs it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Membership {
    /// Not at all.
    None,
    /// It is the VLAN of the untagged frames that the port receives (PVID), and its frames leave without a tag.
    Untagged,
    /// In another way: with tags, or in a state in which it does not forward.
    Other,
}

/// The state of a port, as far as a fast datapath needs it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FastState {
    /// It forwards.
    pub up: bool,
    /// It is the host port: its frames are not checked, and the gateway answers some of the frames for it.
    pub host: bool,
    /// It exchanges no frames with other isolated ports.
    pub isolated: bool,
    /// Each flood goes to it, except its own.
    pub flooded: bool,
    /// Why only the workers can decide about its frames.
    pub slow: Option<SlowPort>,
    /// The longest frame for it, with the Ethernet header.
    pub longest: u32,
}

/// A setting of a port that only the workers know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlowPort {
    /// It takes no super-frames.
    NoOffload,
    /// It does not learn.
    NoLearning,
    /// It has storm control or rate limits.
    Limits,
    /// Its frames are impaired.
    Impairment,
    /// Its frames are mirrored.
    Mirror,
}

impl SlowPort {
    /// A description for users.
    pub const fn text(self) -> &'static str {
        match self {
            SlowPort::NoOffload => "its offloads are disabled",
            SlowPort::NoLearning => "learning is off",
            SlowPort::Limits => "it has storm control or a rate limit",
            SlowPort::Impairment => "its frames are impaired",
            SlowPort::Mirror => "its frames are mirrored",
        }
    }
}

/// Frames are watched as long as this exists.
#[derive(Debug)]
pub struct Watch {
    fast: Arc<dyn FastDatapath>,
    ports: Option<Vec<PortId>>,
}

impl Watch {
    /// Starts to watch the frames of these ports (`None`: of all).
    pub fn new(fast: Arc<dyn FastDatapath>, ports: Option<Vec<PortId>>) -> Watch {
        fast.watch(ports.as_deref(), true);
        Watch { fast, ports }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.fast.watch(self.ports.as_deref(), false);
    }
}
