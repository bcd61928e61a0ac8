//! The command line: one file per subcommand.
//!
//! A subcommand is a struct of its arguments and a `run` method. One rule for what a command is about: ports and MAC
//! addresses are positional arguments, the switch is `--name`. An error is one line on standard error,
//! `uswitch: what failed: what to do`, with exit code 1, or 2 for wrong arguments. A reader that closes the output
//! ends the program quietly.

mod bench;
mod capture;
mod cni;
mod complete;
mod completions;
mod dhcp;
mod docker_plugin;
mod doctor;
mod error;
mod events;
mod exec;
mod fdb;
mod handover;
mod impair;
mod labels;
mod limit;
mod log;
mod ls;
mod man;
mod mdb;
mod mirror;
mod name_files;
mod netavark;
mod options;
mod output;
mod plugin;
mod port;
mod port_set;
mod publish;
mod set;
mod start;
mod stats;
mod status;
mod status_line;
mod stop;
mod stp;
mod target;
mod trace;
mod usage;
mod values;
mod vlan;
mod vlan_args;
mod watch;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{FromArgMatches, Parser, Subcommand};
use clap_complete::CompleteEnv;

use crate::sys::limits;

use error::CliError;

/// An Ethernet switch in user space for Linux containers
#[derive(Debug, Parser)]
#[command(name = "uswitch", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Start(Box<start::StartCommand>),
    Stop(stop::StopCommand),
    Status(status::StatusCommand),
    Ls(ls::LsCommand),
    Exec(exec::ExecCommand),
    Set(set::SetCommand),
    Port(port::PortCommand),
    Fdb(fdb::FdbCommand),
    Mdb(mdb::MdbCommand),
    Mirror(mirror::MirrorCommand),
    Stp(stp::StpCommand),
    Dhcp(dhcp::DhcpCommand),
    Vlan(vlan::VlanCommand),
    Stats(stats::StatsCommand),
    Watch(watch::WatchCommand),
    Events(events::EventsCommand),
    Trace(trace::TraceCommand),
    Capture(capture::CaptureCommand),
    Log(log::LogCommand),
    Doctor(doctor::DoctorCommand),
    Bench(bench::BenchCommand),
    Cni(cni::CniCommand),
    Netavark(netavark::NetavarkCommand),
    DockerPlugin(docker_plugin::DockerPluginCommand),
    Completions(completions::CompletionsCommand),
    Man(man::ManCommand),
}

/// Runs the program with these arguments.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args = plugin::with_subcommand(args.collect());
    let outcome = complete(&args).and_then(|completed| match completed {
        true => Ok(ExitCode::SUCCESS),
        false => parse(&args).map_or_else(|error| usage(&error, &args), |cli| cli.command.run()),
    });
    outcome.unwrap_or_else(|error| {
        error.print();
        error.exit_code()
    })
}

/// Answers a shell that asks for completions.
fn complete(args: &[OsString]) -> Result<bool, CliError> {
    let directory = std::env::current_dir().ok();
    let completed = CompleteEnv::with_factory(command).try_complete(args.to_vec(), directory.as_deref());
    completed.map_err(|error| CliError::Usage(error.to_string()))
}

fn parse(args: &[OsString]) -> Result<Cli, clap::Error> {
    let mut matches = command().try_get_matches_from(args)?;
    Cli::from_arg_matches_mut(&mut matches)
}

impl Command {
    fn run(self) -> Result<ExitCode, CliError> {
        // The program of exec keeps the caller's disposition.
        if !matches!(self, Command::Exec(_)) {
            limits::ignore_file_size_signal().map_err(CliError::io("ignore SIGXFSZ"))?;
        }
        match self {
            Command::Start(start) => return start.run(),
            Command::Exec(exec) => return exec.run(),
            Command::Cni(cni) => return cni.run(),
            Command::Netavark(netavark) => return netavark.run(),
            Command::Doctor(doctor) => return doctor.run(),
            Command::Stop(stop) => stop.run(),
            Command::Status(status) => status.run(),
            Command::Ls(ls) => ls.run(),
            Command::Set(set) => set.run(),
            Command::Port(port) => port.run(),
            Command::Fdb(fdb) => fdb.run(),
            Command::Mdb(mdb) => mdb.run(),
            Command::Mirror(mirror) => mirror.run(),
            Command::Stp(stp) => stp.run(),
            Command::Dhcp(dhcp) => dhcp.run(),
            Command::Vlan(vlan) => vlan.run(),
            Command::Stats(stats) => stats.run(),
            Command::Bench(bench) => bench.run(),
            Command::DockerPlugin(plugin) => plugin.run(),
            Command::Log(log) => log.run(),
            Command::Events(events) => events.run(),
            Command::Capture(capture) => capture.run(),
            Command::Trace(trace) => trace.run(),
            Command::Watch(watch) => watch.run(),
            Command::Completions(completions) => completions.run(),
            Command::Man(man) => man.run(),
        }
        .map(|()| ExitCode::SUCCESS)
    }
}

/// Prints help and version on standard output; turns a mistake into one line.
fn usage(error: &clap::Error, args: &[OsString]) -> Result<ExitCode, CliError> {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&error.render().to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // If standard error is closed, the message is lost.
            let _ = write!(std::io::stderr(), "{}", error.render());
            Ok(ExitCode::from(2))
        }
        _ => {
            let wrong = CliError::Usage(usage::message(error, args));
            let is_exec = usage::command_path(args).get(1).is_some_and(|command| command == "exec");
            Err(if is_exec { CliError::Exec(Box::new(wrong)) } else { wrong })
        }
    }
}

/// The whole command line, for parsing, completions, manual pages and the test of the documents.
pub fn command() -> clap::Command {
    fn accept_negative_numbers(command: clap::Command) -> clap::Command {
        // So that -1 is refused as a value out of range, and not as an unknown option.
        let command = command.mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.allow_negative_numbers(true),
            false => arg,
        });
        command.mut_subcommands(accept_negative_numbers)
    }
    accept_negative_numbers(<Cli as clap::CommandFactory>::command())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        command().debug_assert();
    }
}
