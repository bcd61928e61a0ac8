//! Restores the ports that containers have lost with their switch: the container gets its device back, as it was.

use std::net::IpAddr;
use std::path::Path;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::endpoint::{Endpoint, set};
use super::error::DockerError;
use super::network::{Network, Networks};
use super::publish::publish_at;
use super::switch::{ENDPOINT, NETWORK, delete_port, ports_with};
use super::watcher::log;
use crate::control::client::{ApiClient, ClientError};
use crate::control::config::LabelChanges;
use crate::control::report::{AddedPort, NewPort, PortReport, PortSettings};
use crate::control::topology::container_device::{self, ContainerRoute};

impl Networks {
    /// Restores the ports of a network that are missing. The network's own switch is started if a container still runs.
    /// Returns the errors of containers whose ports cannot be restored now, a line each.
    ///
    /// # Errors
    /// The switch does not run.
    pub(super) fn restore(&self, network: &Network) -> Result<Vec<String>, DockerError> {
        let client = self.switches.client(&network.switch)?;
        // Read before the ports: a new port is there before its record.
        let endpoints = self.endpoints(&network.id)?;
        let ports = ports_with(&client, NETWORK, &network.id)?;
        let mut failed = Vec::new();
        for endpoint in endpoints.iter().filter(|endpoint| !endpoint.has_port(&ports)) {
            match self.restore_port(network, &endpoint.id) {
                Ok(true) => log(&format!("restored the port {} of {}", endpoint.port_name(), network.switch)),
                Ok(false) => {}
                Err(error) if error.is_of_container() => {
                    let (port, switch) = (endpoint.port_name(), &network.switch);
                    failed.push(format!("cannot restore the port {port} of {switch}: {}", error.line()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(failed)
    }

    /// Restores a port, unless its container has ended or another thread was quicker.
    fn restore_port(&self, network: &Network, endpoint: &str) -> Result<bool, DockerError> {
        // Held until the port is complete: DeleteEndpoint finds either the record or the port.
        let _changing = self.store.change();
        let Some(endpoint) = self.store.load::<Endpoint>(endpoint)? else { return Ok(false) };
        let Some(netns) = endpoint.container() else {
            // dockerd was killed, or starts the container again with another endpoint.
            self.store.remove::<Endpoint>(&endpoint.id)?;
            return Ok(false);
        };
        let client = self.switches.running(network)?;
        let ports = ports_with(&client, NETWORK, &network.id)?;
        if endpoint.has_port(&ports) {
            return Ok(false);
        }
        // Left by a plugin that was killed before the port was complete.
        let mut incomplete = ports.iter().filter(|port| port.ifname == endpoint.port_name());
        incomplete.try_for_each(|port| delete_port(&client, port))?;
        endpoint.add_port(network, &client, netns).map(|()| true)
    }
}

impl DockerError {
    /// Whether the error is about one container, and others of its switch can be restored.
    fn is_of_container(&self) -> bool {
        matches!(self, DockerError::Switch(ClientError::Refused { .. }) | DockerError::Device(_))
    }
}

impl Endpoint {
    /// Whether one of these ports is its own, and complete.
    fn has_port(&self, ports: &[PortReport]) -> bool {
        ports.iter().any(|port| port.labels.get(ENDPOINT) == Some(&self.id))
    }

    /// Adds the port again, with its device in the container. After an error there is neither.
    fn add_port(&self, network: &Network, client: &ApiClient, netns: &Path) -> Result<(), DockerError> {
        let mut new = NewPort {
            netns: Some(netns.display().to_string()),
            ifname: Some(self.device.clone()),
            ..self.port.clone()
        };
        // A port without this label is not complete.
        new.labels.remove(ENDPOINT);
        let added: AddedPort = client.post("/v1/ports", &new)?;
        self.configure(network, client, netns, &added.port).inspect_err(|_| {
            // The first error is reported.
            let _ = delete_port(client, &added.port);
        })
    }

    fn configure(
        &self,
        network: &Network,
        client: &ApiClient,
        netns: &Path,
        port: &PortReport,
    ) -> Result<(), DockerError> {
        set(client, port, &self.settings)?;
        let addresses = self.port.ip.as_deref().unwrap_or_default();
        container_device::configure(netns, &self.device, addresses, &self.routes(network))?;
        self.published.iter().try_for_each(|published| publish_at(client, port, published))?;
        let complete = LabelChanges::from([(ENDPOINT.to_owned(), Some(self.id.clone()))]);
        set(client, port, &PortSettings { labels: complete, ..PortSettings::default() })
    }

    /// The default routes that the container had through this network.
    fn routes(&self, network: &Network) -> Vec<ContainerRoute> {
        let gateways = network.gateways.iter().filter(|_| self.is_gateway);
        gateways.map(|gateway| default_route(*gateway)).collect()
    }
}

fn default_route(gateway: IpAddr) -> ContainerRoute {
    let everything: IpNet = match gateway {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    };
    ContainerRoute { gateway: Some(gateway), ..ContainerRoute::to(everything) }
}
