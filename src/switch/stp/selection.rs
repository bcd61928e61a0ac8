//! Which bridge is root, and which role each port has: the port role selection machine (17.28).

use super::port::{InfoIs, PortRole};
use super::{SpanningTree, StpEvent};
use crate::switch::PortId;
use crate::wire::bpdu::{PortIdentifier, PriorityVector, Times};

/// The root as this bridge sees it (17.18.5 to 17.18.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RootInfo {
    pub(super) priority: PriorityVector,
    /// `RootPortId`. `None`: this bridge is the root.
    pub(super) port: Option<PortId>,
    pub(super) times: Times,
}

impl SpanningTree {
    /// Port role selection machine, figure 17-19.
    pub(super) fn step_role_selection(&mut self) -> bool {
        if !self.ports.iter().any(|port| port.reselect) {
            return false;
        }
        self.ports.iter_mut().for_each(|port| port.reselect = false);
        self.update_root();
        for i in 0..self.ports.len() {
            self.select_role(i);
            // setSelectedTree (17.21.16): no port asks for another selection.
            self.ports[i].selected = true;
        }
        true
    }

    /// `updtRolesTree` a) to c) (17.21.25): the best of the root path priority vectors and of the bridge priority
    /// vector.
    fn update_root(&mut self) {
        let own = self.own_root();
        let best = (0..self.ports.len())
            .filter(|i| !self.ports[*i].config.root_block)
            .filter_map(|i| Some((self.root_path_priority(i)?, i)))
            .min()
            .filter(|((path, _), _)| *path < own.priority);
        let root = best.map_or(own, |((priority, _), i)| {
            let port = &self.ports[i];
            let message_age = port.port_times.message_age.saturating_add(1);
            RootInfo { priority, port: Some(port.id), times: Times { message_age, ..port.port_times } }
        });
        let (old, bridge) = (self.root, root.priority.root);
        self.root = root;
        if (old.priority.root, old.priority.cost, old.port) != (bridge, root.priority.cost, root.port) {
            self.note(StpEvent::Root { bridge, cost: root.priority.cost, port: root.port });
        }
    }

    /// This bridge as root: the bridge priority vector.
    pub(super) fn own_root(&self) -> RootInfo {
        let id = self.config.id();
        let priority = PriorityVector { root: id, cost: 0, bridge: id, port: PortIdentifier::default() };
        RootInfo { priority, port: None, times: self.config.times() }
    }

    /// The root path priority vector of a port (17.6), with the receiving port as the last component. `None` if the
    /// port has not received one from another bridge.
    fn root_path_priority(&self, i: usize) -> Option<(PriorityVector, PortIdentifier)> {
        let port = &self.ports[i];
        let received = port.port_priority;
        if !port.has_received() || received.bridge.mac == self.config.mac {
            return None;
        }
        let cost = received.cost.saturating_add(port.path_cost());
        Some((PriorityVector { cost, ..received }, port.port_id()))
    }

    /// `updtRolesTree` f) to l) (17.21.25).
    fn select_role(&mut self, i: usize) {
        let designated = (self.designated_priority(i), self.designated_times());
        let would_be_root =
            self.root_path_priority(i).is_some_and(|(priority, _)| priority < self.root.priority);
        let is_root = self.root.port == Some(self.ports[i].id);
        let mac = self.config.mac;
        let port = &mut self.ports[i];
        let is_better = designated.0 < port.port_priority;
        let (role, update) = match port.info_is {
            InfoIs::Disabled => (PortRole::Disabled, port.updt_info),
            InfoIs::Aged => (PortRole::Designated, true),
            InfoIs::Mine => {
                (PortRole::Designated, port.updt_info || (port.port_priority, port.port_times) != designated)
            }
            InfoIs::Received if is_root => (PortRole::Root, false),
            InfoIs::Received if is_better => (PortRole::Designated, true),
            InfoIs::Received if port.port_priority.bridge.mac == mac => (PortRole::Backup, false),
            InfoIs::Received => (PortRole::Alternate, false),
        };
        (port.selected_role, port.updt_info) = (role, update);
        let blocked = port.config.root_block && would_be_root;
        if port.root_blocked != blocked {
            port.root_blocked = blocked;
            let port = port.id;
            self.note(StpEvent::RootBlock { port, blocked });
        }
    }

    /// `designatedPriority` (17.19.4).
    pub(super) fn designated_priority(&self, i: usize) -> PriorityVector {
        let PriorityVector { root, cost, .. } = self.root.priority;
        PriorityVector { root, cost, bridge: self.config.id(), port: self.ports[i].port_id() }
    }

    /// `designatedTimes` (17.19.5): the same for all ports.
    pub(super) fn designated_times(&self) -> Times {
        Times { hello_time: self.config.hello_time, ..self.root.times }
    }
}
