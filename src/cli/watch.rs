//! `uswitch watch`: a screen that shows a running switch.

use std::io::{self, IsTerminal};

use crate::tui::{self, End, WatchError};

use super::error::CliError;
use super::output;
use super::target::Target;

/// Watch a running switch on the terminal: ports, stations, events, as they change
#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    #[command(flatten)]
    target: Target,
}

impl Watch {
    pub(super) fn run(self) -> Result<(), CliError> {
        if !io::stdout().is_terminal() {
            return Err(CliError::NoTerminal);
        }
        match tui::watch(self.target.client()?) {
            Ok(End::Left) => Ok(()),
            Ok(End::Stopped) => {
                output::note("the switch has stopped");
                Ok(())
            }
            Err(WatchError::Client(error)) => Err(error.into()),
            Err(WatchError::Terminal(error)) => Err(CliError::io("use the terminal")(error)),
        }
    }
}
