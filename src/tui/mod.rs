//! `uswitch watch`: a full-screen view of a running switch.
//!
//! It is a client of the API. Threads (`source`) send snapshots twice a second, events, keys and signals. The loop
//! below puts them into [`app::App`], which is plain data, and draws it with pure functions (`panes`), at most four
//! times a second and less often on a slow terminal.

mod app;
mod capture;
mod panes;
mod rows;
mod screen;
mod snapshot;
mod source;
#[cfg(test)]
mod tests;
mod theme;
mod traffic;

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, sync_channel};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use jiff::tz::TimeZone;

use crate::control::client::{ApiClient, ClientError};
use app::{App, KeyAction};
use capture::Captures;
use screen::Screen;
use snapshot::Snapshot;
use source::WatchMessage;
use theme::Theme;

/// Least time between two redraws, and between a key and the redraw that shows its effect.
const REDRAW_INTERVAL: Duration = Duration::from_millis(250);
const KEY: Duration = Duration::from_millis(40);
/// Pause after a redraw, as a multiple of the time that it took: drawing uses at most a fifth of a slow link.
const REDRAW_FACTOR: u32 = 4;
/// Longest pause, even on a slow terminal.
const MAX_INTERVAL: Duration = Duration::from_secs(2);
/// Messages that may wait for the loop. When the queue is full, the senders wait, and the switch counts lost events.
const QUEUE_LENGTH: usize = 256;

/// Why the screen failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WatchError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("cannot use the terminal: {0}")]
    Terminal(#[from] io::Error),
}

/// Why the screen ended.
#[derive(Debug)]
pub(crate) enum ExitReason {
    /// A key or a signal.
    Quit,
    /// The switch has stopped.
    Stopped,
}

/// How the screen ended.
#[derive(Debug)]
pub(crate) struct WatchOutcome {
    pub(crate) why: Result<ExitReason, WatchError>,
    /// Outcome of the last capture.
    pub(crate) captured: Option<String>,
}

/// Help text of the subcommand: the keys, and the files that it writes.
pub(crate) fn help() -> String {
    format!(
        "Keys:\n{}\nA capture is a pcapng file in the current directory, {}.\nWith NO_COLOR in the environment, the screen has no colours.",
        panes::keys(),
        capture::size_limit()
    )
}

/// Shows the switch until the user quits or the switch stops. Always restores the terminal and completes a capture's
/// file.
pub(crate) fn watch(client: ApiClient) -> Result<WatchOutcome, WatchError> {
    let began = Instant::now();
    let first = Snapshot::read(&client, Duration::ZERO)?;
    let app = App::new(first, Theme::of_environment(), TimeZone::system());
    let (sender, messages) = sync_channel(QUEUE_LENGTH);
    let signals = source::handle_signals(sender.clone())?;
    let screen = Screen::enter()?;
    let client = Arc::new(client);
    let requests = source::start(Arc::clone(&client), began, &sender)?;
    let captures = Captures::new(client);
    let mut watch = WatchLoop { screen, app, captures, requests, began };
    let end = watch.show(&messages);
    let WatchLoop { screen, captures, .. } = watch;
    drop(screen);
    let captured = captures.finish();
    signals.done();
    Ok(WatchOutcome { why: end, captured })
}

/// State and helpers of the main loop.
struct WatchLoop {
    screen: Screen,
    app: App,
    captures: Captures,
    requests: Sender<KeyAction>,
    began: Instant,
}

impl WatchLoop {
    fn show(&mut self, messages: &Receiver<WatchMessage>) -> Result<ExitReason, WatchError> {
        let mut drawn = self.began;
        let mut due = self.began;
        loop {
            let now = Instant::now();
            if now >= due {
                self.draw()?;
                drawn = Instant::now();
                due = drawn + ((drawn - now) * REDRAW_FACTOR).clamp(REDRAW_INTERVAL, MAX_INTERVAL);
                continue;
            }
            let message = match messages.recv_timeout(due - now) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(ExitReason::Quit),
            };
            if matches!(message, WatchMessage::Key(_) | WatchMessage::Resized) {
                due = due.min(drawn + KEY);
            }
            if let Some(end) = self.take(message)? {
                return Ok(end);
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        self.app.tick(self.began.elapsed());
        if let Some(ended) = self.captures.take_outcome() {
            self.app.show_message(ended);
        }
        self.app.capture = self.captures.progress();
        self.screen.draw(&mut self.app)
    }

    /// Handles a message; returns the reason if it ends the screen.
    fn take(&mut self, message: WatchMessage) -> Result<Option<ExitReason>, ClientError> {
        match message {
            WatchMessage::Snapshot(snapshot) => self.app.on_snapshot(*snapshot),
            WatchMessage::Event(event) => self.app.on_event(event),
            WatchMessage::EventsEnded(why) => self.app.on_events_ended(why),
            WatchMessage::Notice(text) => self.app.show_message(text),
            WatchMessage::Resized => {}
            WatchMessage::Key(key) => match self.app.on_key(key) {
                Some(KeyAction::Quit) => return Ok(Some(ExitReason::Quit)),
                Some(KeyAction::Capture) => self.capture(),
                // The receiver lives as long as the loop.
                Some(order) => _ = self.requests.send(order),
                None => {}
            },
            WatchMessage::Interrupted => return Ok(Some(ExitReason::Quit)),
            WatchMessage::Stopped => return Ok(Some(ExitReason::Stopped)),
            WatchMessage::Failed(error) => return Err(error),
        }
        Ok(None)
    }

    fn capture(&mut self) {
        if let Err(error) = self.captures.toggle(&self.app.request(Timestamp::now())) {
            self.app.show_message(error.to_string());
        }
    }
}
