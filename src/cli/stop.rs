//! `uswitch stop`: ends a switch, or takes away what a killed one left.

use crate::control::client::ClientError;
use crate::control::config::DEFAULT_NAME;
use crate::control::report::StopReport;
use crate::control::service::{exit_reason_path, socket_path};
use crate::control::topology::{Environment, Topology, TopologyError};
use crate::sys;

use super::error::CliError;
use super::output;
use super::target::{client, switch_name};

/// Stop a switch and take away all that it made; also what a killed one left behind
#[derive(Debug, clap::Args)]
pub(super) struct StopCommand {
    /// Name of the switch [default: uswitch0]
    #[arg(value_name = "NAME", value_parser = switch_name)]
    positional: Option<String>,
    /// Name of the switch
    #[arg(long, value_parser = switch_name, conflicts_with = "positional", hide = true)]
    name: Option<String>,
}

impl StopCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let name = self.positional.or(self.name).unwrap_or_else(|| DEFAULT_NAME.to_owned());
        match client(&name)?.post::<StopReport>("/v1/stop", &()) {
            Ok(StopReport { errors }) if errors.is_empty() => {
                output::print(&format!("{name} has stopped.\n"))
            }
            Ok(StopReport { errors }) => {
                Err(CliError::Several(errors.iter().map(|error| format!("left behind: {error}")).collect()))
            }
            Err(error @ (ClientError::Killed(_) | ClientError::NotRunning { .. })) => clean_up(&name, error),
            Err(error) => Err(error.into()),
        }
    }
}

/// Takes away what a killed switch left; where there is nothing, `error` says that no such switch runs.
fn clean_up(name: &str, error: ClientError) -> Result<(), CliError> {
    let runtime = sys::runtime_dir::directory()?;
    let may_build =
        sys::caps::can_manage_network().map_err(CliError::io("read this process's capabilities"))?;
    let (socket, exit_reason) = (socket_path(&runtime, name), exit_reason_path(&runtime, name));
    // A sandbox has gone with its switch: there is nothing in it to enter it for.
    let found = Topology::clean_up_after(name, &Environment { runtime, sandboxed: !may_build });
    let found = found.map_err(|error| match error {
        // A process holds the ledger and does not answer: not yet, or not any more.
        TopologyError::Running { .. } => CliError::Busy(name.to_owned()),
        error => error.into(),
    })?;
    // `error` has quoted them.
    let _ = std::fs::remove_file(exit_reason);
    let had_socket = std::fs::remove_file(&socket).is_ok();
    match found {
        Some(notice) => output::print(&format!("{notice}\n")),
        None if had_socket => {
            output::print(&format!("{name} was killed, and had left nothing but its socket.\n"))
        }
        None => Err(error.into()),
    }
}
