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

mod contents;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

pub use self::contents::LedgerHolder;
pub(super) use self::contents::{Contents, EntryId, LedgerEntry, LedgerOwner, Sentinel, Setting};

use self::contents::Line;
use super::TopologyError;
use crate::sys::append::append_whole;
use crate::sys::netns::NetnsIdentity;
use crate::sys::replace_file::{Durability, replace_file};

/// File name extension of a ledger.
const SUFFIX: &str = "ledger";

/// Number of removed entries after which the file is rewritten.
const MAX_REMOVED_LINES: usize = 4096;

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
    pub(super) fn start(&mut self, owner: LedgerOwner) -> Result<(), TopologyError> {
        self.file.set_len(0).map_err(io_error("empty", &self.path))?;
        self.next = 0;
        self.write(&Line::Owner(owner))
    }

    /// Adds an entry for an object that is about to be made.
    ///
    /// # Errors
    /// The entry could not be written, so the object must not be made. The file is as it was before.
    pub(super) fn record(&mut self, entry: LedgerEntry) -> Result<EntryId, TopologyError> {
        let id = EntryId(self.next);
        self.next += 1;
        self.write(&Line::Made { id, entry })?;
        Ok(id)
    }

    /// Replaces an entry.
    pub(super) fn replace(&mut self, id: EntryId, entry: LedgerEntry) -> Result<(), TopologyError> {
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
        let owner = contents.owner.into_iter().map(Line::Owner);
        let made = contents.entries.into_iter().map(|(id, entry)| Line::Made { id, entry });
        let written = replace_file(&self.path, Durability::Cached, |file| {
            owner.chain(made).try_for_each(|line| append(file, &line))?;
            let locked = Flock::lock(file.try_clone()?, FlockArg::LockExclusiveNonblock);
            locked.map_err(|(_, error)| error.into())
        });
        self.file = written.map_err(io_error("write", &self.path))?;
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
            if hand_over_to(&path, setting, host).map_err(io_error("write", &path))? {
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
fn hand_over_to(path: &Path, setting: &Setting, host: &NetnsIdentity) -> io::Result<bool> {
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
