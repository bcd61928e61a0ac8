//! Adds and removes ports, and follows their devices.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::Path;

use ipnet::IpNet;
use tracing::{info, warn};

use super::guard::{self, PortGuard};
use super::link_state::LinkState;
use super::loops::LoopRecord;
use super::{HOST, HostNetwork, PortPlan, PortUse, RunError, Running, plan};
use crate::control::config::Labels;
use crate::control::event::{DeviceAspect, EventType};
use crate::control::report::{
    AddedPort, AdminState, NewPort, PortImpairments, PortKind, PortLimits, PortRemoval, PortVlans,
    PublishedPort, Throttled, UplinkMode,
};
use crate::control::topology::{
    Attachment, Device, DeviceId, LinkChange, PortNetns, PortSpec, TopologyError,
};
use crate::datapath::DatapathError;
use crate::switch::mdb;
use crate::switch::stp::PortConfig;
use crate::switch::vlan::{Vid, VlanCounts};
use crate::switch::{Port, PortCounts, PortFlag, PortFlags, PortId};
use crate::sys::netns::Netns;
use crate::sys::queue::Framing;
use crate::wire::Mac;

/// Control's record of one port.
#[derive(Debug)]
pub(crate) struct PortRecord {
    pub(super) name: String,
    pub(super) kind: PortKind,
    /// Its number in [`crate::control::addressing`], if it has one; 0 is a host port.
    pub(super) number: Option<u16>,
    /// Its device as it is. The workers have the queues.
    pub(super) device: Device,
    /// What the switch assigned to the device.
    pub(super) assigned: Assigned,
    /// Those of the assigned addresses that the DHCP server gave to clients.
    pub(super) leased: Vec<IpNet>,
    /// Inode number of the device's namespace.
    pub(super) netns_ino: Option<u64>,
    pub(super) offload: bool,
    /// Another program moves and configures the device.
    pub(super) unmanaged: bool,
    /// It is on an existing device.
    pub(super) can_be_uplink: bool,
    pub(super) labels: Labels,
    /// Ports of the host that lead to it.
    pub(super) published: Vec<PublishedPort>,
    /// Whether the guard checks its frames.
    pub(super) guard: PortGuard,
    pub(super) link: LinkState,
    /// Whether the user has set the port up or down.
    pub(super) admin: AdminState,
    /// Most addresses that it learns; 0: no limit.
    pub(super) fdb_max_learned: u32,
    /// Storm control and rate limits that are set.
    pub(super) limits: PortLimits,
    /// Impairments that are set.
    pub(super) impairment: PortImpairments,
    /// What prevents some frames from passing.
    pub(super) fault: Option<String>,
    /// The slot's counters when this port was added.
    pub(super) counted_before: PortCounts,
    /// As the destination of a mirror: the slot's counters when that was added.
    pub(super) mirrored_before: PortCounts,
    /// The slot's counters when they were last compared for events.
    pub(super) compared: PortCounts,
    /// The slot's counters in each VLAN when this port became a member, if the switch counts them.
    pub(super) vlans_before: BTreeMap<Vid, VlanCounts>,
    /// Why the port was throttled in the second before the counts were compared.
    pub(super) throttled: Vec<Throttled>,
    /// Why it is blocked, if it is.
    pub(super) loop_record: Option<LoopRecord>,
    /// Its parameters in the spanning tree.
    pub(super) stp: PortConfig,
    /// How it takes part in multicast snooping.
    pub(super) mcast: mdb::MdbPortSettings,
}

/// The addresses that the switch assigned to a port. The container may have changed those of the device since.
#[derive(Debug, Clone)]
pub(super) struct Assigned {
    /// `None`: the hosts behind the port have their own.
    pub(super) mac: Option<Mac>,
    pub(super) addresses: Vec<IpNet>,
}

impl PortRecord {
    #[allow(clippy::too_many_lines, reason = "a line for each field")]
    pub(super) fn new(plan: PortPlan, device: Device) -> PortRecord {
        let netns_ino = device.netns.as_deref().and_then(inode);
        let kind = match &plan.attachment {
            Attachment::Tap(_) => PortKind::Tap,
            Attachment::Device { .. } | Attachment::ExistingTap(_) => PortKind::Device,
            Attachment::Socket(_) => PortKind::Socket,
        };
        // An existing TAP device can take GSO packets only if it was created for that.
        let is_plain = device.queues.iter().any(|queue| queue.framing == Framing::Plain);
        let can_be_uplink = matches!(plan.attachment, Attachment::Device { .. });
        let of_existing_tap = matches!(plan.attachment, Attachment::ExistingTap(_));
        let offload = plan.offload && !(of_existing_tap && is_plain);
        let link = LinkState::of_new(&plan.attachment, &device);
        // Where IPv6 is disabled, a TAP does not have all of the planned addresses.
        let of_device = || Assigned { mac: Some(device.mac), addresses: device.addresses.clone() };
        let assigned = plan.assigned.unwrap_or_else(of_device);
        PortRecord {
            name: plan.name,
            labels: plan.labels,
            published: Vec::new(),
            kind,
            unmanaged: matches!(&plan.attachment, Attachment::Tap(spec) if spec.unmanaged),
            number: plan.number,
            can_be_uplink,
            guard: PortGuard::new(plan.guard, &assigned),
            device,
            assigned,
            leased: Vec::new(),
            netns_ino,
            offload,
            link,
            admin: AdminState::Up,
            fdb_max_learned: 0,
            limits: PortLimits::default(),
            impairment: PortImpairments::default(),
            fault: None,
            counted_before: PortCounts::default(),
            mirrored_before: PortCounts::default(),
            compared: PortCounts::default(),
            vlans_before: BTreeMap::new(),
            throttled: Vec::new(),
            loop_record: None,
            stp: PortConfig::default(),
            mcast: mdb::MdbPortSettings::default(),
        }
    }

    /// It forwards, unless it is blocked.
    pub(super) fn is_up(&self) -> bool {
        self.link == LinkState::Up && self.admin == AdminState::Up
    }

    /// Why it is down, as an event says it.
    pub(super) fn down_reason(&self) -> &'static str {
        match (self.admin, self.link) {
            (AdminState::Down, _) => "admin_down",
            (AdminState::Up, LinkState::NoCarrier) => "no_carrier",
            (AdminState::Up, _) => "link_down",
        }
    }

    /// Its device was deleted.
    pub(super) fn is_gone(&self) -> bool {
        self.link == LinkState::Gone
    }

    /// Notes what another program changed, and returns it for an event.
    fn apply(&mut self, change: &LinkChange) -> Option<(DeviceAspect, String)> {
        let device = &mut self.device;
        let (aspect, value) = match change {
            LinkChange::State { .. } | LinkChange::Gone => return None,
            LinkChange::Mac(mac) => {
                device.mac = *mac;
                (DeviceAspect::Mac, mac.to_string())
            }
            LinkChange::Name(name) => {
                device.ifname.clone_from(name);
                (DeviceAspect::Name, name.clone())
            }
            LinkChange::Netns { netns, ino, ifindex } => {
                (device.netns, device.ifindex, self.netns_ino) = (netns.clone(), *ifindex, Some(*ino));
                let path = netns.as_ref().map(|path| path.display().to_string());
                (DeviceAspect::Netns, path.unwrap_or_else(|| format!("net:[{ino}]")))
            }
            LinkChange::Offloads(offloads) => {
                device.offloads.clone_from(offloads);
                (DeviceAspect::Offloads, offloads.join(", "))
            }
            LinkChange::Restored(setting) => (DeviceAspect::Restored, (*setting).to_owned()),
            LinkChange::ForeignQueues(count) => {
                let fault = format!("queues of other processes receive part of its frames: {count}");
                self.fault = (*count > 0).then_some(fault);
                (DeviceAspect::ForeignQueues, count.to_string())
            }
            LinkChange::Addresses(addresses) => {
                device.addresses.clone_from(addresses);
                let addresses: Vec<String> = addresses.iter().map(IpNet::to_string).collect();
                (DeviceAspect::Addresses, addresses.join(" "))
            }
        };
        info!(port = self.name, ?aspect, value, "the port's device was changed");
        Some((aspect, value))
    }

    /// The assigned addresses that are not leases of DHCP.
    pub(super) fn configured_addresses(&self) -> impl Iterator<Item = &IpNet> {
        self.assigned.addresses.iter().filter(|address| !self.leased.contains(address))
    }

    pub(super) fn is_host(&self) -> bool {
        self.number == Some(0)
    }

    pub(super) fn has_assigned(&self, address: IpAddr) -> bool {
        self.assigned.addresses.iter().any(|own| own.addr() == address)
    }

    /// Whether an address is assigned to the port, or the port makes it of an advertised prefix.
    pub(super) fn may_have(&self, address: IpAddr) -> bool {
        self.has_assigned(address) || self.guard.autoconfigured().any(|own| own == address)
    }

    /// The port's entry in the switch's port table.
    pub(super) fn state_for_switch(&self, used: PortUse) -> Port {
        Port {
            up: self.is_up() && used == PortUse::Allowed,
            host: self.is_host(),
            offload: self.offload,
            mtu: self.device.mtu,
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// Adds the requested port.
    pub(super) fn add_port(&mut self, asked: NewPort) -> Result<AddedPort, RunError> {
        let there = match asked.netns.as_deref().map(plan::netns_path).transpose()? {
            Some(path) if !asked.unmanaged => self.network.devices_in(&path)?,
            _ => Vec::new(),
        };
        let (id, notices) = self.add_planned(asked, &there, HostNetwork::add_port)?;
        self.announce(id);
        Ok(AddedPort { port: self.port_report(id, &self.ports[&id]), notices })
    }

    /// Adds the requested port, whose device `make` creates, and returns the notices. `there`: the devices that are in
    /// its namespace already.
    pub(super) fn add_planned(
        &mut self,
        asked: NewPort,
        there: &[DeviceId],
        make: impl FnOnce(&mut M, &Attachment) -> Result<Device, TopologyError>,
    ) -> Result<(PortId, Vec<String>), RunError> {
        let shared = asked.shared_netns;
        let needs_notice = guard::needs_notice(&self.config, &asked);
        let is_foreign = asked.netns.is_some() || asked.unmanaged;
        let given = (asked.guard, asked.vlan.clone());
        let plan = PortPlan::new(&self.config, &self.ports, asked)?;
        self.check_sharing(&plan, shared, there)?;
        let needs_notice = needs_notice && (is_foreign || plan.has_no_address());
        let made = match self.port_without_device(&plan) {
            Some(id) => self.replace_device(id, plan, given, make),
            None => {
                self.check_replaceable(&plan, &plan.replaced)?;
                self.remove_replaced(&plan.replaced)?;
                self.make_port(plan, make)
            }
        };
        // Also taken after a failure: they are not about the next port.
        let notices = self.network.take_notices();
        let id = made?;
        let guard_notice = self.ports[&id].guard.notice().filter(|_| needs_notice);
        Ok((id, guard_notice.into_iter().chain(notices).collect()))
    }

    /// Lets the switch and the fast path know the device of a port and its addresses.
    pub(super) fn apply_device(&mut self, id: PortId) {
        let record = &self.ports[&id];
        if let (Some(fast), Some(devices)) = (&self.fast_path, record.device.fast) {
            fast.add_port(id, devices, record.device.mac);
        }
        self.switch.assign_mac(id, record.assigned.mac);
        self.bind_guard(id);
        self.update_neighbour(id);
        let record = &self.ports[&id];
        let (port, device) = (&record.name, &record.device);
        info!(port, device = device.ifname, mac = %device.mac, mtu = device.mtu, "port added");
    }

    /// Announces the port's addresses to the other hosts (gratuitous ARP, unsolicited neighbour advertisement).
    pub(super) fn announce(&mut self, id: PortId) {
        if let Some(port) = self.ports.get(&id) {
            self.network.announce(port.device.id, &port.device.addresses);
        }
    }

    /// Announces the addresses that another program has assigned. Not every program does.
    fn announce_if_unmanaged(&mut self, id: PortId) {
        if self.ports.get(&id).is_some_and(|port| port.unmanaged) {
            self.announce(id);
        }
    }

    /// Refuses a second port in an existing namespace, which has the devices `there`, unless it may be shared.
    pub(super) fn check_sharing(
        &self,
        plan: &PortPlan,
        shared: bool,
        there: &[DeviceId],
    ) -> Result<(), RunError> {
        let mut others = self.ports.values().filter(|port| there.contains(&port.device.id));
        let other = others.find(|port| !plan.replaced.contains(&port.name));
        match (&plan.attachment, other) {
            (
                Attachment::Tap(PortSpec { netns: PortNetns::Existing(path), unmanaged: false, .. }),
                Some(other),
            ) if !shared => Err(RunError::NetnsHasPort(path.display().to_string(), other.name.clone())),
            _ => Ok(()),
        }
    }

    /// Adds a planned port, whose device `make` creates.
    pub(super) fn make_port(
        &mut self,
        plan: PortPlan,
        make: impl FnOnce(&mut M, &Attachment) -> Result<Device, TopologyError>,
    ) -> Result<PortId, RunError> {
        let device = make(&mut self.network, &plan.attachment)?;
        self.attach(plan, device)
    }

    /// Gives a port a number, and its device's queues to the workers. It does not forward yet.
    fn occupy_slot(&mut self, record: &mut PortRecord) -> Result<PortId, RunError> {
        let forbidden = record.state_for_switch(PortUse::Forbidden);
        let id = self.switch.ports.add(forbidden).ok_or(RunError::TooManyPorts)?;
        record.counted_before = self.totals(id);
        record.compared = record.counted_before;
        self.names.set(id, &record.name);
        let queues = std::mem::take(&mut record.device.queues);
        // A socket has queues when it has a peer.
        let attached = match self.stp_port_added(id) {
            Ok(()) if queues.is_empty() => Ok(()),
            Ok(()) => self.datapath.attach(id, queues).map_err(RunError::from),
            Err(error) => Err(error),
        };
        attached.map(|()| id).inspect_err(|_| {
            self.stp_port_removed(id);
            self.release_port(id);
        })
    }

    /// Makes a device a port, which forwards when it has all its settings. Removes the device if that fails.
    pub(super) fn attach(&mut self, plan: PortPlan, device: Device) -> Result<PortId, RunError> {
        let (vlans, uplink_mode) = (plan.vlans.clone(), plan.uplink_mode);
        let mut record = PortRecord::new(plan, device);
        let (name, device) = (record.name.clone(), record.device.id);
        let checked = self.check_new_uplink(&record, uplink_mode);
        let id = checked.and_then(|()| self.occupy_slot(&mut record)).inspect_err(|why| {
            warn!(port = name, %why, "port not added");
            // Report the first error; what could not be removed is in the ledger, and is removed at stop.
            let _ = self.network.remove_port(device);
        })?;
        self.ports.insert(id, record);
        if uplink_mode == UplinkMode::Ipvlan {
            self.set_uplink_mode(id, uplink_mode);
        }
        if let Err(why) = self.prepare(id, vlans.as_ref()) {
            warn!(port = name, %why, "port not added");
            // Refused for the host port: a start without it fails, and removes everything.
            let _ = self.remove_port(&name);
            return Err(why);
        }
        self.admit(id);
        Ok(id)
    }

    /// Gives a new port its guard, VLANs, flags and settings.
    fn prepare(&mut self, id: PortId, vlans: Option<&PortVlans>) -> Result<(), RunError> {
        self.init_vlans(id, vlans);
        self.apply_device(id);
        if self.ports[&id].name == HOST {
            self.switch.vlans.set_host(id);
        }
        let mut flags = PortFlags::default();
        flags.set(PortFlag::Hub, self.config.hub);
        self.switch.ports.set_flags(id, flags);
        self.switch.mirror_new_port(id);
        self.emit_port_event(EventType::PortAdded, id);
        self.apply_file_settings(id)?;
        self.restore_leases(id);
        self.addresses_changed();
        self.update_dns();
        Ok(())
    }

    /// Lets a new port forward.
    fn admit(&mut self, id: PortId) {
        let record = &self.ports[&id];
        self.switch.ports.set(id, record.state_for_switch(PortUse::Allowed));
        self.multicast_port_changed(id, self.ports[&id].is_up());
        self.stp_link_changed(id);
    }

    /// Removes a port, with its device.
    pub(super) fn remove_port(&mut self, name: &str) -> Result<(), RunError> {
        self.remove_port_with(name, &PortRemoval::default())
    }

    /// Removes a port as these options say.
    pub(super) fn remove_port_with(&mut self, name: &str, options: &PortRemoval) -> Result<(), RunError> {
        let id = self.port_named(name)?;
        let record = &self.ports[&id];
        if record.is_host() {
            return Err(RunError::HostPort);
        }
        let (device, keep_device) = (record.device.id, options.keep_device);
        if keep_device {
            self.network.check_keepable(device)?;
        }
        let withdrawn = self.unpublish_port(id);
        match self.detach(id) {
            // The worker detaches it when it responds again. Until then it keeps the queue open, and others cannot have
            // it.
            Err(RunError::Datapath(DatapathError::WorkerUnresponsive(_))) if !keep_device => {}
            detached => detached?,
        }
        // Handle the workers' messages about this port before another port uses its slot.
        self.drain_notices();
        self.update_protocols();
        self.forget_port(id);
        self.ports.remove(&id);
        self.update_dns();
        info!(port = name, "port deleted");
        if keep_device {
            self.network.remove_port_and_keep_device(device)?;
        } else {
            self.network.remove_port(device)?;
        }
        Ok(withdrawn?)
    }

    /// Removes what the switch and its protocols know of a port.
    fn forget_port(&mut self, id: PortId) {
        self.unmirror_port(id);
        self.switch.uplinks.remove_port(id);
        self.switch.vlans.remove_port(id);
        self.multicast_port_removed(id);
        self.stp_port_removed(id);
        self.emit_port_event(EventType::PortRemoved, id);
        self.switch.assign_mac(id, None);
        self.switch.set_guard(id, None);
        self.switch.neighbours.set(id, None);
        self.switch.fdb.remove_port(id);
        self.switch.clear_limits(id);
        self.clear_impairments(id);
        if let Some(fast) = &self.fast_path {
            fast.remove_port(id);
        }
        self.release_port(id);
        self.end_leases_of_container(id);
    }

    /// Stops sending frames to the port and has the workers close its queues, unless they already have.
    pub(super) fn detach(&self, id: PortId) -> Result<(), RunError> {
        let record = &self.ports[&id];
        self.switch.ports.set(id, record.state_for_switch(PortUse::Forbidden));
        if record.link != LinkState::Gone {
            self.datapath.detach(id)?;
        }
        Ok(())
    }

    /// Handles a change to a device by another program.
    pub(super) fn device_changed(&mut self, device: DeviceId, change: &LinkChange) {
        let found = self.ports.iter().find(|(_, port)| port.device.id == device);
        if let Some((&id, _)) = found {
            self.link_changed(id, change);
        }
    }

    /// Applies a change of a port's device. Both the kernel and the workers report that a device is gone; the second
    /// report has no effect.
    pub(super) fn link_changed(&mut self, id: PortId, change: &LinkChange) {
        let Some(record) = self.ports.get_mut(&id).filter(|port| !port.is_gone()) else { return };
        match change {
            LinkChange::State { up, carrier, mtu } => {
                record.device.mtu = *mtu;
                self.set_link_state(id, LinkState::of(*up, *carrier));
                if *carrier {
                    self.keep_carrier_off(id);
                }
            }
            LinkChange::Gone => {
                // A stalled worker detaches it when it responds again. A failed worker ends the switch.
                let _ = self.detach(id);
                self.set_link_state(id, LinkState::Gone);
            }
            _ => {
                let (of_host, changed) = (record.is_host(), record.apply(change));
                self.uplink_changed(id, change);
                if let LinkChange::Mac(mac) = change {
                    if let Some(fast) = &self.fast_path {
                        fast.set_mac(id, *mac);
                    }
                    if of_host {
                        self.set_gateway_mac(id, *mac);
                    }
                    self.follow_mac(id);
                    self.announce(id);
                }
                if matches!(change, LinkChange::Addresses(_)) {
                    self.announce_if_unmanaged(id);
                    self.addresses_changed();
                }
                self.update_neighbour(id);
                if let Some((aspect, value)) = changed {
                    self.emit_port_changed(id, aspect, value);
                }
            }
        }
    }

    pub(super) fn set_link_state(&mut self, id: PortId, link: LinkState) {
        self.update_port_state(id, |record| record.link = link);
    }

    /// Changes what the port's state depends on, and lets the switch and the user know.
    pub(super) fn update_port_state(&mut self, id: PortId, change: impl FnOnce(&mut PortRecord)) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        let (was_up, was_gone) = (record.is_up(), record.is_gone());
        change(record);
        let is_up = record.is_up();
        let (port, mtu, link, admin) = (&record.name, record.device.mtu, record.link, record.admin);
        match link {
            LinkState::Gone => warn!(port, "the port's device is gone"),
            _ if is_up => info!(port, mtu, "port up"),
            _ => info!(port, mtu, ?link, ?admin, "port down"),
        }
        self.switch.ports.set(id, record.state_for_switch(PortUse::Allowed));
        if !is_up {
            // Hosts behind a port that is down may reappear behind another. The Linux bridge flushes too.
            self.switch.fdb.flush(Some(id));
        }
        if was_up != is_up {
            self.multicast_port_changed(id, is_up);
        }
        self.stp_link_changed(id);
        let kind = match (was_up, is_up) {
            _ if link == LinkState::Gone && !was_gone => EventType::PortGone,
            (false, true) => {
                self.announce_if_unmanaged(id);
                EventType::PortUp
            }
            (true, false) => return self.emit_port_down(id),
            _ => return,
        };
        self.emit_port_event(kind, id);
    }

    pub(super) fn port_named(&self, name: &str) -> Result<PortId, RunError> {
        let found = self.ports.iter().find(|(_, port)| port.name == name);
        found.map(|(id, _)| *id).ok_or_else(|| RunError::NoSuchPort(name.to_owned()))
    }
}

/// The inode number of a namespace; `None` if it is gone, which is reported as a change soon.
fn inode(path: &Path) -> Option<u64> {
    Netns::open(path).and_then(|netns| netns.identity()).ok().map(|identity| identity.ino)
}
