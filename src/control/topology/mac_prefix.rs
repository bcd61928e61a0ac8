//! Keeps the MAC prefix of a switch, so that its addresses are the same after a restart or a reboot.
//!
//! A prefix that the user has not given is random. It is kept in a file of the state directory, locked while
//! the switch runs: a second switch of the same name, in a container that shares the directory, uses other addresses.
//! Without the file a switch starts with a random prefix and reports it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};

use crate::control::Config;
use crate::control::addressing::MacPrefix;
use crate::sys::replace_file::{Durability, replace_file};
use crate::sys::state_dir;

/// File name extension of a kept prefix.
const SUFFIX: &str = "mac-prefix";

/// The lock of the file, held while the switch runs.
pub(super) type KeptMacPrefix = Flock<File>;

/// Why a prefix is not kept.
#[derive(Debug, thiserror::Error)]
enum KeepError {
    #[error("neither XDG_STATE_HOME nor HOME is set")]
    NoDirectory,
    #[error("another running switch uses {}", .0.display())]
    InUse(PathBuf),
    #[error("cannot {what} {}: {source}", path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
}

/// Sets the MAC prefix of `config` unless the user gave one: the kept prefix of its name, or a random one that is kept
/// from now on in the directory `state`. Returns a notice if it is not kept.
pub(super) fn choose(config: &mut Config, state: Option<&Path>) -> (Option<KeptMacPrefix>, Option<String>) {
    if !config.choose.mac_prefix {
        return (None, None);
    }
    let random = MacPrefix::random();
    match load_or_keep(&config.name, state, random) {
        Ok((prefix, file)) => {
            config.mac_prefix = prefix;
            (Some(file), None)
        }
        Err(error) => {
            config.mac_prefix = random;
            let notice = format!(
                "the next start has other MAC addresses, because {error}: keep these with --mac-prefix {random}"
            );
            (None, Some(notice))
        }
    }
}

/// The prefix in the file of the switch `name`. A file that does not exist or is not valid gets `random`.
fn load_or_keep(
    name: &str,
    state: Option<&Path>,
    random: MacPrefix,
) -> Result<(MacPrefix, KeptMacPrefix), KeepError> {
    let directory = state.ok_or(KeepError::NoDirectory)?;
    let path = directory.join(format!("{name}.{SUFFIX}"));
    let failed = |what| {
        let path = path.clone();
        move |source: io::Error| match source.kind() {
            io::ErrorKind::WouldBlock => KeepError::InUse(path),
            _ => KeepError::Io { what, path, source },
        }
    };
    // The file is in a directory of this user. Nevertheless, never follow a link or wait for a pipe.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    match OpenOptions::new().read(true).custom_flags(flags).open(&path) {
        Ok(file) => {
            let mut file = lock(file).map_err(failed("lock"))?;
            if let Some(prefix) = read(&mut file).map_err(failed("read"))? {
                return Ok((prefix, file));
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed("read")(error)),
    }
    state_dir::create(directory).map_err(|source| KeepError::Io {
        what: "create",
        path: directory.to_owned(),
        source,
    })?;
    // Locked before it has its name, so that no other switch finds it free.
    let written = replace_file(&path, Durability::Synced, |file| {
        writeln!(file, "{random}")?;
        lock(file.try_clone()?)
    });
    Ok((random, written.map_err(failed("write"))?))
}

/// Locks the file. With `WouldBlock` another switch has.
fn lock(file: File) -> io::Result<KeptMacPrefix> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| error.into())
}

/// The prefix in the file; `None` if it has none.
fn read(file: &mut File) -> io::Result<Option<MacPrefix>> {
    const LONGEST: u64 = 64;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().parse().ok())
}
