//! `uswitch exec`: a program in a container.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use crate::control::config::HOST;
use crate::control::report::{PortReport, Status};
use crate::control::topology::TopologyError;
use crate::sys;

use super::error::CliError;
use super::port::port_name;
use super::target::Target;

/// Run a program in a container, in the place of this one: its exit code is the program's
#[derive(Debug, clap::Args)]
pub(super) struct Exec {
    #[command(flatten)]
    target: Target,
    /// Container, or `host` for what the switch takes for the host
    #[arg(value_parser = port_name)]
    container: String,
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl Exec {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let client = self.target.client()?;
        let status: Status = client.get("/v1/status")?;
        let netns = if self.container == HOST {
            None
        } else {
            client.get::<PortReport>(&format!("/v1/ports/{}", self.container))?.netns
        };
        let pid = client.pid()?;
        drop(client);
        if status.sandboxed {
            sys::sandbox::join(pid).map_err(TopologyError::from)?;
        }
        let netns = match netns {
            Some(path) => Some(PathBuf::from(path)),
            None if status.sandboxed => None,
            None => Some(PathBuf::from(format!("/proc/{pid}/ns/net"))),
        };
        if let Some(path) = netns {
            sys::netns::enter_for_exec(&path).map_err(TopologyError::from)?;
        }
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(CliError::Usage("there is no program to run: see `uswitch exec --help`".to_owned()));
        };
        let source = Command::new(program).args(arguments).exec();
        Err(CliError::Program { program: program.display().to_string(), source })
    }
}
