//! What a running switch does, for its operator: the events of `tracing`, a line each.
//!
//! Only control says something, never what a frame passes. LineSender go to standard error, or, when nobody is there to
//! read that, to a file of bounded size. A thread of its own writes them, so that a terminal that was stopped and a
//! pipe that nobody reads stop nothing else; lines that find too many waiting are lost, and counted.

#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};
use serde::{Deserialize, Serialize};
use tracing::Dispatch;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::{Registry, fmt, reload};
use utoipa::ToSchema;

use crate::sys::append::append_whole;

/// LineSender that wait to be written; more are lost.
const QUEUE_LENGTH: usize = 1024;
/// Longest log file, in bytes, but for its last line. The one before it stays beside it.
const MAX_FILE_SIZE: u64 = 1 << 20;
/// How long the last lines may take.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Which events become lines: those of a level and of all before it.
#[derive(
    Debug,
    Clone,
    Copy,
    Default,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    clap::ValueEnum,
    Serialize,
    Deserialize,
    ToSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// None
    #[default]
    Off,
    /// What ends the switch
    Error,
    /// What should not be, such as a device that somebody deleted
    Warn,
    /// What comes and goes: the switch, its ports
    Info,
    /// What is asked over the API, too
    Debug,
}

impl LogLevel {
    /// As typed.
    pub const fn name(self) -> &'static str {
        match self {
            LogLevel::Off => "off",
            LogLevel::Error => "error",
            LogLevel::Warn => "warn",
            LogLevel::Info => "info",
            LogLevel::Debug => "debug",
        }
    }
}

impl From<LogLevel> for LevelFilter {
    fn from(level: LogLevel) -> LevelFilter {
        match level {
            LogLevel::Off => LevelFilter::OFF,
            LogLevel::Error => LevelFilter::ERROR,
            LogLevel::Warn => LevelFilter::WARN,
            LogLevel::Info => LevelFilter::INFO,
            LogLevel::Debug => LevelFilter::DEBUG,
        }
    }
}

impl From<LevelFilter> for LogLevel {
    fn from(filter: LevelFilter) -> LogLevel {
        match filter {
            LevelFilter::OFF => LogLevel::Off,
            LevelFilter::ERROR => LogLevel::Error,
            LevelFilter::WARN => LogLevel::Warn,
            LevelFilter::INFO => LogLevel::Info,
            _ => LogLevel::Debug,
        }
    }
}

/// The log of a running switch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogReport {
    /// Which events become lines.
    pub level: LogLevel,
    /// Where they go: a path, or `standard error`.
    pub to: String,
    /// LineSender that were lost because too many waited.
    pub lost_lines: u64,
}

/// What to change of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLog {
    /// Which events become lines from now on.
    pub level: LogLevel,
}

/// Where lines go.
#[derive(Debug)]
pub(crate) enum LogDestination {
    Stderr,
    /// Standard error is a terminal on which a line is kept up to date: ours first takes its place.
    LiveTerminal,
    /// At most twice [`MAX_FILE_SIZE`]. Made with the first line.
    File(PathBuf),
}

/// Where the switch called `name` logs when it has no terminal.
pub(crate) fn path(runtime: &Path, name: &str) -> PathBuf {
    runtime.join(format!("{name}.log"))
}

enum LogMessage {
    Line(Vec<u8>),
    /// Answered when all before it is written.
    Flush(Sender<()>),
}

/// A log that writes.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    filter: reload::Handle<LevelFilter, Registry>,
    dispatch: Dispatch,
    lines: LineSender,
    to: Arc<str>,
}

impl Log {
    /// A log on a thread of its own; [`Log::install`] makes it that of the process.
    pub(crate) fn start(level: LogLevel, destination: LogDestination) -> io::Result<Log> {
        let to = match &destination {
            LogDestination::Stderr | LogDestination::LiveTerminal => "standard error".into(),
            LogDestination::File(path) => path.display().to_string().into(),
        };
        let (sender, messages) = bounded(QUEUE_LENGTH);
        let lines = LineSender { sender, lost: Arc::default() };
        let (filter, handle) = reload::Layer::new(LevelFilter::from(level));
        let layer = fmt::layer().with_ansi(false).with_target(false).with_writer(lines.clone());
        let dispatch = Dispatch::new(Registry::default().with(filter).with(layer));
        let thread = std::thread::Builder::new().name("log".to_owned());
        thread.spawn(move || write_all(&messages, LogOutput::new(destination)))?;
        Ok(Log { filter: handle, dispatch, lines, to })
    }

    /// From now on this is where all events go.
    pub(crate) fn install(&self) {
        // There is one switch in a process, and one log.
        let _ = tracing::dispatcher::set_global_default(self.dispatch.clone());
    }

    /// How it is.
    pub(crate) fn report(&self) -> LogReport {
        let level = self.filter.clone_current().unwrap_or(LevelFilter::OFF).into();
        LogReport { level, to: self.to.to_string(), lost_lines: self.lines.lost.load(Ordering::Relaxed) }
    }

    /// Changes which events become lines.
    pub(crate) fn set(&self, level: LogLevel) {
        // Fails only for a subscriber that is no more, and we hold it.
        let _ = self.filter.reload(LevelFilter::from(level));
    }

    /// Waits until what was said is written, but not for ever.
    pub(crate) fn flush(&self) {
        let (written, done) = bounded(1);
        if self.lines.sender.send_timeout(LogMessage::Flush(written), FLUSH_TIMEOUT).is_ok() {
            let _ = done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Takes lines and never waits.
#[derive(Debug, Clone)]
struct LineSender {
    sender: Sender<LogMessage>,
    lost: Arc<AtomicU64>,
}

impl Write for LineSender {
    /// `tracing_subscriber::fmt` writes each line whole.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if self.sender.try_send(LogMessage::Line(line.to_vec())).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for LineSender {
    type Writer = LineSender;

    fn make_writer(&self) -> LineSender {
        self.clone()
    }
}

/// The thread. What cannot be written has nowhere to be told.
fn write_all(messages: &Receiver<LogMessage>, mut output: LogOutput) {
    for message in messages {
        match message {
            LogMessage::Line(line) => _ = output.write(&line),
            LogMessage::Flush(written) => _ = written.send(()),
        }
    }
}

/// A destination in use.
struct LogOutput {
    destination: LogDestination,
    file: Option<(File, u64)>,
}

impl LogOutput {
    fn new(destination: LogDestination) -> LogOutput {
        LogOutput { destination, file: None }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        match &self.destination {
            LogDestination::Stderr => io::stderr().write_all(line),
            LogDestination::LiveTerminal => io::stderr().write_all(&[b"\r\x1b[K", line].concat()),
            LogDestination::File(path) => {
                let full = self.file.as_ref().is_some_and(|(_, length)| *length >= MAX_FILE_SIZE);
                if full {
                    fs::rename(path, rotated(path))?;
                    self.file = None;
                }
                let (file, length) = match &mut self.file {
                    Some(open) => open,
                    none => none.insert((create(path)?, 0)),
                };
                append_whole(file, line)?;
                *length += line.len() as u64;
                Ok(())
            }
        }
    }
}

/// A new file that only its owner reads, in the place of one that an earlier switch left.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn rotated(path: &Path) -> PathBuf {
    path.with_extension("log.1")
}

/// Takes the files of a log away, if there are any.
pub(crate) fn remove(path: &Path) {
    for path in [path, &rotated(path)] {
        // Mostly there is none.
        let _ = fs::remove_file(path);
    }
}
