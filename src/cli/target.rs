//! `--name`: the switch that a command connects to.

use clap_complete::ArgValueCompleter;
use serde::de::DeserializeOwned;

use crate::control::client::ApiClient;
use crate::control::config::{self, DEFAULT_NAME, InvalidValue};
use crate::control::report::PortReport;
use crate::sys;

use super::complete;
use super::error::CliError;

/// The switch that a command connects to.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// Name of the switch
    #[arg(long, default_value = DEFAULT_NAME, value_parser = switch_name, add = ArgValueCompleter::new(complete::switches))]
    pub(super) name: String,
}

/// The ports that a command is limited to.
#[derive(Debug, clap::Args)]
pub(super) struct PortList {
    /// Ports, separated by blanks or commas [default: all]
    #[arg(value_name = "PORT", value_delimiter = ',', add = ArgValueCompleter::new(complete::ports))]
    ports: Vec<String>,
    /// The same, as earlier releases spelled it
    #[arg(long = "port", value_name = "PORT", value_delimiter = ',', hide = true)]
    option: Vec<String>,
}

/// The ports that a command shows: those that were named, or all.
#[derive(Debug)]
pub(super) struct ShownPorts(Vec<String>);

impl ShownPorts {
    /// None was named.
    pub(super) fn is_all(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this port is one of them.
    pub(super) fn has(&self, port: &str) -> bool {
        self.is_all() || self.0.iter().any(|name| name == port)
    }
}

impl PortList {
    /// Reads a list of the switch, of which the command shows only some ports.
    pub(super) fn list<T: DeserializeOwned>(
        &self,
        target: &Target,
        path: &str,
    ) -> Result<(Vec<T>, ShownPorts), CliError> {
        let client = target.client()?;
        let shown = ShownPorts(self.checked(&client)?);
        Ok((client.get(path)?, shown))
    }

    /// The names that were typed, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = Vec::new();
        for name in self.ports.iter().chain(&self.option) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    }

    /// The names that were typed, if the switch has all of these ports.
    pub(super) fn checked(&self, client: &ApiClient) -> Result<Vec<String>, CliError> {
        let names = self.names();
        check_ports(client, &names)?;
        Ok(names)
    }
}

/// Checks that a switch can have this name.
pub(super) fn switch_name(name: &str) -> Result<String, InvalidValue> {
    config::device_name(name).map(|()| name.to_owned())
}

impl Target {
    /// A client of the switch.
    pub(super) fn client(&self) -> Result<ApiClient, CliError> {
        client(&self.name)
    }
}

/// A client of the switch called `name`.
pub(super) fn client(name: &str) -> Result<ApiClient, CliError> {
    ApiClient::new(name, &sys::runtime_dir::directory()?).map_err(CliError::io("start an event loop"))
}

/// Checks that the switch has all of `wanted`.
pub(super) fn check_ports(client: &ApiClient, wanted: &[String]) -> Result<(), CliError> {
    if wanted.is_empty() {
        return Ok(());
    }
    let ports: Vec<PortReport> = client.get("/v1/ports")?;
    let ports: Vec<String> = ports.into_iter().map(|port| port.ifname).collect();
    match wanted.iter().find(|name| !ports.contains(name)) {
        Some(name) => Err(CliError::NoSuchPort { name: name.clone(), ports }),
        None => Ok(()),
    }
}
