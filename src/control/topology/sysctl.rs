//! Kernel settings that NAT needs, put back as they were found.
//!
//! Several switches may need the same setting, and each may stop first. The one that changed it passes the value
//! that it found on to another that still needs it, and the last puts it back. All under the lock of the ledgers'
//! directory, so two that stop at once do not pass it to each other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::TopologyError;
use super::ledger::{DirectoryLock, Entry, Ledger, Setting};
use crate::sys::netns::Identity;

/// A setting to be changed.
pub(super) struct SysctlChange<'a> {
    pub(super) path: &'a Path,
    pub(super) value: &'a str,
    /// What the kernel changes along with it, and what it makes of those when this is put back.
    pub(super) side_effects: Vec<(PathBuf, &'a str)>,
}

/// Sets the setting and writes down how it was.
pub(super) fn set(ledger: &mut Ledger, change: SysctlChange) -> Result<(), TopologyError> {
    let _held = DirectoryLock::take(ledger.directory())?;
    let SysctlChange { path, value, side_effects } = change;
    let found = read(path)?;
    let changed = found != value;
    let differing =
        |(path, after): (PathBuf, &str)| read(&path).ok().filter(|now| now != after).map(|now| (path, now));
    let side_effects =
        if changed { side_effects.into_iter().filter_map(differing).collect() } else { BTreeMap::new() };
    ledger.record(Entry::Sysctl(Setting {
        path: path.to_owned(),
        found,
        set: value.to_owned(),
        side_effects,
    }))?;
    if changed { write(path, value) } else { Ok(()) }
}

/// Puts a setting back, unless another switch still needs it, or somebody else changed it since.
pub(super) fn restore(
    ledger: &Ledger,
    setting: &Setting,
    host: &Identity,
    held: &DirectoryLock,
) -> Result<(), TopologyError> {
    // Set by another switch, or by the administrator: theirs to put back.
    if setting.found == setting.set || ledger.hand_over(setting, host, held)? {
        return Ok(());
    }
    if read_if_present(&setting.path)?.is_none_or(|now| now != setting.set) {
        return Ok(());
    }
    write(&setting.path, &setting.found)?;
    for (path, found) in &setting.side_effects {
        if read_if_present(path)?.is_some_and(|now| now != *found) {
            write(path, found)?;
        }
    }
    Ok(())
}

/// A setting of each interface, and of those to come.
pub(super) fn per_interface(family: &str, setting: &str) -> Vec<PathBuf> {
    let conf = Path::new("/proc/sys/net").join(family).join("conf");
    let interfaces = fs::read_dir(conf).into_iter().flatten().flatten();
    let interfaces = interfaces.filter(|interface| interface.file_name() != "all");
    interfaces.map(|interface| interface.path().join(setting)).collect()
}

/// The interfaces that take a default route from a router: only while they do not forward (`accept_ra` is 1), or
/// then too (2), which may be so because another switch needs it as we do.
pub(super) fn accepting_router_advertisements() -> Vec<PathBuf> {
    let settings = per_interface("ipv6", "accept_ra").into_iter();
    settings
        .filter(|path| !path.ends_with("default/accept_ra"))
        .filter(|path| read(path).is_ok_and(|value| value == "1" || value == "2"))
        .collect()
}

/// `None`: the interface that it is a setting of is gone.
fn read_if_present(path: &Path) -> Result<Option<String>, TopologyError> {
    match read(path) {
        Err(TopologyError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

fn read(path: &Path) -> Result<String, TopologyError> {
    let text = fs::read_to_string(path);
    let failed = |source| TopologyError::Sysctl { what: "read", path: path.to_owned(), source };
    text.map(|text| text.trim().to_owned()).map_err(failed)
}

fn write(path: &Path, value: &str) -> Result<(), TopologyError> {
    let failed = |source| TopologyError::Sysctl { what: "write", path: path.to_owned(), source };
    fs::write(path, value).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::ledger::Owner;
    use super::*;

    const HOST: Identity = Identity { dev: 4, ino: 1, born: (0, 0) };

    struct Switch(Ledger);

    impl Switch {
        fn start(directory: &Path, name: &str, sysctl: &Path) -> Switch {
            let (mut ledger, _) =
                Ledger::claim(directory, name, &DirectoryLock::take(directory).unwrap()).unwrap();
            ledger.start(Owner { pid: 1, host: HOST, sandboxed: false }).unwrap();
            set(&mut ledger, SysctlChange { path: sysctl, value: "1", side_effects: Vec::new() }).unwrap();
            Switch(ledger)
        }

        fn stop(mut self) {
            let contents = self.0.contents().unwrap();
            let held = DirectoryLock::take(self.0.directory()).unwrap();
            for setting in contents.settings() {
                restore(&self.0, setting, &HOST, &held).unwrap();
            }
            self.0.close(&held).unwrap();
        }
    }

    #[test]
    fn last_switch_restores_setting() {
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [0, 2, 1]] {
            let directory = tempfile::tempdir().unwrap();
            let sysctl = directory.path().join("forward");
            fs::write(&sysctl, "0\n").unwrap();
            let mut switches =
                ["a", "b", "c"].map(|name| Some(Switch::start(directory.path(), name, &sysctl)));
            for (nth, which) in order.into_iter().enumerate() {
                switches[which].take().unwrap().stop();
                let expected = if nth == 2 { "0" } else { "1" };
                assert_eq!(read(&sysctl).unwrap(), expected, "{order:?}, after {which}");
            }
        }
    }

    #[test]
    fn keeps_values_set_by_others() {
        let directory = tempfile::tempdir().unwrap();
        let sysctl = directory.path().join("forward");
        fs::write(&sysctl, "1\n").unwrap();
        Switch::start(directory.path(), "a", &sysctl).stop();
        assert_eq!(read(&sysctl).unwrap(), "1", "it was so before");

        fs::write(&sysctl, "0\n").unwrap();
        let switch = Switch::start(directory.path(), "a", &sysctl);
        fs::write(&sysctl, "2\n").unwrap();
        switch.stop();
        assert_eq!(read(&sysctl).unwrap(), "2", "somebody set it meanwhile");
    }
}
