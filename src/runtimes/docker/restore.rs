//! Restores the ports that containers have lost with their switch: the container gets its device back, as it was.

use std::net::IpAddr;
use std::path::Path;
use std::sync::PoisonError;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::endpoint::{Endpoint, set};
use super::error::DockerError;
use super::network::{Network, Networks};
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
    /// The switch does not run, or a record cannot be read or removed.
    pub(super) fn restore(&self, network: &Network) -> Result<Vec<String>, DockerError> {
        let lock = self.restoring.of(&network.switch);
        let _restoring = lock.lock().unwrap_or_else(PoisonError::into_inner);
        let client = self.switches.client(&network.switch)?;
        // Read before the ports: a new port is there before its record.
        let endpoints = self.endpoints(&network.id)?;
        let ports = ports_with(&client, NETWORK, &network.id)?;
        let mut failed = Vec::new();
        for endpoint in &endpoints {
            let (what, error) = match self.restore_endpoint(network, endpoint, &ports) {
                Ok(None) => continue,
                Ok(Some(port)) => match self.restore_published(network, &endpoint.id, &port) {
                    Ok(()) => continue,
                    Err(error) => ("publish the ports of", error),
                },
                Err(error) => ("restore the port", error),
            };
            if !error.is_of_container() {
                return Err(error);
            }
            let (port, switch) = (endpoint.port_name(), &network.switch);
            failed.push(format!("cannot {what} {port} of {switch}: {}", error.line()));
        }
        Ok(failed)
    }

    /// The port of an endpoint, which is restored unless it is among `ports`; `None` if its container has ended.
    fn restore_endpoint(
        &self,
        network: &Network,
        endpoint: &Endpoint,
        ports: &[PortReport],
    ) -> Result<Option<PortReport>, DockerError> {
        if let Some(port) = ports.iter().find(|port| endpoint.owns(port)) {
            return Ok(Some(port.clone()));
        }
        let restored = self.restore_port(network, &endpoint.id, ports)?;
        if restored.is_some() {
            log(&format!("restored the port {} of {}", endpoint.port_name(), network.switch));
        }
        Ok(restored)
    }

    /// Restores the missing port of an endpoint, which is not among `ports`; `None` if its container has ended.
    fn restore_port(
        &self,
        network: &Network,
        id: &str,
        ports: &[PortReport],
    ) -> Result<Option<PortReport>, DockerError> {
        loop {
            let Some(endpoint) = self.store.load::<Endpoint>(id)? else { return Ok(None) };
            let Some(netns) = endpoint.container() else {
                // dockerd was killed, or starts the container again with another endpoint.
                self.forget_endpoint(id)?;
                return Ok(None);
            };
            let client = self.switches.running(network)?;
            // A port of this name that is not complete is left by a plugin that was killed.
            let mut incomplete = ports.iter().filter(|port| port.ifname == endpoint.port_name());
            incomplete.try_for_each(|port| delete_port(&client, port))?;
            let port = endpoint.add_port(network, &client, netns)?;
            if self.store.load::<Endpoint>(id)?.as_ref() == Some(&endpoint) {
                return Ok(Some(port));
            }
            // A request has changed or deleted the endpoint meanwhile, and may not have found the port.
            delete_port(&client, &port)?;
        }
    }
}

impl DockerError {
    /// Whether the error is about one container, and others of its switch can be restored.
    fn is_of_container(&self) -> bool {
        matches!(self, DockerError::Switch(ClientError::Refused { .. }) | DockerError::Device(_))
    }
}

impl Endpoint {
    /// Whether this port is its own, and complete.
    fn owns(&self, port: &PortReport) -> bool {
        port.labels.get(ENDPOINT) == Some(&self.id)
    }

    /// Adds the port again, with its device in the container. After an error there is neither.
    fn add_port(
        &self,
        network: &Network,
        client: &ApiClient,
        netns: &Path,
    ) -> Result<PortReport, DockerError> {
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
        })?;
        Ok(added.port)
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

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::sync::mpsc::{Sender, channel};
    use std::thread;
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::runtimes::docker::store::Store;
    use crate::runtimes::docker::switch::Switches;

    /// Far longer than a request to another switch takes.
    const DEADLINE: Duration = Duration::from_secs(60);

    /// A switch without ports, that does not answer requests to add one, and passes their connections on.
    fn never_adds_a_port(listener: &UnixListener, waiting: &Sender<UnixStream>) {
        for stream in listener.incoming() {
            let (mut stream, mut request) = (stream.unwrap(), [0; 1024]);
            while let Ok(length @ 1..) = stream.read(&mut request) {
                if request[..length].starts_with(b"POST") {
                    waiting.send(stream).unwrap();
                    break;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]").unwrap();
            }
        }
    }

    fn save_network_with_endpoint(networks: &Networks, switch: &str) -> Network {
        let network: Network = serde_json::from_value(json!({
            "id": switch, "switch": switch, "gateways": [], "internal": true, "isolated": false, "iface_prefix": "eth",
        }))
        .unwrap();
        let endpoint: Endpoint = serde_json::from_value(json!({
            "id": format!("{switch}-1"), "network": switch, "port": {}, "settings": {}, "device": "eth0",
            "sandbox": "/proc/self/ns/net", "is_gateway": false, "published": [],
        }))
        .unwrap();
        networks.store.save(&network).unwrap();
        networks.store.save(&endpoint).unwrap();
        network
    }

    #[test]
    fn switch_that_does_not_answer_does_not_block_others() {
        let directory = tempfile::tempdir().unwrap();
        let runtime = directory.path().to_owned();
        let listener = UnixListener::bind(runtime.join("stuck.sock")).unwrap();
        let (waiting, waits) = channel();
        thread::spawn(move || never_adds_a_port(&listener, &waiting));
        let networks = Networks::new(Store::open(&runtime.join("state")).unwrap(), Switches::new(runtime));
        let [stuck, other] = ["stuck", "other"].map(|switch| save_network_with_endpoint(&networks, switch));
        thread::scope(|scope| {
            scope.spawn(|| networks.restore(&stuck));
            let _connection = waits.recv_timeout(DEADLINE).unwrap();
            let (done, is_done) = channel();
            let networks = &networks;
            scope.spawn(move || {
                networks.restore(&other).unwrap_err();
                networks.forget_endpoint("stuck-1").unwrap();
                networks.forget_endpoint("other-1").unwrap();
                done.send(()).unwrap();
            });
            is_done.recv_timeout(DEADLINE).unwrap();
        });
        assert_eq!(networks.store.all::<Endpoint>().unwrap(), []);
    }
}
