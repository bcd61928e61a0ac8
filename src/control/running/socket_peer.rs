//! Ports on sockets whose peer comes and goes. Without a peer, the workers have no queue of the port, and the port has
//! no carrier.

use tracing::{info, warn};

use super::link_state::LinkState;
use super::{HostNetwork, RunError, Running};
use crate::control::report::PortKind;
use crate::control::topology::{DeviceId, LinkChange};
use crate::switch::PortId;

impl<M: HostNetwork> Running<M> {
    /// Hands the queues of a new peer to the workers.
    pub(super) fn connected(&mut self, device: DeviceId) {
        let Some((&id, _)) = self.ports.iter().find(|(_, port)| port.device.id == device) else { return };
        // First, because the peer may have sent frames already.
        self.set_link_state(id, LinkState::Up);
        let queues = self.network.socket_queues(device).map_err(RunError::from);
        if let Err(error) = queues.and_then(|queues| Ok(self.datapath.attach(id, queues)?)) {
            warn!(port = self.ports[&id].name, %error, "the peer cannot be used");
            self.network.disconnected(device);
            self.set_link_state(id, LinkState::NoCarrier);
        }
    }

    /// A worker reports that a port's device is gone, or the peer of its socket.
    pub(super) fn port_gone(&mut self, id: PortId) {
        let Some(record) = self.ports.get(&id) else { return };
        if record.kind != PortKind::Socket {
            return self.link_changed(id, &LinkChange::Gone);
        }
        if record.link != LinkState::Up {
            return;
        }
        let device = record.device.id;
        info!(port = record.name, "the peer has closed the socket");
        // A stalled worker detaches it when it responds again.
        let _ = self.detach(id);
        self.network.disconnected(device);
        self.set_link_state(id, LinkState::NoCarrier);
    }
}
