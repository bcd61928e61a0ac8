//! The Rapid Spanning Tree Protocol (IEEE 802.1D-2004 clause 17), with STP (802.1D-1998) where the other bridge speaks
//! only that. Section numbers in this module are those of 802.1D-2004.
//!
//! Sans-IO: BPDUs, links and the time go in, [`Action`]s come out, to be carried out in their order. A machine of
//! the standard is a method that makes at most one transition of one port; [`SpanningTree`] calls them until none has
//! anything to do (17.16). The variables have the names of the standard.
//!
//! Differences from the standard:
//!
//! - A topology change flushes addresses at once, also with STP, which would age them in `forward_delay` instead
//!   (17.19.1). The effect is a short flood.
//! - A port that waits instead of getting an agreement waits for `forward_delay`, with RSTP too. There the standard waits
//!   for a hello time (17.20.5), and then one lost BPDU is enough for a loop.
//! - Nor is one lost BPDU enough to mistake a bridge for a host: a port that might be an edge port sends every second, and one
//!   that has heard a bridge is not an edge port before `max_age` has passed (17.20.4: three seconds).
//! - An agreement must belong to what the port says now. The standard also accepts one to earlier information that happens to
//!   compare well (17.21.9), which makes loops while information about a lost root circulates.
//! - BPDUs are sent after all other machines have come to rest, so a port has stopped forwarding before the agreement leaves
//!   that depends on it.
//! - A late call of [`SpanningTree::advance`] counts one second only: BPDUs that have arrived meanwhile are still to be
//!   received, and information must not age before.
//! - BPDU guard and root guard are those of the Linux bridge (`guard`, `root_block`).

mod config;
mod information;
mod port;
mod receive;
mod selection;
mod topology_change;
mod transitions;
mod transmit;

pub use config::{
    BRIDGE_PRIORITY, BridgeConfig, Edge, FORWARD_DELAY, HELLO_TIME, MAX_AGE, PATH_COST, PORT_PRIORITY,
    PortConfig, StpConfigError, TX_HOLD_COUNT, Version, path_cost,
};
pub use port::{BpduCounts, PortLink, PortRole, State};

use super::{PortId, Tick};
use crate::wire::Bpdu;
use crate::wire::bpdu::{BridgeId, PortIdentifier, PriorityVector, Times};
use port::RstpPort;
use selection::RootInfo;

/// What a spanning tree wants done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Let the port learn and forward, or not.
    SetState {
        /** The port. */
        port: PortId,
        /** Its new state. */
        state: State,
    },
    /// Forget the addresses that were learned on the port.
    Flush {
        /** The port. */
        port: PortId,
    },
    /// Send a BPDU.
    Send {
        /** The port. */
        port: PortId,
        /** The BPDU. */
        bpdu: Bpdu,
    },
    /// Something to report.
    Report(StpEvent),
}

/// What is worth reporting, apart from changed states.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StpEvent {
    /// Another root, or another way to it.
    Root {
        /** The root bridge. */
        bridge: BridgeId,
        /** The cost of the path to it. */
        cost: u32,
        /** The root port; none if this bridge is the root. */
        port: Option<PortId>,
    },
    /// The topology changes. Others that follow within seconds are part of the same change.
    TopologyChange {
        /** The port that noticed it. */
        port: PortId,
        /** Another bridge reported it. */
        is_received: bool,
    },
    /// BPDU guard has disabled the port.
    Guard {
        /** The port. */
        port: PortId,
    },
    /// Root guard keeps the port from becoming root port, or no longer does.
    RootBlock {
        /** The port. */
        port: PortId,
        /** It is blocked now. */
        blocked: bool,
    },
}

/// A bridge, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BridgeStatus {
    /// Its parameters.
    pub config: BridgeConfig,
    /// Its identifier.
    pub id: BridgeId,
    /// The root bridge.
    pub root: BridgeId,
    /// The cost of the path to the root bridge.
    pub root_cost: u32,
    /// The root port; none if this bridge is the root.
    pub root_port: Option<PortId>,
    /// The times in use: those of the root bridge.
    pub times: Times,
    /// The topology has changed in the last seconds.
    pub topology_change: bool,
    /// How often it has changed.
    pub topology_changes: u64,
}

/// A port, for display.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "they are independent")]
pub struct PortStatus {
    /// The port.
    pub id: PortId,
    /// Its parameters.
    pub config: PortConfig,
    /// Its port identifier.
    pub port_id: PortIdentifier,
    /// Its role.
    pub role: PortRole,
    /// Its state.
    pub state: State,
    /// Its path cost.
    pub cost: u32,
    /// The link is up, and the port takes part.
    pub enabled: bool,
    /// What it has received from its designated port, or sends as one.
    pub designated: PriorityVector,
    /// It forwards without waiting, because no bridge is there.
    pub oper_edge: bool,
    /// It sends RST BPDUs.
    pub rstp: bool,
    /// BPDU guard has disabled it.
    pub guard_tripped: bool,
    /// Root guard keeps it from becoming root port.
    pub root_blocked: bool,
    /// What it has received and sent.
    pub counts: BpduCounts,
}

/// The spanning tree of one bridge.
#[derive(Debug)]
pub struct SpanningTree {
    config: BridgeConfig,
    root: RootInfo,
    /// In the order of their numbers.
    ports: Vec<RstpPort>,
    /// When the next second of the timers is over. None while no port is enabled: no timer matters then.
    next_second: Option<Tick>,
    actions: Vec<Action>,
    /// Topology changes are part of the last one for so many seconds.
    tc_while: u16,
    topology_changes: u64,
}

impl SpanningTree {
    /// A bridge without ports.
    ///
    /// # Errors
    ///
    /// A parameter is out of its range.
    pub fn new(config: BridgeConfig) -> Result<SpanningTree, StpConfigError> {
        config.check()?;
        let id = config.id();
        let priority = PriorityVector { root: id, cost: 0, bridge: id, port: PortIdentifier::default() };
        Ok(SpanningTree {
            config,
            root: RootInfo { priority, port: None, times: config.times() },
            ports: Vec::new(),
            next_second: None,
            actions: Vec::new(),
            tc_while: 0,
            topology_changes: 0,
        })
    }

    /// Changes the parameters of the bridge. Another version begins anew on every port (17.13.4).
    ///
    /// # Errors
    ///
    /// A parameter is out of its range. Nothing has changed.
    pub fn set_config(&mut self, config: BridgeConfig) -> Result<(), StpConfigError> {
        config.check()?;
        let is_same_version = config.version == self.config.version;
        self.config = config;
        for i in 0..self.ports.len() {
            if !is_same_version {
                self.begin_again(i);
            }
            self.ports[i].request_selection();
        }
        if self.root.port.is_none() {
            self.root = self.own_root();
        }
        self.settle();
        Ok(())
    }

    fn begin_again(&mut self, i: usize) {
        let port = &self.ports[i];
        let (id, state) = (port.id, port.state());
        let begun = RstpPort::begin(id, port.config, self.rstp_version(), self.designated_times());
        self.ports[i] =
            RstpPort { link: port.link, guard_tripped: port.guard_tripped, counts: port.counts, ..begun };
        if state != State::Discarding {
            self.actions.push(Action::SetState { port: id, state: State::Discarding });
            self.actions.push(Action::Flush { port: id });
        }
    }

    /// Adds a port whose link is down. It is [discarding](State::Discarding). Replaces a port of the same number.
    ///
    /// # Errors
    ///
    /// A parameter is out of its range, or the number is too large.
    pub fn add_port(&mut self, id: PortId, config: PortConfig) -> Result<(), StpConfigError> {
        config.check()?;
        if id.0 >= PortIdentifier::MAX_NUMBER {
            return Err(StpConfigError::TooManyPorts);
        }
        self.remove_port(id);
        let at = self.ports.partition_point(|port| port.id < id);
        let port = RstpPort::begin(id, config, self.rstp_version(), self.designated_times());
        self.ports.insert(at, port);
        self.settle();
        Ok(())
    }

    /// Removes a port.
    pub fn remove_port(&mut self, id: PortId) {
        if let Some(i) = self.index(id) {
            self.disable(i);
            self.ports.remove(i);
            self.settle();
        }
    }

    fn disable(&mut self, i: usize) {
        self.ports[i].link = None;
        self.settle();
    }

    /// Changes the parameters of a port. Does nothing if the port does not exist.
    ///
    /// # Errors
    ///
    /// A parameter is out of its range. Nothing has changed.
    pub fn set_port(&mut self, id: PortId, config: PortConfig) -> Result<(), StpConfigError> {
        config.check()?;
        if let Some(i) = self.index(id) {
            let port = &mut self.ports[i];
            if port.config.edge != config.edge {
                port.oper_edge = config.edge == Edge::On;
            }
            port.guard_tripped &= config.guard;
            port.config = config;
            // 17.13: costs and priorities take effect at once.
            port.request_selection();
            self.settle();
        }
        Ok(())
    }

    /// The link of a port is up, or down.
    pub fn set_link(&mut self, now: Tick, id: PortId, link: Option<PortLink>) {
        let Some(i) = self.index(id) else { return };
        let port = &mut self.ports[i];
        if port.link == link {
            return;
        }
        if link.is_none() {
            port.guard_tripped = false;
        }
        port.link = link;
        port.request_selection();
        self.next_second.get_or_insert(second_after(now));
        self.settle();
    }

    /// Receives a BPDU on a port.
    pub fn receive(&mut self, id: PortId, bpdu: Bpdu) {
        let Some(i) = self.index(id) else { return };
        let port = &mut self.ports[i];
        if !port.port_enabled() {
            return;
        }
        match bpdu {
            Bpdu::Tcn => port.counts.rx_tcn += 1,
            Bpdu::Config(_) | Bpdu::Rst(_) => port.counts.rx_bpdu += 1,
        }
        if port.config.guard {
            port.guard_tripped = true;
            self.note(StpEvent::Guard { port: id });
        } else if !self.is_own(i, &bpdu) {
            self.ports[i].receive(bpdu, self.config.max_age);
        }
        self.settle();
    }

    /// 9.3.4 a): a configuration BPDU that the port itself has sent is discarded.
    fn is_own(&self, i: usize, bpdu: &Bpdu) -> bool {
        let own = (self.config.id(), self.ports[i].port_id());
        matches!(bpdu, Bpdu::Config(config) if (config.priority.bridge, config.priority.port) == own)
    }

    /// Asks a port to find out whether the other bridge speaks RSTP again (`mcheck`, 17.19.13).
    pub fn check_migration(&mut self, id: PortId) {
        if let Some(i) = self.index(id) {
            self.ports[i].mcheck = self.rstp_version();
            self.settle();
        }
    }

    /// When [`SpanningTree::advance`] has something to do.
    pub fn next_deadline(&self) -> Option<Tick> {
        self.next_second
    }

    /// Counts a second if one is over.
    pub fn advance(&mut self, now: Tick) {
        let Some(due) = self.next_second.filter(|due| *due <= now) else { return };
        let next = second_after(due);
        let is_any_enabled = self.ports.iter().any(RstpPort::port_enabled);
        self.next_second = is_any_enabled.then_some(if next > now { next } else { second_after(now) });
        self.ports.iter_mut().for_each(RstpPort::tick);
        self.tc_while = self.tc_while.saturating_sub(1);
        self.settle();
    }

    /// Returns what is to be done, in this order.
    pub fn take_actions(&mut self) -> impl Iterator<Item = Action> + '_ {
        self.actions.drain(..)
    }

    /// The state of the bridge.
    pub fn bridge(&self) -> BridgeStatus {
        BridgeStatus {
            config: self.config,
            id: self.config.id(),
            root: self.root.priority.root,
            root_cost: self.root.priority.cost,
            root_port: self.root.port,
            times: self.designated_times(),
            topology_change: self.tc_while != 0,
            topology_changes: self.topology_changes,
        }
    }

    /// The state of every port, in the order of their numbers.
    pub fn ports(&self) -> impl Iterator<Item = PortStatus> + '_ {
        self.ports.iter().enumerate().map(|(i, port)| PortStatus {
            id: port.id,
            config: port.config,
            port_id: port.port_id(),
            role: port.role,
            state: port.state(),
            cost: port.path_cost(),
            enabled: port.port_enabled(),
            designated: if port.has_received() { port.port_priority } else { self.designated_priority(i) },
            oper_edge: port.oper_edge,
            rstp: port.send_rstp,
            guard_tripped: port.guard_tripped,
            root_blocked: port.root_blocked,
            counts: port.counts,
        })
    }

    /// Runs the machines until none has anything to do (17.16), and then sends.
    fn settle(&mut self) {
        let rstp_version = self.rstp_version();
        loop {
            let mut is_changed = self.step_role_selection();
            for i in 0..self.ports.len() {
                is_changed |= self.ports[i].step_receive();
                is_changed |= self.ports[i].step_migration(rstp_version);
                is_changed |= self.ports[i].step_bridge_detection();
                is_changed |= self.step_information(i);
                is_changed |= self.step_role_transitions(i);
                is_changed |= self.step_state(i);
                is_changed |= self.step_topology_change(i);
            }
            if !is_changed {
                break;
            }
        }
        (0..self.ports.len()).for_each(|i| self.transmit(i));
    }

    /// `rstpVersion` (17.20.11).
    fn rstp_version(&self) -> bool {
        self.config.version == Version::Rstp
    }

    fn index(&self, id: PortId) -> Option<usize> {
        self.ports.binary_search_by_key(&id, |port| port.id).ok()
    }

    /// Reports an event. Topology changes close to one another are one.
    fn note(&mut self, event: StpEvent) {
        if matches!(event, StpEvent::TopologyChange { .. }) {
            let is_new = self.tc_while == 0;
            self.tc_while = self.config.hello_time + 2;
            if !is_new {
                return;
            }
            self.topology_changes += 1;
        }
        self.actions.push(Action::Report(event));
    }
}

fn second_after(now: Tick) -> Tick {
    Tick(now.0.saturating_add(Tick::PER_SECOND))
}
