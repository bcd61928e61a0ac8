//! Takes away what a ledger says was made: last made, first gone, and one failure stops nothing.

use super::ledger::{Contents, DirectoryLock, Entry, EntryId, Ledger};
use super::{TopologyError, nat, sysctl};
use crate::sys::netns::{self, Found, Identity};

/// Takes all these away and strikes them out. What fails stays in the ledger, for the next start.
pub(super) fn undo(
    ledger: &mut Ledger,
    entries: Vec<(EntryId, Entry)>,
    host: &Identity,
) -> Vec<TopologyError> {
    let mut errors = Vec::new();
    for (id, entry) in entries.into_iter().rev() {
        let gone = remove(ledger, &entry, host).and_then(|()| ledger.remove(id));
        errors.extend(gone.err());
    }
    errors
}

/// What a killed switch left behind and can be taken away from here.
pub(super) fn leftovers(contents: &Contents, host: &Identity) -> Vec<(EntryId, Entry)> {
    let Some(owner) = &contents.owner else { return Vec::new() };
    let reachable = |entry: &Entry| match entry {
        Entry::Netns { .. } => true,
        // In the namespace of its host, which is not this one.
        Entry::Table { .. } | Entry::Sysctl(_) => owner.host.is(host),
    };
    // A sandbox goes with its processes.
    let standing = contents.entries.iter().filter(|_| !owner.sandboxed);
    standing.filter(|(_, entry)| reachable(entry)).map(|(id, entry)| (*id, entry.clone())).collect()
}

/// The namespace of its host, if a killed switch left something there and this is another.
pub(super) fn other_host<'a>(contents: &'a Contents, host: &Identity) -> Option<&'a Identity> {
    let owner = contents.owner.as_ref().filter(|owner| !owner.sandboxed && !owner.host.is(host))?;
    let bound = contents.entries.values().any(|entry| !matches!(entry, Entry::Netns { .. }));
    bound.then_some(&owner.host)
}

/// What a killed switch left, in a sentence.
pub(super) fn describe(switch: &str, leftovers: &[(EntryId, Entry)]) -> Option<String> {
    let mut kinds = [("namespace", 0), ("nftables table", 0), ("kernel setting", 0)];
    for (_, entry) in leftovers {
        let kind = match entry {
            Entry::Netns { .. } => 0,
            Entry::Table { .. } => 1,
            Entry::Sysctl(_) => 2,
        };
        kinds[kind].1 += 1;
    }
    let plural = |count| if count == 1 { "" } else { "s" };
    let counted = kinds.iter().filter(|(_, count)| *count > 0);
    let parts: Vec<_> = counted.map(|(kind, count)| format!("{count} {kind}{}", plural(*count))).collect();
    let found = parts.join(", ");
    (!found.is_empty())
        .then(|| format!("the switch '{switch}' was killed before: took away what it left ({found})"))
}

fn remove(ledger: &Ledger, entry: &Entry, host: &Identity) -> Result<(), TopologyError> {
    match entry {
        Entry::Netns { name, identity } => match netns::look_up(name)? {
            // Gone, or the name was given to another.
            Found::Nothing => Ok(()),
            Found::Netns(other) if other != *identity => Ok(()),
            // A file that is no namespace yet, or no more, is the name itself.
            Found::File | Found::Netns(_) => Ok(netns::delete(name)?),
        },
        Entry::Table { name } => nat::remove_table(name),
        Entry::Sysctl(setting) => {
            let held = DirectoryLock::take(ledger.directory())?;
            sysctl::restore(ledger, setting, host, &held)
        }
    }
}
