//! `uswitch completions`: what a shell needs to complete our command line.

use super::error::CliError;
use super::output;

/// Print the completions for a shell, e.g. `uswitch completions bash >/etc/bash_completion.d/uswitch`
#[derive(Debug, clap::Args)]
#[command(hide = true)]
pub(super) struct CompletionsCommand {
    /// Which shell
    shell: clap_complete::Shell,
}

impl CompletionsCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let mut text = Vec::new();
        clap_complete::generate(self.shell, &mut super::command(), "uswitch", &mut text);
        output::print(&String::from_utf8_lossy(&text))
    }
}
