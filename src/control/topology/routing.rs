//! What the host routes for a switch: between its VLANs that have a gateway, with NAT to other networks, and from there
//! to published ports.

use std::net::IpAddr;

use ipnet::IpNet;

use super::publish::DnatTarget;
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
    /// Ports of the host whose packets go to containers.
    pub(super) published: Vec<DnatTarget>,
}

/// A device of a host port.
#[derive(Debug, Clone)]
pub(super) struct RoutedDevice {
    pub(super) ifname: String,
    /// The networks behind it.
    pub(super) subnets: Vec<IpNet>,
}

impl Routing {
    /// What `config` asks for, without published ports.
    pub(super) fn of(config: &Config) -> Routing {
        let host_port = RoutedDevice { ifname: config.name.clone(), subnets: config.subnets.clone() };
        let of_vlan = |gateway: &VlanGateway| RoutedDevice {
            ifname: gateway.ifname(&config.name),
            subnets: gateway.subnets().collect(),
        };
        let devices = std::iter::once(host_port).chain(config.vlan_gateways.iter().map(of_vlan)).collect();
        Routing { switch: config.name.clone(), devices, nat: config.nat, published: Vec::new() }
    }

    /// Whether the host has to route anything.
    pub(super) fn is_needed(&self) -> bool {
        self.nat || self.devices.len() > 1 || !self.published.is_empty()
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

    /// Whether IPv4 packets pass between the containers and other networks.
    pub(super) fn connects_ipv4(&self) -> bool {
        self.connects(IpAddr::is_ipv4) && self.routes_ipv4()
    }

    fn connects(&self, is_of_family: fn(&IpAddr) -> bool) -> bool {
        let is_published = |published: &DnatTarget| published.targets.iter().any(is_of_family);
        self.nat || self.published.iter().any(is_published)
    }

    /// Whether connections of the host to 127.0.0.1 lead to containers.
    pub(super) fn routes_loopback(&self) -> bool {
        let leads = |published: &DnatTarget| {
            published.port.is_on_loopback() && published.targets.iter().any(IpAddr::is_ipv4)
        };
        self.published.iter().any(leads)
    }

    /// Without other networks there is nothing to route from the only network.
    fn routes(&self, is_of_family: fn(&IpAddr) -> bool) -> bool {
        let has = |device: &&RoutedDevice| device.subnets.iter().any(|subnet| is_of_family(&subnet.addr()));
        self.devices.iter().filter(has).count() > usize::from(!self.connects(is_of_family))
    }
}
