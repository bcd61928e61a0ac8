//! `uswitch fdb`: shows and changes the forwarding database.

use clap_complete::ArgValueCompleter;

use crate::control::client::ApiClient;
use crate::control::report::{FdbReport, FlushReport, NewFdbEntry, NewFdbState};
use crate::wire::Mac;

use super::complete;
use super::error::CliError;
use super::output::{self, counted, table};
use super::port::port_name;
use super::target::{PortList, Target};

/// Show or change the forwarding database (FDB)
#[derive(Debug, clap::Args)]
pub(super) struct FdbCommand {
    #[command(subcommand)]
    action: FdbAction,
}

#[derive(Debug, clap::Subcommand)]
enum FdbAction {
    Show(FdbShow),
    Add(FdbAdd),
    Del(FdbDel),
    Flush(FdbFlush),
}

/// Show the entries
#[derive(Debug, clap::Args)]
struct FdbShow {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Show only this MAC address
    #[arg(long)]
    mac: Option<Mac>,
    /// Show only this VLAN, 0 to 4094
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
    /// Print JSON, as `bridge -j fdb show` does
    #[arg(long)]
    json: bool,
}

/// Add or replace an entry: by default static, which does not age and does not move
#[derive(Debug, clap::Args)]
struct FdbAdd {
    #[command(flatten)]
    target: Target,
    /// MAC address
    mac: Mac,
    /// Port of the address
    #[arg(value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// VLAN, 0 to 4094
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
    /// Make the entry dynamic: it ages and moves as a learned one
    #[arg(long)]
    dynamic: bool,
}

/// Delete an entry
#[derive(Debug, clap::Args)]
struct FdbDel {
    #[command(flatten)]
    target: Target,
    /// MAC address
    mac: Mac,
    /// VLAN, 0 to 4094
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
}

/// Delete the learned entries
#[derive(Debug, clap::Args)]
struct FdbFlush {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
}

impl FdbCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            FdbAction::Show(show) => show.run(),
            FdbAction::Add(add) => add.run(),
            FdbAction::Del(del) => {
                let query = query([("mac", Some(del.mac.to_string())), ("vlan", text(del.vlan))]);
                Ok(del.target.client()?.delete(&format!("/v1/fdb{query}"))?)
            }
            FdbAction::Flush(flush) => {
                let client = flush.target.client()?;
                let names = flush.ports.checked(&client)?;
                let flushed = each(names, |port| flush_port(&client, port))?;
                output::print(&format!("{} deleted.\n", counted(flushed.iter().sum(), "entry")))
            }
        }
    }
}

fn flush_port(client: &ApiClient, port: Option<String>) -> Result<usize, CliError> {
    let FlushReport { flushed } = client.post(&format!("/v1/fdb/flush{}", query([("ifname", port)])), &())?;
    Ok(flushed)
}

/// Asks once for each port, or once for all.
fn each<T>(
    ports: Vec<String>,
    ask: impl FnMut(Option<String>) -> Result<T, CliError>,
) -> Result<Vec<T>, CliError> {
    let ports = if ports.is_empty() { vec![None] } else { ports.into_iter().map(Some).collect() };
    ports.into_iter().map(ask).collect()
}

impl FdbShow {
    fn run(self) -> Result<(), CliError> {
        let mac = text(self.mac);
        let client = self.target.client()?;
        let entries = each(self.ports.checked(&client)?, |port| {
            let query = query([("ifname", port), ("mac", mac.clone()), ("vlan", text(self.vlan))]);
            Ok(client.get::<Vec<FdbReport>>(&format!("/v1/fdb{query}"))?)
        })?;
        let entries = entries.concat();
        if self.json {
            return output::json(&entries);
        }
        output::print(&table(["MAC", "PORT", "VLAN", "STATE", "SEEN"], entries.iter().map(row)))
    }
}

fn row(entry: &FdbReport) -> [String; 5] {
    [
        entry.mac.to_string(),
        entry.ifname.clone(),
        text(entry.vlan).unwrap_or_default(),
        if entry.state.is_empty() { "learned".to_owned() } else { entry.state.clone() },
        entry.updated.map(|seconds| format!("{} ago", output::duration(seconds.into()))).unwrap_or_default(),
    ]
}

impl FdbAdd {
    fn run(self) -> Result<(), CliError> {
        let state = if self.dynamic { NewFdbState::Dynamic } else { NewFdbState::Static };
        let entry = NewFdbEntry { mac: self.mac, ifname: self.port, vlan: self.vlan, state };
        Ok(self.target.client()?.post("/v1/fdb", &entry)?)
    }
}

fn text<T: ToString>(value: Option<T>) -> Option<String> {
    value.map(|value| value.to_string())
}

/// The query of a URL. No value has a character that would have to be escaped.
pub(super) fn query<const N: usize>(words: [(&str, Option<String>); N]) -> String {
    let typed = words.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    let typed: Vec<String> = typed.collect();
    if typed.is_empty() { String::new() } else { format!("?{}", typed.join("&")) }
}
