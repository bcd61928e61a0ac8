//! `uswitch stp`: shows the spanning tree.

use crate::control::report::{StpPort, StpReport};

use super::error::CliError;
use super::output::{self, counted, table};
use super::target::{PortList, Target};

/// Show the spanning tree
#[derive(Debug, clap::Args)]
pub(super) struct StpCommand {
    #[command(subcommand)]
    action: StpAction,
}

#[derive(Debug, clap::Subcommand)]
enum StpAction {
    Show(StpShow),
}

/// Show the root bridge, and the role and state of each port
#[derive(Debug, clap::Args)]
struct StpShow {
    #[command(flatten)]
    target: Target,
    #[command(flatten)]
    ports: PortList,
    /// Print JSON, in the words of `ip -d -j link show type bridge`
    #[arg(long)]
    json: bool,
}

impl StpCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        match self.action {
            StpAction::Show(show) => show.run(),
        }
    }
}

impl StpShow {
    fn run(self) -> Result<(), CliError> {
        let (mut reports, shown) = self.ports.list::<StpReport>(&self.target, "/v1/stp")?;
        reports.iter_mut().for_each(|report| report.ports.retain(|port| shown.has(&port.ifname)));
        if self.json {
            return output::json(&reports);
        }
        output::print(&reports.iter().map(text).collect::<String>())
    }
}

fn text(report: &StpReport) -> String {
    let StpReport { protocol, bridge_id, root_id, root_path_cost, .. } = report;
    let root = match &report.root_port {
        Some(port) => format!("root {root_id}, cost {root_path_cost}, through {port}"),
        None => format!("root {root_id}, which is this switch"),
    };
    let times = format!(
        "hello time {} s, max age {} s, forward delay {} s",
        report.hello_time, report.max_age, report.forward_delay
    );
    let changes = counted(usize::try_from(report.topology_changes).unwrap_or(usize::MAX), "topology change");
    let now = if report.topology_change { ", one just now" } else { "" };
    let heading = ["PORT", "ROLE", "STATE", "COST", "PRIORITY", "EDGE", "PROTOCOL", "DESIGNATED", "NOTE"];
    format!("{} bridge {bridge_id}\n{root}\n{times}\n{changes}{now}\n", protocol.to_uppercase())
        + &table(heading, report.ports.iter().map(row))
}

fn row(port: &StpPort) -> [String; 9] {
    let note = match port {
        StpPort { guard_tripped: true, .. } => "disabled by BPDU guard",
        StpPort { root_blocked: true, .. } => "blocked by root guard",
        _ => "",
    };
    [
        port.ifname.clone(),
        port.role.clone(),
        port.state.clone(),
        port.cost.to_string(),
        port.priority.to_string(),
        if port.edge { "yes" } else { "no" }.to_owned(),
        port.protocol.clone(),
        format!("{}.{}", port.designated_bridge, port.designated_port),
        note.to_owned(),
    ]
}
