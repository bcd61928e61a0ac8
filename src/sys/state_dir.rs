//! The state directory: what the switches of this user keep across reboots.

use std::ffi::OsString;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::{env, fs, io};

use nix::unistd::{Uid, geteuid};

/// Root's directory.
pub const ROOT_STATE_DIR: &str = "/var/lib/uswitch";

/// The path of the state directory: `/var/lib/uswitch` for root, `$XDG_STATE_HOME/uswitch` for others,
/// `~/.local/state/uswitch` without that variable (XDG Base Directory Specification). `None` without `HOME` either.
/// Call this before [`super::sandbox::enter`], after which every user is root.
pub fn path() -> Option<PathBuf> {
    choose(geteuid(), env::var_os("XDG_STATE_HOME"), env::var_os("HOME"))
}

fn choose(user: Uid, xdg: Option<OsString>, home: Option<OsString>) -> Option<PathBuf> {
    if user.is_root() {
        return Some(PathBuf::from(ROOT_STATE_DIR));
    }
    let absolute = |path: OsString| Some(PathBuf::from(path)).filter(|path| path.is_absolute());
    let state = xdg.and_then(absolute).or_else(|| Some(home.and_then(absolute)?.join(".local/state")))?;
    Some(state.join("uswitch"))
}

/// Creates a state directory and, except in `/var`, the directories above it.
///
/// # Errors
/// One cannot be created.
pub fn create(path: &Path) -> io::Result<()> {
    let above = path != Path::new(ROOT_STATE_DIR);
    match fs::DirBuilder::new().mode(0o700).recursive(above).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_user_has_a_state_directory() {
        let user = Uid::from_raw(1000);
        let of = |xdg: &str, home: &str| {
            let set = |value: &str| Some(OsString::from(value)).filter(|value| !value.is_empty());
            choose(user, set(xdg), set(home))
        };
        assert_eq!(choose(Uid::from_raw(0), Some("/s".into()), None), Some("/var/lib/uswitch".into()));
        assert_eq!(of("/s", "/home/a"), Some("/s/uswitch".into()));
        assert_eq!(of("relative", "/home/a"), Some("/home/a/.local/state/uswitch".into()));
        assert_eq!(of("", "/home/a"), Some("/home/a/.local/state/uswitch".into()));
        assert_eq!((of("", "relative"), of("", "")), (None, None));
    }
}
