//! The devices by which the host is on the switch: the host port's, and one for each VLAN with a gateway of its own.
//!
//! A VLAN's device is another TAP and not an 802.1Q device on the host port's, because not every kernel has those.

use std::path::Path;

use super::routing::Routing;
use super::{Device, PortNetns, PortSpec, Topology, TopologyError, forwarding, sysctl};
use crate::control::Config;
use crate::control::config::VlanGateway;
use crate::wire::Mac;

/// The host port's device: in this namespace, with the gateway's addresses.
pub(crate) fn host_port(config: &Config, gateway: Mac) -> PortSpec {
    PortSpec {
        netns: PortNetns::Host,
        ifname: config.name.clone(),
        mac: Some(gateway),
        addresses: config.gateways.clone(),
        gateways: Vec::new(),
        mtu: config.mtu,
        txqueuelen: config.txqueuelen,
        offload: config.offload,
        queues: config.workers,
        // The host's addresses and routes must not depend on what containers send.
        accept_ra: false,
        unmanaged: false,
    }
}

/// The device of a VLAN's gateway.
pub(crate) fn vlan_host_port(config: &Config, vlan: &VlanGateway, gateway: Mac) -> PortSpec {
    let (ifname, addresses) = (vlan.ifname(&config.name), vlan.addresses.clone());
    PortSpec { ifname, addresses, ..host_port(config, gateway) }
}

impl Topology {
    /// Creates the host port: a TAP in this namespace with the gateway's MAC and addresses, and what routing needs, if
    /// configured.
    ///
    /// # Errors
    /// On an error nothing is left behind.
    pub fn add_host_port(&mut self, config: &Config, gateway: Mac) -> Result<Device, TopologyError> {
        self.create_on_host(&host_port(config, gateway), |topology, ifname| {
            if !config.vlan_gateways.is_empty() {
                answer_arp_for_its_own_addresses(ifname)?;
            }
            let routing = Routing::of(config);
            if routing.is_needed() { topology.enable_routing(routing) } else { Ok(()) }
        })
    }

    /// Creates the host port of a VLAN's gateway, after the host port.
    ///
    /// # Errors
    /// On an error nothing is left behind.
    pub fn add_vlan_host_port(&mut self, spec: &PortSpec) -> Result<Device, TopologyError> {
        let has_ipv4 = spec.addresses.iter().any(|address| address.addr().is_ipv4());
        self.create_on_host(spec, |_, ifname| {
            answer_arp_for_its_own_addresses(ifname)?;
            if has_ipv4 { forwarding::enable_v4_from(ifname) } else { Ok(()) }
        })
    }

    fn create_on_host(
        &mut self,
        spec: &PortSpec,
        complete: impl FnOnce(&mut Topology, &str) -> Result<(), TopologyError>,
    ) -> Result<Device, TopologyError> {
        let built = self.staging.in_host_netns(&mut self.host, spec, self.fast.as_mut())?;
        let device = self.register(built, spec)?;
        self.host_devices.insert(device.id);
        match complete(self, &device.ifname) {
            Ok(()) => Ok(device),
            Err(error) => {
                self.unregister(device.id);
                Err(error)
            }
        }
    }
}

/// Otherwise the host would answer for its addresses in other VLANs, too (`arp_ignore` in Linux
/// `Documentation/networking/ip-sysctl.rst`).
fn answer_arp_for_its_own_addresses(ifname: &str) -> Result<(), TopologyError> {
    sysctl::write(&Path::new("/proc/sys/net/ipv4/conf").join(ifname).join("arp_ignore"), "1")
}
