//! The state of a port in a VLAN, beside the state of the port itself (`br_vlan_set_state` in
//! `net/bridge/br_private.h`, `br_vlan_modify_state` in `net/bridge/br_vlan_options.c`).
//!
//! A VLAN has a table of states from when one of its ports is not forwarding: 4 KiB, at most 16 MiB for all VLANs.

use std::sync::atomic::{AtomicU8, Ordering};

use super::{Vid, Vlans};
use crate::switch::{DropReason, PortId, PortState, Ports};

/// The state of each port in a VLAN.
#[derive(Debug)]
pub(super) struct PortStates(Box<[AtomicU8]>);

impl Default for PortStates {
    fn default() -> PortStates {
        PortStates((0..Ports::MAX).map(|_| AtomicU8::new(PortState::Forwarding as u8)).collect())
    }
}

impl Vlans {
    /// The state of a port in a VLAN.
    #[inline]
    pub fn state(&self, port: PortId, vid: Vid) -> PortState {
        self.vlan(vid.get())
            .and_then(|vlan| vlan.states.get()?.0.get(port.index()))
            .map_or(PortState::Forwarding, |state| PortState::of(state.load(Ordering::Acquire)))
    }

    /// Sets the state of a port in a VLAN of which it is a member, or will be one. It ends with the membership. As in
    /// the Linux bridge, the forwarding database keeps its entries.
    pub fn set_state(&self, port: PortId, vid: Vid, state: PortState) {
        if self.state(port, vid) != state {
            let vlan = self.vlans[usize::from(vid.get())].get_or_init(Box::default);
            let states = vlan.states.get_or_init(Box::default);
            self.change(port, vid, || states.0[port.index()].store(state as u8, Ordering::Release));
        }
    }

    /// Whether a frame of a VLAN may enter by a port that forwards (`br_vlan_state_allowed` in
    /// `net/bridge/br_private.h`). Returns why it is dropped once its source is learned, if it is.
    ///
    /// # Errors
    /// It is dropped, and nothing is learned.
    #[inline]
    pub(in crate::switch) fn check_ingress_state(
        &self,
        port: PortId,
        vid: Vid,
    ) -> Result<Option<DropReason>, DropReason> {
        match self.state(port, vid) {
            PortState::Forwarding => Ok(None),
            PortState::Learning => Ok(Some(DropReason::IngressVlanState)),
            PortState::Disabled | PortState::Listening | PortState::Blocking => {
                Err(DropReason::IngressVlanState)
            }
        }
    }

    /// Whether a frame of a VLAN may leave by a port (`br_allowed_egress` in `net/bridge/br_vlan.c`).
    #[inline]
    pub(in crate::switch) fn check_egress(&self, port: PortId, vid: Vid) -> Result<(), DropReason> {
        if !self.is_member(port, vid) {
            Err(DropReason::EgressVlan)
        } else if self.state(port, vid) != PortState::Forwarding {
            Err(DropReason::EgressVlanState)
        } else {
            Ok(())
        }
    }
}
