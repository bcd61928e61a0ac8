//! `uswitch fdb`: which address is behind which port.

use crate::control::report::{FdbReport, FlushReport, NewFdbEntry, NewFdbState};
use crate::wire::Mac;

use super::error::CliError;
use super::output::{self, counted, table};
use super::port::port_name;
use super::target::Target;

/// Show and change the forwarding database
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
    /// Only those behind this port
    #[arg(long, value_parser = port_name)]
    port: Option<String>,
    /// Only those of this station
    #[arg(long)]
    mac: Option<Mac>,
    /// Only those in this VLAN
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
    /// JSON as of `bridge -j fdb show`
    #[arg(long)]
    json: bool,
}

/// Put an entry in, or replace it: it neither ages nor moves
#[derive(Debug, clap::Args)]
struct FdbAdd {
    #[command(flatten)]
    target: Target,
    /// The station
    mac: Mac,
    /// Behind which port
    #[arg(value_parser = port_name)]
    port: String,
    /// In this VLAN
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
    /// As if learned now: it ages and moves
    #[arg(long)]
    dynamic: bool,
}

/// Take an entry out
#[derive(Debug, clap::Args)]
struct FdbDel {
    #[command(flatten)]
    target: Target,
    /// The station
    mac: Mac,
    /// In this VLAN
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
}

/// Take all learned entries out, or those of one port
#[derive(Debug, clap::Args)]
struct FdbFlush {
    #[command(flatten)]
    target: Target,
    /// Only those behind this port
    #[arg(value_parser = port_name)]
    port: Option<String>,
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
                let path = format!("/v1/fdb/flush{}", query([("ifname", flush.port)]));
                let FlushReport { flushed } = flush.target.client()?.post(&path, &())?;
                output::print(&format!("{} forgotten.\n", counted(flushed, "address")))
            }
        }
    }
}

impl FdbShow {
    fn run(self) -> Result<(), CliError> {
        let mac = text(self.mac);
        let query = query([("ifname", self.port), ("mac", mac), ("vlan", text(self.vlan))]);
        let entries: Vec<FdbReport> = self.target.client()?.get(&format!("/v1/fdb{query}"))?;
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

/// The words that were typed, as the end of a URL. None has a character that would have to be escaped.
pub(super) fn query<const N: usize>(words: [(&str, Option<String>); N]) -> String {
    let typed = words.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?)));
    let typed: Vec<String> = typed.collect();
    if typed.is_empty() { String::new() } else { format!("?{}", typed.join("&")) }
}
