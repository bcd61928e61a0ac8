//! `uswitch completions`: the script that makes a shell ask this program for completions.

use std::env;

use clap_complete::env::Shells;

use super::error::CliError;
use super::output;

/// Print the completion script for a shell
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER)]
pub(super) struct CompletionsCommand {
    /// Shell
    #[arg(value_parser = ["bash", "elvish", "fish", "powershell", "zsh"])]
    shell: String,
}

const AFTER: &str = "\
The script asks uswitch at each completion, so it also completes the names of running switches and \
of their ports.

Examples:
  echo 'source <(uswitch completions bash)' >> ~/.bashrc
  uswitch completions fish > ~/.config/fish/completions/uswitch.fish";

/// The variable by which the script asks.
const VARIABLE: &str = "COMPLETE";

impl CompletionsCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let shells = Shells::builtins();
        let shell = shells
            .completer(&self.shell)
            .ok_or_else(|| CliError::Usage(format!("there are no completions for {}", self.shell)))?;
        let program = env::current_exe().map_err(CliError::io("find this program"))?;
        let mut script = Vec::new();
        shell
            .write_registration(VARIABLE, "uswitch", "uswitch", &program.to_string_lossy(), &mut script)
            .map_err(CliError::io("make the script"))?;
        output::bytes(&script)
    }
}
