//! The information that a port holds about its LAN: the port information machine (17.27) and its procedures.

use super::SpanningTree;
use super::port::{InfoIs, PortRole, RstpPort};
use crate::wire::Bpdu;
use crate::wire::bpdu::{BpduRole, ConfigBpdu, PriorityVector, RstBpdu, Times};

/// So long may an agreement to earlier information be on its way, in seconds. Counted by a timer, of which the first
/// second may be short.
const NEW: u16 = 2;

/// A received message compared with the information of the port (17.21.8 `rcvInfo`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Info {
    SuperiorDesignated,
    RepeatedDesignated,
    InferiorDesignated,
    InferiorRootAlternate,
    Other,
}

impl SpanningTree {
    /// Port information machine, figure 17-18.
    pub(super) fn step_information(&mut self, i: usize) -> bool {
        let designated = (self.designated_priority(i), self.designated_times());
        let rstp_version = self.rstp_version();
        let port = &mut self.ports[i];
        match port.info_is {
            InfoIs::Disabled if !port.port_enabled() => return false,
            _ if !port.port_enabled() => port.disable_information(),
            InfoIs::Disabled => port.age_information(),
            _ if port.selected && port.updt_info => port.update_information(designated),
            InfoIs::Aged => return false,
            _ if port.updt_info => return false,
            InfoIs::Received if port.rcvd_info_while == 0 && port.rcvd_msg.is_none() => {
                port.age_information();
            }
            _ => match port.rcvd_msg.take() {
                Some(bpdu) => port.receive_information(&bpdu, rstp_version),
                None => return false,
            },
        }
        true
    }
}

impl RstpPort {
    /// `DISABLED`.
    fn disable_information(&mut self) {
        self.rcvd_msg = None;
        (self.proposing, self.proposed, self.agree, self.agreed) = (false, false, false, false);
        self.rcvd_info_while = 0;
        self.info_is = InfoIs::Disabled;
        self.request_selection();
    }

    /// `AGED`.
    fn age_information(&mut self) {
        self.info_is = InfoIs::Aged;
        self.request_selection();
    }

    pub(super) fn request_selection(&mut self) {
        (self.reselect, self.selected) = (true, false);
    }

    /// `UPDATE`.
    fn update_information(&mut self, (priority, times): (PriorityVector, Times)) {
        (self.proposing, self.proposed) = (false, false);
        // betterorsameInfo(Mine), 17.21.1.
        self.agreed &= self.info_is == InfoIs::Mine && priority <= self.port_priority;
        self.synced &= self.agreed;
        if (priority, times) != (self.port_priority, self.port_times) || self.info_is != InfoIs::Mine {
            self.changed_again = self.new_while != 0;
            self.new_while = NEW;
        }
        (self.port_priority, self.port_times) = (priority, times);
        self.updt_info = false;
        self.info_is = InfoIs::Mine;
        self.new_info = true;
    }

    /// `RECEIVE`, and the state that follows.
    fn receive_information(&mut self, bpdu: &Bpdu, rstp_version: bool) {
        let message = match bpdu {
            // A TCN has no information (17.21.17 setTcFlags).
            Bpdu::Tcn => return self.rcvd_tcn = true,
            Bpdu::Config(config) => BpduMessage::of_config(config),
            Bpdu::Rst(rst) => BpduMessage::of_rst(rst),
        };
        match self.classify(&message) {
            Info::SuperiorDesignated => self.record_superior(&message),
            Info::RepeatedDesignated => {
                self.proposed |= message.proposal;
                self.set_tc_flags(&message);
                self.update_rcvd_info_while();
            }
            Info::InferiorDesignated => self.record_dispute(&message),
            Info::InferiorRootAlternate => {
                self.record_agreement(&message, rstp_version);
                self.set_tc_flags(&message);
            }
            Info::Other => {}
        }
    }

    /// `rcvInfo` (17.21.8).
    fn classify(&self, message: &BpduMessage) -> Info {
        let is_same = message.priority == self.port_priority;
        // A link that returns our own BPDU is a loop: the dispute keeps the port from forwarding. 9.3.4 discards such
        // configuration BPDUs, which cannot be disputed.
        let is_own = is_same && self.info_is == InfoIs::Mine;
        match message.role {
            BpduRole::Designated if is_own => Info::InferiorDesignated,
            BpduRole::Designated if is_same && message.times == self.port_times => Info::RepeatedDesignated,
            BpduRole::Designated if is_superior(&message.priority, &self.port_priority) => {
                Info::SuperiorDesignated
            }
            BpduRole::Designated => Info::InferiorDesignated,
            BpduRole::Root | BpduRole::Alternate if message.priority >= self.port_priority => {
                Info::InferiorRootAlternate
            }
            _ => Info::Other,
        }
    }

    /// `SUPERIOR_DESIGNATED`.
    fn record_superior(&mut self, message: &BpduMessage) {
        (self.agreed, self.proposing) = (false, false);
        self.proposed |= message.proposal;
        self.set_tc_flags(message);
        // betterorsameInfo(Received), 17.21.1.
        self.agree &= self.info_is == InfoIs::Received && message.priority <= self.port_priority;
        self.port_priority = message.priority;
        // recordTimes (17.21.13): a hello time below the smallest of table 17-1 counts as that.
        self.port_times = Times { hello_time: message.times.hello_time.max(1), ..message.times };
        self.update_rcvd_info_while();
        self.info_is = InfoIs::Received;
        self.request_selection();
    }

    /// `updtRcvdInfoWhile` (17.21.23).
    fn update_rcvd_info_while(&mut self) {
        let times = &self.port_times;
        let is_fresh = times.message_age.saturating_add(1) <= times.max_age;
        self.rcvd_info_while = if is_fresh { times.hello_time.saturating_mul(3) } else { 0 };
    }

    /// `recordDispute` (17.21.10).
    fn record_dispute(&mut self, message: &BpduMessage) {
        if message.learning {
            self.disputed = true;
            self.agreed = false;
        }
    }

    /// `recordAgreement` (17.21.9). An agreement to earlier information is passed over.
    fn record_agreement(&mut self, message: &BpduMessage, rstp_version: bool) {
        if message.agreement && self.new_while != 0 && !self.is_answered_by(message) {
            return;
        }
        self.agreed = rstp_version && self.config.point_to_point && message.agreement;
        self.proposing &= !self.agreed;
    }

    /// The root port at the other end has taken over what this port says: the same root, one hop farther away. After
    /// several changes the port may have said the same before.
    fn is_answered_by(&self, message: &BpduMessage) -> bool {
        let (own, other) = (&self.port_priority, &message.priority);
        let is_sent_once = !self.new_info && !self.changed_again;
        is_sent_once
            && message.role == BpduRole::Root
            && own.root == other.root
            && own.cost < other.cost
            && self.port_times.message_age + 1 == message.times.message_age
    }

    /// `setTcFlags` (17.21.17).
    fn set_tc_flags(&mut self, message: &BpduMessage) {
        self.rcvd_tc |= message.topology_change;
        self.rcvd_tc_ack |= message.topology_change_ack;
    }

    /// Whether the received information is of use: `infoIs` is `Received`.
    pub(super) fn has_received(&self) -> bool {
        self.info_is == InfoIs::Received
    }

    /// `selected` and not `updtInfo`: the role is decided.
    pub(super) fn is_selected(&self) -> bool {
        self.selected && !self.updt_info
    }

    /// Part of `allSynced` (17.20.3). A port that has yet to take over new information is out of step with it, so
    /// `updtInfo` counts as well (as in 802.1Q-2011 13.28.2).
    pub(super) fn is_synced(&self) -> bool {
        self.is_selected() && self.role == self.selected_role && (self.synced || self.role == PortRole::Root)
    }
}

/// A superior message is better, or from the same port (17.6).
fn is_superior(message: &PriorityVector, port: &PriorityVector) -> bool {
    let is_same_sender = message.bridge.mac == port.bridge.mac && message.port.number() == port.port.number();
    message < port || is_same_sender
}

/// What a configuration or RST BPDU says.
#[derive(Debug, Clone, Copy)]
struct BpduMessage {
    priority: PriorityVector,
    times: Times,
    role: BpduRole,
    proposal: bool,
    agreement: bool,
    learning: bool,
    topology_change: bool,
    topology_change_ack: bool,
}

impl BpduMessage {
    /// A configuration BPDU comes from a designated port (17.21.8).
    fn of_config(config: &ConfigBpdu) -> BpduMessage {
        BpduMessage {
            priority: config.priority,
            times: config.times,
            role: BpduRole::Designated,
            proposal: false,
            agreement: false,
            learning: false,
            topology_change: config.topology_change,
            topology_change_ack: config.topology_change_ack,
        }
    }

    fn of_rst(rst: &RstBpdu) -> BpduMessage {
        if rst.role == BpduRole::Unknown {
            // 9.2.9: handled like a configuration BPDU.
            return BpduMessage::of_config(&ConfigBpdu {
                priority: rst.priority,
                times: rst.times,
                topology_change: rst.topology_change,
                topology_change_ack: false,
            });
        }
        BpduMessage {
            priority: rst.priority,
            times: rst.times,
            role: rst.role,
            proposal: rst.proposal && rst.role == BpduRole::Designated,
            agreement: rst.agreement,
            learning: rst.learning,
            topology_change: rst.topology_change,
            topology_change_ack: false,
        }
    }
}
