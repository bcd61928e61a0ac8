//! Why a topology could not be made or taken away.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;
use nftables::helper::NftablesError;

use crate::sys::netlink::NetlinkError;
use crate::sys::netns::NetnsError;
use crate::sys::runtime::RuntimeError;
use crate::sys::sandbox::SandboxError;
use crate::sys::tap::TapError;

/// Each a sentence that says what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// A process holds the name's ledger.
    #[error(
        "the switch '{name}' is running already (process {pid}): `uswitch stop --name {name}`, or choose another --name"
    )]
    Running {
        /** Of the switch. */
        name: String,
        /** Of its process; 0 if that cannot be read. */
        pid: u32,
    },
    /// A killed switch left things where this process cannot take them away.
    #[error(
        "the switch '{name}' was killed in another network namespace and left its NAT there: `nsenter --net={path} uswitch stop {name}` takes it away",
        path = .path.display()
    )]
    LeftInOtherNetns {
        /** Of the switch. */
        name: String,
        /** Leads to the namespace. */
        path: PathBuf,
    },
    /// The subnet is in use here.
    #[error(
        "the subnet {subnet} overlaps {with} of this host ({device}): choose another --subnet, or --internal"
    )]
    Overlap {
        /** That was asked for. */
        subnet: IpNet,
        /** An address or a route that is there. */
        with: IpNet,
        /** Where it is. */
        device: String,
    },
    /// Every queue of every port is an open file.
    #[error(
        "{needed} open files are needed and the limit is {limit}: raise it with `ulimit -n {needed}`, or take fewer --ports or --workers"
    )]
    OpenFiles {
        /** How many. */
        needed: u64,
        /** The hard limit. */
        limit: u64,
    },
    /// NAT takes nftables' program.
    #[error(
        "--nat needs the program nft, which is not installed: `apt install nftables`, or leave --nat out"
    )]
    NoNft,
    /// nft said no.
    #[error("nft failed: {0}")]
    Nft(String),
    /// The host port's device has the switch's name.
    #[error("there is a device '{0}' on this host already: choose another --name, or `ip link del {0}`")]
    HostDeviceExists(String),
    /// The device's name is taken where it should go.
    #[error("there is a device '{ifname}' already in {netns}: choose another --ifname", netns = .netns.display())]
    DeviceExists {
        /** The name. */
        ifname: String,
        /** The namespace. */
        netns: PathBuf,
    },
    /// All addresses of a port are IPv6 ones, and its namespace takes none.
    #[error(
        "IPv6 is disabled in the namespace of {0}: `sysctl -w net.ipv6.conf.all.disable_ipv6=0` there first, or give an IPv4 address"
    )]
    NoIpv6(String),
    /// A kernel setting could not be read or written.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Sysctl {
        /** `read` or `write`. */
        what: &'static str,
        /** Under `/proc/sys`. */
        path: PathBuf,
        /** Why. */
        source: io::Error,
    },
    /// The ledger could not be kept.
    #[error("cannot {what} {path}: {source}", path = .path.display())]
    Ledger {
        /** What was tried. */
        what: &'static str,
        /** The ledger or its directory. */
        path: PathBuf,
        /** Why. */
        source: io::Error,
    },
    /// A start failed, for a reason of its own, after it had taken away what a killed switch left.
    #[error("{why} ({notice})")]
    AfterCleanUp {
        /** Of the failure. */
        why: Box<TopologyError>,
        /** What was taken away. */
        notice: String,
    },
    /// No such device here.
    #[error("the topology has no such device")]
    NoSuchDevice,
    /// TAP.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// Namespaces.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// Devices, addresses, routes.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The directory of sockets and ledgers.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
    /// The namespaces for a switch without root.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// A part of the kernel that should always work.
    #[error("cannot {what}: {source}")]
    Kernel {
        /** What was tried. */
        what: &'static str,
        /** Why. */
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
