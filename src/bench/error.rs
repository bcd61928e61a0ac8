//! Why there is no measurement.

use std::io;

use nix::sys::signal::Signal;

use crate::sys::netlink::NetlinkError;
use crate::sys::netns::NetnsError;
use crate::sys::sandbox::SandboxError;
use crate::sys::tap::TapError;

/// Why there is no measurement.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// The generator of TCP and UDP streams is missing.
    #[error("iperf3 is not installed: `apt-get install iperf3`, or ask for --tests pps,rtt, which need none")]
    NoIperf,
    /// None of the switches asked for can be measured; why is said of each.
    #[error("there is nothing to measure: {0}")]
    NoPeers(String),
    /// Ctrl-C or another signal; nothing is left behind.
    #[error("interrupted by {0}: nothing is left behind, and nothing was reported")]
    Interrupted(Signal),
    /// No namespaces.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
    /// No namespaces either, as the one in them says.
    #[error("{0}")]
    NoNamespaces(String),
    /// One of the namespaces.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A device, an address.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// No TAP devices.
    #[error(transparent)]
    Tap(#[from] TapError),
    /// A program failed; its last words.
    #[error("{program} failed: {message}")]
    Program {
        /** Which. */
        program: String,
        /** Its last line. */
        message: String,
    },
    /// A program's answer makes no sense.
    #[error("the answer of {program} cannot be read: {fault}")]
    InvalidOutput {
        /** Which. */
        program: &'static str,
        /** What is wrong with it. */
        fault: String,
    },
    /// The switch does not carry frames.
    #[error("nothing comes through: no answer within {0} s")]
    NoTraffic(u64),
    /// Anything else.
    #[error("cannot {what}: {source}")]
    Io {
        /** What was tried. */
        what: String,
        /** Why not. */
        source: io::Error,
    },
}

impl BenchError {
    /// An input or output error, and what was tried.
    pub(super) fn io<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> BenchError {
        let what = what.into();
        move |error| BenchError::Io { what, source: error.into() }
    }

    /// A program failed, having said this.
    pub(super) fn program(program: &str, output: &[u8]) -> BenchError {
        let text = String::from_utf8_lossy(output);
        let last =
            text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("it said nothing");
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
        let said = |text: &str| BenchError::program("/usr/bin/ovs-vsctl", text.as_bytes()).to_string();
        assert_eq!(said("a\novs-vsctl: no database\n\n"), "ovs-vsctl failed: no database");
        assert_eq!(said(""), "ovs-vsctl failed: it said nothing");
    }
}
