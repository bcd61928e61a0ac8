//! `uswitch log`: what a running switch writes down, and where.

use crate::control::log::{LogLevel, LogReport, NewLog};

use super::error::CliError;
use super::output;
use super::target::Target;

/// Show what a running switch logs and where, or change how much
#[derive(Debug, clap::Args)]
pub(super) struct LogCommand {
    #[command(flatten)]
    target: Target,
    /// Log this and what is more urgent
    level: Option<LogLevel>,
    /// JSON instead of text
    #[arg(long)]
    json: bool,
}

impl LogCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let client = self.target.client()?;
        let report: LogReport = match self.level {
            None => client.get("/v1/log")?,
            Some(level) => client.put("/v1/log", &NewLog { level })?,
        };
        if self.json {
            return output::json(&report);
        }
        let LogReport { level, to, lost_lines } = report;
        let lost = if lost_lines > 0 { format!(", {lost_lines} lines lost") } else { String::new() };
        output::print(&format!("{}, to {to}{lost}\n", level.name()))
    }
}
