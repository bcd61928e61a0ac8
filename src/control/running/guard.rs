//! Turns the guard of ports on and off, and decides which identity a port has.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};
use tracing::{info, warn};

use super::ports::{Assigned, PortRecord};
use super::{HostNetwork, RunError, Running};
use crate::control::Config;
use crate::control::report::{NewPort, PortKind};
use crate::switch::guard::autoconfigured;
use crate::switch::{Identity, PortId};
use crate::wire::Mac;

/// Whether the guard of a new port is on. By default it is, but not where hosts may use addresses that the switch does
/// not know: in an existing namespace, on an existing device, or without an address that is assigned or told.
pub(super) fn is_on(config: &Config, name: &str, requested: Option<bool>, may_use_others: bool) -> bool {
    let in_file = config.port_settings.get(name).and_then(|settings| settings.guard);
    requested.or(in_file).unwrap_or(config.guard && !may_use_others)
}

/// The notice that a new port is not guarded.
const OFF: &str = "the guard is off on this port, because its container may use other addresses: \
                   turn it on with `uswitch port set PORT --guard on`";

/// Whether a new port that is not guarded needs a notice, because the user did not choose that.
pub(super) fn needs_notice(config: &Config, request: &NewPort) -> bool {
    let has_new_device = request.tap.is_none() && request.device.is_none() && request.socket.is_none();
    config.guard && request.guard.is_none() && has_new_device
}

/// Control's record of the guard of one port.
#[derive(Debug)]
pub(super) struct PortGuard {
    /// Whether it is on.
    pub(super) enabled: bool,
    /// The addresses that the switch assigned. `None`: it assigned no MAC, so the guard cannot be on.
    identity: Option<Identity>,
}

impl PortGuard {
    /// The guard of a port with these addresses.
    pub(super) fn new(enabled: bool, assigned: &Assigned) -> PortGuard {
        let addresses: Vec<IpAddr> = assigned.addresses.iter().map(IpNet::addr).collect();
        let identity = assigned.mac.map(|mac| Identity { mac, addresses, ..Identity::default() });
        PortGuard { enabled, identity }
    }

    /// Binds the port to these addresses.
    pub(super) fn set_addresses(&mut self, addresses: &[IpNet]) {
        if let Some(identity) = &mut self.identity {
            identity.addresses = addresses.iter().map(IpNet::addr).collect();
        }
    }

    /// Lets the port make addresses of these prefixes.
    fn set_prefixes(&mut self, prefixes: Vec<Ipv6Addr>) {
        if let Some(identity) = &mut self.identity {
            identity.prefixes = prefixes;
        }
    }

    /// The addresses that the port makes of advertised prefixes.
    pub(super) fn autoconfigured(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.identity.iter().flat_map(Identity::autoconfigured)
    }

    /// The notice that it is off.
    pub(super) fn notice(&self) -> Option<String> {
        (!self.enabled).then(|| OFF.to_owned())
    }

    /// What the switch compares frames with.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.identity.as_ref().filter(|_| self.enabled)
    }
}

impl<M: HostNetwork> Running<M> {
    /// Checks that the guard of a port can be set.
    pub(super) fn check_port_guard(&self, id: PortId, enabled: bool) -> Result<(), RunError> {
        let record = &self.ports[&id];
        match record.guard.identity {
            None if enabled => Err(RunError::NoGuardAddresses(record.name.clone())),
            _ => Ok(()),
        }
    }

    /// Binds a port to the addresses that it has, and to those that it makes of the prefixes in which it has none.
    pub(super) fn bind_guard(&mut self, id: PortId) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        let addresses: Vec<IpAddr> = record.configured_addresses().map(IpNet::addr).collect();
        let is_free = |prefix: &Ipv6Net| !addresses.iter().any(|own| IpNet::V6(*prefix).contains(own));
        let prefixes = self.config.autonomous_prefixes().filter(is_free).map(|prefix| prefix.network());
        record.guard.set_prefixes(prefixes.collect());
        self.switch.set_guard(id, record.guard.identity());
    }

    /// Turns the guard of a port on or off.
    pub(super) fn set_port_guard(&mut self, id: PortId, enabled: bool) {
        let bound = self.ports[&id].guard.identity.as_ref().map(|identity| identity.mac);
        let is_used_elsewhere = bound.is_some_and(|mac| self.is_used_elsewhere(mac, id));
        let Some(record) = self.ports.get_mut(&id) else { return };
        if let (true, Some(identity), Some(assigned)) =
            (is_used_elsewhere, &mut record.guard.identity, record.assigned.mac)
        {
            identity.mac = assigned;
        }
        record.guard.enabled = enabled;
        self.switch.set_guard(id, record.guard.identity());
        info!(port = record.name, enabled, "guard changed");
        self.update_neighbour(id);
    }

    /// Updates the addresses of a port without a guard: those of its device, or, behind an existing device or a
    /// socket, those that the request for the port has.
    pub(super) fn update_neighbour(&self, id: PortId) {
        let PortRecord { kind, device, assigned, guard, .. } = &self.ports[&id];
        let (mac, addresses) = match kind {
            PortKind::Tap => (Some(device.mac), &device.addresses),
            PortKind::Device | PortKind::Socket => (assigned.mac, &assigned.addresses),
        };
        let addresses = addresses.iter().map(IpNet::addr).collect();
        let known = mac.filter(|_| !guard.enabled);
        let identity = known.map(|mac| Identity { mac, addresses, ..Identity::default() });
        self.switch.neighbours.set(id, identity.as_ref());
    }

    /// Follows a device whose MAC was changed. A guarded port keeps its identity if another host uses the new MAC.
    /// All frames with the new MAC are then dropped.
    pub(super) fn follow_mac(&mut self, id: PortId) {
        // Behind an existing device are hosts with their own MACs.
        let Some(record) = self.ports.get(&id).filter(|record| record.kind == PortKind::Tap) else { return };
        let (mac, bound) = (record.device.mac, record.guard.identity.as_ref().map(|identity| identity.mac));
        if record.is_host() || Some(mac) == bound {
            return;
        }
        if record.guard.enabled && self.is_used_elsewhere(mac, id) {
            warn!(port = record.name, %mac, "the device has a MAC that is in use on another port: refused");
            return;
        }
        let Some(record) = self.ports.get_mut(&id) else { return };
        if let Some(identity) = &mut record.guard.identity {
            identity.mac = mac;
            identity.earlier_mac = record.assigned.mac;
        }
        if record.guard.enabled {
            self.switch.set_guard(id, record.guard.identity());
            self.switch.fdb.flush(Some(id));
        }
    }

    /// Whether a MAC is the gateway's, or that of another port or of a host behind one, or makes the address of one.
    fn is_used_elsewhere(&self, mac: Mac, id: PortId) -> bool {
        let made = |prefix: Ipv6Net| IpAddr::from(autoconfigured(prefix.network(), mac));
        let made: Vec<IpAddr> = self.config.autonomous_prefixes().map(made).collect();
        let others = self.ports.iter().filter(|(other, _)| **other != id);
        mac.is_group()
            || mac.is_zero()
            || self.switch.gateway_macs().any(|gateway| gateway == mac)
            || self.switch.fdb.entries_of(mac).any(|entry| entry.port != id)
            || others.into_iter().any(|(_, record)| {
                let bound = record.guard.identity.as_ref().map(|identity| identity.mac);
                [Some(record.device.mac), record.assigned.mac, bound].contains(&Some(mac))
                    || made.iter().any(|address| record.has_assigned(*address))
            })
    }
}
