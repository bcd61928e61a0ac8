//! The spanning tree: hands BPDUs, links and the time to it, and carries out what it decides.

use std::collections::BTreeSet;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::ports::PortRecord;
use super::{HostNetwork, RunError, Running};
use crate::control::config::{InvalidValue, spanning_tree};
use crate::control::event::{Event, EventType};
use crate::control::report::{PortSettings, StpPort, StpReport};
use crate::datapath::PuntedFrame;
use crate::switch::stp::{
    Action, PortConfig, PortLink, PortRole, PortStatus, SpanningTree, State, StpEvent, Version,
};
use crate::switch::{PortId, PortState};
use crate::wire::Bpdu;

impl<M: HostNetwork> Running<M> {
    /// Does what is due.
    pub(super) fn update_stp(&mut self) {
        let now = self.datapath.now();
        let Some(tree) = &mut self.spanning_tree else { return };
        tree.advance(now);
        self.carry_out_stp();
    }

    /// Waits until the spanning tree has something to do. Never returns while it has not.
    pub(super) fn stp_due(&self) -> impl Future<Output = ()> + 'static {
        let next = self.spanning_tree.as_ref().and_then(SpanningTree::next_deadline);
        let next = next.map(|tick| Instant::now() + self.until(tick));
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Adds a port that does not forward yet. Its frames are not forwarded before the spanning tree says so.
    pub(super) fn stp_port_added(&mut self, id: PortId) -> Result<(), RunError> {
        let Some(tree) = &mut self.spanning_tree else { return Ok(()) };
        tree.add_port(id, PortConfig::default()).map_err(|_| RunError::TooManyPorts)?;
        self.switch.ports.set_state(id, PortState::Blocking);
        Ok(())
    }

    /// The link of a port is up or down.
    pub(super) fn stp_link_changed(&mut self, id: PortId) {
        let now = self.datapath.now();
        let is_up = self.ports.get(&id).is_some_and(PortRecord::is_up);
        let Some(tree) = &mut self.spanning_tree else { return };
        // The cable has no speed, so the cost is that of the Linux bridge for a TAP device.
        tree.set_link(now, id, is_up.then_some(PortLink { speed: None }));
        self.carry_out_stp();
    }

    /// A port is removed.
    pub(super) fn stp_port_removed(&mut self, id: PortId) {
        if let Some(tree) = &mut self.spanning_tree {
            tree.remove_port(id);
            self.carry_out_stp();
        }
    }

    /// Changes the settings of a port that were checked.
    pub(super) fn set_stp_port(&mut self, id: PortId, settings: &PortSettings) -> Result<(), RunError> {
        let Some(record) = self.ports.get_mut(&id) else { return Ok(()) };
        record.stp = spanning_tree::port(settings, record.stp)?;
        if let Some(tree) = &mut self.spanning_tree {
            tree.set_port(id, record.stp).map_err(InvalidValue::from)?;
            self.carry_out_stp();
        }
        Ok(())
    }

    fn carry_out_stp(&mut self) {
        let Some(tree) = &mut self.spanning_tree else { return };
        let mac = tree.bridge().id.mac;
        let actions: Vec<Action> = tree.take_actions().collect();
        // A port may pass through several states at once.
        let mut changed = BTreeSet::new();
        for action in actions {
            match action {
                Action::SetState { port, state } => {
                    self.switch.ports.set_state(port, port_state(state));
                    changed.insert(port);
                    if state == State::Forwarding {
                        self.multicast_port_changed(port, true);
                    }
                }
                Action::Flush { port } => _ = self.switch.fdb.flush(Some(port)),
                Action::Send { port, bpdu } => self.inject(0, vec![port], bpdu.emit(mac).to_vec()),
                Action::Report(event) => self.report_stp_event(event),
            }
        }
        changed.into_iter().for_each(|port| self.report_stp_state(port));
    }

    /// Reports the state of a port that is up. Of a port that is down its link is reported.
    fn report_stp_state(&mut self, port: PortId) {
        if self.ports.get(&port).is_some_and(PortRecord::is_up) {
            let value = self.stp_state_of(port).map(str::to_owned);
            self.emit(port, |running| Event { value, ..running.port_event(EventType::StpState, port) });
        }
    }

    fn report_stp_event(&mut self, event: StpEvent) {
        let now = Timestamp::now();
        let event = match event {
            StpEvent::Root { bridge, cost, port } => {
                info!(root = %bridge, cost, "spanning tree: root");
                let value = Some(match port {
                    Some(_) => format!("root {bridge}, cost {cost}"),
                    None => format!("root {bridge}, this switch"),
                });
                let ifname = port.and_then(|port| self.stp_port_name(port));
                Event { ifname, value, ..Event::at(now, EventType::StpRoot) }
            }
            StpEvent::TopologyChange { port, is_received } => {
                let value =
                    Some(if is_received { "reported by another bridge" } else { "of this port" }.to_owned());
                Event { value, ..self.port_event(EventType::TopologyChange, port) }
            }
            StpEvent::Guard { port } => {
                warn!(port = self.stp_port_name(port), "BPDU guard: port disabled");
                self.port_event(EventType::BpduGuard, port)
            }
            StpEvent::RootBlock { port, blocked } => {
                let value = Some(if blocked { "blocked" } else { "no longer blocked" }.to_owned());
                Event { value, ..self.port_event(EventType::RootBlock, port) }
            }
        };
        self.events.history.add(event);
    }

    fn stp_port_name(&self, id: PortId) -> Option<String> {
        Some(self.ports.get(&id)?.name.clone())
    }

    /// The state of a port in the words of the Linux bridge; none without spanning tree.
    pub(super) fn stp_state_of(&self, id: PortId) -> Option<&'static str> {
        let mut ports = self.spanning_tree.as_ref()?.ports();
        ports.find(|port| port.id == id).map(|port| state_name(&port))
    }

    /// The spanning tree, for display.
    pub(super) fn stp_report(&self) -> Result<StpReport, RunError> {
        let tree = self.spanning_tree.as_ref().ok_or(RunError::NoSpanningTree)?;
        let bridge = tree.bridge();
        Ok(StpReport {
            ifname: self.config.name.clone(),
            protocol: protocol(bridge.config.version == Version::Rstp),
            bridge_id: bridge.id.to_string(),
            priority: bridge.config.priority,
            root_id: bridge.root.to_string(),
            root_port: bridge.root_port.and_then(|port| self.stp_port_name(port)),
            root_path_cost: bridge.root_cost,
            hello_time: bridge.times.hello_time,
            max_age: bridge.times.max_age,
            forward_delay: bridge.times.forward_delay,
            topology_change: bridge.topology_change,
            topology_changes: bridge.topology_changes,
            ports: tree
                .ports()
                .filter_map(|port| Some(stp_port(self.stp_port_name(port.id)?, &port)))
                .collect(),
        })
    }
}

/// Handles the BPDU of another bridge. An invalid one is discarded (802.1D-2004 §9.3.4).
pub(super) fn receive(tree: &mut SpanningTree, frame: &PuntedFrame) {
    if let Ok(bpdu) = Bpdu::parse(&frame.bytes) {
        tree.receive(frame.port, bpdu);
    }
}

fn stp_port(ifname: String, port: &PortStatus) -> StpPort {
    StpPort {
        ifname,
        port_id: port.port_id.to_string(),
        role: role_name(port.role).to_owned(),
        state: state_name(port).to_owned(),
        cost: port.cost,
        priority: spanning_tree::shown_priority(port.config.priority),
        designated_root: port.designated.root.to_string(),
        designated_cost: port.designated.cost,
        designated_bridge: port.designated.bridge.to_string(),
        designated_port: port.designated.port.to_string(),
        edge: port.oper_edge,
        protocol: protocol(port.rstp),
        guard: port.config.guard,
        guard_tripped: port.guard_tripped,
        root_block: port.config.root_block,
        root_blocked: port.root_blocked,
        counts: port.counts.into(),
    }
}

/// Workers need not tell blocking from listening: a discarding port does neither learn nor forward.
const fn port_state(state: State) -> PortState {
    match state {
        State::Forwarding => PortState::Forwarding,
        State::Learning => PortState::Learning,
        State::Discarding => PortState::Blocking,
    }
}

fn protocol(is_rstp: bool) -> String {
    if is_rstp { "rstp" } else { "stp" }.to_owned()
}

const fn role_name(role: PortRole) -> &'static str {
    match role {
        PortRole::Disabled => "disabled",
        PortRole::Root => "root",
        PortRole::Designated => "designated",
        PortRole::Alternate => "alternate",
        PortRole::Backup => "backup",
    }
}

/// The name of 802.1D-1998, which the Linux bridge uses: a discarding port is blocking if it is to stay so.
fn state_name(port: &PortStatus) -> &'static str {
    match (port.state, port.role) {
        (State::Forwarding, _) => PortState::Forwarding.name(),
        (State::Learning, _) => PortState::Learning.name(),
        (State::Discarding, PortRole::Disabled) => "disabled",
        (State::Discarding, PortRole::Root | PortRole::Designated) => PortState::Listening.name(),
        (State::Discarding, PortRole::Alternate | PortRole::Backup) => PortState::Blocking.name(),
    }
}
