//! What a change of the topology makes of the addresses that were learned: the topology change machine (17.31).

use super::port::{PortRole, TopologyChange};
use super::{Action, SpanningTree, StpEvent};

impl SpanningTree {
    /// Topology change machine, figure 17-25.
    pub(super) fn step_topology_change(&mut self, i: usize) -> bool {
        match self.ports[i].topology_change {
            TopologyChange::Inactive => {
                let port = &mut self.ports[i];
                if port.learn {
                    port.topology_change = TopologyChange::Learning;
                }
                port.learn
            }
            TopologyChange::Learning => self.step_tc_learning(i),
            TopologyChange::Active => self.step_tc_active(i),
        }
    }

    /// `LEARNING`.
    fn step_tc_learning(&mut self, i: usize) -> bool {
        let port = &mut self.ports[i];
        if port.rcvd_tc || port.rcvd_tcn || port.rcvd_tc_ack || port.tc_prop {
            (port.rcvd_tc, port.rcvd_tcn, port.rcvd_tc_ack, port.tc_prop) = (false, false, false, false);
        } else if port.is_active() && port.forward && !port.oper_edge {
            // DETECTED.
            port.topology_change = TopologyChange::Active;
            self.set_tc_while(i);
            self.propagate_tc(i);
            self.ports[i].new_info = true;
            self.note(StpEvent::TopologyChange { port: self.ports[i].id, is_received: false });
        } else if !port.is_active() && !port.learn && !port.learning {
            // INACTIVE. The flush is complete when the next action is carried out, so fdbFlush is not a variable here.
            port.topology_change = TopologyChange::Inactive;
            (port.tc_while, port.tc_ack) = (0, false);
            let port = port.id;
            self.actions.push(Action::Flush { port });
        } else {
            return false;
        }
        true
    }

    /// `ACTIVE`.
    fn step_tc_active(&mut self, i: usize) -> bool {
        let port = &mut self.ports[i];
        let id = port.id;
        if !port.is_active() || port.oper_edge {
            port.topology_change = TopologyChange::Learning;
        } else if port.rcvd_tcn || port.rcvd_tc {
            // NOTIFIED_TCN and NOTIFIED_TC.
            port.tc_ack |= port.role == PortRole::Designated;
            let is_tcn = port.rcvd_tcn;
            (port.rcvd_tcn, port.rcvd_tc) = (false, false);
            if is_tcn {
                self.set_tc_while(i);
            }
            self.propagate_tc(i);
            self.note(StpEvent::TopologyChange { port: id, is_received: true });
        } else if port.tc_prop {
            // PROPAGATING.
            port.tc_prop = false;
            self.set_tc_while(i);
            self.actions.push(Action::Flush { port: id });
        } else if port.rcvd_tc_ack {
            // ACKNOWLEDGED.
            (port.tc_while, port.rcvd_tc_ack) = (0, false);
        } else {
            return false;
        }
        true
    }

    /// `newTcWhile` (17.21.7).
    fn set_tc_while(&mut self, i: usize) {
        let (own, root) = (self.designated_times(), self.root.times);
        let port = &mut self.ports[i];
        if port.tc_while != 0 {
            return;
        }
        if port.send_rstp {
            port.tc_while = own.hello_time + 1;
            port.new_info = true;
        } else {
            port.tc_while = root.max_age.saturating_add(root.forward_delay);
        }
    }

    /// `setTcPropTree` (17.21.18).
    fn propagate_tc(&mut self, i: usize) {
        let others = self.ports.iter_mut().enumerate().filter(|(other, _)| *other != i);
        others.for_each(|(_, port)| port.tc_prop = true);
    }
}
