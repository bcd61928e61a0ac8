//! Turns the guard of ports on and off, and decides which identity a port has.

use std::net::IpAddr;

use ipnet::IpNet;
use tracing::{info, warn};

use super::{HostNetwork, Running};
use crate::control::Config;
use crate::control::report::NewPort;
use crate::switch::fdb::FdbKey;
use crate::switch::{Identity, PortId};
use crate::wire::Mac;

/// Whether the guard of a new port is on. By default it is, but not in an existing namespace, which may use addresses
/// that the switch does not know.
pub(super) fn is_on(config: &Config, name: &str, requested: Option<bool>, in_existing_netns: bool) -> bool {
    let in_file = config.port_settings.get(name).and_then(|settings| settings.guard);
    requested.or(in_file).unwrap_or(config.guard && !in_existing_netns)
}

/// The notice that a new port is not guarded, unless the user chose that.
pub(super) fn notice(config: &Config, request: &NewPort) -> Option<String> {
    let is_default = config.guard && request.guard.is_none() && request.netns.is_some();
    is_default.then(|| {
        "the guard is off on this port, because its namespace may use other addresses: \
         turn it on with `uswitch port set NAME --guard on`"
            .to_owned()
    })
}

/// Control's record of the guard of one port.
#[derive(Debug)]
pub(super) struct PortGuard {
    /// Whether it is on.
    pub(super) enabled: bool,
    /// The addresses that the switch assigned.
    identity: Identity,
}

impl PortGuard {
    /// The guard of a port with this MAC and these addresses.
    pub(super) fn new(enabled: bool, mac: Mac, addresses: &[IpNet]) -> PortGuard {
        let addresses: Vec<IpAddr> = addresses.iter().map(IpNet::addr).collect();
        let identity = Identity { mac, addresses, earlier_mac: None };
        PortGuard { enabled, identity }
    }

    /// What the switch compares frames with.
    pub(super) fn identity(&self) -> Option<&Identity> {
        self.enabled.then_some(&self.identity)
    }
}

impl<M: HostNetwork> Running<M> {
    /// Turns the guard of a container's port on or off.
    pub(super) fn set_port_guard(&mut self, id: PortId, enabled: bool) {
        let Some(record) = self.ports.get(&id) else { return };
        let is_used_elsewhere = self.is_used_elsewhere(record.guard.identity.mac, id);
        let Some(record) = self.ports.get_mut(&id) else { return };
        record.guard.enabled = enabled;
        if is_used_elsewhere {
            record.guard.identity.mac = record.assigned.mac;
        }
        self.switch.set_guard(id, record.guard.identity());
        info!(port = record.name, enabled, "guard changed");
    }

    /// Follows a device whose MAC was changed. A guarded port keeps its identity if another host uses the new MAC.
    /// All frames with the new MAC are then dropped.
    pub(super) fn follow_mac(&mut self, id: PortId) {
        let Some(record) = self.ports.get(&id) else { return };
        let (mac, bound) = (record.device.mac, record.guard.identity.mac);
        if record.is_host() || mac == bound {
            return;
        }
        if record.guard.enabled && self.is_used_elsewhere(mac, id) {
            warn!(port = record.name, %mac, "the device has a MAC that is in use on another port: refused");
            return;
        }
        let Some(record) = self.ports.get_mut(&id) else { return };
        record.guard.identity.mac = mac;
        record.guard.identity.earlier_mac = Some(record.assigned.mac);
        if record.guard.enabled {
            self.switch.set_guard(id, record.guard.identity());
            self.switch.fdb.flush(Some(id));
        }
    }

    /// Whether a MAC is the gateway's, or that of another port or of a host behind one.
    fn is_used_elsewhere(&self, mac: Mac, id: PortId) -> bool {
        let known = self.switch.fdb.entry(FdbKey { vlan: 0, mac });
        let others = self.ports.iter().filter(|(other, _)| **other != id);
        mac.is_group()
            || mac.is_zero()
            || mac == self.switch.gateway.mac.get()
            || known.is_some_and(|entry| entry.port != id)
            || others.into_iter().any(|(_, record)| {
                [record.device.mac, record.assigned.mac, record.guard.identity.mac].contains(&mac)
            })
    }
}
