//! `uswitch port`: what is plugged in.

use std::io::{self, Write};
use std::path::Path;

use ipnet::IpNet;

use crate::control::config::{self, HOST, InvalidValue};
use crate::control::report::{AddedPort, NewPort, PortReport};
use crate::wire::Mac;

use super::error::CliError;
use super::output::{self, joined, table};
use super::target::Target;

/// Show, add and delete ports
#[derive(Debug, clap::Args)]
pub(super) struct PortCommand {
    #[command(subcommand)]
    action: PortAction,
}

#[derive(Debug, clap::Subcommand)]
enum PortAction {
    Show(PortShow),
    Add(Box<PortAdd>),
    Del(PortDel),
}

/// Show the ports
#[derive(Debug, clap::Args)]
struct PortShow {
    #[command(flatten)]
    target: Target,
    /// JSON as of `bridge -j -d link show`
    #[arg(long)]
    json: bool,
}

/// Make a new container, or plug in an existing namespace
#[derive(Debug, clap::Args)]
struct PortAdd {
    #[command(flatten)]
    target: Target,
    /// Name of the port, and of the container [default: the next free one, or the namespace's]
    #[arg(value_name = "NAME", value_parser = container_name)]
    port: Option<String>,
    /// An existing namespace: a name that `ip netns` knows, a path, or a process id
    #[arg(long, value_name = "NAME|PATH|PID")]
    netns: Option<String>,
    /// Address with prefix length, may be repeated [default: the next free one of each subnet]
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    ip: Vec<IpNet>,
    /// MAC of the device [default: from the switch's name and the port's number]
    #[arg(long)]
    mac: Option<Mac>,
    /// Name of the device [default: eth0]
    #[arg(long)]
    ifname: Option<String>,
    /// Frames cross complete: no super-frames, no unfinished checksums
    #[arg(long)]
    no_offload: bool,
    /// MTU of the device [default: the switch's]
    #[arg(long, value_name = "BYTES")]
    mtu: Option<u64>,
    /// Delete a port of this name first, and keep its addresses
    #[arg(long)]
    replace: bool,
    /// Allow a second port in a namespace that already has one of this switch
    #[arg(long)]
    shared_netns: bool,
    /// JSON as of `uswitch port show --json`, of this port
    #[arg(long)]
    json: bool,
}

/// Delete a port, with its container if the switch made that
#[derive(Debug, clap::Args)]
struct PortDel {
    #[command(flatten)]
    target: Target,
    /// Name of the port
    #[arg(value_name = "NAME", value_parser = port_name)]
    port: String,
}

/// A name that a port can have.
pub(super) fn port_name(name: &str) -> Result<String, InvalidValue> {
    if name == HOST { Ok(name.to_owned()) } else { container_name(name) }
}

fn container_name(name: &str) -> Result<String, InvalidValue> {
    config::container_name(name).map(|()| name.to_owned())
}

fn cidr(text: &str) -> Result<IpNet, String> {
    text.parse().map_err(|_| "write an address and its prefix length, like 172.16.0.9/24".to_owned())
}

impl PortCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            PortAction::Show(show) => show.run(),
            PortAction::Add(add) => add.run(),
            PortAction::Del(del) => {
                del.target.client()?.delete(&format!("/v1/ports/{}", del.port)).map_err(CliError::from)
            }
        }
    }
}

impl PortShow {
    fn run(self) -> Result<(), CliError> {
        let ports: Vec<PortReport> = self.target.client()?.get("/v1/ports")?;
        if self.json { output::json(&ports) } else { output::print(&ports_table(&ports)) }
    }
}

impl PortAdd {
    fn run(self) -> Result<(), CliError> {
        let asked = NewPort {
            name: self.port,
            netns: self.netns.map(absolute).transpose()?,
            ip: self.ip,
            mac: self.mac,
            ifname: self.ifname,
            offload: self.no_offload.then_some(false),
            mtu: self.mtu,
            replace: self.replace,
            shared_netns: self.shared_netns,
        };
        let made: AddedPort = self.target.client()?.post("/v1/ports", &asked)?;
        for notice in &made.notices {
            let _ = writeln!(io::stderr(), "uswitch: {notice}");
        }
        if self.json { output::json(&made.port) } else { output::print(&ports_table(&[made.port])) }
    }
}

/// The switch has another working directory than this shell.
fn absolute(netns: String) -> Result<String, CliError> {
    if !netns.contains('/') {
        return Ok(netns);
    }
    let path = std::path::absolute(Path::new(&netns)).map_err(CliError::io(format!("find {netns}")))?;
    Ok(path.display().to_string())
}

fn ports_table(ports: &[PortReport]) -> String {
    let state = |port: &PortReport| match port.operstate.as_str() {
        "NOTPRESENT" => "gone".to_owned(),
        state => state.to_lowercase(),
    };
    let rows = ports.iter().map(|port| {
        [
            port.ifname.clone(),
            state(port),
            port.link.clone(),
            port.mtu.to_string(),
            port.address.to_string(),
            joined(&port.addresses),
            port.netns.clone().unwrap_or_default(),
        ]
    });
    table(["PORT", "STATE", "DEVICE", "MTU", "MAC", "ADDRESSES", "NAMESPACE"], rows)
}
