//! The ports that lead to the host: the host port, and one for each VLAN with a gateway of its own. Behind each is a
//! gateway, whose MAC address has permanent entries in the forwarding database.

use ipnet::IpNet;
use tracing::warn;

use super::{HostNetwork, PortPlan, PortUse, RunError, Running};
use crate::control::config::{VlanGateway, vlan_of_host_port};
use crate::control::topology::Device;
use crate::switch::fdb::{FdbError, FdbKey, FdbState};
use crate::switch::{Gateway, PortId, Vid};
use crate::wire::Mac;

impl<M: HostNetwork> Running<M> {
    /// Adds the host ports.
    pub(super) fn add_host_ports(&mut self) -> Result<(), RunError> {
        let gateway = self.switch.gateway.mac.get();
        let device = self.network.add_host_port(&self.config, gateway)?;
        self.attach_host_port(PortPlan::host(&self.config, gateway), device)?;
        self.config.vlan_gateways.clone().iter().try_for_each(|vlan| self.add_vlan_host_port(vlan))
    }

    fn add_vlan_host_port(&mut self, vlan: &VlanGateway) -> Result<(), RunError> {
        let (plan, spec) = PortPlan::vlan_host(&self.config, vlan, self.switch.gateway.mac.get());
        let device = self.network.add_vlan_host_port(&spec)?;
        self.attach_host_port(plan, device)
    }

    fn attach_host_port(&mut self, plan: PortPlan, device: Device) -> Result<(), RunError> {
        let id = self.attach(plan, device)?;
        Ok(self.pin_gateway(id)?)
    }

    /// The gateway behind a host port.
    fn gateway_behind(&self, host: PortId) -> &Gateway {
        let vlan = self.ports.get(&host).and_then(|port| vlan_of_host_port(&port.name));
        vlan.and_then(|vid| self.switch.vlans.gateway(vid)).unwrap_or(&self.switch.gateway)
    }

    /// The addresses of the gateway behind a host port.
    pub(super) fn gateway_addresses(&self, host: &str) -> &[IpNet] {
        let vlans = &self.config.vlan_gateways;
        let of_vlan = vlans.iter().find(|gateway| gateway.port_name() == host);
        of_vlan.map_or(&self.config.gateways, |gateway| &gateway.addresses)
    }

    /// The VLAN of a host port (0: without VLANs), if it has one.
    pub(super) fn vlan_of_host(&self, host: PortId) -> Option<u16> {
        match self.config.vlans.filtering {
            true => self.switch.vlans.pvid(host).map(Vid::get),
            false => Some(0),
        }
    }

    /// The addresses of the gateway in a VLAN (0: without VLANs).
    pub(super) fn gateway_of_vlan(&self, vlan: u16) -> Option<&[IpNet]> {
        let mut hosts = self.ports.iter().filter(|(_, port)| port.is_host());
        let (_, host) = hosts.find(|(id, _)| self.vlan_of_host(**id) == Some(vlan))?;
        Some(self.gateway_addresses(&host.name))
    }

    /// The MAC address of the gateway in a VLAN (0: without VLANs).
    pub(super) fn gateway_mac(&self, vlan: u16) -> Mac {
        let of_vlan = Vid::new(vlan).and_then(|vid| self.switch.vlans.gateway(vid));
        of_vlan.unwrap_or(&self.switch.gateway).mac.get()
    }

    /// A gateway has the MAC of its host port's device, or else the host would not receive what is sent to it.
    pub(super) fn set_gateway_mac(&self, host: PortId, mac: Mac) {
        let Some(record) = self.ports.get(&host) else { return };
        self.switch.ports.set(host, record.state_for_switch(PortUse::Forbidden));
        self.pin_gateway_again(host, |gateway| gateway.mac.set(mac));
        self.switch.ports.set(host, record.state_for_switch(PortUse::Allowed));
    }

    /// Follows a change of the VLANs of a port, if it is a host port.
    pub(super) fn pin_gateway_if_host(&self, id: PortId) {
        if self.ports[&id].is_host() {
            self.pin_gateway_again(id, |_| {});
        }
    }

    /// Changes the gateway behind a host port, and its FDB entries.
    fn pin_gateway_again(&self, host: PortId, change: impl FnOnce(&Gateway)) {
        self.unpin_gateway(host);
        change(self.gateway_behind(host));
        if let Err(error) = self.pin_gateway(host) {
            warn!(%error, "no FDB entry for the gateway");
        }
    }

    /// The VLANs of a host port, where the gateway's MAC is behind it.
    fn gateway_keys(&self, host: PortId) -> Vec<FdbKey> {
        let mac = self.gateway_behind(host).mac.get();
        if !self.config.vlans.filtering {
            return vec![FdbKey { vlan: 0, mac }];
        }
        self.switch.vlans.of_port(host).map(|(vid, _)| FdbKey { vlan: vid.get(), mac }).collect()
    }

    /// Adds the permanent FDB entries of the gateway behind a host port.
    fn pin_gateway(&self, host: PortId) -> Result<(), FdbError> {
        let now = self.datapath.now();
        let mut keys = self.gateway_keys(host).into_iter();
        keys.try_for_each(|key| self.switch.fdb.add(now, key, host, FdbState::Permanent))
    }

    /// Removes them.
    fn unpin_gateway(&self, host: PortId) {
        let mac = self.gateway_behind(host).mac.get();
        self.switch.fdb.remove_matching(|entry| {
            entry.port == host && entry.key.mac == mac && entry.kind.state == FdbState::Permanent
        });
    }
}
