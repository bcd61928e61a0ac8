//! `uswitch port publish` and `unpublish`: ports of the host that lead to a container.

use std::io::{self, Write};

use clap_complete::ArgValueCompleter;

use crate::control::client::{ApiClient, ClientError};
use crate::control::report::{AddedPort, PublishedPort};

use super::complete;
use super::error::CliError;
use super::output;
use super::port::{port_name, ports_table};
use super::target::Target;

/// Publish ports of a container on the host (port forwarding with nftables DNAT). The container sees the client's
/// address
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
    /// Ports of the host, then as many of the container, as with `docker run --publish`: 8080:80,
    /// 127.0.0.1:8080:80/udp, [2001:db8::1]:8080:80, 8080-8089:80-89
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
        for (n, published) in self.ports.published.iter().enumerate() {
            let added = client.post(&path, published).inspect_err(|_| {
                // The first error is reported.
                let mut before = self.ports.published[..n].iter();
                let _ = before.try_for_each(|published| withdraw(&client, &path, published));
            });
            let AddedPort { port, notices } = added?;
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
        Ok(gone.try_for_each(|published| withdraw(&client, &path, published))?)
    }
}

fn withdraw(client: &ApiClient, path: &str, published: &PublishedPort) -> Result<(), ClientError> {
    client.delete(&format!("{path}{}", published.query()))
}
