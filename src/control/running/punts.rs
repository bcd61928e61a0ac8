//! Frames that workers have copied for control: each goes to the protocol that it belongs to.

use super::{HostNetwork, Running};
use crate::datapath::PuntedFrame;
use crate::switch::Punt;

impl<M: HostNetwork> Running<M> {
    /// Handles the frames that workers have punted, and what is due.
    pub(super) fn update_protocols(&mut self) {
        let frames: Vec<PuntedFrame> = self.datapath.punted().collect();
        for frame in frames {
            match frame.punt {
                Punt::Bpdu => _ = self.spanning_tree.as_mut().map(|tree| super::stp::receive(tree, &frame)),
                Punt::Membership => {
                    _ = self.snooping.as_mut().map(|snooping| super::multicast::receive(snooping, &frame));
                }
                Punt::RouterSolicitation => self.router_solicited(frame.vlan),
                Punt::Dhcpv6 => self.serve_dhcp6(&frame),
            }
        }
        self.update_stp();
        self.update_multicast();
        self.update_router_advertisements();
    }
}
