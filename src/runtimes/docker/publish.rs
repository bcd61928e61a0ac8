//! Published ports: `docker run -p`.

use std::ops::RangeInclusive;

use serde::de::IgnoredAny;

use super::endpoint::Endpoint;
use super::error::DockerError;
use super::network::{Network, Networks};
use super::protocol::{EndpointRequest, PortBinding, ProgramExternalConnectivity};
use super::switch::{ENDPOINT, OwnSwitch, ports_with};
use crate::control::client::{ApiClient, ClientError};
use crate::control::report::{PortNumbers, PortReport, PublishedPort, TransportProtocol};

/// The ports of the host from which one is chosen for `-p PORT` and `-P`: those that Docker uses
/// (`moby/libnetwork/portallocator`).
const ANY: RangeInclusive<u16> = 49153..=65535;
/// Most ports of a range that are tried.
const MOST_TRIED: u16 = 256;

impl Networks {
    /// Publishes ports of a container. After an error none is. dockerd requests it of the endpoint whose gateway the
    /// container uses, also if there is no port to publish (`sbJoin` in `moby/libnetwork/endpoint.go`).
    pub(super) fn publish(&self, request: &ProgramExternalConnectivity) -> Result<(), DockerError> {
        let network = self.find(&request.of.network)?;
        let EndpointRequest { endpoint, .. } = &request.of;
        let mut published = Vec::new();
        if !request.options.bindings.is_empty() {
            if network.own.as_ref().is_some_and(OwnSwitch::is_routed) {
                return Err(DockerError::RoutedNetwork);
            }
            let (client, port) = self.port(&network, endpoint)?;
            for binding in &request.options.bindings {
                published.push(publish(&client, &port, binding).inspect_err(|_| {
                    // The first error is reported.
                    let _ = self.unpublish(&request.of);
                })?);
            }
        }
        self.change_endpoint(endpoint, |record| (record.is_gateway, record.published) = (true, published))
    }

    /// Withdraws the published ports of a container.
    pub(super) fn unpublish(&self, request: &EndpointRequest) -> Result<(), DockerError> {
        let Some(network) = self.store.load::<Network>(&request.network)? else { return Ok(()) };
        self.change_endpoint(&request.endpoint, |record| {
            (record.is_gateway, record.published) = (false, Vec::new());
        })?;
        let client = self.switches.client(&network.switch)?;
        for port in ports_with(&client, ENDPOINT, &request.endpoint)? {
            port.published.iter().try_for_each(|published| unpublish(&client, &port, published))?;
        }
        Ok(())
    }

    /// Publishes again what the switch has forgotten of an endpoint, whose port this was a moment ago. What is still
    /// missing after an error does not keep the container from its network.
    pub(super) fn restore_published(
        &self,
        network: &Network,
        id: &str,
        port: &PortReport,
    ) -> Result<(), DockerError> {
        let published = || -> Result<Vec<PublishedPort>, DockerError> {
            Ok(self.store.load::<Endpoint>(id)?.map(|endpoint| endpoint.published).unwrap_or_default())
        };
        let mut missing = published()?;
        missing.retain(|published| !port.published.contains(published));
        if missing.is_empty() {
            return Ok(());
        }
        let client = self.switches.client(&network.switch)?;
        // A request may have published them meanwhile.
        let Some(port) = ports_with(&client, ENDPOINT, id)?.pop() else { return Ok(()) };
        missing.retain(|published| !port.published.contains(published));
        let tried: Vec<_> = missing.iter().map(|missing| publish_at(&client, &port, missing)).collect();
        // A request may have withdrawn them meanwhile, and not found them.
        let wanted = published()?;
        for withdrawn in missing.iter().filter(|missing| !wanted.contains(missing)) {
            // It was not published, if it could not be.
            let _ = unpublish(&client, &port, withdrawn);
        }
        Ok(tried.into_iter().collect::<Result<(), ClientError>>()?)
    }
}

fn path(port: &PortReport) -> String {
    format!("/v1/ports/{}/published", port.ifname)
}

/// Publishes a port of a container at the first free port of the host.
fn publish(
    client: &ApiClient,
    port: &PortReport,
    binding: &PortBinding,
) -> Result<PublishedPort, DockerError> {
    let (mut host, end) = host_ports(binding).into_inner();
    let last = end.min(host.saturating_add(MOST_TRIED - 1));
    loop {
        let published = published(binding, host)?;
        match publish_at(client, port, &published) {
            Err(ClientError::Refused { .. }) if host < last => host += 1,
            tried => return Ok(tried.map(|()| published)?),
        }
    }
}

/// Publishes a port of a container at a port of the host.
fn publish_at(client: &ApiClient, port: &PortReport, published: &PublishedPort) -> Result<(), ClientError> {
    client.post::<IgnoredAny>(&path(port), published).map(drop)
}

/// Withdraws a port of a container.
fn unpublish(client: &ApiClient, port: &PortReport, published: &PublishedPort) -> Result<(), DockerError> {
    let query = serde_urlencoded::to_string(published).map_err(|error| client.broken(&error))?;
    Ok(client.delete(&format!("{}?{query}", path(port)))?)
}

fn host_ports(binding: &PortBinding) -> RangeInclusive<u16> {
    match binding.host_port {
        0 => ANY,
        first => first..=binding.host_port_end.max(first),
    }
}

fn published(binding: &PortBinding, host: u16) -> Result<PublishedPort, DockerError> {
    const TCP: u8 = 6;
    const UDP: u8 = 17;
    let protocol = match binding.proto {
        TCP => TransportProtocol::Tcp,
        UDP => TransportProtocol::Udp,
        other => return Err(DockerError::Protocol { port: binding.port, protocol: other }),
    };
    let number = |port: u16| -> Result<PortNumbers, DockerError> { Ok(port.to_string().parse()?) };
    Ok(PublishedPort {
        host_address: binding.host_address,
        host_ports: number(host)?,
        container_ports: number(binding.port)?,
        protocol,
    })
}
