//! Errors of the commands, how they are printed, and their exit codes.

use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::bench::BenchError;
use crate::bench::report::ReportError;
use crate::control::ConfigError;
use crate::control::client::ClientError;
use crate::control::report::ErrorCode;
use crate::control::topology::TopologyError;
use crate::runtimes::docker::DockerError;
use crate::sys::runtime_dir::RuntimeDirError;
use crate::sys::terminal::TerminalError;
use crate::wire::Mac;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// The arguments are wrong.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Docker(#[from] DockerError),
    #[error(transparent)]
    Runtime(#[from] RuntimeDirError),
    #[error(transparent)]
    Terminal(#[from] TerminalError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The process exists but does not serve its API.
    #[error("the switch '{0}' is starting or stopping: try again in a moment")]
    Busy(String),
    #[error("no switch named {name} is running, and none left anything behind{}", running_switches(running))]
    NothingToStop { name: String, running: Vec<String> },
    #[error("no port named {}: {}", shown(name), list(ports))]
    NoSuchPort { name: String, ports: Vec<String> },
    #[error("no entry for {0} in the forwarding database: `uswitch fdb show` lists the entries")]
    NoFdbEntry(Mac),
    #[error("the device or the namespace of {0} is gone: `uswitch port del {0}`, then add the port again")]
    PortGone(String),
    #[error("{0} is not a container: other hosts are behind its device")]
    NoContainer(String),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    /// One error a line.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// The reader of the output has closed it, or a signal ended a write to a reader that does not read.
    #[error("the reader of the output has closed it")]
    BrokenPipe,
    #[error(
        "watch needs a terminal, and standard output is not one: use `uswitch stats` or `uswitch events`"
    )]
    NoTerminal,
    /// A switch without root and a namespace that is not its user's.
    #[error(
        "the network namespace {netns} {why}: a switch without root attaches only containers of its own user"
    )]
    ForeignNetns { netns: String, why: String },
    /// `exec` could not start the program.
    #[error("cannot run {}: {source}", shown(program))]
    Program { program: String, source: io::Error },
    /// `exec` failed before it started the program.
    #[error("{0}")]
    Exec(Box<CliError>),
}

/// Exit code of `exec` for its own errors, as of docker(1), timeout(1) and chroot(1): programs rarely use it.
pub(super) const EXEC_FAILED: u8 = 125;
/// Exit codes of a shell for a program that cannot be executed, and for one that does not exist.
const CANNOT_EXECUTE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// A shell's exit code for a program that a signal ended, less the number of the signal.
pub(super) const SIGNALLED: u8 = 128;

/// Longest line that an error prints, in characters: arguments may be of any length.
const MAX_LINE: usize = 600;

fn running_switches(running: &[String]) -> String {
    match running {
        [] => String::new(),
        running => format!(" (running: {}): choose one with --name", running.join(", ")),
    }
}

/// The word, visible even if it is empty.
fn shown(word: &str) -> &str {
    if word.is_empty() { "''" } else { word }
}

fn list(ports: &[String]) -> String {
    /// Ports that a line names.
    const MAX_NAMED: usize = 8;
    match ports {
        [] => "the switch has no ports".to_owned(),
        ports if ports.len() <= MAX_NAMED => format!("the ports are {}", ports.join(", ")),
        _ => "`uswitch port show` lists the ports".to_owned(),
    }
}

impl CliError {
    /// Wraps an I/O error with what was tried.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> CliError {
        let what = what.into();
        move |source| CliError::Io { what, source }
    }

    /// Prints the error on standard error, each line prefixed with the program's name.
    pub(super) fn print(&self) {
        if self.is_broken_pipe() {
            return;
        }
        let lines = match self {
            CliError::Several(lines) => lines.clone(),
            CliError::Client(ClientError::Refused { error, code }) => vec![with_advice(error, *code)],
            error => vec![error.to_string()],
        };
        for line in lines {
            // If standard error is closed, the message is lost.
            let _ = writeln!(io::stderr(), "uswitch: {}", printable(&line));
        }
    }

    const fn is_broken_pipe(&self) -> bool {
        matches!(self, CliError::BrokenPipe)
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            CliError::BrokenPipe => ExitCode::SUCCESS,
            CliError::Usage(_) | CliError::Config(_) => ExitCode::from(2),
            CliError::Bench(BenchError::Interrupted(signal)) => {
                ExitCode::from(SIGNALLED + u8::try_from(*signal as i32).unwrap_or(0))
            }
            CliError::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ExitCode::from(NOT_FOUND)
            }
            CliError::Program { .. } => ExitCode::from(CANNOT_EXECUTE),
            CliError::Exec(_) => ExitCode::from(EXEC_FAILED),
            _ => ExitCode::FAILURE,
        }
    }
}

/// The error, and the option or command that helps.
pub(super) fn with_advice(error: impl fmt::Display, code: Option<ErrorCode>) -> String {
    match code {
        Some(ErrorCode::OffloadRefused) => format!("{error}: try --no-offload"),
        Some(ErrorCode::FilterSyntax) => {
            format!("{error}: `uswitch capture --help` lists what there is")
        }
        None => error.to_string(),
    }
}

/// The line without control characters, which a terminal would obey, and of bounded length.
fn printable(line: &str) -> String {
    let mut text = String::with_capacity(line.len().min(MAX_LINE));
    let length = line.chars().count();
    let (head, tail) = (MAX_LINE / 2, length.saturating_sub(MAX_LINE / 2));
    for (at, c) in line.chars().enumerate() {
        match c {
            _ if length > MAX_LINE && (head..tail).contains(&at) => {
                if at == head {
                    text.push('…');
                }
            }
            c if c.is_control() => text.extend(c.escape_default()),
            c => text.push(c),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_lines_are_short_and_have_no_control_characters() {
        assert_eq!(printable("a\x1b[31mb\tü"), "a\\u{1b}[31mb\\tü");
        let long = printable(&"x".repeat(100_000));
        assert_eq!((long.chars().count(), long.matches('…').count()), (MAX_LINE + 1, 1));
        assert_eq!(printable(&"y".repeat(MAX_LINE)), "y".repeat(MAX_LINE));
        assert_eq!(printable("two\nlines"), "two\\nlines");
    }

    #[test]
    fn errors_with_a_code_come_with_advice() {
        assert_eq!(with_advice("refused", Some(ErrorCode::OffloadRefused)), "refused: try --no-offload");
        assert!(with_advice("x", Some(ErrorCode::FilterSyntax)).contains("`uswitch capture --help`"));
        assert_eq!(with_advice("x", None), "x");
    }

    #[test]
    fn unknown_port_error_lists_ports() {
        let error = |ports: &[&str]| {
            let ports = ports.iter().map(ToString::to_string).collect();
            CliError::NoSuchPort { name: "web".to_owned(), ports }.to_string()
        };
        assert_eq!(error(&["container1", "host"]), "no port named web: the ports are container1, host");
        assert_eq!(error(&["p"; 9]), "no port named web: `uswitch port show` lists the ports");
    }
}
