//! Collects the facts about this machine that the checks need.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnet::IpNet;

use crate::control::Config;
use crate::control::config::DEFAULT_NAME;
use crate::control::topology::TopologyError;
use crate::control::topology::firewall::{self, DroppingChain};
use crate::control::topology::inspect::{self, KnownSwitch, kernel_error};
use crate::control::topology::neighbours;
use crate::control::topology::preflight::UsedNetwork;
use crate::datapath;
use crate::fastpath::FastPath;
use crate::sys::packet_port::{self, PacketPortError};
use crate::sys::sandbox::{self, Restriction};
use crate::sys::tap::{self, TapError};
use crate::sys::{caps, confine, limits, netns, runtime_dir};

const TUN: &str = "/dev/net/tun";

/// The facts. The current user counts as root if `missing_capabilities` is empty.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The start command that the checks are about.
    pub(super) start: String,
    /// The kernel release, as `uname -r` shows it.
    pub(super) release: String,
    /// The reason why `--engine auto` does not use io_uring, if it does not.
    pub(super) no_uring: Option<String>,
    /// `kernel.io_uring_disabled`: 0, 1 (disabled for unprivileged users) or 2 (disabled); `None` before Linux 6.6.
    pub(super) io_uring_disabled: Option<u64>,
    pub(super) tun: TunState,
    pub(super) missing_capabilities: Vec<&'static str>,
    /// The capabilities apply to the current network namespace.
    pub(super) owns_network: bool,
    pub(super) userns: UsernsState,
    pub(super) nft: NftState,
    /// IPv4 and IPv6; `None` if the kernel does not have the protocol.
    pub(super) forwarding: [Option<u64>; 2],
    /// `rp_filter` of `all` and `default`.
    pub(super) rp_filter: [Option<u64>; 2],
    pub(super) subnets: Vec<IpNet>,
    pub(super) taken: Vec<UsedNetwork>,
    pub(super) devices: Vec<String>,
    /// Container names that existing network namespaces have.
    pub(super) used_names: Vec<String>,
    /// Number of worker threads; each port has one queue for each.
    pub(super) workers: u64,
    /// Hard limit of open files.
    pub(super) open_files: u64,
    /// Limit of locked memory in bytes; `None`: unlimited.
    pub(super) locked_memory: Option<u64>,
    /// Why existing devices cannot be ports, if so. For other users than root this is not known.
    pub(super) no_packet_ports: Option<String>,
    /// The devices of Wi-Fi networks.
    pub(super) wireless: Vec<String>,
    /// `net.core.wmem_max`.
    pub(super) wmem_max: Option<u64>,
    /// The kernel has Landlock.
    pub(super) landlock: bool,
    /// Why there is no kernel fast path, if there is none.
    pub(super) no_fast_path: Option<String>,
    /// Limit of entries in the kernel's neighbour tables.
    pub(super) neighbours: u64,
    pub(super) switches: Vec<KnownSwitch>,
}

/// State of `/dev/net/tun`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TunState {
    Missing,
    /// The current user may not open it.
    NoPermission,
    /// Opening it fails for another reason.
    Broken(String),
    /// The current user can open it; `to_all`: all users can.
    Open {
        to_all: bool,
    },
}

/// State of the program nft, and what it shows of the firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NftState {
    Missing,
    /// Installed; only root may run it.
    NotQueried,
    /// It fails, with the error.
    Broken(String),
    Works {
        /// The chains that drop packets of containers.
        dropping: Vec<DroppingChain>,
    },
}

/// Whether users other than root may make user namespaces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UsernsState {
    Allowed,
    Restricted(Restriction),
    /// Refused for a reason other than a setting, as a sentence.
    Forbidden(String),
}

impl Facts {
    /// Collects the facts for a start with `config`; `start` is its command line. To be called while the process has
    /// one thread.
    ///
    /// # Errors
    /// A kernel interface that should always work failed.
    pub(crate) fn gather(config: &Config, start: String) -> Result<Facts, TopologyError> {
        let missing_capabilities =
            caps::missing().map_err(kernel_error("read this process's capabilities"))?;
        let root = missing_capabilities.is_empty();
        let userns = userns(root)?;
        let (devices, taken) = inspect::network()?;
        Ok(Facts {
            start,
            release: fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned(),
            no_uring: datapath::probe().1,
            io_uring_disabled: number("kernel/io_uring_disabled"),
            tun: tun(),
            missing_capabilities,
            owns_network: netns::is_administered()
                .map_err(kernel_error("read the owner of this network namespace"))?,
            userns,
            nft: nft(root),
            forwarding: ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"].map(number),
            rp_filter: ["net/ipv4/conf/all/rp_filter", "net/ipv4/conf/default/rp_filter"].map(number),
            subnets: config.subnets.clone(),
            taken,
            devices,
            used_names: inspect::used_names(config),
            workers: config.workers as u64,
            open_files: limits::open_files().map_err(kernel_error("read the limit of open files"))?,
            locked_memory: locked_memory()?,
            no_packet_ports: no_packet_ports(root),
            wireless: wireless(),
            wmem_max: number("net/core/wmem_max"),
            landlock: confine::has_landlock(),
            no_fast_path: FastPath::new(2, [0, 1], BTreeMap::new()).err().map(|error| error.to_string()),
            neighbours: neighbours::limit(),
            switches: inspect::switches(&runtime_dir::path()),
        })
    }
}

fn number(setting: &str) -> Option<u64> {
    fs::read_to_string(Path::new("/proc/sys").join(setting)).ok()?.trim().parse().ok()
}

fn tun() -> TunState {
    match tap::check_driver() {
        Ok(()) => {
            TunState::Open { to_all: fs::metadata(TUN).is_ok_and(|found| found.mode() & 0o006 == 0o006) }
        }
        Err(TapError::NoDriver) => TunState::Missing,
        Err(TapError::NoPermission) => TunState::NoPermission,
        Err(error) => TunState::Broken(error.to_string()),
    }
}

/// The kernel has this link for the devices of cfg80211 (`net/wireless/core.c`).
fn wireless() -> Vec<String> {
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let wireless = devices.filter(|device| device.path().join("phy80211").exists());
    wireless.map(|device| device.file_name().to_string_lossy().into_owned()).collect()
}

/// A switch without root has `CAP_NET_RAW` in its sandbox, whatever this user may do here.
fn no_packet_ports(root: bool) -> Option<String> {
    match packet_port::check() {
        Err(PacketPortError::NoPermission) if !root => None,
        outcome => outcome.err().map(|error| error.to_string()),
    }
}

fn nft(root: bool) -> NftState {
    if !inspect::has_nft() {
        return NftState::Missing;
    }
    if !root {
        return NftState::NotQueried;
    }
    match firewall::dropping_chains(DEFAULT_NAME) {
        Ok(dropping) => NftState::Works { dropping },
        Err(error) => NftState::Broken(error.to_string()),
    }
}

/// For root only the settings are checked, because a successful attempt of root does not show that users may.
fn userns(root: bool) -> Result<UsernsState, TopologyError> {
    let restriction = sandbox::restriction();
    let outcome = match restriction {
        None if !root => sandbox::probe().map_err(kernel_error("make a process"))?,
        _ => Ok(()),
    };
    Ok(match (restriction, outcome) {
        (Some(restriction), _) => UsernsState::Restricted(restriction),
        (None, Err(why)) => UsernsState::Forbidden(why),
        (None, Ok(())) => UsernsState::Allowed,
    })
}

fn locked_memory() -> Result<Option<u64>, TopologyError> {
    if caps::can_pin_memory().map_err(kernel_error("read this process's capabilities"))? {
        return Ok(None);
    }
    let limit = limits::locked_memory().map_err(kernel_error("read the limit of locked memory"))?;
    Ok(Some(limit).filter(|limit| *limit != u64::MAX))
}
