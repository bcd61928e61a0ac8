//! Endpoints: the interface of a container in a network is an unmanaged port of its switch.

use serde::de::IgnoredAny;

use super::error::DockerError;
use super::network::{Network, Networks};
use super::options::EndpointOptions;
use super::protocol::{
    ChosenInterface, CreateEndpoint, CreatedEndpoint, EndpointRequest, InterfaceName, Joined,
};
use super::switch::{ENDPOINT, NETWORK, delete_port, ports_with};
use crate::control::client::ApiClient;
use crate::control::config::Labels;
use crate::control::report::{AddedPort, NewPort, PortReport, PortSettings, PortVlans};
use crate::runtimes::attachment::GONE;

/// Label of a port: the addresses that dockerd has assigned, separated by commas.
const ADDRESSES: &str = "docker.addresses";

impl Networks<'_> {
    /// Adds a port, whose device is in the namespace of this process, which is dockerd's.
    pub(super) fn create_endpoint(&self, request: &CreateEndpoint) -> Result<CreatedEndpoint, DockerError> {
        let network = self.find(&request.of.network)?;
        let options = EndpointOptions::parse(&request.options)?;
        let client = self.switches.running(&network)?;
        delete_stale_ports(&client, request)?;
        let netns = client.caller_netns()?;
        let settings =
            PortSettings { isolated: network.isolated.then_some(true), ..options.kathara.port_settings() };
        let name = Some(port_name(&client, &options, &request.of.endpoint)?);
        let mac = options.kathara.mac(request.interface.mac_address)?;
        let port = NewPort { name, netns, mac, ..new_port(&network, request, &options) };
        let added: AddedPort = client.post("/v1/ports", &port)?;
        set(&client, &added.port, &settings)?;
        let mac_address = request.interface.mac_address.is_none().then_some(added.port.address);
        Ok(CreatedEndpoint { interface: ChosenInterface { mac_address } })
    }

    /// Deletes the port. One that is gone already is no error.
    pub(super) fn delete_endpoint(&self, request: &EndpointRequest) -> Result<(), DockerError> {
        let Some(network) = self.store.load::<Network>(&request.network)? else { return Ok(()) };
        let client = self.switches.client(&network.switch)?;
        let ports = ports_with(&client, ENDPOINT, &request.endpoint)?;
        ports.iter().try_for_each(|port| delete_port(&client, port))
    }

    /// The port of an endpoint, with a client of its switch.
    pub(super) fn port(
        &self,
        network: &Network,
        endpoint: &str,
    ) -> Result<(ApiClient, PortReport), DockerError> {
        let client = self.switches.client(&network.switch)?;
        let port = ports_with(&client, ENDPOINT, endpoint)?.into_iter().next();
        let no_port = || DockerError::NoSuchEndpoint(network.switch.clone(), endpoint.to_owned());
        Ok((client, port.ok_or_else(no_port)?))
    }

    /// Names the device that dockerd moves into the container, and its routes.
    pub(super) fn join(&self, request: &EndpointRequest) -> Result<Joined, DockerError> {
        let network = self.find(&request.network)?;
        let port = self.port(&network, &request.endpoint)?.1;
        let gateway = |is_v4| network.gateways.iter().find(|gateway| gateway.is_ipv4() == is_v4).copied();
        Ok(Joined {
            interface_name: InterfaceName { src_name: port.link, dst_prefix: network.iface_prefix.clone() },
            gateway: gateway(true),
            gateway_v6: gateway(false),
            disable_gateway_service: network.gateways.is_empty(),
        })
    }
}

fn new_port(network: &Network, request: &CreateEndpoint, options: &EndpointOptions) -> NewPort {
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    NewPort {
        unmanaged: true,
        ip: Some(request.interface.addresses()),
        mtu: network.mtu,
        guard: Some(options.guard.unwrap_or(false)),
        vlan: options
            .vlan
            .or(network.vlan)
            .map(|vid| PortVlans { access: Some(vid), ..PortVlans::default() }),
        labels: Labels::from([
            label(NETWORK, &network.id),
            label(ENDPOINT, &request.of.endpoint),
            label(ADDRESSES, &assigned(request).join(",")),
        ])
        .into_iter()
        .chain(options.kathara.labels())
        .collect(),
        ..NewPort::default()
    }
}

/// The name of the port of a new endpoint: the given one, that of Kathará's interface if no port has it, or the begin of
/// the ID.
fn port_name(client: &ApiClient, options: &EndpointOptions, endpoint: &str) -> Result<String, DockerError> {
    match (&options.port, options.kathara.port_name()) {
        (Some(given), _) => Ok(given.clone()),
        (None, Some(name)) if !has_port(client, &name)? => Ok(name),
        _ => Ok(short(endpoint)),
    }
}

fn has_port(client: &ApiClient, name: &str) -> Result<bool, DockerError> {
    let ports: Vec<PortReport> = client.get("/v1/ports")?;
    Ok(ports.iter().any(|port| port.ifname == name))
}

/// An ID as dockerd shows it.
fn short(id: &str) -> String {
    const SHORT_ID: usize = 12;
    id.get(..SHORT_ID).unwrap_or(id).to_owned()
}

/// The addresses that dockerd has assigned to the endpoint.
fn assigned(request: &CreateEndpoint) -> Vec<String> {
    request.interface.addresses().iter().map(ToString::to_string).collect()
}

/// Deletes the ports of endpoints that do not exist any more: dockerd that was killed has not deleted them. Their devices
/// are gone with the containers, or dockerd has assigned their addresses to the new endpoint.
fn delete_stale_ports(client: &ApiClient, request: &CreateEndpoint) -> Result<(), DockerError> {
    let assigned = assigned(request);
    let shares_address = |port: &PortReport| {
        let labelled = port.labels.get(ADDRESSES).map_or("", String::as_str);
        labelled.split(',').any(|address| assigned.iter().any(|own| own == address))
    };
    let is_stale = |port: &&PortReport| {
        port.operstate == GONE
            || port.labels.get(ENDPOINT) == Some(&request.of.endpoint)
            || request.interface.mac_address == Some(port.address)
            || shares_address(port)
    };
    let ports = ports_with(client, NETWORK, &request.of.network)?;
    ports.iter().filter(is_stale).try_for_each(|port| delete_port(client, port))
}

/// Changes the settings of a new port. On an error there is no port.
fn set(client: &ApiClient, port: &PortReport, settings: &PortSettings) -> Result<(), DockerError> {
    if *settings == PortSettings::default() {
        return Ok(());
    }
    let set = client.patch::<IgnoredAny>(&format!("/v1/ports/{}", port.ifname), settings);
    set.map(|_| ()).map_err(|error| {
        let _ = delete_port(client, port);
        error.into()
    })
}
