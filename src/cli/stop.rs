//! `uswitch stop`: stops a switch, or removes what a killed one left behind.

use clap_complete::ArgValueCompleter;

use crate::control::client::ClientError;
use crate::control::config::DEFAULT_NAME;
use crate::control::report::StopReport;
use crate::control::service::{exit_reason_path, socket_path};
use crate::control::topology::{Environment, Topology, TopologyError};
use crate::sys;

use super::complete;
use super::error::CliError;
use super::output;
use super::target::{client, switch_name};

/// Stop a switch and remove everything that it created
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Also removes what a killed switch left behind. Exit code 1 if there is nothing to stop."
)]
pub(super) struct StopCommand {
    /// Name of the switch [default: uswitch0]
    #[arg(long, value_parser = switch_name, add = ArgValueCompleter::new(complete::switches))]
    name: Option<String>,
    /// The same, as earlier releases spelled it
    #[arg(value_name = "NAME", value_parser = switch_name, conflicts_with = "name", hide = true)]
    positional: Option<String>,
}

impl StopCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let name = self.name.or(self.positional).unwrap_or_else(|| DEFAULT_NAME.to_owned());
        match client(&name)?.post::<StopReport>("/v1/stop", &()) {
            Ok(StopReport { errors }) if errors.is_empty() => {
                output::print(&format!("{name} has stopped.\n"))
            }
            Ok(StopReport { errors }) => {
                let errors = errors.iter().map(|error| format!("not removed: {error}"));
                Err(CliError::Several(errors.collect()))
            }
            Err(error @ (ClientError::Killed(_) | ClientError::NotRunning { .. })) => clean_up(&name, error),
            Err(error) => Err(error.into()),
        }
    }
}

/// Removes what a killed switch left behind. If there is nothing, `error` says that no such switch runs.
fn clean_up(name: &str, error: ClientError) -> Result<(), CliError> {
    let runtime = sys::runtime_dir::directory()?;
    let may_build =
        sys::caps::can_manage_network().map_err(CliError::io("read this process's capabilities"))?;
    let (socket, exit_reason) = (socket_path(&runtime, name), exit_reason_path(&runtime, name));
    // A sandbox ends with its switch: nothing in it has to be removed.
    let found = Topology::clean_up_after(name, &Environment { runtime, state: None, sandboxed: !may_build });
    let found = found.map_err(|error| match error {
        // A process holds the ledger, and does not serve the API yet, or any more.
        TopologyError::Running { .. } => CliError::Busy(name.to_owned()),
        error => error.into(),
    })?;
    // `error` has quoted it.
    let _ = std::fs::remove_file(exit_reason);
    let had_socket = std::fs::remove_file(&socket).is_ok();
    match (found, error) {
        (Some(notice), _) => output::print(&format!("{notice}\n")),
        (None, _) if had_socket => {
            output::print(&format!("{name} was killed, and left only its socket behind.\n"))
        }
        (None, ClientError::NotRunning { running, .. }) => {
            Err(CliError::NothingToStop { name: name.to_owned(), running })
        }
        (None, error) => Err(error.into()),
    }
}
