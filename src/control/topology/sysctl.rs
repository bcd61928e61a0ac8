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
use super::ledger::{DirectoryLock, EntryId, Ledger, LedgerEntry, Sentinel, Setting};
use crate::sys::netns::NetnsIdentity;

/// A change of a setting.
pub(super) struct SysctlChange<'a> {
    pub(super) path: &'a Path,
    pub(super) value: &'a str,
    /// A setting that another program changes too when it wants `value` for itself.
    pub(super) sentinel: Option<&'a Path>,
}

/// Records the original value in the ledger and writes the new one.
pub(super) fn set(
    ledger: &mut Ledger,
    change: &SysctlChange,
    _held: &DirectoryLock,
) -> Result<EntryId, TopologyError> {
    let found = read(change.path)?;
    let changed = found != change.value;
    let sentinel = change.sentinel.filter(|_| changed).map(sentinel).transpose()?;
    let setting = Setting {
        path: change.path.to_owned(),
        found,
        set: change.value.to_owned(),
        side_effects: BTreeMap::new(),
        sentinel,
    };
    let id = ledger.record(LedgerEntry::Sysctl(setting))?;
    if changed {
        write(change.path, change.value)?;
    }
    Ok(id)
}

/// A setting of all interfaces, which the kernel writes to each interface and to `default`. The interfaces keep their
/// own values. Another program that writes the setting changes `default`, which shows that it is needed.
pub(super) fn set_for_all_only(
    ledger: &mut Ledger,
    all: &Path,
    value: &str,
    _held: &DirectoryLock,
) -> Result<EntryId, TopologyError> {
    let found = read(all)?;
    let changed = found != value;
    let interfaces = if changed { values(&interfaces_of(all)) } else { BTreeMap::new() };
    let mut setting = Setting {
        path: all.to_owned(),
        found,
        set: value.to_owned(),
        side_effects: interfaces,
        sentinel: None,
    };
    let id = ledger.record(LedgerEntry::Sysctl(setting.clone()))?;
    if changed {
        write(all, value)?;
        write_back(&setting.side_effects)?;
        setting.side_effects.clear();
        setting.sentinel = Some(sentinel(&default_of(all))?).filter(|sentinel| sentinel.value != value);
        ledger.replace(id, LedgerEntry::Sysctl(setting))?;
    }
    Ok(id)
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
    if !setting.side_effects.is_empty() {
        // The switch was killed before it had written them back.
        write(&setting.path, &setting.found)?;
        return write_back(&setting.side_effects);
    }
    if read_if_present(&setting.path)?.is_none_or(|now| now != setting.set) || needed_by_others(setting)? {
        return Ok(());
    }
    // What the interfaces have by now is theirs.
    let interfaces = values(&interfaces_of(&setting.path));
    write(&setting.path, &setting.found)?;
    write_back(&interfaces)
}

fn sentinel(path: &Path) -> Result<Sentinel, TopologyError> {
    Ok(Sentinel { path: path.to_owned(), value: read(path)? })
}

fn needed_by_others(setting: &Setting) -> Result<bool, TopologyError> {
    let Some(Sentinel { path, value }) = &setting.sentinel else { return Ok(false) };
    Ok(read_if_present(path)?.is_some_and(|now| now != *value))
}

/// `conf/*/NAME` for `conf/all/NAME`; for any other path nothing.
fn interfaces_of(all: &Path) -> Vec<PathBuf> {
    let Some((conf, name)) = all_of_conf(all) else { return Vec::new() };
    let interfaces = fs::read_dir(conf).into_iter().flatten().flatten();
    let interfaces = interfaces.filter(|interface| interface.file_name() != "all");
    interfaces.map(|interface| interface.path().join(name)).collect()
}

fn default_of(all: &Path) -> PathBuf {
    all_of_conf(all).map_or_else(PathBuf::new, |(conf, name)| conf.join("default").join(name))
}

fn all_of_conf(path: &Path) -> Option<(&Path, &Path)> {
    let all = path.parent().filter(|parent| parent.ends_with("conf/all"))?;
    Some((all.parent()?, Path::new(path.file_name()?)))
}

/// The settings that are there.
fn values(paths: &[PathBuf]) -> BTreeMap<PathBuf, String> {
    paths.iter().filter_map(|path| Some((path.clone(), read(path).ok()?))).collect()
}

fn write_back(values: &BTreeMap<PathBuf, String>) -> Result<(), TopologyError> {
    for (path, value) in values {
        if read_if_present(path)?.is_some_and(|now| now != *value) {
            write(path, value)?;
        }
    }
    Ok(())
}

/// `accept_ra` of the interfaces that accept router advertisements unless they forward.
pub(super) fn accepting_router_advertisements() -> Vec<PathBuf> {
    let settings = interfaces_of(Path::new("/proc/sys/net/ipv6/conf/all/accept_ra")).into_iter();
    let settings = settings.filter(|path| !path.ends_with("default/accept_ra"));
    settings.filter(|path| read(path).is_ok_and(|value| value == "1")).collect()
}

/// `None` if the interface of the setting is gone.
fn read_if_present(path: &Path) -> Result<Option<String>, TopologyError> {
    match read(path) {
        Err(TopologyError::Sysctl { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

pub(super) fn read(path: &Path) -> Result<String, TopologyError> {
    let text = fs::read_to_string(path);
    let failed = |source| TopologyError::Sysctl { what: "read", path: path.to_owned(), source };
    text.map(|text| text.trim().to_owned()).map_err(failed)
}

pub(super) fn write(path: &Path, value: &str) -> Result<(), TopologyError> {
    let failed = |source| TopologyError::Sysctl { what: "write", path: path.to_owned(), source };
    fs::write(path, value).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::super::ledger::LedgerOwner;
    use super::*;

    const HOST: NetnsIdentity = NetnsIdentity { dev: 4, ino: 1, born: (0, 0) };

    struct Switch(Ledger);

    impl Switch {
        fn start(directory: &Path, name: &str, sysctl: &Path) -> Switch {
            let (mut ledger, _) =
                Ledger::claim(directory, name, &DirectoryLock::take(directory).unwrap()).unwrap();
            ledger.start(LedgerOwner { pid: 1, pid_namespace: 0, host: HOST, sandboxed: false }).unwrap();
            let sentinel = sysctl.with_file_name("sentinel");
            let change = SysctlChange { path: sysctl, value: "1", sentinel: Some(&sentinel) };
            set(&mut ledger, &change, &DirectoryLock::take(directory).unwrap()).unwrap();
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
            fs::write(directory.path().join("sentinel"), "0\n").unwrap();
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
        let sentinel = directory.path().join("sentinel");
        fs::write(&sentinel, "0\n").unwrap();
        fs::write(&sysctl, "1\n").unwrap();
        Switch::start(directory.path(), "a", &sysctl).stop();
        assert_eq!(read(&sysctl).unwrap(), "1", "it was on before the start");

        fs::write(&sysctl, "0\n").unwrap();
        let switch = Switch::start(directory.path(), "a", &sysctl);
        fs::write(&sysctl, "2\n").unwrap();
        switch.stop();
        assert_eq!(read(&sysctl).unwrap(), "2", "another program set it in the meantime");

        fs::write(&sysctl, "0\n").unwrap();
        let switch = Switch::start(directory.path(), "a", &sysctl);
        fs::write(&sentinel, "1\n").unwrap();
        switch.stop();
        assert_eq!(read(&sysctl).unwrap(), "1", "another program needs it too");
    }
    /// `conf/{all,default,lan}/forwarding`, without the kernel that copies `all` to the others.
    fn conf(directory: &Path, [all, default, lan]: [&str; 3]) -> PathBuf {
        for (interface, value) in [("all", all), ("default", default), ("lan", lan)] {
            let path = directory.join("conf").join(interface);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("forwarding"), value).unwrap();
        }
        directory.join("conf/all/forwarding")
    }

    #[test]
    fn interrupted_change_of_all_interfaces_is_undone() {
        let directory = tempfile::tempdir().unwrap();
        let all = conf(directory.path(), ["0", "0", "0"]);
        let held = DirectoryLock::take(directory.path()).unwrap();
        let (mut ledger, _) = Ledger::claim(directory.path(), "a", &held).unwrap();
        ledger.start(LedgerOwner { pid: 1, pid_namespace: 0, host: HOST, sandboxed: false }).unwrap();
        let id = set_for_all_only(&mut ledger, &all, "1", &held).unwrap();
        let LedgerEntry::Sysctl(mut setting) = ledger.contents().unwrap().entries.remove(&id).unwrap() else {
            panic!("a setting");
        };
        assert_eq!(setting.sentinel.as_ref().map(|it| it.value.as_str()), Some("0"));

        // As it is if the switch is killed after the kernel has changed all.
        setting.side_effects = values(&interfaces_of(&all));
        setting.sentinel = None;
        conf(directory.path(), ["1", "1", "1"]);
        restore(&ledger, &setting, &HOST, &held).unwrap();
        let values: Vec<_> = ["all", "default", "lan"]
            .map(|interface| read(&directory.path().join("conf").join(interface).join("forwarding")).unwrap())
            .into();
        assert_eq!(values, ["0", "0", "0"]);
    }
}
