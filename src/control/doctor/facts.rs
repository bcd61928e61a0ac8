//! What there is to see of this machine.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use ipnet::IpNet;

use crate::control::Config;
use crate::control::config::DEFAULT_NAME;
use crate::control::topology::TopologyError;
use crate::control::topology::inspect::{self, KnownSwitch, kernel_error};
use crate::control::topology::preflight::UsedNetwork;
use crate::datapath;
use crate::sys::sandbox::{self, Restriction};
use crate::sys::tap::{self, TapError};
use crate::sys::{caps, limits, netns, runtime};

const TUN: &str = "/dev/net/tun";

/// What was seen. Who asks is root if nothing is in `missing_capabilities`.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    /// The command that is judged.
    pub(super) start: String,
    /// The kernel's, as `uname -r` says it.
    pub(super) release: String,
    /// Why `auto` does not take io_uring, if it does not.
    pub(super) no_uring: Option<String>,
    /// `kernel.io_uring_disabled`: 0, 1 (for users), 2; none before 6.6.
    pub(super) io_uring_disabled: Option<u64>,
    pub(super) tun: TunState,
    pub(super) missing_capabilities: Vec<&'static str>,
    /// The network namespace is one in which those capabilities hold.
    pub(super) owns_network: bool,
    pub(super) userns: UsernsState,
    pub(super) nft: NftState,
    /// IPv4, IPv6; none where the kernel has no such protocol.
    pub(super) forwarding: [Option<u64>; 2],
    /// `rp_filter` of all devices and of those to come.
    pub(super) rp_filter: [Option<u64>; 2],
    pub(super) subnets: Vec<IpNet>,
    pub(super) taken: Vec<UsedNetwork>,
    pub(super) devices: Vec<String>,
    /// Names of containers that are somebody's namespaces already.
    pub(super) used_names: Vec<String>,
    /// The switch's threads; each port has a queue for each.
    pub(super) workers: u64,
    /// Most files that may be open.
    pub(super) open_files: u64,
    /// Most bytes that may be pinned; none: no limit.
    pub(super) locked_memory: Option<u64>,
    pub(super) switches: Vec<KnownSwitch>,
}

/// `/dev/net/tun`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum TunState {
    Missing,
    /// There, and not for who asks.
    NoPermission,
    /// There, and does not work.
    Broken(String),
    /// Who asks can open it; others can or cannot.
    Open {
        to_all: bool,
    },
}

/// nftables' program, and what it says of the firewall.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum NftState {
    Missing,
    /// Installed; only root may ask it.
    NotQueried,
    /// It failed, and why.
    Broken(String),
    Works {
        /// A chain that drops what is forwarded.
        dropping_chain: Option<String>,
    },
}

/// Namespaces for a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum UsernsState {
    Allowed,
    Restricted(Restriction),
    /// By what is not a setting: in a sentence.
    Forbidden(String),
}

impl Facts {
    /// Looks at the machine for a start of `config`, which `start` asks for. To be called before the process has a second thread.
    ///
    /// # Errors
    /// A part of the kernel that should always work did not.
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
            owns_network: netns::is_ours().map_err(kernel_error("read whose this network namespace is"))?,
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
            switches: inspect::switches(&runtime::path()),
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

fn nft(root: bool) -> NftState {
    if !inspect::has_nft() {
        return NftState::Missing;
    }
    if !root {
        return NftState::NotQueried;
    }
    match inspect::dropping_chain(DEFAULT_NAME) {
        Ok(dropping_chain) => NftState::Works { dropping_chain },
        Err(error) => NftState::Broken(error.to_string()),
    }
}

/// What root may says nothing of others: for them there are only the settings to go by.
fn userns(root: bool) -> Result<UsernsState, TopologyError> {
    let restriction = sandbox::restriction();
    let outcome = match restriction {
        None if !root => sandbox::try_out().map_err(kernel_error("make a process"))?,
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
