//! Ledgers of running, killed and stopped switches.

use std::collections::BTreeMap;
use std::io::Write;

use super::*;
use crate::sys::process;

const HOST: NetnsIdentity = NetnsIdentity { dev: 4, ino: 1, born: (0, 0) };
const ELSEWHERE: NetnsIdentity = NetnsIdentity { dev: 4, ino: 2, born: (0, 0) };

fn owner(host: NetnsIdentity) -> LedgerOwner {
    LedgerOwner { pid: 7, pid_namespace: process::pid_namespace().unwrap(), host, sandboxed: false }
}

fn netns(name: &str) -> LedgerEntry {
    LedgerEntry::Netns { name: name.to_owned(), identity: HOST }
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
    ledger.record(LedgerEntry::Table { name: "t".to_owned() }).unwrap();
    ledger.remove(first);
    drop(ledger);

    let (mut ledger, contents) = claim(directory.path(), "a").unwrap();
    assert_eq!(contents.owner, Some(owner(HOST)));
    let standing: Vec<_> = contents.entries.values().cloned().collect();
    assert_eq!(standing, [netns("c2"), LedgerEntry::Table { name: "t".to_owned() }]);
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
    ledger.start(LedgerOwner { pid_namespace: 1, ..owner(HOST) }).unwrap();
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
    other.record(LedgerEntry::Sysctl(forwarding("1"))).unwrap();
    let without = started(directory.path(), "without", HOST);
    assert!(!leave(), "no switch on this host set it");

    let mut second = started(directory.path(), "second", HOST);
    let id = second.record(LedgerEntry::Sysctl(forwarding("1"))).unwrap();
    assert!(leave());
    let found: Vec<_> = second.contents().unwrap().settings().cloned().collect();
    assert_eq!(found, [forwarding("0")]);

    second.remove(id);
    assert!(!leave(), "the switch has restored the setting");
    second.record(LedgerEntry::Sysctl(forwarding("1"))).unwrap();
    drop(second);
    assert!(!leave(), "the switch was killed");
    drop((other, without));
}
