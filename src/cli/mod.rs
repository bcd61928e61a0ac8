//! What a person types and sees: one file per subcommand.
//!
//! A subcommand is a struct of arguments as typed, and `run`, which says how it went. What fails is one line on
//! standard error: `uswitch: what: what to do`, exit code 1, or 2 where the words typed make no sense. A pipe
//! that closes early ends the program quietly.

mod bench;
mod capture;
mod completions;
mod doctor;
mod error;
mod events;
mod exec;
mod fdb;
mod log;
mod ls;
mod man;
mod output;
mod port;
mod start;
mod stats;
mod status;
mod status_line;
mod stop;
mod target;
mod trace;
mod watch;

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

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
    Start(start::StartCommand),
    Doctor(doctor::DoctorCommand),
    Stop(stop::StopCommand),
    Status(status::StatusCommand),
    Ls(ls::LsCommand),
    Exec(exec::ExecCommand),
    Port(port::PortCommand),
    Fdb(fdb::FdbCommand),
    Stats(stats::StatsCommand),
    Log(log::LogCommand),
    Events(events::EventsCommand),
    Capture(capture::CaptureCommand),
    Trace(trace::TraceCommand),
    Bench(bench::BenchCommand),
    Watch(watch::WatchCommand),
    Completions(completions::CompletionsCommand),
    Man(man::ManCommand),
}

/// Runs the program with these arguments.
pub fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let outcome = match Cli::try_parse_from(args) {
        Ok(cli) => cli.command.run(),
        Err(error) => usage(&error),
    };
    outcome.unwrap_or_else(|error| {
        error.print();
        error.exit_code()
    })
}

impl Command {
    fn run(self) -> Result<ExitCode, CliError> {
        match self {
            Command::Start(start) => return start.run(),
            Command::Exec(exec) => return exec.run(),
            Command::Doctor(doctor) => return doctor.run(),
            Command::Stop(stop) => stop.run(),
            Command::Status(status) => status.run(),
            Command::Ls(ls) => ls.run(),
            Command::Port(port) => port.run(),
            Command::Fdb(fdb) => fdb.run(),
            Command::Stats(stats) => stats.run(),
            Command::Bench(bench) => bench.run(),
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

/// Help and version go to standard output; a mistake becomes one line.
fn usage(error: &clap::Error) -> Result<ExitCode, CliError> {
    use clap::error::ErrorKind;
    let text = error.render();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            output::print(&text.to_string())?;
            Ok(ExitCode::SUCCESS)
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            // Nowhere to complain if there is no standard error.
            let _ = write!(std::io::stderr(), "{text}");
            Ok(ExitCode::from(2))
        }
        _ => Err(CliError::Usage(one_line(&text.to_string()))),
    }
}

/// clap's paragraphs as a line: the mistake, its tip, and whose `--help` to read.
fn one_line(text: &str) -> String {
    let (mistake, rest) = text.split_once("Usage: ").unwrap_or((text, "uswitch"));
    let words = mistake.split_whitespace().collect::<Vec<_>>().join(" ");
    let mistake = words.strip_prefix("error: ").unwrap_or(&words).replace(" tip: ", "; ");
    let mistake = mistake.split(" For more information").next().unwrap_or_default();
    let command: Vec<&str> =
        rest.split_whitespace().take_while(|word| word.chars().all(|c| c.is_ascii_lowercase())).collect();
    format!("{mistake}: see `{} --help`", command.join(" "))
}

/// The whole command line, for completions, manual pages and the test of what the documents say.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_consistent() {
        command().debug_assert();
    }

    #[test]
    fn usage_error_is_one_line_with_advice() {
        let line = |args: &[&str]| one_line(&Cli::try_parse_from(args).unwrap_err().render().to_string());
        assert_eq!(
            line(&["uswitch", "start", "--prots", "3"]),
            "unexpected argument '--prots' found; a similar argument exists: '--ports': see `uswitch start --help`"
        );
        assert_eq!(
            line(&["uswitch", "start", "--engine", "dpdk"]),
            "invalid value 'dpdk' for '--engine <ENGINE>' [possible values: auto, uring, poll]: see `uswitch --help`"
        );
        assert_eq!(
            line(&["uswitch", "exec"]),
            "the following required arguments were not provided: <CONTAINER> <COMMAND>...: see `uswitch exec --help`"
        );
        assert!(line(&["uswitch", "frobnicate"]).starts_with("unrecognized subcommand 'frobnicate'"));
    }
}
