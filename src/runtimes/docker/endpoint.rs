//! Endpoints: the interface of a container in a network is an unmanaged port of its switch.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::IgnoredAny;
use serde::{Deserialize, Serialize};

use super::error::DockerError;
use super::network::{Network, Networks};
use super::options::EndpointOptions;
use super::protocol::{
    ChosenInterface, CreateEndpoint, CreatedEndpoint, EndpointRequest, InterfaceName, Join, Joined,
};
use super::store::Record;
use super::switch::{ENDPOINT, NETWORK, delete_port, ports_with};
use crate::control::client::ApiClient;
use crate::control::config::Labels;
use crate::control::report::{AddedPort, NewPort, PortReport, PortSettings, PortVlans, PublishedPort};
use crate::runtimes::attachment::GONE;
use crate::sys::netns::{Netns, NetnsError};
use crate::wire::Mac;

/// Label of a port: the addresses that dockerd has assigned, separated by commas.
const ADDRESSES: &str = "docker.addresses";

/// An endpoint on the disk: what it takes to restore its port, if the switch ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Endpoint {
    pub(super) id: String,
    /// The ID of its network.
    pub(super) network: String,
    /// The port, with its name and MAC address.
    pub(super) port: NewPort,
    pub(super) settings: PortSettings,
    /// How its device is called now.
    pub(super) device: String,
    /// The network namespace of its container; `None`: it has not joined a container.
    pub(super) sandbox: Option<PathBuf>,
    /// Whether the default routes of the container lead to the gateways of the network.
    pub(super) is_gateway: bool,
    pub(super) published: Vec<PublishedPort>,
}

impl Record for Endpoint {
    const DIRECTORY: &'static str = "endpoints";

    fn key(&self) -> String {
        self.id.clone()
    }
}

impl Endpoint {
    pub(super) fn port_name(&self) -> &str {
        self.port.name.as_deref().unwrap_or(&self.id)
    }

    /// The network namespace of its container, which exists while the container runs.
    pub(super) fn container(&self) -> Option<&Path> {
        let has_ended = |sandbox: &Path| {
            matches!(Netns::open(sandbox), Err(NetnsError::Missing(_) | NetnsError::NotNetns(_)))
        };
        self.sandbox.as_deref().filter(|sandbox| !has_ended(sandbox))
    }
}

impl Networks {
    /// Adds a port, whose device is in the namespace of this process, which is dockerd's.
    pub(super) fn create_endpoint(
        self: &Arc<Self>,
        request: &CreateEndpoint,
    ) -> Result<CreatedEndpoint, DockerError> {
        let network = self.find(&request.of.network)?;
        let options = EndpointOptions::parse(&request.options)?;
        let client = self.switches.running(&network)?;
        // The new port does not get the MAC address of one that is missing.
        self.restore(&network)?;
        self.delete_stale_ports(&client, request)?;
        let netns = client.caller_netns()?;
        let settings =
            PortSettings { isolated: network.isolated.then_some(true), ..options.kathara.port_settings() };
        let name = Some(port_name(&client, &options, &request.of.endpoint)?);
        let mac = options.kathara.mac(request.interface.mac_address)?;
        let mac = mac.or_else(|| network.own.is_none().then(|| mac_of(&request.of.endpoint)).flatten());
        let port = NewPort { name, netns, mac, ..new_port(&network, request, &options) };
        let added: AddedPort = client.post("/v1/ports", &port)?;
        set(&client, &added.port, &settings)
            .and_then(|()| self.keep_endpoint(request, port, settings, &added.port))
            .inspect_err(|_| {
                // The first error is reported.
                let _ = delete_port(&client, &added.port);
            })?;
        self.watch(&network.switch);
        let mac_address = request.interface.mac_address.is_none().then_some(added.port.address);
        Ok(CreatedEndpoint { interface: ChosenInterface { mac_address } })
    }

    /// Writes the record of a new endpoint.
    fn keep_endpoint(
        &self,
        request: &CreateEndpoint,
        port: NewPort,
        settings: PortSettings,
        added: &PortReport,
    ) -> Result<(), DockerError> {
        let (name, mac) = (Some(added.ifname.clone()), Some(added.address));
        self.store.save(&Endpoint {
            id: request.of.endpoint.clone(),
            network: request.of.network.clone(),
            port: NewPort { name, mac, netns: None, ..port },
            settings,
            device: added.link.clone(),
            sandbox: None,
            is_gateway: false,
            published: Vec::new(),
        })
    }

    /// The endpoints of a network.
    pub(super) fn endpoints(&self, network: &str) -> Result<Vec<Endpoint>, DockerError> {
        let mut endpoints: Vec<Endpoint> = self.store.all()?;
        endpoints.retain(|endpoint| endpoint.network == network);
        Ok(endpoints)
    }

    /// Changes the record of an endpoint. One without a record is that of an older plugin.
    pub(super) fn change_endpoint(
        &self,
        id: &str,
        change: impl FnOnce(&mut Endpoint),
    ) -> Result<(), DockerError> {
        let _changing = self.store.change();
        let Some(before) = self.store.load::<Endpoint>(id)? else { return Ok(()) };
        let mut after = before.clone();
        change(&mut after);
        if after == before { Ok(()) } else { self.store.save(&after) }
    }

    /// Removes the record of an endpoint: its port is not restored any more.
    pub(super) fn forget_endpoint(&self, id: &str) -> Result<(), DockerError> {
        let _changing = self.store.change();
        self.store.remove::<Endpoint>(id)
    }

    /// Deletes the port. One that is gone already is not an error.
    pub(super) fn delete_endpoint(&self, request: &EndpointRequest) -> Result<(), DockerError> {
        self.forget_endpoint(&request.endpoint)?;
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
    pub(super) fn join(&self, request: &Join) -> Result<Joined, DockerError> {
        let network = self.find(&request.of.network)?;
        let port = self.port(&network, &request.of.endpoint)?.1;
        self.change_endpoint(&request.of.endpoint, |record| record.sandbox.clone_from(&request.sandbox))?;
        let gateway = |is_v4| network.gateways.iter().find(|gateway| gateway.is_ipv4() == is_v4).copied();
        Ok(Joined {
            interface_name: InterfaceName { src_name: port.link, dst_prefix: network.iface_prefix.clone() },
            gateway: gateway(true),
            gateway_v6: gateway(false),
            disable_gateway_service: network.gateways.is_empty(),
        })
    }

    /// The container loses the device: dockerd moves it back, and deletes the endpoint after that.
    pub(super) fn leave(&self, request: &EndpointRequest) -> Result<(), DockerError> {
        self.change_endpoint(&request.endpoint, |record| record.sandbox = None)
    }

    /// Deletes the ports of endpoints that do not exist any more: dockerd that was killed has not deleted them. Their
    /// devices are gone with the containers, or dockerd has assigned their addresses to the new endpoint.
    fn delete_stale_ports(&self, client: &ApiClient, request: &CreateEndpoint) -> Result<(), DockerError> {
        for port in ports_with(client, NETWORK, &request.of.network)? {
            let endpoint = port.labels.get(ENDPOINT);
            if has_ended(&port, request) || has_same_mac(&port, request) && !self.runs(endpoint)? {
                endpoint.map_or(Ok(()), |endpoint| self.forget_endpoint(endpoint))?;
                delete_port(client, &port)?;
            }
        }
        Ok(())
    }

    /// Whether the container of an endpoint runs, as far as its record says. dockerd may have forgotten one that has not
    /// joined.
    fn runs(&self, endpoint: Option<&String>) -> Result<bool, DockerError> {
        let record = endpoint.map(|id| self.store.load::<Endpoint>(id)).transpose()?.flatten();
        Ok(record.is_some_and(|record| record.container().is_some()))
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

/// The name of the port of a new endpoint: the given one, that of Kathará's interface if no port has it, or the
/// begin of the ID.
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

/// A MAC address for an endpoint on a switch of the user, who can start that switch again and add other ports before
/// this one is restored: they get the first addresses of the switch. IDs are random.
fn mac_of(endpoint: &str) -> Option<Mac> {
    /// Locally administered, unicast.
    const FIRST_OCTET: u64 = 0x02 << 40;
    let random = u64::from_str_radix(endpoint.get(..10)?, 16).ok()?;
    Some(Mac::from_u64(FIRST_OCTET | random))
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

/// Whether the endpoint of a port does not exist any more, when this one is created.
fn has_ended(port: &PortReport, request: &CreateEndpoint) -> bool {
    let assigned = assigned(request);
    let labelled = port.labels.get(ADDRESSES).map_or("", String::as_str);
    port.operstate == GONE
        || port.labels.get(ENDPOINT) == Some(&request.of.endpoint)
        || labelled.split(',').any(|address| assigned.iter().any(|own| own == address))
}

/// Whether a port has the MAC address that the user chose for this endpoint. The switch refuses that of a container
/// that runs.
fn has_same_mac(port: &PortReport, request: &CreateEndpoint) -> bool {
    request.interface.mac_address == Some(port.address)
}

/// Changes the settings of a port.
pub(super) fn set(client: &ApiClient, port: &PortReport, settings: &PortSettings) -> Result<(), DockerError> {
    if *settings == PortSettings::default() {
        return Ok(());
    }
    client.patch::<IgnoredAny>(&format!("/v1/ports/{}", port.ifname), settings)?;
    Ok(())
}
