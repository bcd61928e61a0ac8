//! `uswitch mdb`: shows and changes the multicast groups.

use std::net::IpAddr;

use clap_complete::ArgValueCompleter;

use crate::control::report::{MdbEntry, MdbPort, MdbReport, MdbRouter, MdbState, NewMdbEntry};

use super::complete;
use super::error::CliError;
use super::fdb::query;
use super::output::{self, joined, table};
use super::port::port_name;
use super::target::{PortList, Target};

/// Show or change the multicast groups (MDB)
#[derive(Debug, clap::Args)]
pub(super) struct MdbCommand {
    #[command(subcommand)]
    action: MdbAction,
}

#[derive(Debug, clap::Subcommand)]
enum MdbAction {
    Show(MdbShow),
    Add(MdbAdd),
    Del(MdbDel),
}

/// Show the groups, the multicast routers and the queriers
#[derive(Debug, clap::Args)]
struct MdbShow {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Print JSON, as `bridge -j -d -s mdb show` does
    #[arg(long)]
    json: bool,
}

/// Add a port to a group: by default for 260 s, as a report does
#[derive(Debug, clap::Args)]
struct MdbAdd {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    entry: EntryName,
    /// Keep the entry until it is deleted
    #[arg(long)]
    permanent: bool,
}

/// Remove a port from a group
#[derive(Debug, clap::Args)]
struct MdbDel {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    entry: EntryName,
}

#[derive(Debug, clap::Args)]
struct EntryName {
    /// Group address, like 239.1.1.1 or ff15::1
    group: IpAddr,
    /// Port
    #[arg(value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    port: String,
    /// Only from this source address
    #[arg(long, value_name = "ADDRESS")]
    src: Option<IpAddr>,
    /// VLAN, 0 to 4094
    #[arg(long, value_parser = clap::value_parser!(u16).range(0..4095))]
    vlan: Option<u16>,
}

impl MdbCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            MdbAction::Show(show) => show.run(),
            MdbAction::Add(MdbAdd { target, entry, permanent }) => {
                let EntryName { group, port, src, vlan } = entry;
                let state = if permanent { MdbState::Permanent } else { MdbState::Temp };
                let new = NewMdbEntry { grp: group, port, src, vid: vlan, state };
                Ok(target.client()?.post("/v1/mdb", &new)?)
            }
            MdbAction::Del(MdbDel { target, entry }) => {
                let query = query([
                    ("grp", Some(entry.group.to_string())),
                    ("port", Some(entry.port)),
                    ("src", entry.src.map(|source| source.to_string())),
                    ("vid", entry.vlan.map(|vlan| vlan.to_string())),
                ]);
                Ok(target.client()?.delete(&format!("/v1/mdb{query}"))?)
            }
        }
    }
}

impl MdbShow {
    fn run(self) -> Result<(), CliError> {
        let (mut reports, shown) = self.ports.list::<MdbReport>(&self.target, "/v1/mdb")?;
        for report in &mut reports {
            report.mdb.retain(|entry| shown.has(&entry.port));
            report.port.retain(|port| shown.has(&port.port));
            report.router.values_mut().for_each(|routers| routers.retain(|router| shown.has(&router.port)));
            report.router.retain(|_, routers| !routers.is_empty());
        }
        if self.json {
            return output::json(&reports);
        }
        output::print(&reports.iter().map(text).collect::<String>())
    }
}

fn text(report: &MdbReport) -> String {
    let mut text = entries_table(&report.mdb);
    for router in report.router.values().flatten() {
        let family = router.family.as_deref().map_or("", family);
        let MdbRouter { port, kind, vid, .. } = router;
        text += &format!("{family}multicast router behind {port} ({kind}){}\n", in_vlan(*vid));
    }
    for querier in &report.querier {
        let place = querier.port.as_ref().map_or("this switch".to_owned(), |port| format!("behind {port}"));
        let state = if querier.active { "" } else { ", waits for the reports of the hosts" };
        let (family, vlan) = (family(&querier.family), in_vlan(querier.vid));
        text += &format!("{family}querier {} ({place}){vlan}{state}\n", querier.address);
    }
    if report.querier.is_empty() {
        text += "no querier: all groups are flooded\n";
    }
    text + &report.port.iter().map(port_settings).collect::<String>()
}

/// What is special about a port. A permanent router is listed with the routers.
fn port_settings(port: &MdbPort) -> String {
    let groups = match (port.mcast_n_groups, port.mcast_max_groups) {
        (joined, 0) => format!("{joined} groups, without a limit"),
        (joined, most) => format!("{joined} of at most {most} groups"),
    };
    let fast_leave = if port.fastleave { ", fast leave" } else { "" };
    let router = if port.mcast_router == 0 { ", never a multicast router" } else { "" };
    format!("{}: {groups}{fast_leave}{router}\n", port.port)
}

/// The table has VLANs if the entries have.
fn entries_table(entries: &[MdbEntry]) -> String {
    let rows = entries.iter().map(row);
    if entries.iter().all(|entry| entry.vid.is_none()) {
        return table(["GROUP", "SOURCE", "PORT", "STATE", "MODE", "ENDS IN"], rows);
    }
    let rows = rows.zip(entries).map(|([group, source, port, state, mode, ends], entry)| {
        let vlan = entry.vid.map(|vid| vid.to_string()).unwrap_or_default();
        [group, source, port, vlan, state, mode, ends]
    });
    table(["GROUP", "SOURCE", "PORT", "VLAN", "STATE", "MODE", "ENDS IN"], rows)
}

fn in_vlan(vid: Option<u16>) -> String {
    vid.map(|vid| format!(" in VLAN {vid}")).unwrap_or_default()
}

fn family(word: &str) -> &'static str {
    if word == "inet" { "IPv4 " } else { "IPv6 " }
}

fn row(entry: &MdbEntry) -> [String; 6] {
    let seconds = entry.timer.trim().split('.').next().filter(|seconds| *seconds != "0");
    [
        entry.grp.to_string(),
        entry.src.map_or_else(|| "*".to_owned(), |source| source.to_string()),
        entry.port.clone(),
        entry.state.name().to_owned(),
        if entry.src.is_some() { joined(&entry.flags) } else { entry.filter_mode.clone() },
        seconds.map_or_else(String::new, |seconds| format!("{seconds} s")),
    ]
}
