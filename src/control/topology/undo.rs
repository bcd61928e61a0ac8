//! Deletes the objects that a ledger lists, in reverse order of creation. A failure does not stop the rest.

use super::ledger::{Contents, DirectoryLock, Entry, EntryId, Ledger};
use super::socket_port::remove_socket;
use super::{TopologyError, nat, sysctl};
use crate::sys::existing_tap;
use crate::sys::netns::{self, NetnsEntry, NetnsIdentity};

/// Deletes the objects and their entries. Objects that could not be deleted stay in the ledger for the next start.
pub(super) fn undo(
    ledger: &mut Ledger,
    entries: Vec<(EntryId, Entry)>,
    host: &NetnsIdentity,
) -> Vec<TopologyError> {
    let mut errors = Vec::new();
    for (id, entry) in entries.into_iter().rev() {
        match remove(ledger, &entry, host) {
            Ok(()) => ledger.remove(id),
            Err(error) => errors.push(error),
        }
    }
    errors
}

/// The objects of a killed switch that this process can delete.
pub(super) fn leftovers(contents: &Contents, host: &NetnsIdentity) -> Vec<(EntryId, Entry)> {
    let Some(owner) = &contents.owner else { return Vec::new() };
    let reachable = |entry: &Entry| match entry {
        Entry::Netns { .. } | Entry::Socket { .. } => true,
        // These belong to the network namespace of the switch's host.
        Entry::Table { .. } | Entry::Sysctl(_) | Entry::Tap { .. } => owner.host.is(host),
    };
    // A sandbox's objects end with its processes.
    let standing = contents.entries.iter().filter(|_| !owner.sandboxed);
    standing.filter(|(_, entry)| reachable(entry)).map(|(id, entry)| (*id, entry.clone())).collect()
}

/// The host namespace of a killed switch that left objects there, if it is not the current one.
pub(super) fn other_host<'a>(contents: &'a Contents, host: &NetnsIdentity) -> Option<&'a NetnsIdentity> {
    let owner = contents.owner.as_ref().filter(|owner| !owner.sandboxed && !owner.host.is(host))?;
    let bound =
        contents.entries.values().any(|entry| matches!(entry, Entry::Table { .. } | Entry::Sysctl(_)));
    bound.then_some(&owner.host)
}

/// Describes what a killed switch left, in one sentence.
pub(super) fn describe(switch: &str, leftovers: &[(EntryId, Entry)]) -> Option<String> {
    let names = ["namespace", "nftables table", "kernel setting", "socket", "TAP device"];
    let mut kinds = names.map(|name| (name, 0));
    for (_, entry) in leftovers {
        let kind = match entry {
            Entry::Netns { .. } => 0,
            Entry::Table { .. } => 1,
            Entry::Sysctl(_) => 2,
            Entry::Socket { .. } => 3,
            Entry::Tap { .. } => 4,
        };
        kinds[kind].1 += 1;
    }
    let plural = |count| if count == 1 { "" } else { "s" };
    let counted = kinds.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<_> = counted.map(|(kind, count)| format!("{count} {kind}{}", plural(*count))).collect();
    let found = parts.join(", ");
    (!found.is_empty())
        .then(|| format!("the switch '{switch}' was killed earlier: removed what it left ({found})"))
}

fn remove(ledger: &Ledger, entry: &Entry, host: &NetnsIdentity) -> Result<(), TopologyError> {
    match entry {
        Entry::Netns { name, identity } => match netns::look_up(name)? {
            // Gone, or another namespace has the name now.
            NetnsEntry::Missing => Ok(()),
            NetnsEntry::Netns(other) if other != *identity => Ok(()),
            // The mount point without a namespace mounted on it.
            NetnsEntry::NotNetns | NetnsEntry::Netns(_) => Ok(netns::delete(name)?),
        },
        Entry::Table { name } => nat::remove_table(name),
        Entry::Socket { path } => remove_socket(path),
        Entry::Tap { device, settings } => Ok(existing_tap::restore(device, settings)?),
        Entry::Sysctl(setting) => {
            let held = DirectoryLock::take(ledger.directory())?;
            sysctl::restore(ledger, setting, host, &held)
        }
    }
}
