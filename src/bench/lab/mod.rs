//! A switch with two containers and a host, made in a cell. Nothing here is ever taken away by hand: the cell ends, and
//! everything with it.
//!
//! ```text
//!   container 1           container 2          namespaces without names
//!   172.16.0.2            172.16.0.3           (uswitch gives its own names, in the cell's /run)
//!       |                     |
//!   ----+---------------------+----
//!   |     the switch under test    |
//!   --------------+----------------
//!             172.16.0.1                       the cell's own namespace, if the switch has a host port
//! ```

mod endpoint;
mod kernel;
mod link;
mod naive;
mod ovs;
mod route;
mod uswitch;
mod vde;

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Child;

use ipnet::Ipv4Net;

pub(super) use self::endpoint::Endpoint;
use super::error::BenchError;
use super::peer::Peer;
use super::plan::BenchPlan;

const SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 24);
const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const CONTAINERS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 16, 0, 2), Ipv4Addr::new(172, 16, 0, 3)];

/// A switch and what hangs on it.
#[derive(Debug)]
pub(super) struct Lab {
    /// The containers: traffic goes from the first to the second.
    pub(super) endpoints: [Endpoint; 2],
    /// The host's address, if the switch has a host port.
    pub(super) host: Option<Ipv4Addr>,
    /// Its processes or threads.
    pub(super) switch: Switch,
    /// What it says of itself, if that matters: the engine.
    pub(super) detail: Option<String>,
}

impl Lab {
    /// Makes new TCP connections between containers and host begin with this congestion control, at both ends.
    ///
    /// # Errors
    /// The kernel knows no such control.
    pub(super) fn set_congestion_control(&self, congestion_control: &str) -> Result<(), BenchError> {
        self.endpoints.iter().try_for_each(|endpoint| endpoint.set_congestion_control(congestion_control))?;
        // The host's namespace is the cell's own.
        self.host.map_or(Ok(()), |_| route::set_congestion_control(congestion_control))
    }
}

/// What runs a switch; nothing for the kernel's.
#[derive(Debug, Default)]
pub(super) struct Switch {
    /// Its processes.
    children: Vec<Child>,
    /// Threads of ours.
    threads: Vec<u32>,
}

impl Switch {
    /// Files like `/proc/PID/stat` that tell the time which it took.
    pub(super) fn stats(&self) -> Vec<PathBuf> {
        let processes = self.children.iter().map(|child| format!("/proc/{}/stat", child.id()));
        let threads = self.threads.iter().map(|tid| format!("/proc/self/task/{tid}/stat"));
        processes.chain(threads).map(PathBuf::from).collect()
    }
}

/// Makes a switch. To be called in a cell, in the namespace that is to be the host's.
pub(super) fn build(peer: Peer, plan: &BenchPlan) -> Result<Lab, BenchError> {
    link::disable_ipv6()?;
    match peer {
        Peer::Uswitch => uswitch::build(plan),
        Peer::LinuxBridge => kernel::bridge(),
        Peer::Veth => kernel::veth(),
        Peer::Ovs => ovs::build("false"),
        Peer::OvsTso => ovs::build("true"),
        Peer::Vde => vde::build(),
        Peer::Naive => naive::build(),
    }
}

/// Moves two devices from the host into new containers, and gives them addresses.
fn create_endpoints(devices: [&str; 2]) -> Result<[Endpoint; 2], BenchError> {
    let [first, second] = devices;
    Ok([Endpoint::with(first, CONTAINERS[0])?, Endpoint::with(second, CONTAINERS[1])?])
}
