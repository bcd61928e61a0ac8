//! The variables of a port (17.17, 17.19). They have the names of the standard.

use super::config::{Edge, MIGRATE_TIME, PortConfig, path_cost};
use crate::switch::PortId;
use crate::wire::Bpdu;
use crate::wire::bpdu::{PortIdentifier, PriorityVector, Times};

/// The role of a port (17.7).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PortRole {
    /// Not part of the active topology.
    #[default]
    Disabled,
    /// The way to the root bridge.
    Root,
    /// Connects its LAN to the root bridge.
    Designated,
    /// Another way to the root bridge, not used.
    Alternate,
    /// Another way to a LAN that this bridge connects, not used.
    Backup,
}

/// What a port does with frames (17.4 table 17-1). Ordered by how much it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// It neither learns nor forwards.
    Discarding,
    /// It learns the sources of frames and does not forward.
    Learning,
    /// It learns and forwards.
    Forwarding,
}

/// A link that is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortLink {
    /// Its speed in Mbit/s, if it has one. It gives the [default cost](path_cost).
    pub speed: Option<u32>,
}

/// Where the information of a port comes from (17.19.10).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum InfoIs {
    Received,
    Mine,
    Aged,
    #[default]
    Disabled,
}

/// The state of the topology change machine (figure 17-25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum TopologyChange {
    #[default]
    Inactive,
    Learning,
    Active,
}

/// The state of the protocol migration machine (figure 17-15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Migration {
    #[default]
    CheckingRstp,
    SelectingStp,
    Sensing,
}

/// What a port has received and sent. The names are those of the Linux bridge (`struct bridge_stp_xstats`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BpduCounts {
    /// Received configuration and RST BPDUs.
    pub rx_bpdu: u64,
    /// Received topology change notifications.
    pub rx_tcn: u64,
    /// Sent configuration and RST BPDUs.
    pub tx_bpdu: u64,
    /// Sent topology change notifications.
    pub tx_tcn: u64,
    /// How often the port began to forward.
    pub transition_fwd: u64,
    /// How often the port stopped learning or forwarding.
    pub transition_blk: u64,
}

/// A port.
#[derive(Debug, Default)]
#[allow(clippy::struct_excessive_bools, reason = "they are the variables of the standard")]
pub(super) struct RstpPort {
    pub(super) id: PortId,
    pub(super) config: PortConfig,
    pub(super) link: Option<PortLink>,
    /// BPDU guard has disabled the port.
    pub(super) guard_tripped: bool,
    /// Root guard keeps the port from becoming root port.
    pub(super) root_blocked: bool,
    pub(super) counts: BpduCounts,

    // 17.17: timers, in seconds.
    pub(super) edge_delay_while: u16,
    pub(super) fd_while: u16,
    pub(super) hello_when: u16,
    pub(super) mdelay_while: u16,
    pub(super) rb_while: u16,
    pub(super) rcvd_info_while: u16,
    pub(super) rr_while: u16,
    pub(super) tc_while: u16,
    /// Not in the standard: the port has said something else until just now.
    pub(super) new_while: u16,
    /// Not in the standard: it has said several things since then.
    pub(super) changed_again: bool,

    // 17.19: variables.
    pub(super) agree: bool,
    pub(super) agreed: bool,
    pub(super) disputed: bool,
    pub(super) forward: bool,
    pub(super) forwarding: bool,
    pub(super) info_is: InfoIs,
    pub(super) learn: bool,
    pub(super) learning: bool,
    pub(super) mcheck: bool,
    pub(super) new_info: bool,
    pub(super) oper_edge: bool,
    pub(super) port_priority: PriorityVector,
    pub(super) port_times: Times,
    pub(super) proposed: bool,
    pub(super) proposing: bool,
    /// `rcvdMsg`, with the message.
    pub(super) rcvd_msg: Option<Bpdu>,
    pub(super) rcvd_rstp: bool,
    pub(super) rcvd_stp: bool,
    pub(super) rcvd_tc: bool,
    pub(super) rcvd_tc_ack: bool,
    pub(super) rcvd_tcn: bool,
    pub(super) re_root: bool,
    pub(super) reselect: bool,
    pub(super) role: PortRole,
    pub(super) selected: bool,
    pub(super) selected_role: PortRole,
    pub(super) send_rstp: bool,
    pub(super) sync: bool,
    pub(super) synced: bool,
    pub(super) tc_ack: bool,
    pub(super) tc_prop: bool,
    pub(super) tx_count: u8,
    pub(super) updt_info: bool,

    pub(super) topology_change: TopologyChange,
    pub(super) migration: Migration,
}

impl RstpPort {
    /// A port at `BEGIN` (the initial states of figures 17-12 to 17-25). `times` are the bridge's.
    pub(super) fn begin(id: PortId, config: PortConfig, rstp_version: bool, times: Times) -> RstpPort {
        RstpPort {
            id,
            config,
            edge_delay_while: MIGRATE_TIME,
            fd_while: times.max_age,
            hello_when: times.hello_time,
            mdelay_while: MIGRATE_TIME,
            rr_while: times.forward_delay,
            new_info: true,
            oper_edge: config.edge == Edge::On,
            port_times: times,
            re_root: true,
            reselect: true,
            send_rstp: rstp_version,
            sync: true,
            ..RstpPort::default()
        }
    }

    /// `portId` (17.19.19).
    pub(super) fn port_id(&self) -> PortIdentifier {
        PortIdentifier::new(self.config.priority, self.id.0 + 1)
    }

    /// `portEnabled` (17.19.18).
    pub(super) fn port_enabled(&self) -> bool {
        self.link.is_some() && !self.guard_tripped
    }

    /// `PortPathCost` (17.19.20).
    pub(super) fn path_cost(&self) -> u32 {
        self.config.cost.unwrap_or_else(|| path_cost(self.link.and_then(|link| link.speed)))
    }

    pub(super) fn state(&self) -> State {
        match (self.learning, self.forwarding) {
            (_, true) => State::Forwarding,
            (true, false) => State::Learning,
            (false, false) => State::Discarding,
        }
    }

    /// The port timers machine (17.22).
    pub(super) fn tick(&mut self) {
        for timer in [
            &mut self.edge_delay_while,
            &mut self.fd_while,
            &mut self.hello_when,
            &mut self.mdelay_while,
            &mut self.rb_while,
            &mut self.rcvd_info_while,
            &mut self.rr_while,
            &mut self.tc_while,
            &mut self.new_while,
        ] {
            *timer = timer.saturating_sub(1);
        }
        self.tx_count = self.tx_count.saturating_sub(1);
    }
}
