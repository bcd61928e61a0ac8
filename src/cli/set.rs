//! `uswitch set`: changes settings of the running switch.

use crate::control::report::{Status, SwitchSettings};

use super::error::CliError;
use super::labels::LabelArgs;
use super::output;
use super::target::Target;

/// Change settings of the running switch
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("settings").required(true).multiple(true).args(["ageing_time", "label", "no_label"]))]
pub(super) struct SetCommand {
    #[command(flatten)]
    target: Target,
    /// Remove a learned address after this many seconds without a frame from it, 1 to 1000000
    #[arg(long, value_name = "SECONDS")]
    ageing_time: Option<u64>,
    #[command(flatten)]
    labels: LabelArgs,
    /// Print JSON, as `uswitch status --json` does
    #[arg(long)]
    json: bool,
}

impl SetCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let settings = SwitchSettings { ageing_time: self.ageing_time, labels: self.labels.into() };
        let status: Status = self.target.client()?.patch("/v1/settings", &settings)?;
        if self.json { output::json(&status) } else { Ok(()) }
    }
}
