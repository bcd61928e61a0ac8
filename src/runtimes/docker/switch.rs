//! The switches of networks: requests to their API, and those that the plugin starts and stops.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::error::DockerError;
use super::firewall;
use super::network::Network;
use crate::control::client::{ApiClient, ClientError};
use crate::control::report::{AddedPort, NewPort, PortFilter, PortReport, Status, StopReport, UplinkMode};

/// The running program, even if its file was replaced.
const PROGRAM: &str = "/proc/self/exe";

/// Labels of ports. A switch that the plugin has started has the first one, too.
pub(super) const NETWORK: &str = "docker.network";
pub(super) const ENDPOINT: &str = "docker.endpoint";

/// A switch that the plugin starts for one network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct OwnSwitch {
    pub(super) subnets: Vec<IpNet>,
    /// The addresses of the gateway. Without one the switch is pure layer 2.
    pub(super) gateways: Vec<IpAddr>,
    pub(super) nat: bool,
    /// Without a host port.
    pub(super) internal: bool,
    pub(super) mtu: Option<u64>,
    /// Kept, so that MAC addresses are the same when it starts again.
    pub(super) mac_prefix: String,
    /// The device that becomes a port.
    pub(super) uplink: Option<NetworkUplink>,
}

/// A device behind which a network is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NetworkUplink {
    pub(super) device: String,
    pub(super) mode: UplinkMode,
}

/// The switches of this machine.
#[derive(Debug)]
pub(super) struct Switches {
    /// The directory of their sockets.
    runtime: PathBuf,
    /// Held while one starts.
    starting: SwitchLocks,
}

/// A lock for each switch, so that requests for the others do not wait for one that does not answer.
#[derive(Debug, Default)]
pub(super) struct SwitchLocks(Mutex<BTreeMap<String, Arc<Mutex<()>>>>);

impl SwitchLocks {
    pub(super) fn of(&self, switch: &str) -> Arc<Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that are neither held nor waited for.
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(switch.to_owned()).or_default())
    }
}

impl Switches {
    pub(super) fn new(runtime: PathBuf) -> Switches {
        Switches { runtime, starting: SwitchLocks::default() }
    }

    /// A client of a switch, which may not run.
    pub(super) fn client(&self, name: &str) -> Result<ApiClient, DockerError> {
        ApiClient::new(name, &self.runtime).map_err(|source| DockerError::Io("start an event loop", source))
    }

    /// A client of the switch of a network. One of the network's own is started if it does not run, as after a restart
    /// of the machine.
    pub(super) fn running(&self, network: &Network) -> Result<ApiClient, DockerError> {
        let client = self.client(&network.switch)?;
        if let Some(own) = &network.own
            && !own_runs(&client, network)?
        {
            let lock = self.starting.of(&network.switch);
            let _starting = lock.lock().unwrap_or_else(PoisonError::into_inner);
            // Another request may have been quicker.
            if !own_runs(&client, network)? {
                self.start(network, own, &client)?;
            }
        }
        Ok(client)
    }

    /// Starts the own switch of a network. On an error it does not run.
    fn start(&self, network: &Network, own: &OwnSwitch, client: &ApiClient) -> Result<(), DockerError> {
        uswitch(&own.arguments(&network.switch, &network.id))?;
        if !own.gateways.is_empty() {
            firewall::accept(&network.switch);
        }
        own.uplink.iter().try_for_each(|uplink| uplink.add(client)).inspect_err(|_| {
            // The first error is reported.
            let _ = self.stop(network);
        })
    }

    /// Stops the own switch of a network. One that does not run is not an error.
    pub(super) fn stop(&self, network: &Network) -> Result<(), DockerError> {
        let name = network.switch.as_str();
        let client = self.client(name)?;
        match own_runs(&client, network) {
            // It could not be started, because there is another one of its name.
            Err(DockerError::SwitchExists(_)) => return Ok(()),
            runs => _ = runs?,
        }
        firewall::withdraw(name);
        match client.post::<StopReport>("/v1/stop", &()) {
            Ok(StopReport { errors }) if errors.is_empty() => Ok(()),
            Ok(StopReport { errors }) => Err(DockerError::Program(name.to_owned(), errors.join("; "))),
            Err(ClientError::NotRunning { .. }) => Ok(()),
            // Removes what it left behind.
            Err(ClientError::Killed(_)) => uswitch(&["stop", "--name", name].map(str::to_owned)),
            Err(error) => Err(error.into()),
        }
    }
}

impl OwnSwitch {
    /// Whether the host routes packets of the containers with their own addresses.
    pub(super) fn is_routed(&self) -> bool {
        !self.gateways.is_empty() && !self.nat
    }

    /// The command line.
    fn arguments(&self, name: &str, network: &str) -> Vec<String> {
        let mut arguments: Vec<String> =
            ["start", "--detach", "--ports", "0", "--name", name].map(str::to_owned).to_vec();
        let mut option = |option: &str, value: String| arguments.extend([option.to_owned(), value]);
        option("--label", format!("{NETWORK}={network}"));
        option("--mac-prefix", self.mac_prefix.clone());
        self.subnets.iter().for_each(|subnet| option("--subnet", subnet.to_string()));
        self.gateways.iter().for_each(|gateway| option("--gateway", gateway.to_string()));
        self.mtu.iter().for_each(|mtu| option("--mtu", mtu.to_string()));
        for (flag, is_given) in
            [("--nat", self.nat), ("--internal", self.internal), ("--no-gateway", self.gateways.is_empty())]
        {
            arguments.extend(is_given.then(|| flag.to_owned()));
        }
        arguments
    }
}

impl NetworkUplink {
    fn add(&self, client: &ApiClient) -> Result<(), DockerError> {
        let port =
            NewPort { device: Some(self.device.clone()), uplink_mode: Some(self.mode), ..NewPort::default() };
        client.post::<AddedPort>("/v1/ports", &port)?;
        Ok(())
    }
}

/// Whether the own switch of a network runs. It has the ID of the network as a label.
fn own_runs(client: &ApiClient, network: &Network) -> Result<bool, DockerError> {
    match client.get::<Status>("/v1/status") {
        Err(ClientError::NotRunning { .. } | ClientError::Killed(_)) => Ok(false),
        Err(error) => Err(error.into()),
        Ok(status) if status.labels.get(NETWORK) == Some(&network.id) => Ok(true),
        Ok(_) => Err(DockerError::SwitchExists(network.switch.clone())),
    }
}

/// The ports of a switch with this label. A switch that does not run has none.
pub(super) fn ports_with(
    client: &ApiClient,
    label: &str,
    value: &str,
) -> Result<Vec<PortReport>, DockerError> {
    let filter = PortFilter { label: Some(format!("{label}={value}")) };
    let query = serde_urlencoded::to_string(filter).map_err(|error| client.broken(&error))?;
    match client.get(&format!("/v1/ports?{query}")) {
        Err(ClientError::NotRunning { .. } | ClientError::Killed(_)) => Ok(Vec::new()),
        ports => Ok(ports?),
    }
}

/// Deletes a port, and with it its device. One that is gone already is not an error.
pub(super) fn delete_port(client: &ApiClient, port: &PortReport) -> Result<(), DockerError> {
    let error = match client.delete(&format!("/v1/ports/{}", port.ifname)) {
        Ok(()) | Err(ClientError::NotRunning { .. } | ClientError::Killed(_)) => return Ok(()),
        Err(error) => error,
    };
    // Another request may have been quicker.
    let ports: Vec<PortReport> = client.get("/v1/ports")?;
    if ports.iter().any(|other| other.ifname == port.ifname) { Err(error.into()) } else { Ok(()) }
}

/// Runs a command of this program.
fn uswitch(arguments: &[String]) -> Result<(), DockerError> {
    let mut command = Command::new(PROGRAM);
    command.arg0("uswitch").args(arguments).stdin(Stdio::null());
    let output = command.output().map_err(|source| DockerError::Io("run uswitch", source))?;
    if output.status.success() {
        return Ok(());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let lines = errors.lines().map(|line| line.trim_start_matches("uswitch: "));
    let command = format!("uswitch {}", arguments.first().map_or("", String::as_str));
    Err(DockerError::Program(command, lines.collect::<Vec<_>>().join("; ")))
}
