//! What a start would meet on this machine: looked at, not changed.

use std::io;
use std::path::Path;

use super::ledger::{self, Entry};
use super::preflight::{self, UsedNetwork};
use super::{TopologyError, nat};
use crate::control::Config;
use crate::sys::netlink::{Netlink, NetlinkError};
use crate::sys::netns;

/// A switch of this user: it runs, or it was killed and left something behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KnownSwitch {
    pub(crate) name: String,
    /// Of its process, if it runs; 0 while it starts.
    pub(crate) pid: Option<u32>,
    /// The named namespaces that it made.
    pub(crate) containers: Vec<String>,
}

/// The switches with a ledger in `runtime`, in order.
pub(crate) fn switches(runtime: &Path) -> Vec<KnownSwitch> {
    let found = ledger::list(runtime).into_iter();
    found
        .map(|(name, contents, runs)| KnownSwitch {
            name,
            pid: runs.then(|| contents.owner.as_ref().map_or(0, |owner| owner.pid)),
            containers: contents.entries.into_values().filter_map(container).collect(),
        })
        .collect()
}

fn container(entry: Entry) -> Option<String> {
    match entry {
        Entry::Netns { name, .. } => Some(name),
        _ => None,
    }
}

/// The names of the host's devices, and the networks that it knows.
pub(crate) fn network() -> Result<(Vec<String>, Vec<UsedNetwork>), NetlinkError> {
    let mut host = Netlink::open()?;
    let links = preflight::device_names(&mut host)?;
    let networks = preflight::used_networks(&mut host, &links)?;
    Ok((links.into_values().collect(), networks))
}

/// Which of the containers' names are those of namespaces that are there.
pub(crate) fn used_names(config: &Config) -> Vec<String> {
    let names = (1..=config.ports).map(|number| config.container(number));
    names.filter(|name| netns::path(name).symlink_metadata().is_ok()).collect()
}

/// The program nft is installed.
pub(crate) fn has_nft() -> bool {
    nat::program().is_some()
}

/// See [`nat::dropping_chain`].
pub(crate) fn dropping_chain(host_port: &str) -> Result<Option<String>, TopologyError> {
    nat::dropping_chain(host_port)
}

/// A part of the kernel that should always work did not.
pub(crate) fn kernel_error(what: &'static str) -> impl FnOnce(io::Error) -> TopologyError {
    move |source| TopologyError::Kernel { what, source }
}
