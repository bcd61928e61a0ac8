//! The signals that stop a switch.

use std::{fs, io};

use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Receives SIGINT, SIGTERM, SIGHUP and SIGQUIT. After [`TerminationSignals::listen`] none of them ends the process, so
/// a second Ctrl-C does not interrupt the cleanup. A signal that was ignored when the process started stays ignored:
/// SIGHUP under nohup(1), SIGINT of a script's `&`.
#[derive(Debug)]
pub(crate) struct TerminationSignals {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
    quit: Option<Signal>,
}

impl TerminationSignals {
    /// Installs the handlers. Called inside the runtime.
    pub(crate) fn listen() -> io::Result<TerminationSignals> {
        let ignored = ignored(&fs::read_to_string("/proc/self/status")?);
        let register = |kind: SignalKind| {
            let bit = 1 << (kind.as_raw_value() - 1);
            if ignored & bit == 0 { signal(kind).map(Some) } else { Ok(None) }
        };
        Ok(TerminationSignals {
            interrupt: register(SignalKind::interrupt())?,
            terminate: register(SignalKind::terminate())?,
            hang_up: register(SignalKind::hangup())?,
            quit: register(SignalKind::quit())?,
        })
    }

    /// Resolves when the next signal arrives. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            () = recv(&mut self.interrupt) => {}
            () = recv(&mut self.terminate) => {}
            () = recv(&mut self.hang_up) => {}
            () = recv(&mut self.quit) => {}
        }
    }

    /// Whether a signal has arrived since the last call of this or of [`TerminationSignals::next`].
    pub(crate) fn pending(&mut self) -> bool {
        self.next().now_or_never().is_some()
    }
}

/// The signals that a process ignores: bit `n - 1` for signal `n` (`SigIgn` in proc_pid_status(5)).
fn ignored(status: &str) -> u64 {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

/// Resolves when the signal arrives: never, if it is ignored.
async fn recv(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => _ = signal.recv().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_ignored_signals() {
        let status = "Name:\tuswitch\nSigBlk:\tffffffffffffffff\nSigIgn:\t0000000000001001\nSigCgt:\t0\n";
        assert_eq!(ignored(status), 1 << 12 | 1, "SIGPIPE (13) and SIGHUP (1)");
        assert_eq!(ignored(""), 0);
    }
}
