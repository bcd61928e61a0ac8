//! What the host routes for a switch: between its VLANs that have a gateway, and with NAT to other networks.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::control::Config;
use crate::control::config::VlanGateway;

/// A switch for which the host routes.
#[derive(Debug, Clone)]
pub(super) struct Routing {
    /// The name of the switch.
    pub(super) switch: String,
    /// The devices that lead to containers: the host port's is the first one.
    pub(super) devices: Vec<RoutedDevice>,
    /// Masquerade packets to other networks. Otherwise packets stay between the devices.
    pub(super) nat: bool,
}

/// A device of a host port.
#[derive(Debug, Clone)]
pub(super) struct RoutedDevice {
    pub(super) ifname: String,
    /// The networks behind it.
    pub(super) subnets: Vec<IpNet>,
}

impl Routing {
    /// What `config` asks for, if it asks for any.
    pub(super) fn of(config: &Config) -> Option<Routing> {
        let host_port = RoutedDevice { ifname: config.name.clone(), subnets: config.subnets.clone() };
        let of_vlan = |gateway: &VlanGateway| RoutedDevice {
            ifname: gateway.ifname(&config.name),
            subnets: gateway.subnets().collect(),
        };
        let devices = std::iter::once(host_port).chain(config.vlan_gateways.iter().map(of_vlan)).collect();
        let routes = config.nat || !config.vlan_gateways.is_empty();
        routes.then(|| Routing { switch: config.name.clone(), devices, nat: config.nat })
    }

    /// The names of the devices.
    pub(super) fn ifnames(&self) -> Vec<&str> {
        self.devices.iter().map(|device| device.ifname.as_str()).collect()
    }

    /// All networks.
    pub(super) fn subnets(&self) -> impl Iterator<Item = &IpNet> {
        self.devices.iter().flat_map(|device| &device.subnets)
    }

    /// Whether there are IPv4 packets to route.
    pub(super) fn routes_ipv4(&self) -> bool {
        self.routes(IpAddr::is_ipv4)
    }

    /// Whether there are IPv6 packets to route.
    pub(super) fn routes_ipv6(&self) -> bool {
        self.routes(IpAddr::is_ipv6)
    }

    /// Without NAT there is nothing to route from the only network.
    fn routes(&self, is_of_family: fn(&IpAddr) -> bool) -> bool {
        let has = |device: &&RoutedDevice| device.subnets.iter().any(|subnet| is_of_family(&subnet.addr()));
        self.devices.iter().filter(has).count() > usize::from(!self.nat)
    }
}
