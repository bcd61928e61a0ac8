//! The configuration of a network and of a container in it, as podman and netavark pass it to the plugin.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::error::NetavarkError;
use crate::control::config::DEFAULT_NAME;
use crate::control::report::PublishedPort;
use crate::control::topology::container_device::ContainerRoute;
use crate::runtimes::null_is_default;
use crate::runtimes::port_mapping::{self, PortMapping};
use crate::switch::Vid;
use crate::wire::Mac;

/// A network.
#[derive(Debug, Deserialize)]
pub(super) struct PodmanNetwork {
    pub(super) name: String,
    #[serde(default)]
    pub(super) internal: bool,
    #[serde(default, deserialize_with = "null_is_default")]
    network_interface: String,
    #[serde(default, deserialize_with = "null_is_default")]
    options: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_is_default")]
    ipam_options: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) subnets: Vec<Subnet>,
    #[serde(default, deserialize_with = "null_is_default")]
    routes: Vec<PodmanRoute>,
}

/// A subnet of a network. Its lease range is podman's business.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Subnet {
    pub(super) subnet: IpNet,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
}

#[derive(Debug, Deserialize)]
struct PodmanRoute {
    destination: IpNet,
    gateway: Option<IpAddr>,
    metric: Option<u32>,
    route_type: Option<String>,
}

/// The options of a network (`podman network create --opt`).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct PodmanOptions {
    /// The switch [default: uswitch0].
    pub(super) switch: String,
    /// MTU of the devices [default: the switch's].
    pub(super) mtu: Option<u64>,
    /// Whether containers use only their own addresses [default: false].
    pub(super) guard: bool,
    /// The VLAN of the containers, on a switch that filters VLANs.
    pub(super) vlan: Option<Vid>,
}

/// A container that is attached to a network.
#[derive(Debug, Deserialize)]
pub(super) struct PodmanContainer {
    #[serde(rename = "container_id")]
    pub(super) id: String,
    #[serde(rename = "container_name")]
    pub(super) name: String,
    #[serde(default, deserialize_with = "null_is_default")]
    port_mappings: Vec<PortMapping>,
    pub(super) network: PodmanNetwork,
    #[serde(rename = "network_options")]
    pub(super) device: ContainerDevice,
}

/// What podman asks for the container's device.
#[derive(Debug, Deserialize)]
pub(super) struct ContainerDevice {
    #[serde(rename = "interface_name")]
    pub(super) ifname: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) aliases: Vec<String>,
    #[serde(default, deserialize_with = "null_is_default")]
    static_ips: Vec<IpAddr>,
    #[serde(default, deserialize_with = "null_is_default")]
    static_mac: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) options: BTreeMap<String, String>,
}

impl PodmanNetwork {
    /// The name of its switch.
    pub(super) fn switch(&self) -> String {
        self.options.get("switch").cloned().unwrap_or_else(|| DEFAULT_NAME.to_owned())
    }

    /// Its options.
    pub(super) fn options(&self) -> Result<PodmanOptions, NetavarkError> {
        let mut options = PodmanOptions { switch: self.switch(), mtu: None, guard: false, vlan: None };
        for (key, value) in &self.options {
            let bad = |key, what| NetavarkError::BadOption(key, value.clone(), what);
            match key.as_str() {
                "switch" => {}
                "mtu" => options.mtu = Some(value.parse().map_err(|_| bad("mtu", "a number of bytes"))?),
                "guard" => options.guard = value.parse().map_err(|_| bad("guard", "true or false"))?,
                "vlan" => options.vlan = Some(value.parse().map_err(|_| bad("vlan", "a VLAN ID"))?),
                _ => return Err(NetavarkError::UnknownOption(key.clone(), value.clone())),
            }
        }
        Ok(options)
    }

    /// Checks what `podman network create` asks for.
    pub(super) fn check(&self) -> Result<(), NetavarkError> {
        self.options()?;
        if !self.network_interface.is_empty() {
            return Err(NetavarkError::InterfaceName(self.network_interface.clone()));
        }
        self.own_routes().map(|_| ())?;
        match self.ipam_driver() {
            "" | "host-local" | "none" => Ok(()),
            other => Err(NetavarkError::IpamDriver(other.to_owned())),
        }
    }

    /// Whether podman allocates addresses.
    pub(super) fn has_addresses(&self) -> bool {
        self.ipam_driver() != "none"
    }

    fn ipam_driver(&self) -> &str {
        self.ipam_options.get("driver").map_or("", String::as_str)
    }

    /// The subnet of an address.
    fn subnet_of(&self, address: IpAddr) -> Result<&Subnet, NetavarkError> {
        let found = self.subnets.iter().find(|subnet| subnet.subnet.contains(&address));
        found.ok_or_else(|| NetavarkError::NoSubnetOf(address, self.name.clone()))
    }

    /// The gateway of a subnet, if containers have one.
    pub(super) fn gateway_of(&self, address: &IpNet) -> Option<IpAddr> {
        let subnet = self.subnets.iter().find(|subnet| subnet.subnet.contains(&address.addr()))?;
        subnet.gateway.filter(|_| !self.internal)
    }

    /// The default route of each address family in `addresses`, and the routes of the network.
    pub(super) fn container_routes(&self, addresses: &[IpNet]) -> Result<Vec<ContainerRoute>, NetavarkError> {
        let default = |is_ipv4: bool| {
            let mut of_family = addresses.iter().filter(|address| address.addr().is_ipv4() == is_ipv4);
            let gateway = of_family.find_map(|address| self.gateway_of(address))?;
            let unspecified = IpNet::new(if is_ipv4 { [0; 4].into() } else { [0; 16].into() }, 0).ok()?;
            Some(ContainerRoute { gateway: Some(gateway), ..ContainerRoute::to(unspecified) })
        };
        let mut routes: Vec<ContainerRoute> = [true, false].into_iter().filter_map(default).collect();
        routes.extend(self.own_routes()?);
        Ok(routes)
    }

    fn own_routes(&self) -> Result<Vec<ContainerRoute>, NetavarkError> {
        let route = |PodmanRoute { destination, gateway, metric, route_type }: &PodmanRoute| {
            let wrong = |what: String| Err(NetavarkError::Route(destination.to_string(), what));
            match (route_type.as_deref(), gateway) {
                (None | Some("unicast"), Some(gateway))
                    if gateway.is_ipv4() == destination.addr().is_ipv4() =>
                {
                    let (gateway, priority) = (Some(*gateway), *metric);
                    Ok(ContainerRoute { gateway, priority, ..ContainerRoute::to(*destination) })
                }
                (None | Some("unicast"), Some(gateway)) => {
                    wrong(format!("the gateway {gateway}, of another address family"))
                }
                (None | Some("unicast"), None) => wrong("no gateway".to_owned()),
                (Some(other), _) => wrong(format!("the type {other}, which is not supported")),
            }
        };
        self.routes.iter().map(route).collect()
    }
}

impl PodmanContainer {
    /// Its addresses, which podman has allocated.
    pub(super) fn addresses(&self) -> Result<Vec<IpNet>, NetavarkError> {
        let with_prefix = |address: &IpAddr| {
            let subnet = self.network.subnet_of(*address)?;
            Ok(IpNet::new_assert(*address, subnet.subnet.prefix_len()))
        };
        self.device.static_ips.iter().map(with_prefix).collect()
    }

    /// The MAC address that podman asks for.
    pub(super) fn mac(&self) -> Result<Option<Mac>, NetavarkError> {
        let text = &self.device.static_mac;
        let mac = (!text.is_empty()).then(|| text.parse());
        mac.transpose().map_err(|_| NetavarkError::Mac(text.clone()))
    }

    /// The ports that podman publishes.
    pub(super) fn published(&self) -> Result<Vec<PublishedPort>, NetavarkError> {
        Ok(port_mapping::published(&self.port_mappings)?)
    }

    /// Checks that it asks for nothing that this plugin does not have.
    pub(super) fn check(&self) -> Result<(), NetavarkError> {
        match self.device.options.iter().next() {
            Some((key, value)) => Err(NetavarkError::ContainerOption(key.clone(), value.clone())),
            None => Ok(()),
        }
    }
}
