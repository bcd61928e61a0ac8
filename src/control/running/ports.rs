//! Ports come, change and go.

use std::path::Path;

use tracing::{info, warn};

use super::{AdminState, HOST, HostNetwork, PortPlan, RunError, Running};
use crate::control::event::EventType;
use crate::control::report::{AddedPort, NewFdbEntry, NewFdbState, NewPort};
use crate::control::topology::{Device, DeviceId, LinkChange};
use crate::switch::fdb::{FdbKey, FdbState};
use crate::switch::{Port, PortCounts, PortId};
use crate::sys::netns::Netns;
use crate::wire::Mac;

/// The link of a port's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    Up,
    Down,
    /// Somebody deleted the device; the workers have let go of it.
    Gone,
}

/// What the switch knows of one port.
#[derive(Debug)]
pub(crate) struct PortRecord {
    pub(super) name: String,
    /// In the switch's addressing; the host port has the gateway's, 0.
    pub(super) number: u16,
    /// What was made; the workers have its queues.
    pub(super) device: Device,
    /// Inode of the device's namespace.
    pub(super) netns_ino: Option<u64>,
    pub(super) offload: bool,
    pub(super) link: LinkState,
    /// The slot's counters when this port took it.
    pub(super) counted_before: PortCounts,
    /// The slot's counters when they were last looked at for events.
    pub(super) compared: PortCounts,
}

impl PortRecord {
    fn new(name: String, number: u16, device: Device, offload: bool) -> PortRecord {
        let netns_ino = device.netns.as_deref().and_then(inode);
        let (counted_before, compared) = Default::default();
        PortRecord { name, number, device, netns_ino, offload, link: LinkState::Up, counted_before, compared }
    }

    fn is_host(&self) -> bool {
        self.number == 0
    }

    /// What the forwarding decision is to know of this port.
    pub(super) fn state_for_switch(&self, admin: AdminState) -> Port {
        Port {
            up: self.link == LinkState::Up && admin == AdminState::Enabled,
            host: self.is_host(),
            offload: self.offload,
            mtu: self.device.mtu,
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// Makes the host port, and pins the gateway's MAC to it.
    pub(super) fn add_host_port(&mut self) -> Result<(), RunError> {
        let gateway = self.switch.gateway.mac;
        let device = self.network.add_host_port(&self.config, gateway)?;
        let offload = self.config.offload;
        let record = PortRecord::new(HOST.to_owned(), 0, device, offload);
        let id = self.attach(record)?;
        Ok(self.switch.fdb.add(
            self.datapath.now(),
            FdbKey { vlan: 0, mac: gateway },
            id,
            FdbState::Permanent,
        )?)
    }

    /// Makes a port as asked for.
    pub(super) fn add_port(&mut self, asked: NewPort) -> Result<AddedPort, RunError> {
        let plan = PortPlan::new(&self.config, &self.ports, asked)?;
        let id = self.make_port(plan)?;
        let port = self.port_report(id, &self.ports[&id]);
        Ok(AddedPort { port, notices: self.network.take_notices() })
    }

    /// Makes a port as planned.
    pub(super) fn make_port(&mut self, plan: PortPlan) -> Result<PortId, RunError> {
        let device = self.network.add_port(&plan.spec)?;
        let PortPlan { name, number, spec } = plan;
        let record = PortRecord::new(name, number, device, spec.offload);
        self.attach(record)
    }

    /// Gives a device that was made to the workers; takes it away again if they do not take it.
    fn attach(&mut self, mut record: PortRecord) -> Result<PortId, RunError> {
        let device = record.device.id;
        let queues = std::mem::take(&mut record.device.queues);
        let attached = match self.switch.ports.add(record.state_for_switch(AdminState::Disabled)) {
            None => Err(RunError::TooManyPorts),
            Some(id) => {
                record.counted_before = self.totals(id);
                record.compared = record.counted_before;
                self.names.set(id, &record.name);
                self.datapath.attach(id, queues).map(|()| id).map_err(|error| {
                    self.switch.ports.remove(id);
                    RunError::from(error)
                })
            }
        };
        match attached {
            Ok(id) => {
                self.switch.ports.set(id, record.state_for_switch(AdminState::Enabled));
                let (port, device) = (&record.name, &record.device);
                info!(port, device = device.ifname, mac = %device.mac, mtu = device.mtu, "port added");
                self.ports.insert(id, record);
                self.emit_port_event(EventType::PortAdded, id);
                Ok(id)
            }
            Err(why) => {
                warn!(port = record.name, %why, "port not added");
                // The first error is the one to tell; what stays is in the ledger and goes at stop.
                let _ = self.network.remove_port(device);
                Err(why)
            }
        }
    }

    /// Takes a port away.
    pub(super) fn remove_port(&mut self, name: &str) -> Result<(), RunError> {
        let id = self.port_named(name)?;
        let record = &self.ports[&id];
        if record.is_host() {
            return Err(RunError::HostPort);
        }
        let device = record.device.id;
        self.detach(id)?;
        // What they told of this port is heard before another takes its slot.
        self.drain_notices();
        self.emit_port_event(EventType::PortRemoved, id);
        self.switch.fdb.remove_port(id);
        self.switch.ports.remove(id);
        self.ports.remove(&id);
        info!(port = name, "port deleted");
        Ok(self.network.remove_port(device)?)
    }

    /// No new frame goes to the port, and the workers let go of it, if they have not already.
    pub(super) fn detach(&self, id: PortId) -> Result<(), RunError> {
        let record = &self.ports[&id];
        self.switch.ports.set(id, record.state_for_switch(AdminState::Disabled));
        if record.link != LinkState::Gone {
            self.datapath.detach(id)?;
        }
        Ok(())
    }

    /// Somebody else changed a device.
    pub(super) fn device_changed(&mut self, device: DeviceId, change: &LinkChange) {
        let found = self.ports.iter().find(|(_, port)| port.device.id == device);
        if let Some((&id, _)) = found {
            self.link_changed(id, change);
        }
    }

    /// A port's link is as `change` says. Both the kernel's messages and the workers tell of a device that is
    /// gone; the second one finds nothing to do.
    pub(super) fn link_changed(&mut self, id: PortId, change: &LinkChange) {
        if self.ports.get(&id).is_none_or(|port| port.link == LinkState::Gone) {
            return;
        }
        if *change == LinkChange::Gone {
            // Fails only without workers, and that ends the switch.
            let _ = self.detach(id);
        }
        let Some(record) = self.ports.get_mut(&id) else { return };
        let before = record.link;
        match change {
            LinkChange::State { up, mtu } => {
                record.link = if *up { LinkState::Up } else { LinkState::Down };
                record.device.mtu = *mtu;
            }
            LinkChange::Gone => record.link = LinkState::Gone,
        }
        let (port, mtu) = (&record.name, record.device.mtu);
        match record.link {
            LinkState::Up => info!(port, mtu, "port up"),
            LinkState::Down => info!(port, mtu, "port down"),
            LinkState::Gone => warn!(port, "the port's device is gone"),
        }
        self.switch.ports.set(id, record.state_for_switch(AdminState::Enabled));
        let change = record.link.change(before);
        if record.link != LinkState::Up {
            // Stations behind a port that is down may come back behind another (as the Linux bridge does).
            self.switch.fdb.flush(Some(id));
        }
        if let Some(change) = change {
            self.emit_port_event(change, id);
        }
    }

    pub(super) fn add_fdb_entry(&mut self, entry: &NewFdbEntry) -> Result<(), RunError> {
        let id = self.port_named(&entry.ifname)?;
        let key = key(entry.mac, entry.vlan.unwrap_or(0))?;
        let state = match entry.state {
            NewFdbState::Static => FdbState::Static,
            NewFdbState::Dynamic => FdbState::Dynamic,
        };
        self.switch.fdb.add(self.datapath.now(), key, id, state)?;
        self.emit_fdb_added(id, key, entry.state);
        Ok(())
    }

    pub(super) fn remove_fdb_entry(&mut self, mac: Mac, vlan: u16) -> Result<(), RunError> {
        let gone = self.switch.fdb.remove(key(mac, vlan)?)?.ok_or(RunError::NoSuchEntry(mac))?;
        self.emit_fdb_removed(&gone);
        Ok(())
    }

    pub(super) fn flush_fdb(&mut self, ifname: Option<&str>) -> Result<usize, RunError> {
        let port = ifname.map(|name| self.port_named(name)).transpose()?;
        let count = self.switch.fdb.flush(port);
        self.emit_fdb_flushed(port, count);
        Ok(count)
    }

    pub(super) fn port_named(&self, name: &str) -> Result<PortId, RunError> {
        let found = self.ports.iter().find(|(_, port)| port.name == name);
        found.map(|(id, _)| *id).ok_or_else(|| RunError::NoSuchPort(name.to_owned()))
    }
}

/// The inode of a namespace, unless it has gone already: then the port shows that in a moment.
fn inode(path: &Path) -> Option<u64> {
    Netns::open(path).and_then(|netns| netns.identity()).ok().map(|identity| identity.ino)
}

/// No frame is in any VLAN but 0 before there is VLAN-aware bridging.
fn key(mac: Mac, vlan: u16) -> Result<FdbKey, RunError> {
    if vlan == 0 { Ok(FdbKey { vlan, mac }) } else { Err(RunError::NoVlans(vlan)) }
}
