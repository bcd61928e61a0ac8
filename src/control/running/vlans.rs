//! The VLANs of ports.

use tracing::info;

use super::command::PortVlanCommand;
use super::{HostNetwork, RunError, Running};
use crate::control::Config;
use crate::control::config;
use crate::control::config::vlan_of_host_port;
use crate::control::event::DeviceAspect;
use crate::control::report::{
    NewVlan, NewVlanState, PortVlans, PortVlansReport, VlanQuery, VlanReport, VlanState,
};
use crate::switch::fdb::FdbState;
use crate::switch::vlan::{Member, Vid, VidRange};
use crate::switch::{InjectedFrame, PortId, PortState, Vlans};
use crate::wire::VlanTag;

/// A request names a VLAN that cannot be meant.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VlanError {
    #[error("this switch does not filter VLANs: omit VLAN {0}, or start the switch with --vlan-filtering")]
    NoVlan(u16),
    #[error("this switch does not filter VLANs: start it with --vlan-filtering")]
    NoFiltering,
    #[error("a port has one PVID, not VLANs {0}: choose one, or omit the PVID")]
    SeveralPvids(VidRange),
    #[error("{0} is not a member of VLAN {1}: add it first with `uswitch vlan add {0} {1}`")]
    NotMember(String, u16),
    #[error("{0} has no PVID: choose one of its VLANs (`uswitch vlan show {0}`)")]
    NoPvid(String),
    #[error("VLAN {0} has a host port of its own, host.{0}: the port host cannot be a member")]
    HasHostPort(Vid),
    #[error("{0} is the host port of its VLAN, and stays there")]
    FixedVlan(String),
    /// As the Linux bridge says it (`br_vlan_modify_state`).
    #[error("the spanning tree sets the states of ports: omit the state, or start the switch without --stp")]
    SpanningTree,
}

/// Checks the VLANs that a request has for a port.
pub(super) fn check(config: &Config, vlans: &PortVlans) -> Result<(), RunError> {
    config::port_vlans(vlans)?;
    if !config.vlans.filtering {
        return Err(VlanError::NoFiltering.into());
    }
    if !vlans.state.is_empty() && config.stp.is_some() { Err(VlanError::SpanningTree.into()) } else { Ok(()) }
}

impl<M: HostNetwork> Running<M> {
    /// Carries out a command about VLANs.
    pub(super) fn carry_out_vlan(&mut self, command: PortVlanCommand) {
        match command {
            PortVlanCommand::List(reply) => _ = reply.send(self.vlan_reports()),
            PortVlanCommand::Stats(reply) => _ = reply.send(self.vlan_stats()),
            PortVlanCommand::PortStats(reply) => _ = reply.send(self.port_vlan_stats()),
            PortVlanCommand::Add(new, reply) => _ = reply.send(self.add_vlans(&new)),
            PortVlanCommand::SetState(new, reply) => _ = reply.send(self.set_vlan_state(&new)),
            PortVlanCommand::Remove(gone, reply) => _ = reply.send(self.remove_vlans(&gone)),
        }
    }

    /// The VLANs of all ports.
    fn vlan_reports(&self) -> Vec<PortVlansReport> {
        let report = |(id, name): (PortId, &String)| PortVlansReport {
            ifname: name.clone(),
            vlans: self.vlans_of(id),
        };
        self.ports.iter().map(|(id, port)| report((*id, &port.name))).collect()
    }

    fn vlans_of(&self, id: PortId) -> Vec<VlanReport> {
        let vlans = &self.switch.vlans;
        VlanReport::list(vlans.of_port(id).map(|(vid, member)| (vid, member, vlans.state(id, vid).into())))
    }

    /// Makes a port a member of VLANs, or changes how it is one.
    fn add_vlans(&mut self, new: &NewVlan) -> Result<(), RunError> {
        let id = self.port_with_vlans(&new.ifname)?;
        if new.pvid && new.vlan.single().is_none() {
            return Err(VlanError::SeveralPvids(new.vlan).into());
        }
        self.check_host_port_joins(id, new.vlan.iter())?;
        let member = Member { pvid: new.pvid, untagged: new.untagged };
        self.change_vlans(id, |vlans| new.vlan.iter().for_each(|vid| vlans.push((vid, Some(member)))));
        Ok(())
    }

    /// Sets the state of a port in VLANs: in all of them, or in none.
    fn set_vlan_state(&mut self, new: &NewVlanState) -> Result<(), RunError> {
        let id = self.port_named(&new.ifname)?;
        self.check_filtering()?;
        if self.spanning_tree.is_some() {
            return Err(VlanError::SpanningTree.into());
        }
        let vlans = &self.switch.vlans;
        if let Some(vid) = new.vlan.iter().find(|vid| !vlans.is_member(id, *vid)) {
            return Err(VlanError::NotMember(new.ifname.clone(), vid.get()).into());
        }
        new.vlan.iter().for_each(|vid| vlans.set_state(id, vid, new.state.of_switch()));
        self.report_vlans(id);
        Ok(())
    }

    /// Ends memberships of a port. As with `bridge vlan del`, it need not be a member.
    pub(super) fn remove_vlans(&mut self, gone: &VlanQuery) -> Result<(), RunError> {
        let id = self.port_with_vlans(&gone.ifname)?;
        self.change_vlans(id, |vlans| gone.vlan.iter().for_each(|vid| vlans.push((vid, None))));
        Ok(())
    }

    /// Replaces the VLANs of a port.
    pub(super) fn set_vlans(&mut self, id: PortId, wanted: &PortVlans) {
        // First, so that it forwards no frame in a new VLAN in which it must not.
        set_states(&self.switch.vlans, id, wanted);
        let kept: Vec<(Vid, Member)> = wanted.members().collect();
        let had: Vec<Vid> = self.switch.vlans.of_port(id).map(|(vid, _)| vid).collect();
        self.change_vlans(id, |vlans| {
            let gone = had.into_iter().filter(|vid| !kept.iter().any(|(kept, _)| kept == vid));
            vlans.extend(gone.map(|vid| (vid, None)));
            vlans.extend(kept.iter().map(|(vid, member)| (*vid, Some(*member))));
        });
    }

    fn port_with_vlans(&self, name: &str) -> Result<PortId, RunError> {
        let id = self.port_named(name)?;
        self.check_filtering()?;
        match vlan_of_host_port(name) {
            Some(_) => Err(VlanError::FixedVlan(name.to_owned()).into()),
            None => Ok(id),
        }
    }

    /// Refuses to make the host port a member of a VLAN that has a host port of its own: its gateway is behind that.
    pub(super) fn check_host_port_joins(
        &self,
        id: PortId,
        mut vids: impl Iterator<Item = Vid>,
    ) -> Result<(), VlanError> {
        let is_host = self.ports[&id].is_host();
        let taken = vids.find(|vid| is_host && self.config.vlan_gateway(*vid).is_some());
        taken.map_or(Ok(()), |vid| Err(VlanError::HasHostPort(vid)))
    }

    /// Refuses to configure VLANs of a switch that does not filter them.
    pub(super) fn check_filtering(&self) -> Result<(), VlanError> {
        if self.config.vlans.filtering { Ok(()) } else { Err(VlanError::NoFiltering) }
    }

    /// Changes memberships of a port, in order: each as given, or none. Forgets the addresses that were learned in
    /// VLANs of which the port is not a member any more.
    fn change_vlans(&mut self, id: PortId, list: impl FnOnce(&mut Vec<(Vid, Option<Member>)>)) {
        let mut changes = Vec::new();
        list(&mut changes);
        let vlans = &self.switch.vlans;
        let before: Vec<Vid> = vlans.of_port(id).map(|(vid, _)| vid).collect();
        for (vid, member) in changes {
            match member {
                Some(member) => vlans.add(id, vid, member),
                None => _ = vlans.remove(id, vid),
            }
        }
        self.switch.fdb.remove_matching(|entry| {
            let vid = Vid::new(entry.key.vlan);
            entry.port == id
                && entry.kind.state == FdbState::Dynamic
                && vid.is_some_and(|vid| !vlans.is_member(id, vid))
        });
        self.count_in_vlans(id);
        self.pin_gateway_if_host(id);
        self.multicast_vlans_changed(id, &before);
        self.report_vlans(id);
    }

    /// Reports the VLANs of a port after a change.
    fn report_vlans(&mut self, id: PortId) {
        let value = summary(&self.vlans_of(id));
        info!(port = self.ports[&id].name, vlans = value, "VLANs changed");
        self.emit_port_changed(id, DeviceAspect::Vlans, value);
    }

    /// The VLANs of a new port, before it forwards: those of its request, or the default.
    pub(super) fn init_vlans(&mut self, id: PortId, wanted: Option<&PortVlans>) {
        match wanted {
            None if !self.config.vlans.filtering => {}
            None => self.switch.vlans.add_port(id),
            Some(wanted) => {
                wanted.members().for_each(|(vid, member)| self.switch.vlans.add(id, vid, member));
                set_states(&self.switch.vlans, id, wanted);
            }
        }
        self.count_in_vlans(id);
    }

    /// The VLAN of an entry of a port in a database, 0 without VLANs. Without a choice it is the port's own (PVID).
    pub(super) fn entry_vlan(&self, id: PortId, asked: Option<u16>) -> Result<u16, VlanError> {
        let (vlans, name) = (&self.switch.vlans, &self.ports[&id].name);
        match asked.filter(|vid| *vid != 0) {
            None if !self.config.vlans.filtering => Ok(0),
            Some(vid) if !self.config.vlans.filtering => Err(VlanError::NoVlan(vid)),
            None => vlans.pvid(id).map(Vid::get).ok_or_else(|| VlanError::NoPvid(name.clone())),
            Some(vid) => match Vid::new(vid) {
                Some(known) if vlans.is_member(id, known) => Ok(vid),
                _ => Err(VlanError::NotMember(name.clone(), vid)),
            },
        }
    }

    /// Sends an untagged frame to the ports that forward in the VLAN (0: without VLANs), tagged where needed.
    pub(super) fn inject(&self, vlan: u16, mut ports: Vec<PortId>, frame: Vec<u8>) {
        // The destination of a mirror gets only copies, and what the switch sends has its own MAC address.
        let table = &self.switch.ports;
        ports.retain(|port| !table.is_mirror_destination(*port) && !table.is_uplink(*port));
        let inject = |ports, vid, bytes| self.datapath.inject(InjectedFrame { ports, vid, bytes });
        let Some(vid) = Vid::new(vlan) else { return inject(ports, None, frame) };
        let vlans = &self.switch.vlans;
        let forwards = |port| vlans.is_member(port, vid) && vlans.state(port, vid) == PortState::Forwarding;
        let members = ports.into_iter().filter(|port| forwards(*port));
        let (untagged, tagged): (Vec<_>, Vec<_>) = members.partition(|port| vlans.is_untagged(*port, vid));
        if !tagged.is_empty() {
            inject(tagged, Some(vid), VlanTag { tpid: vlans.tpid(), tci: vlan }.insert_into(&frame));
        }
        if !untagged.is_empty() {
            inject(untagged, Some(vid), frame);
        }
    }
}

/// Sets the given states of a port in VLANs of which it is or will be a member.
fn set_states(vlans: &Vlans, id: PortId, wanted: &PortVlans) {
    for (range, state) in &wanted.state {
        range.iter().for_each(|vid| vlans.set_state(id, vid, state.of_switch()));
    }
}

/// In short, as an event says it.
fn summary(vlans: &[VlanReport]) -> String {
    let state = |vlan: &VlanReport| Some(vlan.state).filter(|state| *state != VlanState::Forwarding);
    let text = |vlan: &VlanReport| {
        let state = state(vlan).map(|state| state.name().to_owned());
        [&[vlan.range()][..], &vlan.flags, state.as_slice()].concat().join(" ")
    };
    vlans.iter().map(text).collect::<Vec<_>>().join(", ")
}
