//! Mirrors of live frames, for captures.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::{HostNetwork, RunError, Running};
use crate::datapath::{Mirror, MirrorSpec, OnRecord};
use crate::switch::{PortId, Watch};

/// Names of ports for readers of mirror records. A record may be read after its port was deleted and
/// its number reused, so the previous name is kept too.
#[derive(Debug, Clone, Default)]
pub(crate) struct PortNames(Arc<RwLock<BTreeMap<PortId, PortNameEntry>>>);

/// The current name of a port number, and the previous one.
#[derive(Debug)]
struct PortNameEntry {
    name: String,
    since: SystemTime,
    before: Option<String>,
}

impl PortNames {
    /// The name that port had at a time. Empty if there never was such a port.
    pub(crate) fn of(&self, port: PortId, at: SystemTime) -> String {
        let names = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let named = names.get(&port);
        let before = named.filter(|named| at < named.since).and_then(|named| named.before.clone());
        before.or_else(|| Some(named?.name.clone())).unwrap_or_default()
    }

    /// Sets the name of a port from now on.
    pub(crate) fn set(&self, port: PortId, name: &str) {
        let mut names = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = names.remove(&port).map(|named| named.name);
        names.insert(port, PortNameEntry { name: name.to_owned(), since: SystemTime::now(), before });
    }
}

/// A request for a mirror.
#[derive(Debug)]
pub(crate) struct MirrorRequest {
    /// Only these ports; `None` for all.
    pub(crate) ifnames: Option<Vec<String>>,
    /// The rest of the filter. Its ports are ignored.
    pub(crate) wanted: MirrorSpec,
    /// Notified when a record is queued.
    pub(crate) wake: Arc<Notify>,
}

/// A mirror, and what its reader needs.
#[derive(Debug)]
pub(crate) struct MirrorReader {
    /// The source of records.
    pub(crate) mirror: Mirror,
    /// The mirrored ports at the start.
    pub(crate) ports: Vec<PortId>,
    /// Resolves port names.
    pub(crate) names: PortNames,
}

impl<M: HostNetwork> Running<M> {
    pub(super) fn mirror(&self, request: MirrorRequest) -> Result<MirrorReader, RunError> {
        let MirrorRequest { ifnames, wanted, wake } = request;
        let named = |names: Vec<String>| names.iter().map(|name| self.port_named(name)).collect();
        let ports: Option<Vec<PortId>> = ifnames.map(named).transpose()?;
        let wanted = MirrorSpec { ports: ports.clone(), ..wanted };
        let mirror = self.start_mirror(wanted, Arc::new(move || wake.notify_one()))?;
        let ports = ports.unwrap_or_else(|| self.ports.keys().copied().collect());
        Ok(MirrorReader { mirror, ports, names: self.names.clone() })
    }

    /// A mirror of all frames, also of those that the fast path would forward.
    pub(super) fn start_mirror(&self, wanted: MirrorSpec, on_record: OnRecord) -> Result<Mirror, RunError> {
        let watch = |fast: &Arc<_>| Watch::new(Arc::clone(fast), wanted.ports.clone());
        let watch = self.switch.fast_datapath().map(watch);
        Ok(self.datapath.mirror(wanted, on_record)?.watching(watch))
    }
}
