//! The signals that end a switch.

use std::io;

use futures_util::FutureExt;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Hears Ctrl-C, `kill`, and the terminal going away. From [`Signals::listen`] on none of them ends the process, so
/// that a second Ctrl-C does not break off the clearing up.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Starts to hear. Called inside the runtime.
    pub(crate) fn listen() -> io::Result<Signals> {
        Ok(Signals {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Resolves when the next one comes. Cancel-safe.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }

    /// Whether one has come since the last call of this or of [`Signals::next`].
    pub(crate) fn pending(&mut self) -> bool {
        self.next().now_or_never().is_some()
    }
}
