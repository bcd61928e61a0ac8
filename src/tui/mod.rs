//! `uswitch watch`: a screen that stays open on a running switch.
//!
//! It is a client of the API like any other. Threads bring what there is (`source`): a snapshot twice a second, events
//! as they happen, keys, signals. The loop below puts that into [`app::App`], which is plain data, and draws it by a pure
//! function of it (`panes`), at most four times a second and less often where the terminal is slow.

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
use app::{Action, App};
use capture::Captures;
use screen::Screen;
use snapshot::Snapshot;
use source::WatchMessage;
use theme::Theme;

/// Between two pictures, and between a key and the picture of what it did.
const REDRAW_INTERVAL: Duration = Duration::from_millis(250);
const KEY: Duration = Duration::from_millis(40);
/// How much longer than the last picture took its successor is waited for: no more than a fifth of a slow link is ours.
const REDRAW_FACTOR: u32 = 4;
/// Longest wait, however slow the terminal is.
const MAX_INTERVAL: Duration = Duration::from_secs(2);
/// Messages that wait for the loop; then their senders wait, and the switch counts the events that this reader misses.
const QUEUE_LENGTH: usize = 256;

/// Why there is no screen.
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
    /// By a key or a signal.
    Quit,
    /// The switch has stopped.
    Stopped,
}

/// How the screen ended.
#[derive(Debug)]
pub(crate) struct WatchOutcome {
    pub(crate) why: Result<ExitReason, WatchError>,
    /// What became of the last capture.
    pub(crate) captured: Option<String>,
}

/// What to say of the screen before there is one: its keys, and what it writes.
pub(crate) fn help() -> String {
    format!(
        "Keys:\n{}\nA capture is a pcapng file in the directory where watch was started, of {}.\nNO_COLOR takes the colours away.",
        panes::keys(),
        capture::size_limit()
    )
}

/// Shows the switch until somebody leaves or it stops. Whatever the end, the terminal is as it was, and a capture is a whole file.
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

/// What is shown, where, and who does what keys ask for.
struct WatchLoop {
    screen: Screen,
    app: App,
    captures: Captures,
    requests: Sender<Action>,
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

    /// What comes of a message; the end, if it is one.
    fn take(&mut self, message: WatchMessage) -> Result<Option<ExitReason>, ClientError> {
        match message {
            WatchMessage::Snapshot(snapshot) => self.app.on_snapshot(*snapshot),
            WatchMessage::Event(event) => self.app.on_event(event),
            WatchMessage::EventsEnded(why) => self.app.on_events_ended(why),
            WatchMessage::Notice(text) => self.app.show_message(text),
            WatchMessage::Resized => {}
            WatchMessage::Key(key) => match self.app.on_key(key) {
                Some(Action::Quit) => return Ok(Some(ExitReason::Quit)),
                Some(Action::Capture) => self.capture(),
                // Who takes orders lives as long as this.
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
