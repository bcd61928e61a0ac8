//! Reads the state of this machine that a start depends on. Changes nothing.

use std::io;
use std::path::Path;

use super::ledger::{self, LedgerEntry};
use super::preflight::{self, UsedNetwork};
use super::{LedgerHolder, TopologyError, nat};
use crate::control::Config;
use crate::sys::netlink::{Netlink, NetlinkError};
use crate::sys::netns;

/// A switch of the current user that runs, or that was killed and left objects behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownSwitch {
    pub(crate) name: String,
    /// The process that holds its ledger if the switch runs.
    pub(crate) holder: Option<LedgerHolder>,
    /// The named network namespaces of the switch.
    pub(crate) containers: Vec<String>,
}

/// The switches that have a ledger in `runtime`, by name.
pub(crate) fn switches(runtime: &Path) -> Vec<KnownSwitch> {
    let found = ledger::list(runtime).into_iter();
    found
        .map(|(name, contents, runs)| KnownSwitch {
            name,
            holder: runs.then(|| contents.holder()),
            containers: contents.entries.into_values().filter_map(container).collect(),
        })
        .collect()
}

fn container(entry: LedgerEntry) -> Option<String> {
    match entry {
        LedgerEntry::Netns { name, .. } => Some(name),
        _ => None,
    }
}

/// The host's device names and the networks that it uses.
pub(crate) fn network() -> Result<(Vec<String>, Vec<UsedNetwork>), NetlinkError> {
    let mut host = Netlink::open()?;
    let links = preflight::device_names(&mut host)?;
    let networks = preflight::used_networks(&mut host, &links)?;
    Ok((links.into_values().collect(), networks))
}

/// The container names of `config` that existing network namespaces have.
pub(crate) fn used_names(config: &Config) -> Vec<String> {
    let names = (1..=config.ports).map(|number| config.container(number));
    names.filter(|name| netns::path(name).symlink_metadata().is_ok()).collect()
}

/// Whether the program nft is installed.
pub(crate) fn has_nft() -> bool {
    nat::program().is_some()
}

/// Wraps an error of a kernel interface that should always work.
pub(crate) fn kernel_error(what: &'static str) -> impl FnOnce(io::Error) -> TopologyError {
    move |source| TopologyError::Kernel { what, source }
}
