//! Gives a port whose device is gone another one (`port add --replace`): its container was started again.

use super::ports::PortRecord;
use super::{HostNetwork, PortPlan, RunError, Running};
use crate::control::event::EventType;
use crate::control::report::{PortKind, PortVlans};
use crate::control::topology::{Attachment, Device, TopologyError};
use crate::switch::PortId;

impl PortRecord {
    /// With the counters and the settings of a former port.
    fn with_settings_of(self, former: PortRecord) -> PortRecord {
        PortRecord {
            number: self.number,
            device: self.device,
            assigned: self.assigned,
            leased: self.leased,
            netns_ino: self.netns_ino,
            offload: self.offload,
            unmanaged: self.unmanaged,
            labels: self.labels,
            guard: self.guard,
            // Another device does not have it.
            fault: None,
            ..former
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// Whether the planned device can be created when these ports are removed.
    pub(super) fn check_replaceable(&self, plan: &PortPlan, names: &[String]) -> Result<(), RunError> {
        let mut replaced = self.ports.values().filter(|port| names.contains(&port.name));
        Ok(replaced.try_for_each(|port| self.network.check_replaceable(port.device.id, &plan.attachment))?)
    }

    /// Removes the ports that a new one replaces.
    pub(super) fn remove_replaced(&mut self, names: &[String]) -> Result<(), RunError> {
        names.iter().try_for_each(|name| self.remove_port(name))
    }

    /// The port whose device is gone and that gets the planned one.
    pub(super) fn port_without_device(&self, plan: &PortPlan) -> Option<PortId> {
        let has_tap = matches!(plan.attachment, Attachment::Tap(_));
        let is_replaced = has_tap && plan.replaced.contains(&plan.name);
        let is_it =
            |port: &PortRecord| port.name == plan.name && port.is_gone() && port.kind == PortKind::Tap;
        let mut ports = self.ports.iter().filter(|_| is_replaced);
        ports.find(|(_, port)| is_it(port)).map(|(id, _)| *id)
    }

    /// Gives a port the planned device, which `make` creates. The port keeps its counters and settings, except for
    /// those that are given. If there is no device it is as it was.
    pub(super) fn replace_device(
        &mut self,
        id: PortId,
        plan: PortPlan,
        (guard, vlans): (Option<bool>, Option<PortVlans>),
        make: impl FnOnce(&mut M, &Attachment) -> Result<Device, TopologyError>,
    ) -> Result<PortId, RunError> {
        let others: Vec<String> = plan.replaced.iter().filter(|name| **name != plan.name).cloned().collect();
        self.check_replaceable(&plan, &others)?;
        let mut device = make(&mut self.network, &plan.attachment)?;
        let queues = std::mem::take(&mut device.queues);
        if let Err(error) = self.datapath.attach(id, queues) {
            // The first error is reported.
            let _ = self.network.remove_port(device.id);
            return Err(error.into());
        }
        let Some(former) = self.ports.remove(&id) else { return Ok(id) };
        let (gone, by) = (former.device.id, device.id);
        let guard = guard.unwrap_or(former.guard.enabled);
        let record = PortRecord::new(PortPlan { guard, ..plan }, device);
        let link = record.link;
        self.ports.insert(id, record.with_settings_of(former));
        self.network.remove_replaced_port(gone, by)?;
        self.remove_replaced(&others)?;
        if let Some(vlans) = &vlans {
            self.set_vlans(id, vlans);
        }
        if let Some(fast) = &self.fast_path {
            fast.remove_devices(id);
        }
        self.apply_device(id);
        self.restore_leases(id);
        self.emit_port_event(EventType::PortAdded, id);
        self.addresses_changed();
        self.update_dns();
        self.set_link_state(id, link);
        self.keep_carrier_off(id);
        Ok(id)
    }
}
