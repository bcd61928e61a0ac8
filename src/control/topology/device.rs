//! The devices of ports: how to create one, what was created, and how others change it.

use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::existing_tap::TapPortSpec;
use super::socket_port::SocketSpec;
use crate::fastpath::PortDevices;
use crate::sys::netns;
use crate::sys::queue::Queue;
use crate::wire::Mac;

/// The namespace of a port's device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PortNetns {
    /// The host's namespace, in which the switch runs.
    Host,
    /// A new namespace of this name, deleted with the port.
    New(String),
    /// An existing namespace, by path (`/run/netns/NAME`, `/proc/PID/ns/net`).
    Existing(PathBuf),
}

/// What a new port leads to.
#[derive(Debug, Clone)]
pub enum Attachment {
    /// A TAP device to create.
    Tap(PortSpec),
    /// An existing device in the host's namespace.
    Device {
        /** Its name. */
        ifname: String,
        /** Number of queues: one for each worker. */
        queues: usize,
    },
    /// An existing TAP device in the host's namespace.
    ExistingTap(TapPortSpec),
    /// A Unix socket.
    Socket(SocketSpec),
}

/// The settings of a port's TAP device.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PortSpec {
    /// The namespace of its device.
    pub netns: PortNetns,
    /// The device's name.
    pub ifname: String,
    /// MAC address; `None`: the kernel chooses one at random.
    pub mac: Option<Mac>,
    /// Addresses with prefix lengths. Each family gets a default route through its gateway.
    pub addresses: Vec<IpNet>,
    /// The gateway of each family.
    pub gateways: Vec<IpAddr>,
    /// MTU of the device.
    pub mtu: u32,
    /// Transmit queue length of the device.
    pub txqueuelen: Option<u32>,
    /// Enables the virtio-net header and offloads.
    pub offload: bool,
    /// Number of queues: one for each worker.
    pub queues: usize,
    /// The kernel makes addresses and routes of router advertisements (`accept_ra`), as is its default.
    pub accept_ra: bool,
    /// Leave the device down, in whatever namespace it is, for another program that moves and configures it.
    pub unmanaged: bool,
}

/// Identifies a device while the switch runs. An interface index cannot: each namespace has its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeviceId(pub u64);

/// A device that was created and set up, or opened.
#[derive(Debug)]
pub struct Device {
    /// Its identifier.
    pub id: DeviceId,
    /// Its name in its namespace, or the path of the socket.
    pub ifname: String,
    /// Its interface index; 0: it is a socket.
    pub ifindex: u32,
    /// MAC address.
    pub mac: Mac,
    /// MTU.
    pub mtu: u32,
    /// The path of its namespace (`None`: the host's).
    pub netns: Option<PathBuf>,
    /// Its addresses.
    pub addresses: Vec<IpNet>,
    /// The offloads that a TAP uses for the frames that it sends ([`crate::sys::ethtool`]).
    pub offloads: Vec<&'static str>,
    /// Its queues, in the order of the workers.
    pub queues: Vec<Queue>,
    /// The switch may not enter its namespace: it polls name and MAC address, and sees no other change.
    pub polled: bool,
    /// Its devices in the kernel fast path, if it has a veth pair instead of a TAP device of its own.
    pub fast: Option<PortDevices>,
}

/// A change to a port's device by another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LinkChange {
    /// Up or down, with or without carrier, with this MTU.
    State {
        /** `IFF_UP`. */
        up: bool,
        /** Whether it has a carrier. */
        carrier: bool,
        /** The MTU now. */
        mtu: u32,
    },
    /// It has another MAC address.
    Mac(Mac),
    /// It has another name.
    Name(String),
    /// It is in another namespace. The kernel sets it down and removes its addresses.
    Netns {
        /** A path of the namespace; `None`: the host's, or one without a path. */
        netns: Option<PathBuf>,
        /** Inode number of the namespace. */
        ino: u64,
        /** The index of the device there. */
        ifindex: u32,
    },
    /// It has these addresses, without link-local ones.
    Addresses(Vec<IpNet>),
    /// It uses these offloads for the frames that it sends. It accepts super-frames and partial checksums whatever they
    /// are (`tun_get_user` in Linux `drivers/net/tun.c`).
    Offloads(Vec<&'static str>),
    /// This setting of its TAP driver was changed, and has been restored.
    Restored(&'static str),
    /// So many queues of the device belong to other processes, which receive part of its frames.
    ForeignQueues(u32),
    /// The device or its namespace was deleted. A namespace that we created counts as deleted when its name is; the
    /// kernel frees it when the device's queues are closed.
    Gone,
}

impl PortNetns {
    /// Its path; `None`: the host's.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            PortNetns::Host => None,
            PortNetns::New(name) => Some(netns::path(name)),
            PortNetns::Existing(path) => Some(path.clone()),
        }
    }
}
