//! Changes of the VLANs of a port. Only one thread may make them at a time.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Vid, Vlans};
use crate::switch::{FastDatapath, Membership, PortId, PortState};

/// How a port is a member of a VLAN, with the words of `bridge vlan`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Member {
    /// Untagged frames that the port receives belong to this VLAN. A port has one PVID at most.
    pub pvid: bool,
    /// Frames of this VLAN leave untagged.
    pub untagged: bool,
}

impl Member {
    /// In the only VLAN of an access port.
    pub const ACCESS: Member = Member { pvid: true, untagged: true };
    /// In a VLAN of a trunk.
    pub const TAGGED: Member = Member { pvid: false, untagged: false };
}

impl Vlans {
    /// Makes a port a member of a VLAN, or changes how it is one (`nbp_vlan_add`). As the PVID it replaces another one;
    /// that VLAN's membership stays.
    pub fn add(&self, port: PortId, vid: Vid, member: Member) {
        self.change(port, vid, || self.set_member(port, vid, member));
    }

    fn set_member(&self, port: PortId, vid: Vid, member: Member) {
        let vlan = self.vlans[usize::from(vid.get())].get_or_init(Box::default);
        // In this order, so that no frame leaves an untagged port with a tag, and none is classified into a VLAN of
        // which its port is not a member.
        if member.untagged {
            vlan.untagged.insert(port);
        } else {
            vlan.untagged.remove(port);
        }
        vlan.members.insert(port);
        let pvid = &self.pvids[port.index()];
        if member.pvid {
            pvid.store(vid.get(), Ordering::Release);
        } else if pvid.load(Ordering::Relaxed) == vid.get() {
            pvid.store(0, Ordering::Release);
        }
    }

    /// Ends a port's membership in a VLAN (`nbp_vlan_delete`). Returns whether it was a member. The caller removes the
    /// port's entries of that VLAN from the forwarding database.
    pub fn remove(&self, port: PortId, vid: Vid) -> bool {
        let Some(vlan) = self.vlan(vid.get()).filter(|vlan| vlan.members.contains(port)) else {
            return false;
        };
        self.change(port, vid, || {
            let pvid = &self.pvids[port.index()];
            if pvid.load(Ordering::Relaxed) == vid.get() {
                pvid.store(0, Ordering::Release);
            }
            vlan.members.remove(port);
            vlan.untagged.remove(port);
        });
        self.set_state(port, vid, PortState::Forwarding);
        true
    }

    /// Tells this datapath of each change from now on.
    pub(in crate::switch) fn set_fast_datapath(&self, fast: Arc<dyn FastDatapath>) {
        if self.settings.filtering {
            let _ = self.fast.set(fast);
        }
    }

    /// Makes a change of a port in a VLAN. Meanwhile a fast datapath leaves frames of that VLAN to the workers, and
    /// those of the port's own, which may be another one afterwards.
    pub(super) fn change(&self, port: PortId, vid: Vid, change: impl FnOnce()) {
        let Some(fast) = self.fast.get() else { return change() };
        let own = self.pvid(port).filter(|own| *own != vid);
        let vids = || [Some(vid), own].into_iter().flatten();
        vids().for_each(|vid| fast.set_vlan(port, vid, Membership::Other));
        change();
        vids().for_each(|vid| fast.set_vlan(port, vid, self.membership(port, vid)));
    }

    fn membership(&self, port: PortId, vid: Vid) -> Membership {
        let is_own = self.pvid(port) == Some(vid) && self.is_untagged(port, vid);
        match self.state(port, vid) {
            _ if !self.is_member(port, vid) => Membership::None,
            PortState::Forwarding if is_own => Membership::Untagged,
            _ => Membership::Other,
        }
    }

    /// A new port is in the default VLAN (`nbp_vlan_init`).
    pub fn add_port(&self, port: PortId) {
        if let Some(vid) = self.settings.default_pvid {
            self.add(port, vid, Member::ACCESS);
        }
    }

    /// Which port is the host port.
    pub fn set_host(&self, port: PortId) {
        self.host.store(port.0, Ordering::Release);
    }

    /// Ends all memberships of a port (`nbp_vlan_flush`).
    pub fn remove_port(&self, port: PortId) {
        Vid::all().for_each(|vid| _ = self.remove(port, vid));
    }

    /// The VLANs of a port, in order.
    pub fn of_port(&self, port: PortId) -> impl Iterator<Item = (Vid, Member)> + '_ {
        let pvid = self.pvid(port);
        Vid::all().filter_map(move |vid| {
            let vlan = self.vlan(vid.get()).filter(|vlan| vlan.members.contains(port))?;
            let member = Member { pvid: pvid == Some(vid), untagged: vlan.untagged.contains(port) };
            Some((vid, member))
        })
    }
}
