//! The commands of netavark.

use std::path::Path;

use serde_json::{Value, json};

use super::error::NetavarkError;
use super::network::{PodmanContainer, PodmanNetwork, Subnet};
use crate::control::report::Status;
use crate::runtimes::attachment::{ContainerAttachment, ContainerLock, DeviceSettings, SwitchPorts};

/// The first part of the labels' keys.
const PLUGIN: &str = "netavark";

/// Checks the configuration of a new network, and returns what podman should keep. A network without subnets gets those
/// of its switch.
pub(super) fn create(mut network: Value, runtime: &Path) -> Result<Value, NetavarkError> {
    let parsed: PodmanNetwork =
        serde_json::from_value(network.clone()).map_err(|error| NetavarkError::Input(error.to_string()))?;
    parsed.check()?;
    if parsed.subnets.is_empty() && parsed.has_addresses() {
        let subnets = subnets_of_switch(&parsed.switch(), runtime)?;
        if subnets.iter().any(|subnet| subnet.subnet.addr().is_ipv6()) {
            network["ipv6_enabled"] = true.into();
        }
        network["subnets"] = json!(subnets);
    }
    // Aardvark serves only the networks of netavark's own drivers.
    network["dns_enabled"] = false.into();
    Ok(network)
}

/// The subnets of a running switch, with their gateways.
fn subnets_of_switch(name: &str, runtime: &Path) -> Result<Vec<Subnet>, NetavarkError> {
    let switch = SwitchPorts::new(name, runtime)?;
    let status: Status = switch.client().get("/v1/status").map_err(NetavarkError::NoSubnets)?;
    let gateway = |subnet: &ipnet::IpNet| {
        let mut gateways = status.gateway.addresses.iter().copied();
        gateways.find(|gateway| subnet.contains(gateway))
    };
    let subnet = |subnet: &ipnet::IpNet| Subnet { subnet: subnet.trunc(), gateway: gateway(subnet) };
    match &status.subnets[..] {
        [] => Err(NetavarkError::SwitchWithoutSubnets(name.to_owned())),
        subnets => Ok(subnets.iter().map(subnet).collect()),
    }
}

/// Attaches a container. After an error nothing is left.
pub(super) fn setup(
    container: &PodmanContainer,
    netns: &Path,
    runtime: &Path,
) -> Result<Value, NetavarkError> {
    container.check()?;
    let options = container.network.options()?;
    let addresses = container.addresses()?;
    let settings = DeviceSettings {
        port_name: port_name(container),
        routes: container.network.container_routes(&addresses)?,
        addresses,
        mac: container.mac()?,
        mtu: options.mtu,
        guard: options.guard,
        vlan: options.vlan,
        aliases: container.device.aliases.clone(),
        published: container.published()?,
        ..DeviceSettings::default()
    };
    let ports = SwitchPorts::new(&options.switch, runtime)?;
    let _lock = ContainerLock::take(netns)?;
    let attachment = attachment(container);
    let to_replace = ports.port_to_replace(&attachment)?;
    let port = ports.attach(&attachment, netns, to_replace, &settings)?;
    let subnet = |address| json!({ "ipnet": address, "gateway": container.network.gateway_of(address) });
    let subnets: Vec<Value> = settings.addresses.iter().map(subnet).collect();
    let interface = json!({ "mac_address": port.address.to_string(), "subnets": subnets });
    Ok(json!({
        "dns_search_domains": [],
        "dns_server_ips": [],
        "interfaces": { attachment.ifname: interface },
    }))
}

/// Detaches a container. It is not an error if it is not attached, or if the switch does not run.
pub(super) fn teardown(
    container: &PodmanContainer,
    netns: &Path,
    runtime: &Path,
) -> Result<(), NetavarkError> {
    // The namespace may be gone.
    let _lock = ContainerLock::take(netns);
    let ports = SwitchPorts::new(&container.network.switch(), runtime)?;
    match ports.find(&attachment(container))? {
        Some(port) => Ok(ports.remove(&port)?),
        None => Ok(()),
    }
}

fn attachment(container: &PodmanContainer) -> ContainerAttachment<'_> {
    ContainerAttachment {
        plugin: PLUGIN,
        network: &container.network.name,
        container: &container.id,
        ifname: &container.device.ifname,
    }
}

/// The name of a container's port: its name and that of its device.
fn port_name(container: &PodmanContainer) -> String {
    /// With a hyphen and a device's name it is a port's name.
    const MOST: usize = 47;
    let name = &container.name;
    format!("{}-{}", name.get(..MOST).unwrap_or(name), container.device.ifname)
}
