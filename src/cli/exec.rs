//! `uswitch exec`: a program in a container.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use crate::control::config::HOST;
use crate::control::report::{PortReport, Status};
use crate::control::topology::TopologyError;
use crate::sys;
use crate::sys::netns::Netns;

use super::error::CliError;
use super::port::port_name;
use super::target::Target;

/// Run a program in a container, in the place of this one: its exit code is the program's
#[derive(Debug, clap::Args)]
pub(super) struct ExecCommand {
    #[command(flatten)]
    target: Target,
    /// Container, or `host` for what the switch takes for the host
    #[arg(value_parser = port_name)]
    container: String,
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

impl ExecCommand {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let client = self.target.client()?;
        let status: Status = client.get("/v1/status")?;
        let port = match self.container.as_str() {
            HOST => None,
            name => Some(client.get::<PortReport>(&format!("/v1/ports/{name}"))?),
        };
        let pid = client.pid()?;
        drop(client);
        if status.sandboxed {
            sys::sandbox::join(pid).map_err(TopologyError::from)?;
        }
        match port {
            Some(port) => enter(port)?,
            None if status.sandboxed => {}
            None => {
                let host = PathBuf::from(format!("/proc/{pid}/ns/net"));
                sys::netns::enter_for_exec(&host).map_err(TopologyError::from)?;
            }
        }
        let [program, arguments @ ..] = self.command.as_slice() else {
            return Err(CliError::Usage("there is no program to run: see `uswitch exec --help`".to_owned()));
        };
        let source = Command::new(program).args(arguments).exec();
        Err(CliError::Program { program: program.display().to_string(), source })
    }
}

/// Goes into a port's namespace; not into another that has its name or process id by now.
fn enter(port: PortReport) -> Result<(), CliError> {
    let (Some(path), Some(ino), "UP" | "DOWN") = (&port.netns, port.netns_ino, port.operstate.as_str())
    else {
        return Err(CliError::PortGone(port.ifname));
    };
    sys::netns::enter_for_exec(Path::new(path)).map_err(TopologyError::from)?;
    let here = Netns::current().and_then(|netns| netns.identity()).map_err(TopologyError::from)?;
    if here.ino == ino { Ok(()) } else { Err(CliError::PortGone(port.ifname)) }
}
