//! The ports of containers: requests to the switch, and the labels by which they are found again.

use std::io;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use ipnet::IpNet;

use super::error::CniError;
use super::operations::Request;
use crate::control::client::{ApiClient, ClientError};
use crate::control::config::Labels;
use crate::control::report::{AddedPort, NewPort, PortLimits, PortReport, PortSettings, PortVlans};

/// Labels of a port.
const NETWORK: &str = "cni.network";
const CONTAINER: &str = "cni.container";
const IFNAME: &str = "cni.ifname";

/// Longest wait for the switch to see the device. It takes milliseconds.
const LONGEST_WAIT: Duration = Duration::from_secs(10);
/// Time between two requests meanwhile.
const PAUSE: Duration = Duration::from_millis(2);

/// The switch of a network.
pub(super) struct SwitchPorts {
    client: ApiClient,
}

impl SwitchPorts {
    pub(super) fn new(name: &str, runtime: &Path) -> Result<SwitchPorts, CniError> {
        let failed = |error: io::Error| CniError::Io(format!("cannot start an event loop: {error}"));
        Ok(SwitchPorts { client: ApiClient::new(name, runtime).map_err(failed)? })
    }

    /// The ports of this network. A switch that does not run has none.
    pub(super) fn of_network(&self, network: &str) -> Result<Vec<PortReport>, CniError> {
        let mut ports: Vec<PortReport> = match self.client.get("/v1/ports") {
            Err(ClientError::NotRunning { .. } | ClientError::Killed(_)) => Vec::new(),
            ports => ports?,
        };
        ports.retain(|port| has(port, NETWORK, network));
        Ok(ports)
    }

    /// Fails if the switch does not answer.
    pub(super) fn check_running(&self) -> Result<(), ClientError> {
        self.client.get::<serde::de::IgnoredAny>("/v1/health").map(|_| ())
    }

    /// Adds the port of a container. On an error there is none.
    pub(super) fn add(&self, request: &Request<'_>, addresses: &[IpNet]) -> Result<PortReport, CniError> {
        let added: AddedPort = self.client.post("/v1/ports", &new_port(request, addresses))?;
        let limits = request.config.limits();
        if limits != PortLimits::default() {
            let settings = PortSettings { limits, ..PortSettings::default() };
            let path = format!("/v1/ports/{}", added.port.ifname);
            if let Err(error) = self.client.patch::<PortReport>(&path, &settings) {
                let _ = self.remove(&added.port);
                return Err(error.into());
            }
        }
        Ok(added.port)
    }

    /// Waits until the switch has seen that the device is up and has these addresses: a container may send at once.
    pub(super) fn wait_until_up(&self, port: &PortReport, addresses: &[IpNet]) -> Result<(), CniError> {
        let path = format!("/v1/ports/{}", port.ifname);
        let deadline = Instant::now() + LONGEST_WAIT;
        loop {
            let now: PortReport = self.client.get(&path)?;
            let has = |address: &IpNet| now.addresses.contains(address);
            if now.operstate == "UP" && addresses.iter().all(has) {
                return Ok(());
            }
            if Instant::now() > deadline {
                let seconds = LONGEST_WAIT.as_secs();
                return Err(CniError::NotUp(port.ifname.clone(), now.operstate.to_lowercase(), seconds));
            }
            thread::sleep(PAUSE);
        }
    }

    /// Removes a port, and with it the container's device. One that is gone already is no error.
    pub(super) fn remove(&self, port: &PortReport) -> Result<(), CniError> {
        match self.client.delete(&format!("/v1/ports/{}", port.ifname)) {
            Err(ClientError::NotRunning { .. } | ClientError::Killed(_)) => Ok(()),
            // Another DEL was quicker.
            Err(_) if self.is_gone(port) => Ok(()),
            removed => Ok(removed?),
        }
    }

    fn is_gone(&self, port: &PortReport) -> bool {
        let ports = self.client.get::<Vec<PortReport>>("/v1/ports");
        ports.is_ok_and(|ports| ports.iter().all(|other| other.ifname != port.ifname))
    }
}

fn new_port(request: &Request<'_>, addresses: &[IpNet]) -> NewPort {
    let (environment, fields) = (&request.environment, &request.config.fields);
    let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    NewPort {
        name: Some(port_name(&environment.container, &environment.ifname)),
        netns: environment.netns.as_ref().map(|path| path.display().to_string()),
        unmanaged: true,
        ifname: Some(environment.ifname.clone()),
        ip: Some(addresses.to_vec()),
        mac: request.config.mac(environment.args.mac),
        mtu: fields.mtu,
        guard: Some(fields.guard.unwrap_or(false)),
        vlan: fields.vlan.map(|vid| PortVlans { access: Some(vid), ..PortVlans::default() }),
        labels: Labels::from([
            label(NETWORK, &fields.name),
            label(CONTAINER, &environment.container),
            label(IFNAME, &environment.ifname),
        ]),
        ..NewPort::default()
    }
}

/// Whether this is the port of the container's device.
pub(super) fn is_of(port: &PortReport, container: &str, ifname: &str) -> bool {
    has(port, CONTAINER, container) && has(port, IFNAME, ifname)
}

fn has(port: &PortReport, key: &str, value: &str) -> bool {
    port.labels.get(key).is_some_and(|found| found == value)
}

/// The name of a container's port: its ID, shortened as runtimes do, and the name of its device.
fn port_name(container: &str, ifname: &str) -> String {
    const SHORT_ID: usize = 12;
    const LONG_ID: usize = 64;
    /// With a hyphen and a device's name it is a port's name.
    const MOST: usize = 47;
    let is_hash = container.len() == LONG_ID && container.chars().all(|c| c.is_ascii_hexdigit());
    let id = container.get(..if is_hash { SHORT_ID } else { MOST }).unwrap_or(container);
    format!("{id}-{ifname}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn port_is_named_after_container_and_device() {
        assert_eq!(port_name(&"0123456789abcdef".repeat(4), "eth0"), "0123456789ab-eth0");
        assert_eq!(port_name("default-k1", "eth0"), "default-k1-eth0");
        assert_eq!(port_name(&"x".repeat(300), "a23456789012345").len(), 63);
    }
}
