//! The log of a running switch: one line per `tracing` event.
//!
//! Only control logs, never the forwarding path. Lines go to standard error, or to a file of bounded
//! size if the switch is detached. A thread writes them, so that a stopped terminal or an unread pipe
//! blocks nothing else. Lines that find the queue full are dropped and counted.

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
use crate::sys::confine;

/// Length of the line queue. Further lines are dropped.
const QUEUE_LENGTH: usize = 1024;
/// Size at which the log file is rotated, in bytes. One rotated file is kept.
const MAX_FILE_SIZE: u64 = 1 << 20;
/// Timeout of a flush.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// Log level. Each level includes those before it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// Log nothing
    #[default]
    Off,
    /// Errors that stop the switch
    Error,
    /// Unexpected changes, such as a deleted device
    Warn,
    /// Start and stop of the switch, added and deleted ports
    Info,
    /// API requests too
    Debug,
}

impl LogLevel {
    /// Its name on the command line.
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

/// State of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LogReport {
    /// Log level.
    pub level: LogLevel,
    /// Destination: a path, or `standard error`.
    pub to: String,
    /// Lines dropped because the queue was full.
    pub lost_lines: u64,
}

/// New settings of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewLog {
    /// Log level.
    pub level: LogLevel,
}

/// Where lines are written.
#[derive(Debug)]
pub(crate) enum LogDestination {
    Stderr,
    /// Standard error is a terminal with a status line, which each log line overwrites.
    LiveTerminal,
    /// A file, rotated at [`MAX_FILE_SIZE`]. Created with the first line.
    File(PathBuf),
}

/// The log file of a detached switch called `name`.
pub(crate) fn path(runtime: &Path, name: &str) -> PathBuf {
    runtime.join(format!("{name}.log"))
}

enum LogMessage {
    Line(Vec<u8>),
    /// Answered when everything before it is written.
    Flush(Sender<()>),
}

/// A running log.
#[derive(Debug, Clone)]
pub(crate) struct Log {
    filter: reload::Handle<LevelFilter, Registry>,
    dispatch: Dispatch,
    lines: LineSender,
    to: Arc<str>,
}

impl Log {
    /// Starts the log's thread. [`Log::install`] makes it the log of the process.
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

    /// Sends all events of the process to this log.
    pub(crate) fn install(&self) {
        // A process runs one switch and has one log.
        let _ = tracing::dispatcher::set_global_default(self.dispatch.clone());
    }

    /// Reports level, destination and losses.
    pub(crate) fn report(&self) -> LogReport {
        let level = self.filter.clone_current().unwrap_or(LevelFilter::OFF).into();
        LogReport { level, to: self.to.to_string(), lost_lines: self.lines.lost.load(Ordering::Relaxed) }
    }

    /// Changes the level.
    pub(crate) fn set(&self, level: LogLevel) {
        // It fails only if the subscriber is gone, and `dispatch` holds it.
        let _ = self.filter.reload(LevelFilter::from(level));
    }

    /// Waits until queued lines are written, at most twice [`FLUSH_TIMEOUT`].
    pub(crate) fn flush(&self) {
        let (written, done) = bounded(1);
        if self.lines.sender.send_timeout(LogMessage::Flush(written), FLUSH_TIMEOUT).is_ok() {
            let _ = done.recv_timeout(FLUSH_TIMEOUT);
        }
    }
}

/// Queues lines. Never waits.
#[derive(Debug, Clone)]
struct LineSender {
    sender: Sender<LogMessage>,
    lost: Arc<AtomicU64>,
}

impl Write for LineSender {
    /// `tracing_subscriber::fmt` writes each line with one call.
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

/// The log's thread. A failed write cannot be reported anywhere.
fn write_all(messages: &Receiver<LogMessage>, mut output: LogOutput) {
    // It writes the user's own files, which it can do with the capabilities of a start, too.
    let _ = confine::drop_capabilities();
    for message in messages {
        match message {
            LogMessage::Line(line) => _ = output.write(&line),
            LogMessage::Flush(written) => _ = written.send(()),
        }
    }
}

/// An open destination.
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

/// Creates a file with mode 0600, in place of that of an earlier switch.
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

/// Removes the files of a log, if there are any.
pub(crate) fn remove(path: &Path) {
    for path in [path, &rotated(path)] {
        // The file may not exist.
        let _ = fs::remove_file(path);
    }
}
