//! Creates a switch with two containers and a host in an isolated process. There is no clean-up code: the kernel
//! removes everything with that process.
//!
//! ```text
//!   container 1           container 2          unnamed namespaces
//!   172.16.0.2            172.16.0.3           (uswitch names them in the process's own /run)
//!       |                     |
//!   ----+---------------------+----
//!   |     the switch under test    |
//!   --------------+----------------
//!             172.16.0.1                       the process's namespace, if the switch has a host port
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

pub(super) use self::endpoint::LabEndpoint;
use super::error::BenchError;
use super::peer::Peer;
use super::plan::BenchPlan;

const SUBNET: Ipv4Net = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 24);
const HOST: Ipv4Addr = Ipv4Addr::new(172, 16, 0, 1);
const CONTAINERS: [Ipv4Addr; 2] = [Ipv4Addr::new(172, 16, 0, 2), Ipv4Addr::new(172, 16, 0, 3)];

/// A switch with its endpoints.
#[derive(Debug)]
pub(super) struct Lab {
    /// The containers. Traffic goes from the first to the second.
    pub(super) endpoints: [LabEndpoint; 2],
    /// Address of the host, if the switch has a host port.
    pub(super) host: Option<Ipv4Addr>,
    /// Processes or threads of the switch.
    pub(super) switch: LabSwitch,
    /// More about the switch, such as its engine.
    pub(super) detail: Option<String>,
}

impl Lab {
    /// Sets the congestion control of new TCP connections between containers and host, at both ends.
    ///
    /// # Errors
    /// The kernel does not know this congestion control.
    pub(super) fn set_congestion_control(&self, congestion_control: &str) -> Result<(), BenchError> {
        self.endpoints.iter().try_for_each(|endpoint| endpoint.set_congestion_control(congestion_control))?;
        // The host's namespace is that of this process.
        self.host.map_or(Ok(()), |_| route::set_congestion_control(congestion_control))
    }
}

/// Processes and threads that run a switch. None for a switch in the kernel.
#[derive(Debug, Default)]
pub(super) struct LabSwitch {
    /// Processes.
    children: Vec<Child>,
    /// Threads of this process.
    threads: Vec<u32>,
}

impl LabSwitch {
    /// Files in the format of `/proc/PID/stat` that contain the CPU time of the switch.
    pub(super) fn stats(&self) -> Vec<PathBuf> {
        let processes = self.children.iter().map(|child| format!("/proc/{}/stat", child.id()));
        let threads = self.threads.iter().map(|tid| format!("/proc/self/task/{tid}/stat"));
        processes.chain(threads).map(PathBuf::from).collect()
    }
}

/// Creates a switch. Call it in an isolated process, whose namespace becomes the host's.
pub(super) fn build(peer: Peer, plan: &BenchPlan) -> Result<Lab, BenchError> {
    link::disable_ipv6()?;
    match peer {
        Peer::Uswitch => uswitch::build(plan, &[]),
        Peer::UswitchFast => uswitch::build(plan, &["--fast-path", "on"]),
        Peer::UswitchBig => uswitch::build(plan, &["--fast-path", "on", "--gso-max-size", "262144"]),
        Peer::UswitchTap => uswitch::build(plan, &["--fast-path", "off"]),
        Peer::LinuxBridge => kernel::bridge(),
        Peer::Veth => kernel::veth(),
        Peer::Ovs => ovs::build("false"),
        Peer::OvsTso => ovs::build("true"),
        Peer::Vde => vde::build(),
        Peer::Naive => naive::build(),
    }
}

/// Creates two containers, moves a device from the host into each, and assigns addresses.
fn create_endpoints(devices: [&str; 2]) -> Result<[LabEndpoint; 2], BenchError> {
    let [first, second] = devices;
    Ok([LabEndpoint::with(first, CONTAINERS[0])?, LabEndpoint::with(second, CONTAINERS[1])?])
}
