//! `uswitch log`: shows or sets the log level of a running switch.

use crate::control::log::{LogLevel, LogReport, NewLog};

use super::error::CliError;
use super::output;
use super::target::Target;

/// Show or set the log level of a running switch
#[derive(Debug, clap::Args)]
pub(super) struct LogCommand {
    #[command(flatten)]
    target: Target,
    /// New level: messages of this level and more urgent ones are logged
    level: Option<LogLevel>,
    /// Print JSON
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
