//! Errors, which podman shows.

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::control::client::ClientError;
use crate::control::config::InvalidValue;
use crate::runtimes::attachment::AttachError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum NetavarkError {
    #[error(
        "'{0}' is not create, setup NETNS, teardown NETNS or info: podman and netavark run this plugin, not users"
    )]
    Arguments(String),
    #[error("the input is not valid: {0}")]
    Input(String),
    #[error("{0}")]
    RuntimeDir(String),
    /// An option of the network.
    #[error("the option {0}={1} is not supported: the options are switch, mtu, guard and vlan")]
    UnknownOption(String, String),
    /// An option of the network, its value, and what it should be.
    #[error("the option {0}: '{1}' is not {2}")]
    BadOption(&'static str, String, &'static str),
    /// An option of a container.
    #[error("the option {0}={1} of a container is not supported")]
    ContainerOption(String, String),
    #[error("the IPAM driver '{0}' is not supported: use host-local or none")]
    IpamDriver(String),
    #[error("--interface-name {0} is not supported: choose the switch with --opt switch=NAME")]
    InterfaceName(String),
    #[error("the network needs --subnet or a running switch: {0}")]
    NoSubnets(ClientError),
    #[error("the switch {0} has no subnets: give --subnet, or --ipam-driver none")]
    SwitchWithoutSubnets(String),
    #[error("--publish: {0}")]
    PortMapping(#[from] InvalidValue),
    #[error("the address {0} is in no subnet of the network {1}")]
    NoSubnetOf(IpAddr, String),
    #[error("'{0}' is not a MAC address")]
    Mac(String),
    /// The destination, and what the route has.
    #[error("the route to {0} has {1}")]
    Route(String, String),
    #[error(transparent)]
    Switch(#[from] ClientError),
    #[error(transparent)]
    Attach(#[from] AttachError),
}

impl NetavarkError {
    /// The error in JSON.
    pub(super) fn report(&self) -> Value {
        json!({ "error": self.to_string().trim().replace('\n', "; ") })
    }
}
