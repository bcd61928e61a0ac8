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
    Get(FdbGet),
    Add(FdbAdd),
    Replace(FdbReplace),
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

/// The address of an entry.
#[derive(Debug, clap::Args)]
struct FdbAddress {
    /// MAC address
    mac: Mac,
    /// VLAN, 0 to 4094
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
}

/// Show the entry of a MAC address
#[derive(Debug, clap::Args)]
struct FdbGet {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    address: FdbAddress,
    /// Print JSON, as `bridge -j fdb get` does
    #[arg(long)]
    json: bool,
}

/// An entry to add.
#[derive(Debug, clap::Args)]
struct FdbEntryArgs {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    address: FdbAddress,
    /// Port of the address
    #[arg(value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// Make the entry static: it does not age, and moves as a learned one (the default)
    #[arg(long = "static", conflicts_with_all = ["dynamic", "permanent"])]
    is_static: bool,
    /// Make the entry dynamic: it ages and moves as a learned one
    #[arg(long, conflicts_with = "permanent")]
    dynamic: bool,
    /// Make the address one of the host: the port is `host`, and the entry does not age or move
    #[arg(long, visible_alias = "local", conflicts_with = "sticky")]
    permanent: bool,
    /// Make the entry sticky: it stays on its port when a frame from its address comes from another
    #[arg(long)]
    sticky: bool,
}

/// Add an entry: by default static
#[derive(Debug, clap::Args)]
struct FdbAdd {
    #[command(flatten)]
    entry: FdbEntryArgs,
}

/// Add or replace an entry: by default static
#[derive(Debug, clap::Args)]
struct FdbReplace {
    #[command(flatten)]
    entry: FdbEntryArgs,
}

/// Delete an entry
#[derive(Debug, clap::Args)]
struct FdbDel {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    address: FdbAddress,
    /// Delete it only if it is behind this port
    #[arg(value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: Option<String>,
}

/// Delete entries: the learned ones, or those of the given kinds
#[derive(Debug, clap::Args)]
struct FdbFlush {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Delete only entries of this VLAN, 0 to 4094
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
    #[command(flatten)]
    kinds: FlushKinds,
}

/// The kinds of entries to delete. An entry must match all that are given.
#[derive(Debug, clap::Args)]
#[allow(clippy::struct_excessive_bools, reason = "the words of `bridge fdb flush`")]
struct FlushKinds {
    /// Delete dynamic entries, which age
    #[arg(long, conflicts_with = "nodynamic")]
    dynamic: bool,
    /// Keep dynamic entries
    #[arg(long)]
    nodynamic: bool,
    /// Delete static entries
    #[arg(long = "static", conflicts_with = "nostatic")]
    is_static: bool,
    /// Keep static entries
    #[arg(long)]
    nostatic: bool,
    /// Delete permanent entries, except the gateway's
    #[arg(long, visible_alias = "local", conflicts_with = "nopermanent")]
    permanent: bool,
    /// Keep permanent entries
    #[arg(long, visible_alias = "nolocal")]
    nopermanent: bool,
    /// Delete sticky entries
    #[arg(long, conflicts_with = "nosticky")]
    sticky: bool,
    /// Keep sticky entries
    #[arg(long)]
    nosticky: bool,
}

impl FdbCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            FdbAction::Show(show) => show.run(),
            FdbAction::Get(get) => get.run(),
            FdbAction::Add(FdbAdd { entry }) => {
                Ok(entry.target.client()?.post("/v1/fdb", &NewFdbEntry::from(entry))?)
            }
            FdbAction::Replace(FdbReplace { entry }) => {
                Ok(entry.target.client()?.put("/v1/fdb", &NewFdbEntry::from(entry))?)
            }
            FdbAction::Del(FdbDel { target, address: FdbAddress { mac, vlan }, port }) => {
                let query = query([("mac", Some(mac.to_string())), ("vlan", text(vlan)), ("ifname", port)]);
                Ok(target.client()?.delete(&format!("/v1/fdb{query}"))?)
            }
            FdbAction::Flush(flush) => {
                let client = flush.target.client()?;
                let names = flush.ports.checked(&client)?;
                let flushed = each(names, |port| flush.flush(&client, port))?;
                output::print(&format!("{} deleted.\n", counted(flushed.iter().sum(), "entry")))
            }
        }
    }
}

impl FdbFlush {
    fn flush(&self, client: &ApiClient, port: Option<String>) -> Result<usize, CliError> {
        let kinds = &self.kinds;
        let wanted = |yes: bool, no: bool| (yes || no).then(|| yes.to_string());
        let query = query([
            ("ifname", port),
            ("vlan", text(self.vlan)),
            ("dynamic", wanted(kinds.dynamic, kinds.nodynamic)),
            ("static", wanted(kinds.is_static, kinds.nostatic)),
            ("permanent", wanted(kinds.permanent, kinds.nopermanent)),
            ("sticky", wanted(kinds.sticky, kinds.nosticky)),
        ]);
        let FlushReport { flushed } = client.post(&format!("/v1/fdb/flush{query}"), &())?;
        Ok(flushed)
    }
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
        show(&entries.concat(), self.json)
    }
}

impl FdbGet {
    fn run(self) -> Result<(), CliError> {
        let FdbAddress { mac, vlan } = self.address;
        let query = query([("mac", Some(mac.to_string())), ("vlan", text(vlan))]);
        let entries: Vec<FdbReport> = self.target.client()?.get(&format!("/v1/fdb{query}"))?;
        if entries.is_empty() {
            return Err(CliError::NoFdbEntry(mac));
        }
        show(&entries, self.json)
    }
}

fn show(entries: &[FdbReport], as_json: bool) -> Result<(), CliError> {
    if as_json {
        return output::json(&entries);
    }
    output::print(&entries_table(entries))
}

/// The table has VLANs if the entries have.
fn entries_table(entries: &[FdbReport]) -> String {
    let rows = entries.iter().map(row);
    if entries.iter().all(|entry| entry.vlan.is_none()) {
        return table(["MAC", "PORT", "STATE", "SEEN"], rows);
    }
    let rows = rows.zip(entries).map(|([mac, port, state, seen], entry)| {
        [mac, port, text(entry.vlan).unwrap_or_default(), state, seen]
    });
    table(["MAC", "PORT", "VLAN", "STATE", "SEEN"], rows)
}

fn row(entry: &FdbReport) -> [String; 4] {
    let state = if entry.state.is_empty() { "learned" } else { &entry.state };
    [
        entry.mac.to_string(),
        entry.ifname.clone(),
        [state].into_iter().chain(entry.flags.iter().map(String::as_str)).collect::<Vec<_>>().join(" "),
        entry.updated.map(|seconds| format!("{} ago", output::duration(seconds.into()))).unwrap_or_default(),
    ]
}

impl From<FdbEntryArgs> for NewFdbEntry {
    fn from(typed: FdbEntryArgs) -> NewFdbEntry {
        let state = match (typed.dynamic, typed.permanent) {
            (true, _) => NewFdbState::Dynamic,
            (_, true) => NewFdbState::Permanent,
            _ => NewFdbState::Static,
        };
        let FdbAddress { mac, vlan } = typed.address;
        NewFdbEntry { mac, ifname: typed.port, vlan, state, sticky: typed.sticky }
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
