//! Errors. dockerd shows them to the user, in one line.

use std::io;
use std::path::PathBuf;

use ipnet::IpNet;

use crate::control::address_pool::PoolError;
use crate::control::client::ClientError;
use crate::control::config::InvalidValue;
use crate::control::topology::TopologyError;
use crate::sys::netlink::NetlinkError;

/// Why a request fails, or the plugin does not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DockerError {
    #[error("the method {0} is not supported")]
    NoSuchMethod(String),
    #[error("the request is not valid: {0}")]
    Request(#[source] serde_json::Error),
    /// What the option is of, and the option.
    #[error("the {0} option {1} is not supported: `uswitch docker-plugin --help` lists the options")]
    UnknownOption(&'static str, String),
    #[error("the option {key}={value}: {why}")]
    Option { key: String, value: String, why: String },
    #[error("{0}")]
    Conflict(String),
    #[error(transparent)]
    Invalid(#[from] InvalidValue),
    #[error("the plugin does not know the network {0}: remove it and create it again")]
    NoSuchNetwork(String),
    #[error("the switch {0} has no port for the endpoint {1}: start the container again")]
    NoSuchEndpoint(String, String),
    #[error("-p {port}: the protocol {protocol} is not supported: publish TCP and UDP ports")]
    Protocol { port: u16, protocol: u8 },
    #[error(
        "-p: other hosts reach the containers of a routed network at their own addresses: leave out -p, or create the \
         network with NAT"
    )]
    RoutedNetwork,
    #[error(transparent)]
    Switch(#[from] ClientError),
    #[error(transparent)]
    Device(#[from] TopologyError),
    /// A network's own switch would have this name.
    #[error("a switch named {0} is running: use it with -o switch={0}, or choose another name")]
    SwitchExists(String),
    /// A program that the plugin runs, and the error that it prints.
    #[error("{0}: {1}")]
    Program(String, String),
    #[error("no pool {0}: create the network again")]
    NoSuchPool(String),
    /// A subnet, one that overlaps it, and the file of that one.
    #[error("{subnet} overlaps {other} of another network: choose another --subnet, or remove that network ({})", file.display())]
    Overlap { subnet: IpNet, other: IpNet, file: PathBuf },
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("cannot read the networks of this machine: {0}")]
    HostNetworks(#[from] NetlinkError),
    #[error("all private subnets of the plugin are in use: choose one with --subnet")]
    NoFreeSubnet,
    #[error("'{0}' is not an ID")]
    Id(String),
    #[error("cannot {what} {}: {source}", path.display())]
    File { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{}: {source}: this file of the plugin cannot be used: remove it", path.display())]
    Record { path: PathBuf, source: serde_json::Error },
    #[error("another docker-plugin uses {}: stop it first, or choose another directory with --state", .0.display())]
    StateInUse(PathBuf),
    #[error("another program listens on {}: stop it first, or choose another path with --socket", .0.display())]
    SocketInUse(PathBuf),
    #[error("{} is not a socket: remove it, or choose another path with --socket", .0.display())]
    NotASocket(PathBuf),
    #[error("cannot {0}: {1}")]
    Io(&'static str, #[source] io::Error),
}

impl DockerError {
    /// The message, in one line.
    pub(super) fn line(&self) -> String {
        self.to_string().trim().replace('\n', "; ")
    }
}
