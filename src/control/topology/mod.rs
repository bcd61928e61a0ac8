//! What a switch makes on the machine: namespaces, TAP devices, addresses, routes, NAT, sysctls.
//! All of it is written in a ledger before it is made, and taken away by reading the ledger backwards:
//! when a start fails half-way, at stop, and by the next start after a kill.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;

use super::Config;
use crate::sys::tap::Queue;
use crate::wire::Mac;

/// Where a port's device is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A new namespace of this name, taken away with the port.
    NewContainer(String),
    /// A namespace that is there already, by path (`/run/netns/NAME`, `/proc/PID/ns/net`).
    Existing(PathBuf),
}

/// A port to be made.
#[derive(Debug, Clone)]
pub struct PortSpec {
    /// Where.
    pub place: Place,
    /// The device's name there.
    pub ifname: String,
    /// Its MAC; the kernel's random choice if none.
    pub mac: Option<Mac>,
    /// Addresses with prefix lengths; a default route through `gateways` of the same family for each.
    pub addresses: Vec<IpNet>,
    /// The gateway of each family.
    pub gateways: Vec<IpAddr>,
    /// MTU of the device.
    pub mtu: u32,
    /// Transmit queue length of the device.
    pub txqueuelen: Option<u32>,
    /// Open it with the virtio-net header and offloads.
    pub offload: bool,
    /// Queues to open: one a worker.
    pub queues: usize,
}

/// Names a device that this topology made, for as long as the switch runs. (An interface index will not
/// do: each namespace has its own.)
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u64);

/// A device that was made and is up.
#[derive(Debug)]
pub struct Device {
    /// Which.
    pub id: DeviceId,
    /// Its name in its namespace.
    pub ifname: String,
    /// Its index there.
    pub ifindex: u32,
    /// Its MAC.
    pub mac: Mac,
    /// MTU.
    pub mtu: u32,
    /// The namespace as a path that can be entered (`None`: the host's).
    pub netns: Option<PathBuf>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// Its queues, in the order of the workers.
    pub queues: Vec<Queue>,
}

/// A change that somebody else made to a port's device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Up or down (`IFF_UP`), with this MTU.
    State {
        /** `IFF_UP`. */
        up: bool,
        /** The MTU now. */
        mtu: u32,
    },
    /// Deleted, with its namespace or alone.
    Gone,
}

/// Everything made for one switch. Dropping it takes nothing away; [`Topology::teardown`] does.
#[derive(Debug)]
pub struct Topology {}

/// Why something could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// To be written: one variant per cause, each a sentence that says what to do.
    #[error("not written yet")]
    NotYet,
}

#[allow(unused_variables, clippy::unused_async, reason = "to be written")]
impl Topology {
    /// Takes the switch's name on this machine, cleans up after a killed switch of that name, and checks
    /// that what `config` asks for can be made. Changes nothing else.
    pub async fn claim(config: &Config) -> Result<Topology, TopologyError> {
        Err(TopologyError::NotYet)
    }
    /// Makes the host port: TAP in this namespace, gateway MAC and addresses, NAT if asked for.
    pub async fn add_host_port(&mut self, config: &Config, gateway: Mac) -> Result<Device, TopologyError> {
        Err(TopologyError::NotYet)
    }
    /// Makes a port; on an error nothing of it is left.
    pub async fn add_port(&mut self, spec: &PortSpec) -> Result<Device, TopologyError> {
        Err(TopologyError::NotYet)
    }
    /// Takes a port's namespace away if we made it; its device goes when its queues are closed.
    pub async fn remove_port(&mut self, device: DeviceId) -> Result<(), TopologyError> {
        Err(TopologyError::NotYet)
    }
    /// The next change that somebody else made to one of the devices. Cancel-safe.
    pub async fn next_change(&mut self) -> (DeviceId, LinkChange) {
        std::future::pending().await
    }
    /// Takes everything away; every error met on the way.
    pub async fn teardown(self) -> Vec<TopologyError> {
        Vec::new()
    }
}
