//! Ports on Unix sockets: another switch, a virtual machine, passt ([`crate::sys::frame_socket`]).
//!
//! A port has at most one peer. Without one, a listening port waits for it, and a connecting port looks for it again every
//! [`RETRY`].

use std::collections::HashMap;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{Entry, EntryId};
use super::nat_watcher::until;
use super::{Device, DeviceId, DeviceRecord, Topology, TopologyError};
use crate::sys::frame_socket::{self, FrameListener, FrameSocketError, FrameSocketType};
use crate::sys::queue::Queue;
use crate::wire::Mac;

/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);

/// A socket to listen at or to connect to.
#[derive(Debug, Clone)]
pub struct SocketSpec {
    /// Its path.
    pub path: PathBuf,
    /// What it carries.
    pub kind: FrameSocketType,
    /// Create it and wait for a peer, instead of connecting to it.
    pub listen: bool,
    /// Largest payload of an Ethernet frame, in bytes.
    pub mtu: u32,
    /// Number of queues: one for each worker.
    pub queues: usize,
}

#[derive(Debug)]
struct SocketPort {
    spec: SocketSpec,
    listener: Option<FrameListener>,
    peer: Peer,
}

#[derive(Debug)]
enum Peer {
    /// There is none. A connecting port looks for it at this time.
    Missing(Instant),
    /// It was announced, and its queues were not fetched yet.
    New(OwnedFd),
    Connected,
}

/// The sockets of all such ports.
#[derive(Debug, Default)]
pub(super) struct SocketPorts {
    ports: HashMap<DeviceId, SocketPort>,
}

impl SocketPorts {
    /// The next port that has a peer. Cancel-safe.
    pub(super) async fn next(&mut self) -> DeviceId {
        loop {
            let retry = self.ports.values().filter_map(SocketPort::next_attempt).min();
            tokio::select! {
                id = poll_fn(|context| self.poll_accept(context)) => return id,
                () = until(retry) => if let Some(id) = self.connect_due() { return id },
            }
        }
    }

    /// Accepts peers. Those of a port that has one are refused.
    fn poll_accept(&mut self, context: &mut Context<'_>) -> Poll<DeviceId> {
        for (id, port) in &mut self.ports {
            let Some(listener) = &port.listener else { continue };
            while let Poll::Ready(Ok(connection)) = listener.poll_accept(context) {
                if matches!(port.peer, Peer::Missing(_)) {
                    port.peer = Peer::New(connection);
                    return Poll::Ready(*id);
                }
            }
        }
        Poll::Pending
    }

    fn connect_due(&mut self) -> Option<DeviceId> {
        let now = Instant::now();
        let due = |port: &SocketPort| port.next_attempt().is_some_and(|at| at <= now);
        self.ports
            .iter_mut()
            .filter(|(_, port)| due(port))
            .find_map(|(id, port)| port.connect().then_some(*id))
    }

    /// The queues of the peer of a port, which [`SocketPorts::next`] has announced.
    fn queues(&mut self, id: DeviceId) -> Result<Vec<Queue>, TopologyError> {
        let port = self.ports.get_mut(&id).ok_or(TopologyError::NoSuchDevice)?;
        let Peer::New(connection) = std::mem::replace(&mut port.peer, Peer::Connected) else {
            return Err(TopologyError::NoSuchDevice);
        };
        let SocketSpec { kind, queues, .. } = port.spec;
        let reader = usize::try_from(id.0).unwrap_or(0) % queues;
        let failed = |source| TopologyError::Kernel { what: "use a connection", source };
        frame_socket::queues(connection, kind, queues, reader).map_err(failed)
    }

    fn disconnected(&mut self, id: DeviceId) {
        if let Some(port) = self.ports.get_mut(&id) {
            port.peer = Peer::Missing(Instant::now() + RETRY);
        }
    }

    pub(super) fn remove(&mut self, id: DeviceId) {
        self.ports.remove(&id);
    }

    pub(super) fn clear(&mut self) {
        self.ports.clear();
    }
}

impl SocketPort {
    fn next_attempt(&self) -> Option<Instant> {
        match self.peer {
            Peer::Missing(at) if self.listener.is_none() => Some(at),
            _ => None,
        }
    }

    /// Returns whether there is a peer.
    fn connect(&mut self) -> bool {
        match frame_socket::connect(&self.spec.path, self.spec.kind) {
            Ok(connection) => self.peer = Peer::New(connection),
            Err(_) => self.peer = Peer::Missing(Instant::now() + RETRY),
        }
        matches!(self.peer, Peer::New(_))
    }
}

impl Topology {
    /// Opens the socket of a port. The port has no queues before it has a peer.
    ///
    /// # Errors
    /// The socket cannot be created. Nothing is left behind then.
    pub(super) fn open_socket(&mut self, spec: &SocketSpec) -> Result<Device, TopologyError> {
        let before = self.ledger.next_id();
        let (created, listener) = match spec.listen {
            true => match self.listen(spec) {
                Ok((created, listener)) => (Some(created), Some(listener)),
                Err(error) => {
                    self.roll_back(before);
                    return Err(error);
                }
            },
            false => (None, None),
        };
        let id = self.next_id();
        let path = spec.path.display().to_string();
        if !spec.listen && !spec.path.exists() {
            self.notices.add(format!("nobody listens at {path} yet: the switch tries again every second"));
        }
        let port = SocketPort { spec: spec.clone(), listener, peer: Peer::Missing(Instant::now()) };
        self.sockets.ports.insert(id, port);
        self.devices.insert(id, DeviceRecord { created, netns: None });
        Ok(Device {
            id,
            ifname: path,
            ifindex: 0,
            mac: Mac::ZERO,
            mtu: spec.mtu,
            netns: None,
            addresses: Vec::new(),
            offloads: Vec::new(),
            queues: Vec::new(),
            polled: false,
        })
    }

    /// Listens, and records that in the ledger.
    fn listen(&mut self, spec: &SocketSpec) -> Result<((EntryId, Entry), FrameListener), TopologyError> {
        let failed = |source| TopologyError::Socket { path: spec.path.clone(), source };
        // Before it is recorded, so that the socket of another program is not.
        frame_socket::remove_stale(&spec.path).map_err(failed)?;
        let entry = Entry::Socket { path: spec.path.clone() };
        let id = self.ledger.record(entry.clone())?;
        let listener = FrameListener::bind(&spec.path, spec.kind).map_err(failed)?;
        Ok(((id, entry), listener))
    }

    /// The queues of a port that has a peer now.
    ///
    /// # Errors
    /// The process has all the files or threads that it may have.
    pub fn socket_queues(&mut self, device: DeviceId) -> Result<Vec<Queue>, TopologyError> {
        self.sockets.queues(device)
    }

    /// Waits for another peer of a port. Its queues have been closed.
    pub fn disconnected(&mut self, device: DeviceId) {
        self.sockets.disconnected(device);
    }
}

/// Removes the socket of a killed switch, unless another program listens there.
pub(super) fn remove_socket(path: &Path) -> Result<(), TopologyError> {
    match frame_socket::remove_stale(path) {
        Ok(()) | Err(FrameSocketError::NotSocket | FrameSocketError::InUse) => Ok(()),
        Err(source) => Err(TopologyError::Socket { path: path.to_owned(), source }),
    }
}
