//! `uswitch watch`: a full-screen view of a running switch.

use std::io::{self, IsTerminal};

use crate::tui::{self, ExitReason, WatchError};

use super::error::CliError;
use super::output;
use super::target::Target;

/// Show ports, addresses, rates and events of a running switch, full screen
#[derive(Debug, clap::Args)]
#[command(after_help = tui::help())]
pub(super) struct WatchCommand {
    #[command(flatten)]
    target: Target,
}

impl WatchCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        if !io::stdout().is_terminal() {
            return Err(CliError::NoTerminal);
        }
        let ended = tui::watch(self.target.client()?).map_err(why)?;
        if let Some(captured) = ended.captured {
            output::note(&captured.replace('\n', ": "));
        }
        match ended.why.map_err(why)? {
            ExitReason::Quit => {}
            ExitReason::Stopped => output::note("the switch has stopped"),
        }
        Ok(())
    }
}

fn why(error: WatchError) -> CliError {
    match error {
        WatchError::Client(error) => error.into(),
        WatchError::Terminal(error) => CliError::io("use the terminal")(error),
    }
}
