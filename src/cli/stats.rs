//! `uswitch stats`: what was counted, and why frames were not delivered.

use crate::control::report::PortStats;

use super::error::CliError;
use super::output::{self, table};
use super::target::Target;

/// Show each port's counters, and why frames were not delivered
#[derive(Debug, clap::Args)]
pub(super) struct Stats {
    #[command(flatten)]
    target: Target,
    /// JSON instead of a table
    #[arg(long)]
    json: bool,
}

impl Stats {
    pub(super) fn run(self) -> Result<(), CliError> {
        let stats: Vec<PortStats> = self.target.client()?.get("/v1/stats")?;
        if self.json {
            return output::json(&stats);
        }
        let heading =
            ["PORT", "RX FRAMES", "RX BYTES", "TX FRAMES", "TX BYTES", "FLOODED", "ANSWERED", "DROPPED"];
        output::print(&table(heading, stats.iter().map(row)))
    }
}

fn row(port: &PortStats) -> [String; 8] {
    [
        port.ifname.clone(),
        port.rx_frames.to_string(),
        port.rx_bytes.to_string(),
        port.tx_frames.to_string(),
        port.tx_bytes.to_string(),
        port.flooded.to_string(),
        port.answered.to_string(),
        dropped(port),
    ]
}

/// The reasons that there were, and full forwarding database's evictions and refusals after them.
fn dropped(port: &PortStats) -> String {
    let table = [("fdb_evictions", port.fdb_evictions), ("fdb_refused", port.fdb_refused)];
    let reasons = port.drops.iter().map(|(reason, count)| (reason.as_str(), *count));
    let seen = reasons.chain(table).filter(|(_, count)| *count > 0);
    let text: Vec<String> = seen.map(|(reason, count)| format!("{reason} {count}")).collect();
    if text.is_empty() { "-".to_owned() } else { text.join(", ") }
}
