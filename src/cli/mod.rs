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
    command: CliCommand,
}

#[derive(Debug, Subcommand)]
enum CliCommand {
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

impl CliCommand {
    fn run(self) -> Result<ExitCode, CliError> {
        // The program of exec keeps the caller's disposition.
        if !matches!(self, CliCommand::Exec(_)) {
            limits::ignore_file_size_signal().map_err(CliError::io("ignore SIGXFSZ"))?;
        }
        match self {
            CliCommand::Start(start) => return start.run(),
            CliCommand::Exec(exec) => return exec.run(),
            CliCommand::Cni(cni) => return cni.run(),
            CliCommand::Netavark(netavark) => return netavark.run(),
            CliCommand::Doctor(doctor) => return doctor.run(),
            CliCommand::Stop(stop) => stop.run(),
            CliCommand::Status(status) => status.run(),
            CliCommand::Ls(ls) => ls.run(),
            CliCommand::Set(set) => set.run(),
            CliCommand::Port(port) => port.run(),
            CliCommand::Fdb(fdb) => fdb.run(),
            CliCommand::Mdb(mdb) => mdb.run(),
            CliCommand::Mirror(mirror) => mirror.run(),
            CliCommand::Stp(stp) => stp.run(),
            CliCommand::Dhcp(dhcp) => dhcp.run(),
            CliCommand::Vlan(vlan) => vlan.run(),
            CliCommand::Stats(stats) => stats.run(),
            CliCommand::Bench(bench) => bench.run(),
            CliCommand::DockerPlugin(plugin) => plugin.run(),
            CliCommand::Log(log) => log.run(),
            CliCommand::Events(events) => events.run(),
            CliCommand::Capture(capture) => capture.run(),
            CliCommand::Trace(trace) => trace.run(),
            CliCommand::Watch(watch) => watch.run(),
            CliCommand::Completions(completions) => completions.run(),
            CliCommand::Man(man) => man.run(),
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
