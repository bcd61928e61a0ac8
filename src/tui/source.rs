//! Threads that send messages to the main loop: snapshots, events, keys, signals.

use std::future;
use std::io;
use std::ops::ControlFlow;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};

use super::app::KeyAction;
use super::screen::restore_input;
use super::snapshot::Snapshot;
use crate::control::client::{ApiClient, ClientError, StreamEnd};
use crate::control::event::Event;
use crate::control::format::counted;
use crate::control::report::FlushReport;
use crate::control::signals::TerminationSignals;

/// Time between two snapshots.
const PERIOD: Duration = Duration::from_millis(500);
/// Pause after a snapshot, as a multiple of the time that it took.
const IDLE_FACTOR: u32 = 4;
/// Snapshots in a row that may fail before the screen ends.
const RETRIES: u32 = 3;
/// Past events to show at the start.
const BACKLOG: usize = 200;
/// Longest delay of the exit after a signal, if the terminal takes no output.
const EXIT_TIMEOUT: Duration = Duration::from_secs(2);

/// A message to the main loop.
#[derive(Debug)]
pub(super) enum WatchMessage {
    Snapshot(Box<Snapshot>),
    Event(Event),
    /// The stream of events ended, and why.
    EventsEnded(String),
    /// Outcome of a request.
    Notice(String),
    Key(KeyEvent),
    Resized,
    Interrupted,
    /// The switch has stopped.
    Stopped,
    Failed(ClientError),
}

/// Starts all threads but the one for signals. Returns the sender for requests.
pub(super) fn start(
    client: Arc<ApiClient>,
    began: Instant,
    messages: &SyncSender<WatchMessage>,
) -> io::Result<Sender<KeyAction>> {
    let (requests, received) = mpsc::channel();
    let (poller, follower, requester) = (Arc::clone(&client), Arc::clone(&client), client);
    spawn("poll", messages, move |messages| poll_snapshots(&poller, began, &messages))?;
    spawn("events", messages, move |messages| follow_events(&follower, &messages))?;
    spawn("orders", messages, move |messages| serve_requests(&requester, &received, &messages))?;
    spawn("keys", messages, |messages| read_keys(&messages))?;
    Ok(requests)
}

fn spawn(
    name: &str,
    messages: &SyncSender<WatchMessage>,
    work: impl FnOnce(SyncSender<WatchMessage>) + Send + 'static,
) -> io::Result<()> {
    let messages = messages.clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || work(messages)).map(drop)
}

fn poll_snapshots(client: &ApiClient, began: Instant, messages: &SyncSender<WatchMessage>) {
    let mut failed = 0;
    loop {
        let asked = Instant::now();
        let message = match Snapshot::read(client, began.elapsed()) {
            Ok(snapshot) => {
                failed = 0;
                Some(WatchMessage::Snapshot(Box::new(snapshot)))
            }
            Err(ClientError::NotRunning { .. }) => Some(WatchMessage::Stopped),
            // A switch that is stopping may close the connection: the end of the events reports it.
            Err(error) => {
                failed += 1;
                (failed == RETRIES).then_some(WatchMessage::Failed(error))
            }
        };
        if message.is_some_and(|message| messages.send(message).is_err()) {
            return;
        }
        thread::sleep(PERIOD.max(asked.elapsed() * IDLE_FACTOR));
    }
}

fn follow_events(client: &ApiClient, messages: &SyncSender<WatchMessage>) {
    let end = client.lines(&format!("/v1/events?follow=true&last={BACKLOG}"), future::pending(), |line| {
        // An event of an unknown type is not shown.
        let event = serde_json::from_slice(line).ok();
        let is_closed = event.is_some_and(|event| messages.send(WatchMessage::Event(event)).is_err());
        let go_on = if is_closed { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        Ok::<_, ClientError>(go_on)
    });
    let message = match end {
        Ok(StreamEnd::SwitchStopped) => WatchMessage::Stopped,
        Ok(StreamEnd::ReaderDone | StreamEnd::Interrupted) => return,
        Err(error) => WatchMessage::EventsEnded(error.to_string()),
    };
    // Fails when the screen has ended.
    let _ = messages.send(message);
}

fn serve_requests(client: &ApiClient, requests: &Receiver<KeyAction>, messages: &SyncSender<WatchMessage>) {
    for order in requests {
        let message = match order {
            // The main loop handles these.
            KeyAction::Quit | KeyAction::Capture => continue,
            KeyAction::Flush => match client.post("/v1/fdb/flush", &()) {
                Ok(FlushReport { flushed }) => format!("{} deleted", counted(flushed, "entry")),
                Err(error) => error.to_string(),
            },
        };
        if messages.send(WatchMessage::Notice(message)).is_err() {
            return;
        }
    }
}

fn read_keys(messages: &SyncSender<WatchMessage>) {
    loop {
        let message = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => WatchMessage::Key(key),
            Ok(event::Event::Resize(..)) => WatchMessage::Resized,
            Ok(_) => continue,
            // The terminal is gone.
            Err(_) => WatchMessage::Interrupted,
        };
        let last = matches!(message, WatchMessage::Interrupted);
        if messages.send(message).is_err() || last {
            return;
        }
    }
}

/// Reports to the signal thread, when dropped or by [`ExitWatchdog::done`], that the terminal is restored.
#[derive(Debug)]
pub(super) struct ExitWatchdog {
    alive: Sender<()>,
}

impl ExitWatchdog {
    /// The terminal is restored.
    pub(super) fn done(self) {
        drop(self.alive);
    }
}

/// Handles the signals that end a program. If a blocked terminal delays the exit too long, ends the process at once.
pub(super) fn handle_signals(messages: SyncSender<WatchMessage>) -> io::Result<ExitWatchdog> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { TerminationSignals::listen() })?;
    let (alive, done) = mpsc::channel::<()>();
    let wait = move || {
        runtime.block_on(signals.next());
        // The queue is full only while the terminal blocks the loop: then the timeout below ends the process.
        let _ = messages.try_send(WatchMessage::Interrupted);
        if done.recv_timeout(EXIT_TIMEOUT) == Err(mpsc::RecvTimeoutError::Timeout) {
            restore_input();
            process::exit(1);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(ExitWatchdog { alive })
}
