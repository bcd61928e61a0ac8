//! When a port sends which BPDU: the port transmit machine (17.26).

use super::port::PortRole;
use super::{Action, SpanningTree};
use crate::wire::Bpdu;
use crate::wire::bpdu::{BpduRole, ConfigBpdu, RstBpdu};

impl SpanningTree {
    /// Port transmit machine, figure 17-17. It runs when all other machines have come to rest, so a BPDU never promises
    /// what another machine has yet to do.
    pub(super) fn transmit(&mut self, i: usize) {
        let tx_hold_count = self.config.tx_hold_count;
        let port = &mut self.ports[i];
        let hello_time = if port.may_become_edge() { 1 } else { self.config.hello_time };
        if !port.port_enabled() {
            // TRANSMIT_INIT.
            (port.new_info, port.tx_count, port.hello_when) = (true, 0, hello_time);
            return;
        }
        if !port.is_selected() {
            return;
        }
        if port.hello_when == 0 {
            // TRANSMIT_PERIODIC.
            port.new_info |=
                port.role == PortRole::Designated || port.role == PortRole::Root && port.tc_while != 0;
            port.hello_when = hello_time;
        }
        if !port.new_info || port.tx_count >= tx_hold_count {
            return;
        }
        let Some(bpdu) = self.next_bpdu(i) else { return };
        let port = &mut self.ports[i];
        if bpdu == Bpdu::Tcn {
            port.counts.tx_tcn += 1;
        } else {
            port.counts.tx_bpdu += 1;
            port.tc_ack = false;
        }
        port.new_info = false;
        port.tx_count += 1;
        port.hello_when = hello_time;
        let port = port.id;
        self.actions.push(Action::Send { port, bpdu });
    }

    /// `txRstp`, `txTcn` or `txConfig` (17.21.19 to 17.21.21).
    fn next_bpdu(&self, i: usize) -> Option<Bpdu> {
        let (priority, times) = (self.designated_priority(i), self.designated_times());
        let port = &self.ports[i];
        let topology_change = port.tc_while != 0;
        match port.role {
            _ if port.send_rstp => Some(Bpdu::Rst(RstBpdu {
                priority,
                times,
                role: bpdu_role(port.role)?,
                topology_change,
                proposal: port.proposing,
                learning: port.learning,
                forwarding: port.forwarding,
                agreement: port.agree,
            })),
            PortRole::Root => Some(Bpdu::Tcn),
            PortRole::Designated => {
                let topology_change_ack = port.tc_ack;
                Some(Bpdu::Config(ConfigBpdu { priority, times, topology_change, topology_change_ack }))
            }
            PortRole::Disabled | PortRole::Alternate | PortRole::Backup => None,
        }
    }
}

fn bpdu_role(role: PortRole) -> Option<BpduRole> {
    match role {
        PortRole::Disabled => None,
        PortRole::Root => Some(BpduRole::Root),
        PortRole::Designated => Some(BpduRole::Designated),
        PortRole::Alternate | PortRole::Backup => Some(BpduRole::Alternate),
    }
}
