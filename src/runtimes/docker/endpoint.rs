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
        let port = NewPort { netns, ..new_port(&network, request, options) };
        let added: AddedPort = client.post("/v1/ports", &port)?;
        if network.isolated {
            isolate(&client, &added.port)?;
        }
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

fn new_port(network: &Network, request: &CreateEndpoint, options: EndpointOptions) -> NewPort {
    let endpoint = &request.of.endpoint;
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    NewPort {
        name: Some(options.port.unwrap_or_else(|| short(endpoint))),
        unmanaged: true,
        ip: Some(request.interface.addresses()),
        mac: request.interface.mac_address,
        mtu: network.mtu,
        guard: Some(options.guard.unwrap_or(false)),
        vlan: options
            .vlan
            .or(network.vlan)
            .map(|vid| PortVlans { access: Some(vid), ..PortVlans::default() }),
        labels: Labels::from([
            label(NETWORK, &network.id),
            label(ENDPOINT, endpoint),
            label(ADDRESSES, &assigned(request).join(",")),
        ]),
        ..NewPort::default()
    }
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

/// Containers of a network without communication between them (`enable_icc`).
fn isolate(client: &ApiClient, port: &PortReport) -> Result<(), DockerError> {
    let settings = PortSettings { isolated: Some(true), ..PortSettings::default() };
    let isolated = client.patch::<IgnoredAny>(&format!("/v1/ports/{}", port.ifname), &settings);
    isolated.map(|_| ()).map_err(|error| {
        let _ = delete_port(client, port);
        error.into()
    })
}
