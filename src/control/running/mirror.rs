//! Live frames of a running switch, for captures.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::{HostNetwork, RunError, Running};
use crate::datapath::{Mirror, MirrorSpec};
use crate::switch::PortId;

/// What ports are called, for those that read what the workers send: it may have waited since the number was that of
/// another port, and one that was deleted has its name until then.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortNames(Arc<RwLock<BTreeMap<PortId, PortNameEntry>>>);

/// The port that has a number, and the one that had it before.
#[derive(Debug)]
struct PortNameEntry {
    name: String,
    since: SystemTime,
    before: Option<String>,
}

impl PortNames {
    /// The name that a port had; nothing if there never was such a port.
    pub(crate) fn of(&self, port: PortId, at: SystemTime) -> String {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = names.get(&port);
        let before = named.filter(|named| at < named.since).and_then(|named| named.before.clone());
        before.or_else(|| Some(named?.name.clone())).unwrap_or_default()
    }

    /// A port has a name from now on.
    pub(crate) fn set(&self, port: PortId, name: &str) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = names.remove(&port).map(|named| named.name);
        names.insert(port, PortNameEntry { name: name.to_owned(), since: SystemTime::now(), before });
    }
}

/// A mirror that is asked for.
#[derive(Debug)]
pub(crate) struct MirrorRequest {
    /// Only these ports.
    pub(crate) ifnames: Option<Vec<String>>,
    /// What else is wanted; its ports are ignored.
    pub(crate) wanted: MirrorSpec,
    /// Notified when there is something to take.
    pub(crate) wake: Arc<Notify>,
}

/// What is needed to read a mirror.
#[derive(Debug)]
pub(crate) struct MirrorReader {
    /// Sends the records.
    pub(crate) mirror: Mirror,
    /// The ports that it is of now.
    pub(crate) ports: Vec<PortId>,
    /// What ports are called.
    pub(crate) names: PortNames,
}

impl<M: HostNetwork> Running<M> {
    pub(super) fn mirror(&self, asked: MirrorRequest) -> Result<MirrorReader, RunError> {
        let MirrorRequest { ifnames, wanted, wake } = asked;
        let named = |names: Vec<String>| names.iter().map(|name| self.port_named(name)).collect();
        let ports: Option<Vec<PortId>> = ifnames.map(named).transpose()?;
        let wanted = MirrorSpec { ports: ports.clone(), ..wanted };
        let mirror = self.datapath.mirror(wanted, Arc::new(move || wake.notify_one()))?;
        let ports = ports.unwrap_or_else(|| self.ports.keys().copied().collect());
        Ok(MirrorReader { mirror, ports, names: self.names.clone() })
    }
}
