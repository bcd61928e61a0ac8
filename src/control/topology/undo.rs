//! Deletes the objects that a ledger lists, in reverse order of creation. A failure does not stop the rest.

use super::ledger::{Contents, DirectoryLock, EntryId, Ledger, LedgerEntry};
use super::socket_port::remove_socket;
use super::{TopologyError, nat, sysctl};
use crate::sys::existing_tap;
use crate::sys::netns::{self, NetnsEntry, NetnsIdentity};

/// Deletes the objects and their entries. Objects that could not be deleted stay in the ledger for the next start.
pub(super) fn undo(
    ledger: &mut Ledger,
    entries: Vec<(EntryId, LedgerEntry)>,
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
pub(super) fn leftovers(contents: &Contents, host: &NetnsIdentity) -> Vec<(EntryId, LedgerEntry)> {
    let Some(owner) = &contents.owner else { return Vec::new() };
    let reachable = |entry: &LedgerEntry| match entry {
        LedgerEntry::Netns { .. } | LedgerEntry::Socket { .. } => true,
        // These belong to the network namespace of the switch's host.
        LedgerEntry::Table { .. } | LedgerEntry::Sysctl(_) | LedgerEntry::Tap { .. } => owner.host.is(host),
    };
    // A sandbox's objects end with its processes.
    let standing = contents.entries.iter().filter(|_| !owner.sandboxed);
    standing.filter(|(_, entry)| reachable(entry)).map(|(id, entry)| (*id, entry.clone())).collect()
}

/// The host namespace of a killed switch that left objects there, if it is not the current one.
pub(super) fn other_host<'a>(contents: &'a Contents, host: &NetnsIdentity) -> Option<&'a NetnsIdentity> {
    let owner = contents.owner.as_ref().filter(|owner| !owner.sandboxed && !owner.host.is(host))?;
    let bound = contents
        .entries
        .values()
        .any(|entry| matches!(entry, LedgerEntry::Table { .. } | LedgerEntry::Sysctl(_)));
    bound.then_some(&owner.host)
}

/// Describes what a killed switch left, in one sentence.
pub(super) fn describe(switch: &str, leftovers: &[(EntryId, LedgerEntry)]) -> Option<String> {
    let names = ["namespace", "nftables table", "kernel setting", "socket", "TAP device"];
    let mut kinds = names.map(|name| (name, 0));
    for (_, entry) in leftovers {
        let kind = match entry {
            LedgerEntry::Netns { .. } => 0,
            LedgerEntry::Table { .. } => 1,
            LedgerEntry::Sysctl(_) => 2,
            LedgerEntry::Socket { .. } => 3,
            LedgerEntry::Tap { .. } => 4,
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

fn remove(ledger: &Ledger, entry: &LedgerEntry, host: &NetnsIdentity) -> Result<(), TopologyError> {
    match entry {
        LedgerEntry::Netns { name, identity } => match netns::look_up(name)? {
            // Gone, or another namespace has the name now.
            NetnsEntry::Missing => Ok(()),
            NetnsEntry::Netns(other) if other != *identity => Ok(()),
            // The mount point without a namespace mounted on it.
            NetnsEntry::NotNetns | NetnsEntry::Netns(_) => Ok(netns::delete(name)?),
        },
        LedgerEntry::Table { name } => nat::remove_table(name),
        LedgerEntry::Socket { path } => remove_socket(path),
        LedgerEntry::Tap { device, settings } => Ok(existing_tap::restore(device, settings)?),
        LedgerEntry::Sysctl(setting) => {
            let held = DirectoryLock::take(ledger.directory())?;
            sysctl::restore(ledger, setting, host, &held)
        }
    }
}
