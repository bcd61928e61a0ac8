//! Keeps the MAC prefix of a switch, so that its addresses are the same after a restart or a reboot.
//!
//! A prefix that the user has not given is random. It is kept in a file of the state directory, locked while
//! the switch runs: a second switch of the same name, in a container that shares the directory, uses other addresses.
//! Without the file a switch starts with a random prefix and reports it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::control::Config;
use crate::control::addressing::MacPrefix;
use crate::sys::limits::explain_write_error;
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

/// Sets the MAC prefix of `config` unless the user gave one: the kept prefix of its name, or a random one that is kept from
/// now on in the directory `state`. Returns a notice if it is not kept.
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
        move |source| KeepError::Io { what, path, source }
    };
    match options().read(true).open(&path) {
        Ok(file) => {
            let mut file = lock(file, &path)?;
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
    let new = directory.join(format!("{name}.{SUFFIX}.new"));
    let written = write(&new, random).and_then(|file| {
        let file = lock(file, &path)?;
        fs::rename(&new, &path).map_err(failed("create"))?;
        Ok(file)
    });
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    // Without this the new name may be lost if the machine crashes: then the next start makes another file.
    let _ = File::open(directory).and_then(|directory| directory.sync_all());
    written.map(|file| (random, file))
}

/// The file is in a directory of this user. Nevertheless, never follow a link or wait for a pipe.
fn options() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    options
}

fn lock(file: File, path: &Path) -> Result<KeptMacPrefix, KeepError> {
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|(_, error)| match error {
        Errno::EWOULDBLOCK => KeepError::InUse(path.to_owned()),
        error => KeepError::Io { what: "lock", path: path.to_owned(), source: error.into() },
    })
}

/// The prefix in the file; `None` if it has none.
fn read(file: &mut File) -> io::Result<Option<MacPrefix>> {
    const LONGEST: u64 = 64;
    let mut bytes = Vec::new();
    file.take(LONGEST).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim().parse().ok())
}

fn write(path: &Path, prefix: MacPrefix) -> Result<File, KeepError> {
    let failed =
        |source| KeepError::Io { what: "write", path: path.to_owned(), source: explain_write_error(source) };
    let mut file = options().read(true).write(true).create(true).truncate(true).open(path).map_err(failed)?;
    file.write_all(format!("{prefix}\n").as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    Ok(file)
}
