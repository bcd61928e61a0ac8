//! Errors of a measurement.

use std::io;

use nix::sys::signal::Signal;

use crate::sys::netlink::NetlinkError;
use crate::sys::netns::NetnsError;
use crate::sys::sandbox::SandboxError;
use crate::sys::tap::TapError;

/// Why nothing could be measured.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// iperf3, which generates TCP and UDP streams, is missing.
    #[error(
        "iperf3 is not installed: run `apt-get install iperf3`, or use --tests pps,rtt, which do not need it"
    )]
    NoIperf,
    /// No requested switch can be measured. The text has the reason for each.
    #[error("no switch can be measured: {0}")]
    NoPeers(String),
    /// Interrupted by a signal. Nothing is left behind.
    #[error("interrupted by {0}: everything was removed, and no report was written")]
    Interrupted(Signal),
    /// The user namespace could not be created.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// The namespaces could not be created, as reported by the isolated process.
    #[error("{0}")]
    NoNamespaces(String),
    /// A network namespace operation failed.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A device or address could not be configured.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// A TAP device could not be created.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A program failed. `message` is its last line of output.
    #[error("{program} failed: {message}")]
    Program {
        /** Which. */
        program: String,
        /** Its last line. */
        message: String,
    },
    /// The output of a program or the kernel could not be parsed.
    #[error("cannot parse the output of {program}: {fault}")]
    InvalidOutput {
        /** Which. */
        program: &'static str,
        /** What is wrong with it. */
        fault: String,
    },
    /// The switch forwards no frames.
    #[error("the switch forwards no frames: no reply within {0} s")]
    NoTraffic(u64),
    /// Another I/O error.
    #[error("cannot {what}: {source}")]
    Io {
        /** What was tried. */
        what: String,
        /** Why not. */
        source: io::Error,
    },
}

impl BenchError {
    /// Wraps an I/O error with a description of the failed action.
    pub(super) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> BenchError {
        let what = what.into();
        move |error| BenchError::Io { what, source: error.into() }
    }

    /// Creates an error from the output of a failed program.
    pub(super) fn program(program: &str, output: &[u8]) -> BenchError {
        let text = String::from_utf8_lossy(output);
        let last =
            text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it printed nothing");
        let program = program.rsplit('/').next().unwrap_or(program);
        let message = last.strip_prefix(&format!("{program}: ")).unwrap_or(last).to_owned();
        BenchError::Program { program: program.to_owned(), message }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_last_line_without_program_name() {
        let message_of = |text: &str| BenchError::program("/usr/bin/ovs-vsctl", text.as_bytes()).to_string();
        assert_eq!(message_of("a\novs-vsctl: no database\n\n"), "ovs-vsctl failed: no database");
        assert_eq!(message_of(""), "ovs-vsctl failed: it printed nothing");
    }
}
