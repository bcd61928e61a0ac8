//! From the selected role to learning and forwarding: the port role transitions and port state transition machines
//! (17.29, 17.30).
//!
//! The figures of the standard have a state for each action. Here an action is an arm of a condition: all of
//! these states return at once to the state of the role.

use super::config::MIGRATE_TIME;
use super::port::{PortRole, RstpPort};
use super::{Action, SpanningTree};
use crate::wire::bpdu::Times;

impl SpanningTree {
    /// Port role transitions machine, figures 17-20 to 17-23. Every transition waits until the role is decided.
    pub(super) fn step_role_transitions(&mut self, i: usize) -> bool {
        let times = self.designated_times();
        let port = &mut self.ports[i];
        if !port.is_selected() {
            return false;
        }
        if port.role != port.selected_role {
            port.enter_role(&times);
            return true;
        }
        match port.role {
            PortRole::Disabled => port.step_disabled(&times),
            PortRole::Root => self.step_root(i, &times),
            PortRole::Designated => port.step_designated(&times),
            PortRole::Alternate | PortRole::Backup => self.step_alternate(i, &times),
        }
    }

    /// Figure 17-21.
    fn step_root(&mut self, i: usize, times: &Times) -> bool {
        if self.step_proposal(i) {
            return true;
        }
        let fast = self.rstp_version() && self.ports[i].rb_while == 0 && self.is_re_rooted(i);
        let port = &mut self.ports[i];
        let may_forward = port.fd_while == 0 || fast;
        if !port.forward && !port.re_root {
            // REROOT: setReRootTree (17.21.15).
            self.ports.iter_mut().for_each(|port| port.re_root = true);
        } else if port.re_root && port.forward {
            // REROOTED.
            port.re_root = false;
        } else if may_forward && !port.learn {
            // ROOT_LEARN.
            port.fd_while = times.forward_delay;
            port.learn = true;
        } else if may_forward && !port.forward {
            // ROOT_FORWARD.
            port.fd_while = 0;
            port.forward = true;
        } else if port.rr_while != times.forward_delay {
            // ROOT_PORT.
            port.rr_while = times.forward_delay;
        } else {
            return false;
        }
        true
    }

    /// Figure 17-23. A port that still forwards is in `BLOCK_PORT`.
    fn step_alternate(&mut self, i: usize, times: &Times) -> bool {
        let port = &self.ports[i];
        if port.learning || port.forwarding {
            return false;
        }
        if self.step_proposal(i) {
            return true;
        }
        let port = &mut self.ports[i];
        if port.settle(times.forward_delay) {
            return true;
        }
        // BACKUP_PORT.
        let recent_backup = 2 * times.hello_time;
        if port.role == PortRole::Backup && port.rb_while != recent_backup {
            port.rb_while = recent_backup;
            return true;
        }
        false
    }

    /// `ROOT_PROPOSED` and `ROOT_AGREED`, or `ALTERNATE_PROPOSED` and `ALTERNATE_AGREED`: before the port agrees to a
    /// proposal, every other port must be in step with the new information.
    fn step_proposal(&mut self, i: usize) -> bool {
        let port = &self.ports[i];
        if port.proposed && !port.agree {
            // setSyncTree (17.21.14).
            self.ports.iter_mut().for_each(|port| port.sync = true);
            self.ports[i].proposed = false;
            return true;
        }
        if port.proposed || !port.agree && self.are_all_synced() {
            let port = &mut self.ports[i];
            port.proposed = false;
            port.sync = false;
            port.agree = true;
            port.new_info = true;
            return true;
        }
        false
    }

    /// `allSynced` (17.20.3).
    fn are_all_synced(&self) -> bool {
        self.ports.iter().all(RstpPort::is_synced)
    }

    /// `reRooted` (17.20.10).
    fn is_re_rooted(&self, i: usize) -> bool {
        self.ports.iter().enumerate().all(|(other, port)| other == i || port.rr_while == 0)
    }

    /// Port state transition machine, figure 17-24.
    pub(super) fn step_state(&mut self, i: usize) -> bool {
        let port = &mut self.ports[i];
        let before = port.state();
        if port.learning && !port.learn || port.forwarding && !port.forward {
            (port.learning, port.forwarding) = (false, false);
            port.counts.transition_blk += 1;
        } else if port.learn && !port.learning {
            port.learning = true;
        } else if port.learning && port.forward && !port.forwarding {
            port.forwarding = true;
            port.counts.transition_fwd += 1;
        }
        let (port, state) = (port.id, port.state());
        if state != before {
            self.actions.push(Action::SetState { port, state });
        }
        state != before
    }
}

impl RstpPort {
    /// `DISABLE_PORT`, `ROOT_PORT`, `DESIGNATED_PORT` and `BLOCK_PORT`.
    fn enter_role(&mut self, times: &Times) {
        self.role = self.selected_role;
        match self.role {
            PortRole::Root => self.rr_while = times.forward_delay,
            PortRole::Designated => {}
            PortRole::Disabled | PortRole::Alternate | PortRole::Backup => {
                (self.learn, self.forward) = (false, false);
            }
        }
    }

    /// Figure 17-20. A port that still forwards is in `DISABLE_PORT`.
    fn step_disabled(&mut self, times: &Times) -> bool {
        !self.learning && !self.forwarding && self.settle(times.max_age)
    }

    /// The actions of `DISABLED_PORT` and `ALTERNATE_PORT`: the port is in step with anything, as it does not forward.
    fn settle(&mut self, fd_while: u16) -> bool {
        let is_settled = self.fd_while == fd_while && self.synced && self.rr_while == 0;
        if is_settled && !self.sync && !self.re_root {
            return false;
        }
        (self.fd_while, self.rr_while) = (fd_while, 0);
        self.synced = true;
        (self.sync, self.re_root) = (false, false);
        true
    }

    /// Figure 17-22.
    fn step_designated(&mut self, times: &Times) -> bool {
        if !self.forward && !self.agreed && !self.proposing && !self.oper_edge {
            // DESIGNATED_PROPOSE, with EdgeDelay (17.20.4).
            self.proposing = true;
            let edge_delay = if self.config.point_to_point { MIGRATE_TIME } else { times.max_age };
            self.edge_delay_while = self.edge_delay_while.max(edge_delay);
            self.new_info = true;
        } else if !self.synced && self.is_in_step() || self.sync && self.synced {
            // DESIGNATED_SYNCED.
            self.rr_while = 0;
            self.synced = true;
            self.sync = false;
        } else if self.re_root && self.rr_while == 0 {
            // DESIGNATED_RETIRED.
            self.re_root = false;
        } else if self.must_discard() {
            // DESIGNATED_DISCARD.
            (self.learn, self.forward, self.disputed) = (false, false, false);
            self.fd_while = times.forward_delay;
        } else if self.may_advance() && !self.learn {
            // DESIGNATED_LEARN.
            self.learn = true;
            self.fd_while = times.forward_delay;
        } else if self.may_advance() && !self.forward {
            // DESIGNATED_FORWARD.
            self.forward = true;
            self.fd_while = 0;
            self.agreed = self.send_rstp;
        } else {
            return false;
        }
        true
    }

    /// The port can be in no loop: it does not forward, the other end agrees, or there is no bridge.
    fn is_in_step(&self) -> bool {
        !self.learning && !self.forwarding || self.agreed || self.oper_edge
    }

    fn must_discard(&self) -> bool {
        let is_out_of_step = self.sync && !self.synced || self.re_root && self.rr_while != 0 || self.disputed;
        is_out_of_step && !self.oper_edge && (self.learn || self.forward)
    }

    fn may_advance(&self) -> bool {
        let is_safe = self.fd_while == 0 || self.agreed || self.oper_edge;
        is_safe && (self.rr_while == 0 || !self.re_root) && !self.sync
    }
}
