//! Ports whose devices the command line creates and hands over ([`crate::control::topology::handover`]): first a plan,
//! then the port, if the plan still holds.

use super::{HostNetwork, PortPlan, RunError, Running};
use crate::control::report::{AddedPort, NewPort};
use crate::control::topology::handover::{DeviceToHandOver, HandedOver};
use crate::control::topology::{Attachment, PortNetns, PortSpec, TapPortSpec, TopologyError};
use crate::sys::netns::Netns;

/// A port that can be added.
#[derive(Debug)]
pub(crate) struct PlannedPort {
    /// The request with every value that was chosen.
    pub(crate) request: NewPort,
    /// The device to create or to open.
    pub(crate) device: DeviceToHandOver,
}

impl<M: HostNetwork> Running<M> {
    /// Plans a port in the existing namespace `netns`, or on an existing TAP device there. Changes nothing.
    pub(super) fn plan_port(&self, asked: &NewPort, netns: &Netns) -> Result<PlannedPort, RunError> {
        let plan = PortPlan::new(&self.config, &self.ports, asked.clone())?;
        self.check_sharing(&plan, asked.shared_netns, &self.network.devices_sharing(netns)?)?;
        let PortPlan { name, attachment, assigned, .. } = plan;
        let spec = match attachment {
            Attachment::Tap(spec @ PortSpec { netns: PortNetns::Existing(_), .. }) => spec,
            // The command line opens a device of its own namespace.
            Attachment::ExistingTap(TapPortSpec { netns: Some(_), .. }) => {
                return Err(TopologyError::ForeignTap.into());
            }
            Attachment::ExistingTap(spec) => {
                let request = NewPort { name: Some(name), ..asked.clone() };
                return Ok(PlannedPort { request, device: DeviceToHandOver::ExistingTap(spec) });
            }
            _ => return Err(RunError::BadNetns(asked.netns.clone().unwrap_or_default())),
        };
        let request = NewPort {
            name: Some(name),
            ip: Some(assigned.map_or_else(|| spec.addresses.clone(), |assigned| assigned.addresses)),
            mac: spec.mac,
            ifname: Some(spec.ifname.clone()),
            offload: Some(spec.offload),
            mtu: Some(spec.mtu.into()),
            ..asked.clone()
        };
        Ok(PlannedPort { request, device: DeviceToHandOver::Tap(spec) })
    }

    /// Adds a planned port with its device.
    pub(super) fn adopt_port(&mut self, asked: NewPort, handed: HandedOver) -> Result<AddedPort, RunError> {
        let netns_ino = handed.netns.identity().map_err(TopologyError::from)?.ino;
        let there = self.network.devices_sharing(&handed.netns)?;
        let make = |network: &mut M, attachment: &Attachment| network.adopt_port(attachment, handed);
        let (id, notices) = self.add_planned(asked, &there, make)?;
        if let Some(port) = self.ports.get_mut(&id) {
            port.netns_ino = Some(netns_ino);
        }
        Ok(AddedPort { port: self.port_report(id, &self.ports[&id]), notices })
    }
}
