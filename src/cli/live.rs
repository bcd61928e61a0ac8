//! The line that a switch in the foreground keeps up to date on its terminal.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use crate::control::report::Status;
use crate::control::running::{Command, Handle};

use super::output::{counted, scaled};

/// Between two lines.
const PERIOD: Duration = Duration::from_secs(1);

/// Keeps the line up to date until the switch stops, on a thread of its own: a terminal that was stopped (Ctrl-S) stops
/// nothing else.
pub(super) fn show(handle: Handle) -> io::Result<()> {
    let thread = std::thread::Builder::new().name("live".to_owned());
    thread.spawn(move || keep_up(&handle)).map(drop)
}

fn keep_up(handle: &Handle) {
    let mut before: Option<(Instant, Status)> = None;
    while let Ok(status) = handle.ask_blocking(Command::Status) {
        let now = Instant::now();
        if let Some((then, earlier)) = &before {
            let text = line(&status, earlier, now - *then);
            // A terminal that went away ends the switch by SIGHUP.
            let _ = write!(io::stdout(), "\r{text}\x1b[K").and_then(|()| io::stdout().flush());
        }
        before = Some((now, status));
        std::thread::sleep(PERIOD);
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
