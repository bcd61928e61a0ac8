//! The status line of a switch in the foreground.

use std::io::{self, Write};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use crate::control::report::Status;
use crate::control::running::{Command, Handle};

use super::output::{counted, scaled};

/// Time between two updates.
const PERIOD: Duration = Duration::from_secs(1);
/// Longest wait for the last update: a terminal that is stopped (Ctrl-S) takes no output.
const END_TIMEOUT: Duration = Duration::from_secs(1);

/// A status line on the terminal. No message crosses the channels: dropping an end is the message.
#[derive(Debug)]
pub(super) struct StatusLine {
    stop: Sender<()>,
    ended: Receiver<()>,
}

impl StatusLine {
    /// Updates the line until the switch stops, on a separate thread, so that a stopped terminal blocks nothing
    /// else.
    pub(super) fn show(handle: Handle) -> io::Result<StatusLine> {
        let (stop, stopped) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let thread = std::thread::Builder::new().name("live".to_owned());
        thread.spawn(move || {
            let _end: Sender<()> = end;
            update(&handle, &stopped);
        })?;
        Ok(StatusLine { stop, ended })
    }

    /// Ends the line: later output begins a new one.
    pub(super) fn finish(self) {
        drop(self.stop);
        let _ = self.ended.recv_timeout(END_TIMEOUT);
    }
}

fn update(handle: &Handle, stopped: &Receiver<()>) {
    let mut before: Option<(Instant, Status)> = None;
    while let Ok(status) = handle.request_blocking(Command::Status) {
        let now = Instant::now();
        if let Some((then, earlier)) = &before {
            let text = line(&status, earlier, now - *then);
            // If the terminal is gone, SIGHUP ends the switch.
            let _ = write!(io::stdout(), "\r{text}\x1b[K").and_then(|()| io::stdout().flush());
        }
        before = Some((now, status));
        if stopped.recv_timeout(PERIOD) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    let _ = writeln!(io::stdout());
}

fn line(now: &Status, before: &Status, passed: Duration) -> String {
    let rate = |now: u64, before: u64| {
        let per_second = u128::from(now.saturating_sub(before)) * 1000 / passed.as_millis().max(1);
        u64::try_from(per_second).unwrap_or(u64::MAX)
    };
    format!(
        "{} of {} up, {} known, {}frames/s, {}bit/s",
        now.ports_up,
        counted(now.ports, "port"),
        counted(now.fdb, "address"),
        scaled(rate(now.rx_frames, before.rx_frames)),
        scaled(rate(now.rx_bytes, before.rx_bytes).saturating_mul(8)),
    )
}
