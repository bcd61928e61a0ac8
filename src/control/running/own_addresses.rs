//! Which addresses belong to a container, as far as published ports and names are concerned.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{HostNetwork, Running};
use crate::control::addressing;
use crate::control::report::PortKind;
use crate::switch::PortId;

impl<M: HostNetwork> Running<M> {
    /// The addresses of a container in the subnets of the switch that no other host has: those that its device has, or
    /// if it has none, or the switch does not see them, those that were assigned. Those of the host are its gateway's.
    ///
    /// A runtime gives a device one address after the other, so the assigned ones of an IP version count until the
    /// device has one of that.
    pub(super) fn own_addresses(&self, id: PortId) -> Vec<IpAddr> {
        let record = &self.ports[&id];
        if record.is_host() {
            return record.device.addresses.iter().map(IpNet::addr).collect();
        }
        let is_free = |address: IpAddr| {
            !record.guard.enabled
                && !self.config.all_gateways().any(|gateway| gateway == address)
                && !self.ports.iter().any(|(other, record)| *other != id && record.may_have(address))
        };
        let is_own = |address: &IpAddr| {
            let mut subnets = self.config.all_subnets();
            subnets.any(|subnet| addressing::is_host_address(subnet, *address))
                && (record.may_have(*address) || is_free(*address))
        };
        let own = |addresses: &[IpNet]| -> Vec<IpAddr> {
            addresses.iter().map(IpNet::addr).filter(is_own).collect()
        };
        let of_device: &[IpNet] = if record.kind == PortKind::Tap { &record.device.addresses } else { &[] };
        let visible = own(of_device);
        let has_version = |of: &IpAddr| visible.iter().any(|address| address.is_ipv4() == of.is_ipv4());
        let mut assigned = own(&record.assigned.addresses);
        assigned.retain(|address| if record.unmanaged { !has_version(address) } else { visible.is_empty() });
        [visible, assigned].concat()
    }
}
