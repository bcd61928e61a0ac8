//! `uswitch exec`: runs a program in the network namespace of a container.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use clap_complete::ArgValueCompleter;

use crate::control::config::is_host_port;
use crate::control::report::{PortKind, PortReport, Status};
use crate::control::topology::TopologyError;
use crate::sys;
use crate::sys::netns::Netns;
use crate::sys::netns_exec::enter_for_exec;
use crate::sys::terminal::{self, TerminalError};

use super::complete;
use super::error::{CliError, SIGNALLED};
use super::handover;
use super::name_files;
use super::port::port_name;
use super::target::Target;

/// Run a program in the network namespace of a container
#[derive(Debug, clap::Args)]
#[command(after_help = AFTER, after_long_help = AFTER_LONG)]
pub(super) struct ExecCommand {
    #[command(flatten)]
    target: Target,
    /// Container, or `host` for the namespace that the switch uses as the host
    #[arg(value_name = "PORT", value_parser = port_name, add = ArgValueCompleter::new(complete::ports))]
    container: String,
    /// Program and its arguments
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

const AFTER: &str = "\
Exit code: the program's; 128 + N if signal N ended it; 125 if uswitch failed, 126 if the program \
cannot be executed, 127 if it does not exist.

Example:
  uswitch exec container1 -- ping -c 3 container2";

const AFTER_LONG: &str = "\
exec is not a sandbox: the program gets another network namespace, but keeps the caller's user, capabilities, \
files, processes and environment. It inherits standard input, output and error, and no other open file.

/etc/hosts has the names of the ports, as they are now, /etc/resolv.conf the DNS server of the switch, if there \
is one, and /sys the devices of the container. A file in \
/etc/netns/NAME replaces the one of that name in /etc, as with `ip netns exec`.

On a terminal the program runs in a session of its own, on a pseudoterminal, so that it cannot type into the \
caller's shell (TIOCSTI). If its output goes into a pipe, it gets no keyboard input.

Exit code: the program's; 128 + N if signal N ended it; 125 if uswitch failed, 126 if the program \
cannot be executed, 127 if it does not exist.

Examples:
  uswitch exec container1 -- ping -c 3 container2
  uswitch exec container1 -- bash
  uswitch exec host -- ip address";

impl ExecCommand {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        self.enter().map_err(|error| CliError::Exec(Box::new(error)))?;
        let [program, arguments @ ..] = self.command.as_slice() else {
            let missing = "no program to run: see `uswitch exec --help`".to_owned();
            return Err(CliError::Exec(Box::new(CliError::Usage(missing))));
        };
        let mut command = Command::new(program);
        command.args(arguments);
        match terminal::run(command) {
            Ok(status) => Ok(exit_code(status)),
            Err(TerminalError::Execute(source)) => {
                Err(CliError::Program { program: program.display().to_string(), source })
            }
            Err(error) => Err(CliError::Exec(Box::new(error.into()))),
        }
    }

    /// Moves this process into the namespace.
    fn enter(&self) -> Result<(), CliError> {
        let client = self.target.client()?;
        let status: Status = client.get("/v1/status")?;
        let ports: Vec<PortReport> = client.get("/v1/ports")?;
        let files = name_files::files(&status, &ports);
        let port = match self.container.as_str() {
            name if is_host_port(name) => None,
            name => Some(find(name, ports)?),
        };
        let pid = client.pid()?;
        drop(client);
        match &port {
            Some(port) if port.polled && port.netns.is_some() => handover::enter_user_namespace(port)?,
            _ if status.sandboxed => sys::sandbox::join(pid).map_err(TopologyError::from)?,
            _ => {}
        }
        match port {
            Some(port) => enter(port, &files),
            None if status.sandboxed => Ok(()),
            None => {
                let host = PathBuf::from(format!("/proc/{pid}/ns/net"));
                Ok(enter_for_exec(&host, &files).map_err(TopologyError::from)?)
            }
        }
    }
}

fn find(name: &str, mut ports: Vec<PortReport>) -> Result<PortReport, CliError> {
    let names = || ports.iter().map(|port| port.ifname.clone());
    match names().position(|port| port == name) {
        Some(found) => Ok(ports.swap_remove(found)),
        None => Err(CliError::NoSuchPort { name: name.to_owned(), ports: names().collect() }),
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    let number = |number: i32| u8::try_from(number).unwrap_or(u8::MAX);
    match (status.code(), status.signal()) {
        (Some(code), _) => ExitCode::from(number(code)),
        (None, signal) => ExitCode::from(SIGNALLED.saturating_add(number(signal.unwrap_or(0)))),
    }
}

/// Enters a port's namespace. The name or the process id may belong to another namespace by now: that is refused.
fn enter(port: PortReport, files: &[(&str, String)]) -> Result<(), CliError> {
    if port.kind != PortKind::Tap {
        return Err(CliError::NoContainer(port.ifname));
    }
    let (Some(path), Some(ino), "UP" | "DOWN") = (&port.netns, port.netns_ino, port.operstate.as_str())
    else {
        return Err(CliError::PortGone(port.ifname));
    };
    enter_for_exec(Path::new(path), files).map_err(TopologyError::from)?;
    let here = Netns::current().and_then(|netns| netns.identity()).map_err(TopologyError::from)?;
    if here.ino == ino { Ok(()) } else { Err(CliError::PortGone(port.ifname)) }
}
