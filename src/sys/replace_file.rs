//! Replacing a file: whoever opens it finds the old one or the new one, and never a part.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use super::limits::explain_write_error;

/// When the new file is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Before the replacement returns: it survives a crash of the machine.
    Synced,
    /// When the kernel writes it: a crash of the machine may leave an empty file.
    Cached,
}

/// Replaces the file at `path`, or creates it, readable by this user only. `fill` gets the new file, empty and open for
/// reading and appending, before it has this name. The new file is called `path` with `.new` at the end until then; two
/// processes must not replace the same file at the same time.
///
/// # Errors
/// The file is as before, unless only its directory could not be synced.
pub fn replace_file<T>(
    path: &Path,
    durability: Durability,
    fill: impl FnOnce(&mut File) -> io::Result<T>,
) -> io::Result<T> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    let new = Path::new(&new);
    // Never follow a link or wait for a pipe.
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let mut options = OpenOptions::new();
    let options = options.read(true).append(true).create(true).mode(0o600).custom_flags(flags);
    let replaced = options.open(new).and_then(|mut file| {
        // A crash may have left one.
        file.set_len(0)?;
        let filled = fill(&mut file)?;
        if durability == Durability::Synced {
            file.sync_all()?;
        }
        fs::rename(new, path)?;
        Ok(filled)
    });
    match (replaced, path.parent()) {
        (Ok(filled), Some(directory)) if durability == Durability::Synced => {
            match File::open(directory)?.sync_all() {
                // Some file systems cannot sync a directory (FUSE, 9p).
                Err(error) if !matches!(error.raw_os_error(), Some(libc::EINVAL | libc::EBADF)) => Err(error),
                _ => Ok(filled),
            }
        }
        (Ok(filled), _) => Ok(filled),
        (Err(error), _) => {
            let _ = fs::remove_file(new);
            Err(explain_write_error(error))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn replaces_the_whole_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, "a longer text").unwrap();
        fs::write(directory.path().join("state.json.new"), "left by a crash, longer still").unwrap();
        for durability in [Durability::Synced, Durability::Cached] {
            replace_file(&path, durability, |file| file.write_all(b"text")).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        }
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn failure_leaves_the_old_file_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        fs::write(&path, "old").unwrap();
        let failing = |file: &mut File| file.write_all(b"half").and_then(|()| Err(io::Error::other("full")));
        let error = replace_file::<()>(&path, Durability::Synced, failing).unwrap_err();
        assert_eq!(
            (error.to_string().as_str(), fs::read_to_string(&path).unwrap().as_str()),
            ("full", "old")
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
    }

    #[test]
    fn follows_no_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, other) = (directory.path().join("state.json"), directory.path().join("other"));
        fs::write(&other, "precious").unwrap();
        symlink(&other, directory.path().join("state.json.new")).unwrap();
        assert!(replace_file(&path, Durability::Cached, |file| file.write_all(b"text")).is_err());
        assert_eq!(fs::read_to_string(&other).unwrap(), "precious");
    }
}
