//! Live frames of a running switch, for captures.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;

use super::{Machine, RunError, Running};
use crate::datapath::{Mirror, Wanted};
use crate::switch::PortId;

/// What ports are called, for those that read what the workers send. A name stays until another port has the number, so that
/// what came of a port before it was deleted has its name.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortNames(Arc<RwLock<BTreeMap<PortId, String>>>);

impl PortNames {
    /// The name of a port; nothing if there never was such a port.
    pub(crate) fn of(&self, port: PortId) -> String {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        names.get(&port).cloned().unwrap_or_default()
    }

    /// A port has a name now.
    pub(crate) fn set(&self, port: PortId, name: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(port, name.to_owned());
    }
}

/// A mirror that is asked for.
#[derive(Debug)]
pub(crate) struct NewMirror {
    /// Only these ports.
    pub(crate) ifnames: Option<Vec<String>>,
    /// What else is wanted; its ports are ignored.
    pub(crate) wanted: Wanted,
    /// Notified when there is something to take.
    pub(crate) wake: Arc<Notify>,
}

/// What is needed to read a mirror.
#[derive(Debug)]
pub(crate) struct Mirrored {
    /// Sends the records.
    pub(crate) mirror: Mirror,
    /// What it wants.
    pub(crate) wanted: Wanted,
    /// The ports that it is of now.
    pub(crate) ports: Vec<PortId>,
    /// What ports are called.
    pub(crate) names: PortNames,
}

impl<M: Machine> Running<M> {
    pub(super) fn mirror(&self, asked: NewMirror) -> Result<Mirrored, RunError> {
        let NewMirror { ifnames, wanted, wake } = asked;
        let named = |names: Vec<String>| names.iter().map(|name| self.port_named(name)).collect();
        let ports: Option<Vec<PortId>> = ifnames.map(named).transpose()?;
        let wanted = Wanted { ports: ports.clone(), ..wanted };
        let mirror = self.datapath.mirror(wanted.clone(), Box::new(move || wake.notify_one()))?;
        let ports = ports.unwrap_or_else(|| self.ports.keys().copied().collect());
        Ok(Mirrored { mirror, wanted, ports, names: self.names.clone() })
    }
}
