//! Receiving a BPDU, and what it says about the link: the port receive, port protocol migration and bridge detection
//! machines (17.23 to 17.25).

use super::config::{Edge, MIGRATE_TIME};
use super::port::{Migration, PortRole, RstpPort};
use crate::wire::Bpdu;

impl RstpPort {
    /// Port receive machine, figure 17-13: `RECEIVE`. The port is enabled, and the last message was handled. `max_age`
    /// is the bridge's: so long must a port be quiet that has heard a bridge before it is an edge port again.
    pub(super) fn receive(&mut self, bpdu: Bpdu, max_age: u16) {
        // updtBPDUVersion (17.21.22).
        match bpdu {
            Bpdu::Rst(_) => self.rcvd_rstp = true,
            Bpdu::Config(_) | Bpdu::Tcn => self.rcvd_stp = true,
        }
        self.oper_edge = false;
        self.edge_delay_while = max_age;
        self.rcvd_msg = Some(bpdu);
    }

    /// Port receive machine, figure 17-13: `DISCARD`, if the port is disabled.
    pub(super) fn step_receive(&mut self) -> bool {
        let is_clear = self.edge_delay_while == MIGRATE_TIME && self.rcvd_msg.is_none();
        if self.port_enabled() || is_clear && !self.rcvd_rstp && !self.rcvd_stp {
            return false;
        }
        (self.rcvd_rstp, self.rcvd_stp, self.rcvd_msg) = (false, false, None);
        self.edge_delay_while = MIGRATE_TIME;
        true
    }

    /// Port protocol migration machine, figure 17-15.
    pub(super) fn step_migration(&mut self, rstp_version: bool) -> bool {
        let is_disabled = !self.port_enabled();
        let next = match self.migration {
            Migration::CheckingRstp if self.mdelay_while == 0 => Migration::Sensing,
            Migration::CheckingRstp if is_disabled && self.mdelay_while != MIGRATE_TIME => {
                Migration::CheckingRstp
            }
            Migration::SelectingStp if self.mdelay_while == 0 || is_disabled || self.mcheck => {
                Migration::Sensing
            }
            Migration::Sensing if is_disabled || self.mcheck => Migration::CheckingRstp,
            Migration::Sensing if rstp_version && !self.send_rstp && self.rcvd_rstp => {
                Migration::CheckingRstp
            }
            Migration::Sensing if self.send_rstp && self.rcvd_stp => Migration::SelectingStp,
            _ => return false,
        };
        self.migration = next;
        match next {
            Migration::CheckingRstp => {
                self.mcheck = false;
                self.send_rstp = rstp_version;
                self.mdelay_while = MIGRATE_TIME;
            }
            Migration::SelectingStp => {
                self.send_rstp = false;
                self.mdelay_while = MIGRATE_TIME;
            }
            Migration::Sensing => (self.rcvd_rstp, self.rcvd_stp) = (false, false),
        }
        true
    }

    /// Bridge detection machine, figure 17-16. Its state is `operEdge`.
    pub(super) fn step_bridge_detection(&mut self) -> bool {
        let (is_enabled, admin_edge) = (self.port_enabled(), self.config.edge == Edge::On);
        let becomes_edge = self.may_become_edge() && self.edge_delay_while == 0;
        let is_edge = match self.oper_edge {
            true => is_enabled || admin_edge,
            false => !is_enabled && admin_edge || becomes_edge,
        };
        let is_changed = is_edge != self.oper_edge;
        self.oper_edge = is_edge;
        is_changed
    }

    /// The port becomes an edge port if no bridge answers.
    pub(super) fn may_become_edge(&self) -> bool {
        self.config.edge != Edge::Off && self.send_rstp && self.proposing
    }

    /// Whether the role is part of the active topology.
    pub(super) fn is_active(&self) -> bool {
        matches!(self.role, PortRole::Root | PortRole::Designated)
    }
}
