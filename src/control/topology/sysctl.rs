//! Kernel settings that NAT needs, and their restoration.
//!
//! Several switches may need the same setting and may stop in any order. A switch that stops hands the original value
//! over to one that still needs the setting; the last one restores it. The lock on the ledger directory
//! keeps two switches that stop at the same time from handing it to each other.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::TopologyError;
use super::ledger::{DirectoryLock, Entry, Ledger, Setting};
use crate::sys::netns::NetnsIdentity;

/// A change of a setting.
pub(super) struct SysctlChange<'a> {
    pub(super) path: &'a Path,
    pub(super) value: &'a str,
    /// Settings that the kernel changes together with it, with the values that they get when this one is restored.
    pub(super) side_effects: Vec<(PathBuf, &'a str)>,
}

/// Records the original value in the ledger and writes the new one.
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

/// Restores a setting, unless another switch still needs it or another program changed it in the meantime.
pub(super) fn restore(
    ledger: &Ledger,
    setting: &Setting,
    host: &NetnsIdentity,
    held: &DirectoryLock,
) -> Result<(), TopologyError> {
    // The value was already set, by another switch or by the administrator.
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

/// A setting of each interface and of `default`, which future interfaces inherit.
pub(super) fn per_interface(family: &str, setting: &str) -> Vec<PathBuf> {
    let conf = Path::new("/proc/sys/net").join(family).join("conf");
    let interfaces = fs::read_dir(conf).into_iter().flatten().flatten();
    let interfaces = interfaces.filter(|interface| interface.file_name() != "all");
    interfaces.map(|interface| interface.path().join(setting)).collect()
}

/// `accept_ra` of the interfaces that accept router advertisements: 1, or 2, which another switch may have set for
/// the same reason.
pub(super) fn accepting_router_advertisements() -> Vec<PathBuf> {
    let settings = per_interface("ipv6", "accept_ra").into_iter();
    settings
        .filter(|path| !path.ends_with("default/accept_ra"))
        .filter(|path| read(path).is_ok_and(|value| value == "1" || value == "2"))
        .collect()
}

/// `None` if the interface of the setting is gone.
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

    const HOST: NetnsIdentity = NetnsIdentity { dev: 4, ino: 1, born: (0, 0) };

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
        assert_eq!(read(&sysctl).unwrap(), "1", "it was on before the start");

        fs::write(&sysctl, "0\n").unwrap();
        let switch = Switch::start(directory.path(), "a", &sysctl);
        fs::write(&sysctl, "2\n").unwrap();
        switch.stop();
        assert_eq!(read(&sysctl).unwrap(), "2", "another program set it in the meantime");
    }
}
