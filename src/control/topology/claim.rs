//! Claims the switch's name on this machine and opens the kernel interfaces that it needs.

use std::path::Path;
use std::time::Duration;

use super::build::StagingNetns;
use super::ledger::{Contents, DirectoryLock, Ledger};
use super::link_watcher::LinkWatcher;
use super::{LedgerHolder, TopologyError, preflight, undo};
use crate::control::Config;
use crate::sys::netlink::Netlink;
use crate::sys::netns::{self, NetnsIdentity};
use crate::sys::process;

/// Locks the ledger of the name and deletes what a killed switch left. Returns a sentence about what that was.
pub(super) fn claim_name(
    name: &str,
    directory: &Path,
    host: &NetnsIdentity,
) -> Result<(Ledger, Option<String>), TopologyError> {
    let (mut ledger, contents) = take_ledger(name, directory)?;
    if let Some(path) = undo::other_host(&contents, host).and_then(netns::locate) {
        return Err(TopologyError::LeftInOtherNetns { name: name.to_owned(), path });
    }
    let leftovers = undo::leftovers(&contents, host);
    let notice = undo::describe(name, &leftovers);
    match undo::undo(&mut ledger, leftovers, host).into_iter().next() {
        Some(error) => Err(error),
        None => {
            // The kernel deletes the device a moment after the process ended.
            if contents.owner.is_some() {
                preflight::wait_until_device_is_gone(name, &mut Netlink::open()?)?;
            }
            Ok((ledger, notice))
        }
    }
}

/// Locks the ledger of the name. After a kill the lock stays until the kernel has closed the process's files.
fn take_ledger(name: &str, directory: &Path) -> Result<(Ledger, Contents), TopologyError> {
    const STEP: Duration = Duration::from_millis(5);
    const STEPS: u32 = 400;
    for _ in 0..STEPS {
        match Ledger::claim(directory, name, &DirectoryLock::take(directory)?) {
            Err(TopologyError::Running { holder: LedgerHolder::Process(pid), .. })
                if process::is_ending(pid) =>
            {
                std::thread::sleep(STEP);
            }
            taken => return taken,
        }
    }
    Ledger::claim(directory, name, &DirectoryLock::take(directory)?)
}

/// Checks that `config` can be set up, then opens the kernel interfaces that a switch needs.
pub(super) fn open_kernel_interfaces(
    config: &Config,
) -> Result<(Netlink, StagingNetns, LinkWatcher), TopologyError> {
    let mut host = Netlink::open()?;
    preflight::check(config, &mut host)?;
    netns::prepare_directory()?;
    Ok((host, StagingNetns::create()?, LinkWatcher::start()?))
}

/// Releases the name.
pub(super) fn close(ledger: Ledger) -> Result<(), TopologyError> {
    let held = DirectoryLock::take(ledger.directory())?;
    ledger.close(&held)
}
