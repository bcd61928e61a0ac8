//! The lines of a ledger and what they say.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::sys::existing_tap::{TapDevice, VnetSettings};
use crate::sys::netns::NetnsIdentity;
use crate::sys::process;

/// One object that the switch made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LedgerEntry {
    /// A named network namespace. A namespace with the same name and another identity is not ours.
    Netns { name: String, identity: NetnsIdentity },
    /// An nftables table of the `inet` family.
    Table { name: String },
    /// A kernel setting (sysctl) that the switch changed.
    Sysctl(Setting),
    /// A Unix socket of a port. A socket at which another program listens is not ours.
    Socket { path: PathBuf },
    /// Settings of an existing TAP device that is a port.
    Tap { device: TapDevice, settings: VnetSettings },
}

/// A kernel setting with its original value and the value that the switch wrote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Setting {
    /// Path below `/proc/sys`.
    pub(crate) path: PathBuf,
    pub(crate) found: String,
    pub(crate) set: String,
    /// While the change is under way: the original values of the settings that the kernel changes together with it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) side_effects: BTreeMap<PathBuf, String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) sentinel: Option<Sentinel>,
}

/// Another setting, with its value at the time of the change. If it has another value now, another program needs the
/// changed setting too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sentinel {
    pub(crate) path: PathBuf,
    pub(crate) value: String,
}

/// Identifies an entry of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct EntryId(pub(super) u64);

impl EntryId {
    pub(crate) const FIRST: EntryId = EntryId(0);
}

/// The process that holds a ledger, and where its objects are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LedgerOwner {
    pub(crate) pid: u32,
    /// The inode number of its PID namespace; 0 in ledgers that do not have it.
    #[serde(default)]
    pub(crate) pid_namespace: u64,
    /// The network namespace that the switch uses as its host.
    pub(crate) host: NetnsIdentity,
    /// The switch runs in its own user and network namespaces, which end with its last process.
    pub(crate) sandboxed: bool,
}

impl LedgerOwner {
    /// This process as the owner.
    pub(crate) fn this_process(host: NetnsIdentity, sandboxed: bool) -> LedgerOwner {
        let pid_namespace = process::pid_namespace().unwrap_or(0);
        LedgerOwner { pid: std::process::id(), pid_namespace, host, sandboxed }
    }

    fn holder(&self) -> LedgerHolder {
        let here = process::pid_namespace().ok();
        match self.pid_namespace {
            0 => LedgerHolder::Process(self.pid),
            there if here == Some(there) => LedgerHolder::Process(self.pid),
            _ => LedgerHolder::InOtherPidNamespace,
        }
    }
}

/// The process that holds the lock of a ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LedgerHolder {
    /// A running switch with this process ID.
    Process(u32),
    /// A running switch in another PID namespace. Its process ID there means another process here, or none.
    InOtherPidNamespace,
    /// It has not written its process ID yet, or has removed it.
    Unknown,
}

impl fmt::Display for LedgerHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LedgerHolder::Process(pid) => write!(f, "running (process {pid})"),
            LedgerHolder::InOtherPidNamespace => f.write_str("running (in another PID namespace)"),
            LedgerHolder::Unknown => f.write_str("starting or stopping"),
        }
    }
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Line {
    Owner(LedgerOwner),
    Made {
        id: EntryId,
        entry: LedgerEntry,
    },
    Gone(EntryId),
    /// Another switch that changed this setting has stopped. This switch restores the original value in its place.
    HandedOver(Setting),
}

impl Line {
    /// Parses a line. If the beginning is torn, parses the complete entry that was appended to it.
    fn read(line: &str) -> Option<Line> {
        let starts = line.match_indices("{\"").map(|(start, _)| &line[start..]);
        starts.into_iter().find_map(|entry| serde_json::from_str(entry).ok())
    }
}

/// The state of a ledger after all its lines.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) owner: Option<LedgerOwner>,
    /// In the order of their creation.
    pub(crate) entries: BTreeMap<EntryId, LedgerEntry>,
}

impl Contents {
    /// Parses all lines. Skips what is not valid, such as a last line that a crash cut off.
    pub(super) fn read(text: &str) -> Contents {
        let mut contents = Contents::default();
        for line in text.lines().filter_map(Line::read) {
            match line {
                Line::Owner(owner) => contents.owner = Some(owner),
                Line::Made { id, entry } => {
                    contents.entries.insert(id, entry);
                }
                Line::Gone(id) => {
                    contents.entries.remove(&id);
                }
                Line::HandedOver(setting) => contents.take_over(&setting),
            }
        }
        contents
    }

    fn take_over(&mut self, left: &Setting) {
        for entry in self.entries.values_mut() {
            if let LedgerEntry::Sysctl(ours) = entry
                && ours.path == left.path
            {
                ours.clone_from(left);
            }
        }
    }

    /// The process that holds the ledger, if it is locked.
    pub(crate) fn holder(&self) -> LedgerHolder {
        self.owner.as_ref().map_or(LedgerHolder::Unknown, LedgerOwner::holder)
    }

    /// The kernel settings among the entries.
    pub(crate) fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.entries.values().filter_map(|entry| match entry {
            LedgerEntry::Sysctl(setting) => Some(setting),
            _ => None,
        })
    }
}
