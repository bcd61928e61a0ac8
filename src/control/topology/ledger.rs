//! What a switch made on the machine, on file: each thing is written down before it is made and removed out
//! when it is gone, so that whoever comes after a crash knows what to take away.
//!
//! The file is JSON lines, appended to, one `write` a line, and replaced as a whole now and then, so that ports that
//! come and go do not make it grow for ever. The living process holds a lock (flock(2)) on it:
//! the lock, which no crash leaves behind, says that the switch runs. Nothing is synced to disk: a crash of the
//! machine takes the things themselves away.
//!
//! The directory is locked, briefly, whenever ledgers are looked at across switches: to claim a name, and
//! for the kernel's settings that several switches share.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::TopologyError;
use crate::sys::netns::Identity;

/// How a ledger's file name ends.
const SUFFIX: &str = "ledger";
/// Lines removed out before the file is written anew.
const MAX_REMOVED_LINES: usize = 4096;

/// One thing that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Entry {
    /// A named namespace; whatever has that name and is not this one is not ours.
    Netns { name: String, identity: Identity },
    /// A table of nftables in the inet family.
    Table { name: String },
    /// A kernel setting that was changed.
    Sysctl(Setting),
}

/// A kernel setting: as it was found, and as it was set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    /// Under `/proc/sys`.
    pub(super) path: PathBuf,
    pub(super) found: String,
    pub(super) set: String,
    /// Settings that the kernel changes along with this one, as they were found, where that is not what
    /// the kernel makes of them when this one is put back.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) side_effects: BTreeMap<PathBuf, String>,
}

/// Names an entry in its ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct EntryId(u64);

impl EntryId {
    pub(super) const FIRST: EntryId = EntryId(0);
}

/// Who keeps a ledger, and where the entries are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// The namespace that is "the host" for the switch.
    pub(super) host: Identity,
    /// It has namespaces of its own, in which nothing outlives it.
    pub(super) sandboxed: bool,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Line {
    Owner(Owner),
    Made {
        id: EntryId,
        entry: Entry,
    },
    Gone(EntryId),
    /// Another switch that changed this setting has gone, and leaves what it found for us to restore.
    HandedOver(Setting),
}

/// What a ledger says when all its lines are read.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) owner: Option<Owner>,
    /// In the order in which they were made.
    pub(super) entries: BTreeMap<EntryId, Entry>,
}

impl Contents {
    /// Reads all lines. One that cannot be read (a crash cuts the last one) proves nothing, and is left out.
    fn read(text: &str) -> Contents {
        let mut contents = Contents::default();
        for line in text.lines().filter_map(|line| serde_json::from_str(line).ok()) {
            match line {
                Line::Owner(owner) => contents.owner = Some(owner),
                Line::Made { id, entry } => {
                    contents.entries.insert(id, entry);
                }
                Line::Gone(id) => {
                    contents.entries.remove(&id);
                }
                Line::HandedOver(setting) => contents.take_over(&setting),
            }
        }
        contents
    }

    fn take_over(&mut self, left: &Setting) {
        for entry in self.entries.values_mut() {
            if let Entry::Sysctl(ours) = entry
                && ours.path == left.path
            {
                ours.clone_from(left);
            }
        }
    }

    /// The settings that stand in it.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Sysctl(setting) => Some(setting),
            _ => None,
        })
    }
}

/// A ledger that this process holds.
#[derive(Debug)]
pub(super) struct Ledger {
    directory: PathBuf,
    path: PathBuf,
    file: Flock<File>,
    next: u64,
    removed: usize,
}

/// The directory of ledgers, held.
#[derive(Debug)]
pub(super) struct DirectoryLock(#[allow(dead_code, reason = "held, not read")] Flock<File>);

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<DirectoryLock, TopologyError> {
        let failed = io_error("lock", directory);
        let file = File::open(directory).map_err(&failed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        lock.map(DirectoryLock).map_err(|(_, error)| failed(error.into()))
    }
}

impl Ledger {
    /// Takes the ledger of `name` and returns it with what still stands in it from a switch that was killed.
    /// The caller holds the directory, so nobody removes the file meanwhile.
    pub(super) fn claim(
        directory: &Path,
        name: &str,
        _held: &DirectoryLock,
    ) -> Result<(Ledger, Contents), TopologyError> {
        let path = directory.join(format!("{name}.{SUFFIX}"));
        let failed = io_error("open", &path);
        let file = options().open(&path).map_err(&failed)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                let mut ledger = Ledger { directory: directory.to_owned(), path, file, next: 0, removed: 0 };
                let contents = ledger.contents()?;
                ledger.next = contents.entries.keys().next_back().map_or(0, |last| last.0 + 1);
                Ok((ledger, contents))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let pid =
                    read(&mut file).ok().and_then(|contents| contents.owner).map_or(0, |owner| owner.pid);
                Err(TopologyError::Running { name: name.to_owned(), pid })
            }
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Starts anew: nothing stands in it.
    pub(super) fn start(&mut self, owner: Owner) -> Result<(), TopologyError> {
        self.file.set_len(0).map_err(io_error("empty", &self.path))?;
        self.next = 0;
        self.write(&Line::Owner(owner))
    }

    /// Writes down what is about to be made.
    pub(super) fn record(&mut self, entry: Entry) -> Result<EntryId, TopologyError> {
        let id = EntryId(self.next);
        self.next += 1;
        self.write(&Line::Made { id, entry })?;
        Ok(id)
    }

    /// The next entry: those from it on are made after now.
    pub(super) fn next_id(&self) -> EntryId {
        EntryId(self.next)
    }

    /// Strikes out what is gone.
    pub(super) fn remove(&mut self, id: EntryId) -> Result<(), TopologyError> {
        self.write(&Line::Gone(id))?;
        self.removed += 1;
        if self.removed > MAX_REMOVED_LINES { self.rewrite() } else { Ok(()) }
    }

    /// Replaces the file by one without what was removed out. Nobody but us opens it meanwhile: that takes the
    /// directory.
    fn rewrite(&mut self) -> Result<(), TopologyError> {
        let _held = DirectoryLock::take(&self.directory)?;
        let contents = self.contents()?;
        let path = self.path.with_extension("new");
        let failed = io_error("write", &path);
        let file = options().open(&path).map_err(&failed)?;
        file.set_len(0).map_err(&failed)?;
        let mut file =
            Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| failed(error.into()))?;
        let owner = contents.owner.into_iter().map(Line::Owner);
        let made = contents.entries.into_iter().map(|(id, entry)| Line::Made { id, entry });
        for line in owner.chain(made) {
            append(&mut file, &line).map_err(&failed)?;
        }
        fs::rename(&path, &self.path).map_err(&failed)?;
        self.file = file;
        self.removed = 0;
        Ok(())
    }

    /// What stands in it, with what other switches left us meanwhile.
    pub(super) fn contents(&mut self) -> Result<Contents, TopologyError> {
        read(&mut self.file).map_err(io_error("read", &self.path))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Leaves the value that we found of a setting to a living switch that set it too. Whether there is one.
    pub(super) fn hand_over(
        &self,
        setting: &Setting,
        host: &Identity,
        _held: &DirectoryLock,
    ) -> Result<bool, TopologyError> {
        let failed = io_error("search", &self.directory);
        for entry in fs::read_dir(&self.directory).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if path == self.path || path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            if take_over(&path, setting, host).map_err(io_error("write", &path))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the file, and with it the claim to the name.
    pub(super) fn close(self, _held: &DirectoryLock) -> Result<(), TopologyError> {
        fs::remove_file(&self.path).map_err(io_error("remove", &self.path))
    }

    fn write(&mut self, line: &Line) -> Result<(), TopologyError> {
        append(&mut self.file, line).map_err(io_error("write", &self.path))
    }
}

/// All ledgers in `directory`: each its switch's name, what stands in it, and whether its switch runs. Changes nothing.
pub(super) fn list(directory: &Path) -> Vec<(String, Contents, bool)> {
    // While it is held nobody claims a name, and so meets the locks that are tried here.
    let Ok(_held) = DirectoryLock::take(directory) else { return Vec::new() };
    let files = fs::read_dir(directory).into_iter().flatten().flatten().map(|file| file.path());
    let ledgers = files.filter(|path| path.extension().is_some_and(|suffix| suffix == SUFFIX));
    let mut found: Vec<_> = ledgers.filter_map(|path| read_shared(&path)).collect();
    found.sort_unstable_by(|(a, ..), (b, ..)| a.cmp(b));
    found
}

fn read_shared(path: &Path) -> Option<(String, Contents, bool)> {
    let name = path.file_stem()?.to_str()?.to_owned();
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW).open(path).ok()?;
    let contents = Contents::read(&String::from_utf8_lossy(&fs::read(path).ok()?));
    let runs = matches!(Flock::lock(file, FlockArg::LockSharedNonblock), Err((_, Errno::EWOULDBLOCK)));
    Some((name, contents, runs))
}

/// Adds `setting` to the ledger at `path`, if its switch lives, in the same host, and set the same.
fn take_over(path: &Path, setting: &Setting, host: &Identity) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).append(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        // Nobody holds it: its switch was killed.
        Ok(_) => return Ok(false),
        Err((file, _)) => file,
    };
    let contents = read(&mut file)?;
    let here = contents.owner.as_ref().is_some_and(|owner| owner.host.is(host));
    if !here || !contents.settings().any(|theirs| theirs.path == setting.path) {
        return Ok(false);
    }
    append(&mut file, &Line::HandedOver(setting.clone()))?;
    Ok(true)
}

/// Opens a ledger, made if missing.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

fn append(file: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    file.write_all(&text)
}

fn read(file: &mut File) -> io::Result<Contents> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    if text.last().is_some_and(|byte| *byte != b'\n') {
        // Cut by a crash: the next line must not become part of it.
        file.write_all(b"\n")?;
    }
    Ok(Contents::read(&String::from_utf8_lossy(&text)))
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> TopologyError + use<> {
    let path = path.to_owned();
    move |source| TopologyError::Ledger { what, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: Identity = Identity { dev: 4, ino: 1, born: (0, 0) };
    const ELSEWHERE: Identity = Identity { dev: 4, ino: 2, born: (0, 0) };

    fn owner(host: Identity) -> Owner {
        Owner { pid: 7, host, sandboxed: false }
    }

    fn netns(name: &str) -> Entry {
        Entry::Netns { name: name.to_owned(), identity: HOST }
    }

    fn forwarding(found: &str) -> Setting {
        Setting {
            path: "/proc/sys/net/ipv4/ip_forward".into(),
            found: found.to_owned(),
            set: "1".to_owned(),
            side_effects: BTreeMap::new(),
        }
    }

    fn claim(directory: &Path, name: &str) -> Result<(Ledger, Contents), TopologyError> {
        Ledger::claim(directory, name, &DirectoryLock::take(directory).unwrap())
    }

    fn started(directory: &Path, name: &str, host: Identity) -> Ledger {
        let (mut ledger, contents) = claim(directory, name).unwrap();
        assert_eq!(contents, Contents::default());
        ledger.start(owner(host)).unwrap();
        ledger
    }

    #[test]
    fn entries_of_killed_switch_remain() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = started(directory.path(), "a", HOST);
        let first = ledger.record(netns("c1")).unwrap();
        ledger.record(netns("c2")).unwrap();
        ledger.record(Entry::Table { name: "t".to_owned() }).unwrap();
        ledger.remove(first).unwrap();
        drop(ledger);

        let (mut ledger, contents) = claim(directory.path(), "a").unwrap();
        assert_eq!(contents.owner, Some(owner(HOST)));
        let standing: Vec<_> = contents.entries.values().cloned().collect();
        assert_eq!(standing, [netns("c2"), Entry::Table { name: "t".to_owned() }]);
        let next = ledger.record(netns("c3")).unwrap();
        assert!(!contents.entries.contains_key(&next), "an entry's number is not used again");
    }

    #[test]
    fn torn_line_does_not_affect_others() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = started(directory.path(), "a", HOST);
        ledger.record(netns("c1")).unwrap();
        ledger.file.write_all(br#"{"made":{"id":1,"ent"#).unwrap();
        drop(ledger);
        let (mut ledger, contents) = claim(directory.path(), "a").unwrap();
        assert_eq!(contents.entries.len(), 1);
        ledger.record(netns("c2")).unwrap();
        assert_eq!(ledger.contents().unwrap().entries.len(), 2);
    }

    #[test]
    fn compacts_removed_entries_and_keeps_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = started(directory.path(), "a", HOST);
        ledger.record(netns("stays")).unwrap();
        for _ in 0..=MAX_REMOVED_LINES {
            let id = ledger.record(netns("goes")).unwrap();
            ledger.remove(id).unwrap();
        }
        assert!(fs::metadata(&ledger.path).unwrap().len() < 1000);
        assert!(matches!(claim(directory.path(), "a"), Err(TopologyError::Running { .. })));
        ledger.record(netns("after")).unwrap();
        drop(ledger);
        let (_ledger, contents) = claim(directory.path(), "a").unwrap();
        assert_eq!(contents.entries.into_values().collect::<Vec<_>>(), [netns("stays"), netns("after")]);
        assert_eq!(contents.owner, Some(owner(HOST)));
    }

    #[test]
    fn second_claim_fails() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = started(directory.path(), "a", HOST);
        let second = claim(directory.path(), "a").unwrap_err();
        assert!(matches!(second, TopologyError::Running { pid: 7, .. }), "{second}");
        ledger.close(&DirectoryLock::take(directory.path()).unwrap()).unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
        claim(directory.path(), "a").unwrap();
    }

    #[test]
    fn hands_setting_over_to_running_switch_of_same_host() {
        let directory = tempfile::tempdir().unwrap();
        let ours = started(directory.path(), "a", HOST);
        let leave = || {
            let held = DirectoryLock::take(directory.path()).unwrap();
            ours.hand_over(&forwarding("0"), &HOST, &held).unwrap()
        };
        let mut other = started(directory.path(), "other-host", ELSEWHERE);
        other.record(Entry::Sysctl(forwarding("1"))).unwrap();
        let without = started(directory.path(), "without", HOST);
        assert!(!leave(), "nobody here set it");

        let mut heir = started(directory.path(), "heir", HOST);
        let id = heir.record(Entry::Sysctl(forwarding("1"))).unwrap();
        assert!(leave());
        let found: Vec<_> = heir.contents().unwrap().settings().cloned().collect();
        assert_eq!(found, [forwarding("0")]);

        heir.remove(id).unwrap();
        assert!(!leave(), "it restored the setting already");
        heir.record(Entry::Sysctl(forwarding("1"))).unwrap();
        drop(heir);
        assert!(!leave(), "it was killed");
        drop((other, without));
    }
}
