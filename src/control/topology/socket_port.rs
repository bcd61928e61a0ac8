//! Ports on Unix sockets: another switch, a virtual machine, passt ([`crate::sys::frame_socket`]).
//!
//! A port has at most one peer. Without one, a listening port waits for it, and a connecting port looks for it again
//! every [`RETRY`]. A datagram socket has no connections: its port looks as often whether its peer is still there.

use std::collections::HashMap;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::ledger::{EntryId, LedgerEntry};
use super::nat_watcher::until;
use super::{Device, DeviceId, DeviceRecord, Topology, TopologyError};
use crate::sys::datagram_socket::DatagramSocket;
use crate::sys::frame_socket::{self, FrameListener, FrameSocketError, FrameSocketType};
use crate::sys::queue::Queue;
use crate::wire::Mac;

/// Time between two attempts to connect, or two looks for the peer of a datagram socket.
const RETRY: Duration = Duration::from_secs(1);

/// A socket of a port.
#[derive(Debug, Clone)]
pub struct SocketSpec {
    /// Its path.
    pub path: PathBuf,
    /// What it carries, and who creates it.
    pub role: SocketRole,
    /// Largest payload of an Ethernet frame, in bytes.
    pub mtu: u32,
    /// Number of queues: one for each worker.
    pub queues: usize,
}

/// What a socket carries, and who creates it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SocketRole {
    /// The port creates it and waits for a peer.
    Listen(FrameSocketType),
    /// The peer has created it.
    Connect(FrameSocketType),
    /// The port creates a datagram socket. The peer has the one at this path.
    Datagram(PathBuf),
}

impl SocketRole {
    /// Whether there is a virtio-net header before each frame, so that GSO packets can cross.
    pub fn has_headers(&self) -> bool {
        use SocketRole::{Connect, Listen};
        matches!(self, Listen(FrameSocketType::Seqpacket) | Connect(FrameSocketType::Seqpacket))
    }
}

#[derive(Debug)]
struct SocketPort {
    endpoint: SocketEndpoint,
    queues: usize,
    peer: PeerState,
    /// When to look for the peer.
    due: Instant,
}

#[derive(Debug)]
enum SocketEndpoint {
    Listener(FrameListener, FrameSocketType),
    Connection(PathBuf, FrameSocketType),
    Datagram(DatagramSocket),
}

#[derive(Debug)]
enum PeerState {
    Missing,
    /// It was announced, and its queues were not fetched yet.
    New(Option<OwnedFd>),
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
            let SocketEndpoint::Listener(listener, _) = &port.endpoint else { continue };
            while let Poll::Ready(Ok(connection)) = listener.poll_accept(context) {
                if matches!(port.peer, PeerState::Missing) {
                    port.peer = PeerState::New(Some(connection));
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
            .find_map(|(id, port)| port.look_for_peer(now).then_some(*id))
    }

    /// The queues of the peer of a port, which [`SocketPorts::next`] has announced.
    fn queues(&mut self, id: DeviceId) -> Result<Vec<Queue>, TopologyError> {
        let port = self.ports.get_mut(&id).ok_or(TopologyError::NoSuchDevice)?;
        let PeerState::New(connection) = std::mem::replace(&mut port.peer, PeerState::Connected) else {
            return Err(TopologyError::NoSuchDevice);
        };
        let count = port.queues;
        let reader = usize::try_from(id.0).unwrap_or(0) % count;
        let queues = match (&mut port.endpoint, connection) {
            (SocketEndpoint::Datagram(socket), _) => socket.queues(count, reader),
            (SocketEndpoint::Listener(_, kind) | SocketEndpoint::Connection(_, kind), Some(connection)) => {
                frame_socket::queues(connection, *kind, count, reader)
            }
            (_, None) => return Err(TopologyError::NoSuchDevice),
        };
        queues.map_err(|source| TopologyError::Kernel { what: "use a connection", source })
    }

    fn disconnected(&mut self, id: DeviceId) {
        if let Some(port) = self.ports.get_mut(&id) {
            (port.peer, port.due) = (PeerState::Missing, Instant::now() + RETRY);
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
        match (&self.endpoint, &self.peer) {
            (SocketEndpoint::Connection(..) | SocketEndpoint::Datagram(_), PeerState::Missing)
            | (SocketEndpoint::Datagram(_), PeerState::Connected) => Some(self.due),
            _ => None,
        }
    }

    /// Returns whether there is a new peer.
    fn look_for_peer(&mut self, now: Instant) -> bool {
        self.due = now + RETRY;
        let connection = match &mut self.endpoint {
            SocketEndpoint::Listener(..) => return false,
            SocketEndpoint::Connection(path, kind) => frame_socket::connect(path, *kind).ok().map(Some),
            SocketEndpoint::Datagram(socket) => {
                let connected = socket.connect().is_ok();
                if matches!(self.peer, PeerState::Connected) {
                    if !connected {
                        socket.disconnect();
                    }
                    return false;
                }
                connected.then_some(None)
            }
        };
        match connection {
            Some(connection) => self.peer = PeerState::New(connection),
            None => return false,
        }
        true
    }
}

impl Topology {
    /// Opens the socket of a port. The port has no queues before it has a peer.
    ///
    /// # Errors
    /// The socket cannot be created. Nothing is left behind then.
    pub(super) fn open_socket(&mut self, spec: &SocketSpec) -> Result<Device, TopologyError> {
        let before = self.ledger.next_id();
        let (created, endpoint) = match self.endpoint(spec) {
            Ok(opened) => opened,
            Err(error) => {
                self.roll_back(before);
                return Err(error);
            }
        };
        let id = self.next_id();
        let path = spec.path.display().to_string();
        match &spec.role {
            SocketRole::Connect(_) => self.report_missing_peer(&spec.path),
            SocketRole::Datagram(remote) => self.report_missing_peer(remote),
            SocketRole::Listen(_) => {}
        }
        let port =
            SocketPort { endpoint, queues: spec.queues, peer: PeerState::Missing, due: Instant::now() };
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
            fast: None,
        })
    }

    fn report_missing_peer(&mut self, path: &Path) {
        if !path.exists() {
            let path = path.display();
            self.notices
                .add(format!("there is no socket at {path} yet: the switch tries again every second"));
        }
    }

    /// Creates the socket, if the port does that, and records it in the ledger.
    fn endpoint(
        &mut self,
        spec: &SocketSpec,
    ) -> Result<(Option<(EntryId, LedgerEntry)>, SocketEndpoint), TopologyError> {
        if let SocketRole::Connect(kind) = spec.role {
            return Ok((None, SocketEndpoint::Connection(spec.path.clone(), kind)));
        }
        let failed = |source| TopologyError::Socket { path: spec.path.clone(), source };
        // Before it is recorded, so that the socket of another program is not.
        frame_socket::remove_stale(&spec.path).map_err(failed)?;
        let entry = LedgerEntry::Socket { path: spec.path.clone() };
        let created = Some((self.ledger.record(entry.clone())?, entry));
        let endpoint = match &spec.role {
            SocketRole::Datagram(remote) => {
                DatagramSocket::bind(&spec.path, remote).map(SocketEndpoint::Datagram)
            }
            SocketRole::Listen(kind) | SocketRole::Connect(kind) => FrameListener::bind(&spec.path, *kind)
                .map(|listener| SocketEndpoint::Listener(listener, *kind)),
        };
        Ok((created, endpoint.map_err(failed)?))
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
