//! The runtime directory: the sockets and ledgers of this user's switches.

use std::ffi::OsString;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use nix::unistd::{Uid, geteuid};

/// Root's directory.
pub const ROOT_RUNTIME_DIR: &str = "/run/uswitch";

/// Why there is no usable directory.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeDirError {
    /// It cannot be created.
    #[error("cannot create the directory {path}: {source}")]
    Make {
        /** The path. */
        path: PathBuf,
        /** The error. */
        source: io::Error,
    },
    /// Another user could put a socket there.
    #[error("{path} {fault}: remove it, or set XDG_RUNTIME_DIR to a directory of your own")]
    Untrusted {
        /** The path. */
        path: PathBuf,
        /** The problem. */
        fault: &'static str,
    },
}

/// Returns the runtime directory, and creates it if it is missing: `/run/uswitch` for root,
/// `$XDG_RUNTIME_DIR/uswitch` for others, `/tmp/uswitch-UID` without that variable. Call this before
/// [`super::sandbox::enter`], after which every user is root.
///
/// # Errors
/// It cannot be created, is a symbolic link, belongs to another user, or is writable by others.
pub fn directory() -> Result<PathBuf, RuntimeDirError> {
    let (user, path) = (geteuid(), path());
    match fs::DirBuilder::new().mode(0o700).create(&path) {
        Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
            return Err(RuntimeDirError::Make { path, source });
        }
        _ => {}
    }
    check(&path, user)?;
    Ok(path)
}

/// The path of [`directory`], whether it exists or not.
pub fn path() -> PathBuf {
    choose(geteuid(), env::var_os("XDG_RUNTIME_DIR"))
}

fn choose(user: Uid, xdg: Option<OsString>) -> PathBuf {
    if user.is_root() {
        return PathBuf::from(ROOT_RUNTIME_DIR);
    }
    match xdg.map(PathBuf::from) {
        Some(directory) if directory.is_absolute() && directory.is_dir() => directory.join("uswitch"),
        _ => PathBuf::from(format!("/tmp/uswitch-{user}")),
    }
}

/// In `/tmp`, another user may have created the path first.
fn check(path: &Path, user: Uid) -> Result<(), RuntimeDirError> {
    let untrusted = |fault| RuntimeDirError::Untrusted { path: path.to_owned(), fault };
    let found = fs::symlink_metadata(path)
        .map_err(|source| RuntimeDirError::Make { path: path.to_owned(), source })?;
    if !found.is_dir() {
        return Err(untrusted("is not a directory"));
    }
    if found.uid() != user.as_raw() {
        return Err(untrusted("belongs to another user"));
    }
    if found.mode() & 0o022 != 0 {
        return Err(untrusted("can be written by others"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn each_user_has_a_runtime_directory() {
        let user = Uid::from_raw(1000);
        assert_eq!(choose(Uid::from_raw(0), Some("/tmp".into())), Path::new("/run/uswitch"));
        assert_eq!(choose(user, Some("/tmp".into())), Path::new("/tmp/uswitch"));
        for useless in [None, Some("relative".into()), Some("/nowhere/at/all".into())] {
            assert_eq!(choose(user, useless), Path::new("/tmp/uswitch-1000"));
        }
    }

    #[test]
    fn refuses_directory_made_by_others() {
        let tmp = tempfile::tempdir().unwrap();
        let (real, link, open) = (tmp.path().join("real"), tmp.path().join("link"), tmp.path().join("open"));
        fs::create_dir(&real).unwrap();
        fs::set_permissions(&real, fs::Permissions::from_mode(0o700)).unwrap();
        symlink(&real, &link).unwrap();
        fs::create_dir(&open).unwrap();
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
        let user = geteuid();
        assert!(check(&real, user).is_ok());
        assert!(check(&link, user).is_err());
        assert!(check(&open, user).is_err());
        assert!(check(&real, Uid::from_raw(user.as_raw() + 1)).is_err());
    }
}
