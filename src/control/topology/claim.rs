//! A switch's claim to its name on this machine, and to what it needs of the kernel.

use std::path::Path;
use std::time::Duration;

use super::build::StagingNetns;
use super::ledger::{Contents, DirectoryLock, Ledger};
use super::link_watcher::LinkWatcher;
use super::{TopologyError, preflight, undo};
use crate::control::Config;
use crate::sys::netlink::Netlink;
use crate::sys::netns::{self, Identity};
use crate::sys::process;

/// Takes the name's ledger, and takes away what stands in it. What that was, in a sentence.
pub(super) fn claim_name(
    name: &str,
    directory: &Path,
    host: &Identity,
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
            // Its device outlives it by a moment.
            if contents.owner.is_some() {
                preflight::wait_until_device_is_gone(name, &mut Netlink::open()?)?;
            }
            Ok((ledger, notice))
        }
    }
}

/// Takes the name's ledger. A process that was killed holds it for a moment more, while the kernel closes its files.
fn take_ledger(name: &str, directory: &Path) -> Result<(Ledger, Contents), TopologyError> {
    const STEP: Duration = Duration::from_millis(5);
    const STEPS: u32 = 400;
    for _ in 0..STEPS {
        match Ledger::claim(directory, name, &DirectoryLock::take(directory)?) {
            Err(TopologyError::Running { pid, .. }) if process::is_ending(pid) => std::thread::sleep(STEP),
            taken => return taken,
        }
    }
    Ledger::claim(directory, name, &DirectoryLock::take(directory)?)
}

/// The parts of the kernel that a switch needs, once `config` is known to fit.
pub(super) fn open_kernel_interfaces(
    config: &Config,
) -> Result<(Netlink, StagingNetns, LinkWatcher), TopologyError> {
    let mut host = Netlink::open()?;
    preflight::check(config, &mut host)?;
    netns::prepare_directory()?;
    Ok((host, StagingNetns::create()?, LinkWatcher::start()?))
}

/// Gives the name up.
pub(super) fn close(ledger: Ledger) -> Result<(), TopologyError> {
    let held = DirectoryLock::take(ledger.directory())?;
    ledger.close(&held)
}
