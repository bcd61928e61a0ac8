//! Published ports: `docker run -p`.

use std::ops::RangeInclusive;

use serde::de::IgnoredAny;

use super::error::DockerError;
use super::network::{Network, Networks};
use super::protocol::{EndpointRequest, PortBinding, ProgramExternalConnectivity};
use super::switch::{ENDPOINT, ports_with};
use crate::control::client::{ApiClient, ClientError};
use crate::control::report::{PortNumbers, PortReport, PublishedPort, TransportProtocol};

/// The ports of the host from which one is chosen for `-p PORT` and `-P`: those that Docker uses
/// (`moby/libnetwork/portallocator`).
const ANY: RangeInclusive<u16> = 49153..=65535;
/// Most ports of a range that are tried.
const MOST_TRIED: usize = 256;

impl Networks<'_> {
    /// Publishes ports of a container. After an error none is.
    pub(super) fn publish(&self, request: &ProgramExternalConnectivity) -> Result<(), DockerError> {
        let network = self.find(&request.of.network)?;
        if request.options.bindings.is_empty() {
            return Ok(());
        }
        let (client, port) = self.port(&network, &request.of.endpoint)?;
        let published =
            request.options.bindings.iter().try_for_each(|binding| publish(&client, &port, binding));
        published.inspect_err(|_| {
            // The first error is reported.
            let _ = self.unpublish(&request.of);
        })
    }

    /// Withdraws the published ports of a container.
    pub(super) fn unpublish(&self, request: &EndpointRequest) -> Result<(), DockerError> {
        let Some(network) = self.store.load::<Network>(&request.network)? else { return Ok(()) };
        let client = self.switches.client(&network.switch)?;
        for port in ports_with(&client, ENDPOINT, &request.endpoint)? {
            for published in &port.published {
                let query = serde_urlencoded::to_string(published).map_err(|error| client.broken(&error))?;
                client.delete(&format!("{}?{query}", path(&port)))?;
            }
        }
        Ok(())
    }
}

fn path(port: &PortReport) -> String {
    format!("/v1/ports/{}/published", port.ifname)
}

/// Publishes a port of a container at the first free port of the host.
fn publish(client: &ApiClient, port: &PortReport, binding: &PortBinding) -> Result<(), DockerError> {
    let mut refused = None;
    for host in host_ports(binding).take(MOST_TRIED) {
        match client.post::<IgnoredAny>(&path(port), &published(binding, host)?) {
            Ok(_) => return Ok(()),
            Err(error @ ClientError::Refused { .. }) => refused = Some(error),
            Err(error) => return Err(error.into()),
        }
    }
    // A range has a port.
    refused.map_or(Ok(()), |error| Err(error.into()))
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
