//! `uswitch netavark`: runs as a netavark plugin.

use std::process::ExitCode;

use crate::runtimes::netavark;
use crate::sys;

use super::error::CliError;
use super::plugin;

/// Run as a netavark plugin, for podman. Netavark starts it through a link named uswitch-netavark
#[derive(Debug, clap::Args)]
pub(super) struct NetavarkCommand {
    /// create, setup NETNS, teardown NETNS or info
    #[arg(value_name = "COMMAND", allow_hyphen_values = true)]
    command: Vec<String>,
}

impl NetavarkCommand {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let outcome = netavark::run(&self.command, &plugin::read_input()?, &sys::runtime_dir::directory());
        plugin::finish(outcome.output.as_ref(), outcome.succeeded)
    }
}
