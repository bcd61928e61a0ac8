//! Why a command failed, and how the program says so.

use std::io::{self, Write};
use std::process::ExitCode;

use crate::bench::BenchError;
use crate::bench::report::ReportError;
use crate::control::ConfigError;
use crate::control::client::ClientError;
use crate::control::topology::TopologyError;
use crate::sys::runtime_dir::RuntimeDirError;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum CliError {
    /// Words that make no sense.
    #[error("{0}")]
    Usage(String),
    #[error(transparent)]
    Config(#[from] ConfigError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Topology(#[from] TopologyError),
    #[error(transparent)]
    Runtime(#[from] RuntimeDirError),
    #[error(transparent)]
    Bench(#[from] BenchError),
    #[error(transparent)]
    Report(#[from] ReportError),
    /// Running, but not to be spoken to.
    #[error("the switch '{0}' is starting or stopping: try again in a moment")]
    Busy(String),
    #[error("there is no port named {0}: `uswitch port show` lists them")]
    NoSuchPort(String),
    #[error("the device of {0} is gone, or its namespace: `uswitch port del {0}`, and add it again")]
    PortGone(String),
    #[error("cannot {what}: {source}")]
    Io { what: String, source: io::Error },
    /// Each a line.
    #[error("{}", .0.join("\n"))]
    Several(Vec<String>),
    /// Whoever reads our output has seen enough, or does not read and a signal ends us.
    #[error("the reader of the output has gone")]
    BrokenPipe,
    /// `watch` has nothing to draw on.
    #[error(
        "watch draws on a terminal, and standard output is none: `uswitch stats` and `uswitch events` print"
    )]
    NoTerminal,
    /// `exec` could not run the program.
    #[error("{program}: {source}")]
    Program { program: String, source: io::Error },
}

impl CliError {
    /// An input or output error, and what was tried.
    pub(super) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> CliError {
        let what = what.into();
        move |source| CliError::Io { what, source }
    }

    /// Says so on standard error, in lines that start with the program's name.
    pub(super) fn print(&self) {
        if matches!(self, CliError::BrokenPipe) {
            return;
        }
        for line in self.to_string().lines() {
            // Nowhere to complain if there is no standard error.
            let _ = writeln!(io::stderr(), "uswitch: {line}");
        }
    }

    /// 2 for words that make no sense, as everywhere; 126 and 127 as a shell has them.
    pub(super) fn exit_code(&self) -> ExitCode {
        match self {
            CliError::BrokenPipe => ExitCode::SUCCESS,
            CliError::Usage(_) | CliError::Config(_) => ExitCode::from(2),
            CliError::Bench(BenchError::Interrupted(signal)) => {
                // As shells say it.
                ExitCode::from(128 + u8::try_from(*signal as i32).unwrap_or(0))
            }
            CliError::Program { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                ExitCode::from(127)
            }
            CliError::Program { .. } => ExitCode::from(126),
            _ => ExitCode::FAILURE,
        }
    }
}
