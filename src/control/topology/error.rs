//! Errors of building and removing a topology.

use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use nftables::helper::NftablesError;

use super::LedgerHolder;
use crate::sys::frame_socket::FrameSocketError;
use crate::sys::netlink::NetlinkError;
use crate::sys::netns::NetnsError;
use crate::sys::packet_port::PacketPortError;
use crate::sys::runtime_dir::RuntimeDirError;
use crate::sys::sandbox::SandboxError;
use crate::sys::tap::TapError;
use crate::sys::tap_handle::AdoptError;

/// Each message says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// Another process holds the ledger of the name.
    #[error(
        "a switch named '{name}' is already {holder}: `uswitch stop --name {name}`, or choose another --name"
    )]
    Running {
        /** Name of the switch. */
        name: String,
        /** The process that holds the ledger. */
        holder: LedgerHolder,
    },
    /// A killed switch left objects in another network namespace.
    #[error(
        "the switch '{name}' was killed in another network namespace and left its NAT there: `nsenter --net={path} uswitch stop --name {name}` removes it",
        path = .path.display()
    )]
    LeftInOtherNetns {
        /** Name of the switch. */
        name: String,
        /** A path of that namespace. */
        path: PathBuf,
    },
    /// The host uses addresses of the subnet.
    #[error(
        "the subnet {subnet} overlaps {with} on this host (device {device}): choose another --subnet, or use --internal"
    )]
    Overlap {
        /** The requested subnet. */
        subnet: IpNet,
        /** The address or route of the host. */
        with: IpNet,
        /** The device that has it. */
        device: String,
    },
    /// Several containers have names of existing namespaces.
    #[error(
        "the network namespaces {first} and {more} more with the prefix '{prefix}' exist already: choose another --prefix"
    )]
    NetnsExist {
        /** The first of them. */
        first: String,
        /** How many others. */
        more: usize,
        /** The prefix of the containers' names. */
        prefix: String,
    },
    /// A start has several conflicts.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Conflicts(Vec<TopologyError>),
    /// Each queue of each port is an open file.
    #[error(
        "the switch needs {needed} open files and the limit is {limit}: raise it with `ulimit -n {needed}`, or use fewer --ports or --workers"
    )]
    OpenFiles {
        /** Number of files that the switch opens. */
        needed: u64,
        /** The hard limit. */
        limit: u64,
    },
    /// A port of the host that cannot be published.
    #[error(
        "port {number}/{protocol} of the host is in use by another program or switch (`ss -lntup` lists them), or for a minute by connections of a program that has ended (`ss -tan`): choose another, or wait"
    )]
    HostPortInUse {
        /** The port. */
        number: u16,
        /** `tcp` or `udp`. */
        protocol: &'static str,
    },
    /// A port to publish at an address of another host.
    #[error("the host does not have the address {0}: choose one that `ip address` lists")]
    ForeignAddress(IpAddr),
    /// The program nft is missing.
    #[error(
        "--nat, --vlan-gateway and published ports need the program nft, which is not installed: `apt install nftables`, or start without them"
    )]
    NoNft,
    /// nft returned an error.
    #[error("nft failed: {0}")]
    Nft(String),
    /// The host has a device with the switch's name, which the host port's device needs.
    #[error(
        "a device named '{0}' already exists on this host: choose another --name, or delete it with `ip link del {0}`"
    )]
    HostDeviceExists(String),
    /// The host has a device with the name that another program's device should have.
    #[error("a device named '{0}' already exists on this host: choose another --ifname")]
    HostIfnameExists(String),
    /// The target namespace has a device with this name.
    #[error("a device named '{ifname}' already exists in {netns}: choose another --ifname", netns = .netns.display())]
    DeviceExists {
        /** Name of the device. */
        ifname: String,
        /** The namespace. */
        netns: PathBuf,
    },
    /// The namespace of a new port is the host's.
    #[error(
        "{netns} is the network namespace of the host, whose port is 'host': name the namespace of a container",
        netns = .0.display()
    )]
    HostNetns(PathBuf),
    /// All addresses of a port are IPv6 addresses, and IPv6 is disabled in its namespace.
    #[error(
        "IPv6 is disabled in the network namespace of {0}: enable it there with `sysctl -w net.ipv6.conf.all.disable_ipv6=0`, or add an IPv4 address"
    )]
    NoIpv6(String),
    /// A kernel setting could not be read or written.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Sysctl {
        /** `read` or `write`. */
        what: &'static str,
        /** Path below `/proc/sys`. */
        path: PathBuf,
        /** The cause. */
        source: io::Error,
    },
    /// The ledger could not be read or written.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Ledger {
        /** The operation. */
        what: &'static str,
        /** The ledger or its directory. */
        path: PathBuf,
        /** The cause. */
        source: io::Error,
    },
    /// A start failed after it had removed what a killed switch left.
    #[error("{why} ({notice})")]
    AfterCleanUp {
        /** The error of the start. */
        why: Box<TopologyError>,
        /** What was removed. */
        notice: String,
    },
    /// There is no device to open.
    #[error(
        "there is no device named '{0}' in the network namespace of the switch: `ip link` lists the devices, and \
         `ip link set {0} netns PID` moves one there"
    )]
    NoDevice(String),
    /// The device to open is in a namespace in which the switch has no capabilities.
    #[error(
        "without root, --tap opens a device of the namespace in which the command is typed: type it there, without --netns"
    )]
    ForeignTap,
    /// There is no device to open in a namespace that is not the switch's.
    #[error("there is no device named '{0}' in that namespace: `ip tuntap` there lists the TAP devices")]
    NoTap(String),
    /// Another program has the device open, which is in a namespace that is not the switch's.
    #[error(
        "another program has the TAP device '{0}' open: without root, or in another namespace, a switch can use only one that no program has open"
    )]
    TapInUse(String),
    /// The device to open has no Ethernet frames.
    #[error(
        "'{0}' is not an Ethernet device: choose one like a network card, the end of a veth pair or a macvtap"
    )]
    NotEthernet(String),
    /// The device to open is not a TAP device.
    #[error("'{0}' is not a TAP device: `ip tuntap` lists them, and --device attaches other devices")]
    NotTap(String),
    /// A TAP device with another header before each frame.
    #[error("the TAP device '{0}' has packet information before each frame: create it without 'pi'")]
    PacketInfo(String),
    /// The device to open belongs to the switch.
    #[error("'{0}' is the device of the host port: choose another one")]
    OwnDevice(String),
    /// The device to open is a port of this switch.
    #[error("the device '{0}' is already a port of this switch")]
    IsPort(String),
    /// The device to open is a port of a bridge or of a bond.
    #[error(
        "the device '{device}' belongs to '{controller}': remove it there first (`ip link set {device} nomaster`)"
    )]
    HasController {
        /** Name of the device. */
        device: String,
        /** The bridge or bond. */
        controller: String,
    },
    /// Existing devices.
    #[error("{ifname}: {source}")]
    PacketPort {
        /** Name of the device. */
        ifname: String,
        /** The cause. */
        source: PacketPortError,
    },
    /// The socket of a port.
    #[error("{path}: {source}", path = .path.display())]
    Socket {
        /** Its path. */
        path: PathBuf,
        /** The cause. */
        source: FrameSocketError,
    },
    /// The topology does not have this device.
    #[error("the topology has no such device")]
    NoSuchDevice,
    /// A device that ends with its port cannot be kept.
    #[error(
        "the device of the port ends with its namespace, which the switch created: only one in another namespace (--netns) can be kept"
    )]
    KeptInOwnNetns,
    /// As [`TopologyError::KeptInOwnNetns`].
    #[error(
        "the device of the port is one end of a veth pair, which ends with it: only a TAP device can be kept, of a switch that was started with --fast-path off"
    )]
    KeptVeth,
    /// As [`TopologyError::KeptInOwnNetns`].
    #[error("the port has no device that can be kept: it is a socket, or its device is gone")]
    NoDeviceToKeep,
    /// A port that is to be replaced in the namespace that was created for it, and that works.
    #[error("the namespace '{0}' ends with the port that is replaced: leave out --netns, for a new one")]
    EndsWithPort(String),
    /// TAP devices.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A device that was handed over.
    #[error(transparent)]
    Adopt(#[from] AdoptError),
    /// Network namespaces.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Devices, addresses, routes.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The runtime directory.
    #[error(transparent)]
    Runtime(#[from] RuntimeDirError),
    /// The sandbox of a switch without root.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A kernel interface that should always work.
    #[error("cannot {what}: {source}")]
    Kernel {
        /** The operation. */
        what: &'static str,
        /** The cause. */
        source: io::Error,
    },
}

impl From<NftablesError> for TopologyError {
    fn from(error: NftablesError) -> Self {
        match error {
            NftablesError::NftExecution { inner, .. } if inner.kind() == io::ErrorKind::NotFound => {
                Self::NoNft
            }
            NftablesError::NftFailed { stderr, .. } => Self::Nft(stderr.trim().replace('\n', "; ")),
            other => Self::Nft(other.to_string()),
        }
    }
}
