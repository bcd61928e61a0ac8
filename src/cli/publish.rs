//! `uswitch port publish` and `unpublish`: ports of the host that lead to a container.

use std::io::{self, Write};

use clap_complete::ArgValueCompleter;

use crate::control::report::{AddedPort, PublishedPort};

use super::complete;
use super::error::CliError;
use super::fdb::query;
use super::output;
use super::port::{port_name, ports_table};
use super::target::Target;

/// Publish ports of a container on the host (port forwarding with nftables DNAT). The container sees the client's address
#[derive(Debug, clap::Args)]
pub(super) struct PortPublish {
    #[command(flatten)]
    ports: PublishArgs,
}

/// Withdraw published ports of a container. Existing connections stay
#[derive(Debug, clap::Args)]
pub(super) struct PortUnpublish {
    #[command(flatten)]
    ports: PublishArgs,
}

#[derive(Debug, clap::Args)]
struct PublishArgs {
    #[command(flatten)]
    target: Target,
    /// The container, by the name of its port on the switch
    #[arg(value_name = "PORT", value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// Ports of the host, then as many of the container, as with `docker run --publish`: 8080:80, 127.0.0.1:8080:80/udp,
    /// [2001:db8::1]:8080:80, 8080-8089:80-89
    #[arg(value_name = "[ADDRESS:]HOST_PORTS:CONTAINER_PORTS[/PROTOCOL]", required = true)]
    published: Vec<PublishedPort>,
}

impl PublishArgs {
    fn path(&self) -> String {
        format!("/v1/ports/{}/published", self.port)
    }
}

impl PortPublish {
    pub(super) fn run(self) -> Result<(), CliError> {
        let client = self.ports.target.client()?;
        let path = self.ports.path();
        let mut last = None;
        for port in &self.ports.published {
            let AddedPort { port, notices } = client.post(&path, port)?;
            for notice in &notices {
                let _ = writeln!(io::stderr(), "uswitch: {notice}");
            }
            last = Some(port);
        }
        output::print(&ports_table(&last.into_iter().collect::<Vec<_>>()))
    }
}

impl PortUnpublish {
    pub(super) fn run(self) -> Result<(), CliError> {
        let client = self.ports.target.client()?;
        let path = self.ports.path();
        let mut gone = self.ports.published.iter();
        gone.try_for_each(|port| Ok(client.delete(&format!("{path}{}", published_query(port)))?))
    }
}

fn published_query(port: &PublishedPort) -> String {
    query([
        ("host_address", port.host_address.map(|address| address.to_string())),
        ("host_ports", Some(port.host_ports.to_string())),
        ("container_ports", Some(port.container_ports.to_string())),
        ("protocol", Some(port.protocol.name().to_owned())),
    ])
}
