//! The list of everything that a switch made on the machine and that outlives its process. An entry is written
//! before the object is made and removed after the object is gone. After a crash, `stop` and the next start read the
//! ledger and delete what it lists.
//!
//! The file has one JSON object a line and is appended to. It is rewritten once in a while, so that added and
//! removed ports do not make it grow without limit. The running process holds an flock(2) on it. The kernel
//! releases the lock when the process ends, so the lock shows whether the switch runs. Nothing is synced to disk,
//! because namespaces, tables and settings do not survive a reboot either.
//!
//! The directory is locked for a moment by every operation that involves several ledgers: claiming a name, and
//! changing a kernel setting that several switches share.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::TopologyError;
use crate::sys::append::append_whole;
use crate::sys::netns::NetnsIdentity;
use crate::sys::process;

/// File name extension of a ledger.
const SUFFIX: &str = "ledger";
/// Number of removed entries after which the file is rewritten.
const MAX_REMOVED_LINES: usize = 4096;

/// One object that the switch made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Entry {
    /// A named network namespace. A namespace with the same name and another identity is not ours.
    Netns { name: String, identity: NetnsIdentity },
    /// An nftables table of the `inet` family.
    Table { name: String },
    /// A kernel setting (sysctl) that the switch changed.
    Sysctl(Setting),
}

/// A kernel setting with its original value and the value that the switch wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Setting {
    /// Path below `/proc/sys`.
    pub(super) path: PathBuf,
    pub(super) found: String,
    pub(super) set: String,
    /// While the change is under way: the original values of the settings that the kernel changes together with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) side_effects: BTreeMap<PathBuf, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) sentinel: Option<Sentinel>,
}

/// Another setting, with its value at the time of the change. If it has another value now, another program needs the
/// changed setting too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Sentinel {
    pub(super) path: PathBuf,
    pub(super) value: String,
}

/// Identifies an entry of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) struct EntryId(u64);

impl EntryId {
    pub(super) const FIRST: EntryId = EntryId(0);
}

/// The process that holds a ledger, and where its objects are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Owner {
    pub(super) pid: u32,
    /// The inode number of its PID namespace; 0 in ledgers that do not have it.
    #[serde(default)]
    pub(super) pid_namespace: u64,
    /// The network namespace that the switch uses as its host.
    pub(super) host: NetnsIdentity,
    /// The switch runs in its own user and network namespaces, which end with its last process.
    pub(super) sandboxed: bool,
}

impl Owner {
    /// This process as the owner.
    pub(super) fn this_process(host: NetnsIdentity, sandboxed: bool) -> Owner {
        let pid_namespace = process::pid_namespace().unwrap_or(0);
        Owner { pid: std::process::id(), pid_namespace, host, sandboxed }
    }

    fn holder(&self) -> LedgerHolder {
        let here = process::pid_namespace().ok();
        match self.pid_namespace {
            0 => LedgerHolder::Process(self.pid),
            there if here == Some(there) => LedgerHolder::Process(self.pid),
            _ => LedgerHolder::InOtherPidNamespace,
        }
    }
}

/// The process that holds the lock of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerHolder {
    /// A running switch with this process ID.
    Process(u32),
    /// A running switch in another PID namespace. Its process ID there means another process here, or none.
    InOtherPidNamespace,
    /// It has not written its process ID yet, or has removed it.
    Unknown,
}

impl fmt::Display for LedgerHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerHolder::Process(pid) => write!(f, "running (process {pid})"),
            LedgerHolder::InOtherPidNamespace => f.write_str("running (in another PID namespace)"),
            LedgerHolder::Unknown => f.write_str("starting or stopping"),
        }
    }
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
    /// Another switch that changed this setting has stopped. This switch restores the original value in its place.
    HandedOver(Setting),
}

impl Line {
    /// Parses a line. If the beginning is torn, parses the complete entry that was appended to it.
    fn read(line: &str) -> Option<Line> {
        let starts = line.match_indices("{\"").map(|(start, _)| &line[start..]);
        starts.into_iter().find_map(|entry| serde_json::from_str(entry).ok())
    }
}

/// The state of a ledger after all its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Contents {
    pub(super) owner: Option<Owner>,
    /// In the order of their creation.
    pub(super) entries: BTreeMap<EntryId, Entry>,
}

impl Contents {
    /// Parses all lines. Skips what is not valid, such as a last line that a crash cut off.
    fn read(text: &str) -> Contents {
        let mut contents = Contents::default();
        for line in text.lines().filter_map(Line::read) {
            match line {
                Line::Owner(owner) => contents.owner = Some(owner),
                Line::Made { id, entry } => {
                    contents.entries.insert(id, entry);
                }
                Line::Gone(id) => {
                    contents.entries.remove(&id);
                }
                Line::HandedOver(setting) => contents.map_root(&setting),
            }
        }
        contents
    }

    fn map_root(&mut self, left: &Setting) {
        for entry in self.entries.values_mut() {
            if let Entry::Sysctl(ours) = entry
                && ours.path == left.path
            {
                ours.clone_from(left);
            }
        }
    }

    /// The process that holds the ledger, if it is locked.
    pub(super) fn holder(&self) -> LedgerHolder {
        self.owner.as_ref().map_or(LedgerHolder::Unknown, Owner::holder)
    }

    /// The kernel settings among the entries.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.entries.values().filter_map(|entry| match entry {
            Entry::Sysctl(setting) => Some(setting),
            _ => None,
        })
    }
}

/// A ledger that this process has locked.
#[derive(Debug)]
pub(super) struct Ledger {
    directory: PathBuf,
    path: PathBuf,
    file: Flock<File>,
    next: u64,
    removed: usize,
    /// Entries of objects that are gone, which could not be removed because the file system was full.
    stale: Vec<EntryId>,
}

/// The lock on the directory of ledgers.
#[derive(Debug)]
pub(super) struct DirectoryLock(#[allow(dead_code, reason = "held until dropped")] Flock<File>);

impl DirectoryLock {
    pub(super) fn take(directory: &Path) -> Result<DirectoryLock, TopologyError> {
        let failed = io_error("lock", directory);
        let file = File::open(directory).map_err(&failed)?;
        let lock = Flock::lock(file, FlockArg::LockExclusive);
        lock.map(DirectoryLock).map_err(|(_, error)| failed(error.into()))
    }
}

impl Ledger {
    /// Locks the ledger of `name` and returns it with the entries that a killed switch left in it. The caller holds
    /// the directory lock, so no other process removes the file at the same time.
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
                let mut ledger = Ledger {
                    directory: directory.to_owned(),
                    path,
                    file,
                    next: 0,
                    removed: 0,
                    stale: Vec::new(),
                };
                let contents = ledger.contents()?;
                ledger.next = contents.entries.keys().next_back().map_or(0, |last| last.0 + 1);
                Ok((ledger, contents))
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let contents = read(&mut file).unwrap_or_default();
                Err(TopologyError::Running { name: name.to_owned(), holder: contents.holder() })
            }
            Err((_, error)) => Err(failed(error.into())),
        }
    }

    /// Empties the ledger and writes the owner.
    pub(super) fn start(&mut self, owner: Owner) -> Result<(), TopologyError> {
        self.file.set_len(0).map_err(io_error("empty", &self.path))?;
        self.next = 0;
        self.write(&Line::Owner(owner))
    }

    /// Adds an entry for an object that is about to be made.
    ///
    /// # Errors
    /// The entry could not be written, so the object must not be made. The file is as it was before.
    pub(super) fn record(&mut self, entry: Entry) -> Result<EntryId, TopologyError> {
        let id = EntryId(self.next);
        self.next += 1;
        self.write(&Line::Made { id, entry })?;
        Ok(id)
    }

    /// Replaces an entry.
    pub(super) fn replace(&mut self, id: EntryId, entry: Entry) -> Result<(), TopologyError> {
        self.write(&Line::Made { id, entry })
    }

    /// The identifier of the next entry. Later entries have this one or a larger one.
    pub(super) fn next_id(&self) -> EntryId {
        EntryId(self.next)
    }

    /// Removes the entry of an object that is gone. An entry that cannot be removed now does no harm, because deleting
    /// an object that is gone changes nothing. It is removed together with the next one.
    pub(super) fn remove(&mut self, id: EntryId) {
        if !self.stale.contains(&id) {
            self.stale.push(id);
        }
        while let Some(id) = self.stale.last() {
            if self.write(&Line::Gone(*id)).is_err() {
                return;
            }
            self.stale.pop();
            self.removed += 1;
        }
        if self.removed > MAX_REMOVED_LINES {
            self.removed = 0;
            // Without room for the new file the old one serves as well.
            let _ = self.rewrite();
        }
    }

    /// Replaces the file by one that has only the remaining entries. Other processes open ledgers under the
    /// directory lock, so none of them sees the file in between.
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
        let written = owner.chain(made).try_for_each(|line| append(&mut file, &line));
        if let Err(error) = written.and_then(|()| fs::rename(&path, &self.path)) {
            let _ = fs::remove_file(&path);
            return Err(failed(error));
        }
        self.file = file;
        Ok(())
    }

    /// The entries, including the settings that other switches handed over.
    pub(super) fn contents(&mut self) -> Result<Contents, TopologyError> {
        read(&mut self.file).map_err(io_error("read", &self.path))
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Hands the original value of a setting over to a running switch that set it too. Returns whether there is one.
    pub(super) fn hand_over(
        &self,
        setting: &Setting,
        host: &NetnsIdentity,
        _held: &DirectoryLock,
    ) -> Result<bool, TopologyError> {
        let failed = io_error("search", &self.directory);
        for entry in fs::read_dir(&self.directory).map_err(&failed)? {
            let path = entry.map_err(&failed)?.path();
            if path == self.path || path.extension().is_none_or(|suffix| suffix != SUFFIX) {
                continue;
            }
            if map_root(&path, setting, host).map_err(io_error("write", &path))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Removes the file and so releases the name.
    pub(super) fn close(self, _held: &DirectoryLock) -> Result<(), TopologyError> {
        fs::remove_file(&self.path).map_err(io_error("remove", &self.path))
    }

    fn write(&mut self, line: &Line) -> Result<(), TopologyError> {
        append(&mut self.file, line).map_err(io_error("write", &self.path))
    }
}

/// All ledgers in `directory`: the name of the switch, the entries, and whether the switch runs. Changes nothing.
pub(super) fn list(directory: &Path) -> Vec<(String, Contents, bool)> {
    // Under this lock no other process claims a name, so none sees the locks that are tried here.
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

/// Adds `setting` to the ledger at `path` if its switch runs on the same host and changed the same setting.
fn map_root(path: &Path, setting: &Setting, host: &NetnsIdentity) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).append(true).custom_flags(libc::O_NOFOLLOW).open(path)?;
    let mut file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        // Not locked: the switch was killed.
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

/// Options that open a ledger and create it if it is missing.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.read(true).append(true).create(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
    options
}

fn append(file: &mut File, line: &Line) -> io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    append_whole(file, &text)
}

fn read(file: &mut File) -> io::Result<Contents> {
    let mut text = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut text)?;
    Ok(Contents::read(&String::from_utf8_lossy(&text)))
}

fn io_error(what: &'static str, path: &Path) -> impl Fn(io::Error) -> TopologyError + use<> {
    let path = path.to_owned();
    move |source| TopologyError::Ledger { what, path: path.clone(), source }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const HOST: NetnsIdentity = NetnsIdentity { dev: 4, ino: 1, born: (0, 0) };
    const ELSEWHERE: NetnsIdentity = NetnsIdentity { dev: 4, ino: 2, born: (0, 0) };

    fn owner(host: NetnsIdentity) -> Owner {
        Owner { pid: 7, pid_namespace: process::pid_namespace().unwrap(), host, sandboxed: false }
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
            sentinel: None,
        }
    }

    fn claim(directory: &Path, name: &str) -> Result<(Ledger, Contents), TopologyError> {
        Ledger::claim(directory, name, &DirectoryLock::take(directory).unwrap())
    }

    fn started(directory: &Path, name: &str, host: NetnsIdentity) -> Ledger {
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
        ledger.remove(first);
        drop(ledger);

        let (mut ledger, contents) = claim(directory.path(), "a").unwrap();
        assert_eq!(contents.owner, Some(owner(HOST)));
        let standing: Vec<_> = contents.entries.values().cloned().collect();
        assert_eq!(standing, [netns("c2"), Entry::Table { name: "t".to_owned() }]);
        let next = ledger.record(netns("c3")).unwrap();
        assert!(!contents.entries.contains_key(&next), "entry numbers are not reused");
    }

    #[test]
    fn torn_line_does_not_affect_others() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = started(directory.path(), "a", HOST);
        ledger.record(netns("c1")).unwrap();
        ledger.file.write_all(br#"{"made":{"id":1,"entry":{"netns":{"na"#).unwrap();
        drop(ledger);
        let (mut ledger, contents) = claim(directory.path(), "a").unwrap();
        assert_eq!(contents.entries.len(), 1);
        // Both follow the torn line without a line break.
        let appended = ledger.record(netns("c2")).unwrap();
        let contents = ledger.contents().unwrap();
        assert_eq!(contents.entries.into_values().collect::<Vec<_>>(), [netns("c1"), netns("c2")]);
        ledger.remove(appended);
        assert_eq!(ledger.contents().unwrap().entries.len(), 1);
    }

    #[test]
    fn entry_that_cannot_be_written_fails_and_stale_entries_are_removed_later() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = started(directory.path(), "a", HOST);
        let first = ledger.record(netns("c1")).unwrap();
        let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
        let full = Flock::lock(full, FlockArg::LockShared).map_err(|(_, error)| error).unwrap();
        let file = std::mem::replace(&mut ledger.file, full);
        let error = ledger.record(netns("c2")).unwrap_err();
        assert!(error.to_string().contains("No space left on device"), "{error}");
        ledger.remove(first);
        ledger.remove(first);

        ledger.file = file;
        assert_eq!(ledger.contents().unwrap().entries.len(), 1, "not removed yet");
        let second = ledger.record(netns("c3")).unwrap();
        ledger.remove(second);
        assert!(ledger.contents().unwrap().entries.is_empty(), "removed with the next one");
    }

    #[test]
    fn compacts_removed_entries_and_keeps_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let mut ledger = started(directory.path(), "a", HOST);
        ledger.record(netns("stays")).unwrap();
        for _ in 0..=MAX_REMOVED_LINES {
            let id = ledger.record(netns("goes")).unwrap();
            ledger.remove(id);
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
    fn unknown_holder_is_not_named_by_a_process_id() {
        let directory = tempfile::tempdir().unwrap();
        let claimed = claim(directory.path(), "a").unwrap();
        let second = claim(directory.path(), "a").unwrap_err().to_string();
        assert!(second.contains("'a' is already starting or stopping: "), "{second}");
        drop(claimed);
        let (mut ledger, _) = claim(directory.path(), "a").unwrap();
        ledger.start(Owner { pid_namespace: 1, ..owner(HOST) }).unwrap();
        let second = claim(directory.path(), "a").unwrap_err().to_string();
        assert!(second.contains("'a' is already running (in another PID namespace): "), "{second}");
    }

    #[test]
    fn second_claim_fails() {
        let directory = tempfile::tempdir().unwrap();
        let ledger = started(directory.path(), "a", HOST);
        let second = claim(directory.path(), "a").unwrap_err();
        assert!(second.to_string().contains("'a' is already running (process 7)"), "{second}");
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
        assert!(!leave(), "no switch on this host set it");

        let mut second = started(directory.path(), "second", HOST);
        let id = second.record(Entry::Sysctl(forwarding("1"))).unwrap();
        assert!(leave());
        let found: Vec<_> = second.contents().unwrap().settings().cloned().collect();
        assert_eq!(found, [forwarding("0")]);

        second.remove(id);
        assert!(!leave(), "the switch has restored the setting");
        second.record(Entry::Sysctl(forwarding("1"))).unwrap();
        drop(second);
        assert!(!leave(), "the switch was killed");
        drop((other, without));
    }
}
