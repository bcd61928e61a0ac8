//! `uswitch man`: manual pages.

use std::path::PathBuf;

use super::error::CliError;

/// Write the manual pages into a directory, one of each subcommand
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct ManCommand {
    /// An existing directory, e.g. /usr/local/share/man/man1
    directory: PathBuf,
}

impl ManCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        clap_mangen::generate_to(super::command(), &self.directory)
            .map_err(CliError::io(format!("write manual pages into {}", self.directory.display())))
    }
}
