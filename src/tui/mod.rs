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
use source::Message;
use theme::Theme;

/// Between two pictures, and between a key and the picture of what it did.
const PICTURE: Duration = Duration::from_millis(250);
const KEY: Duration = Duration::from_millis(40);
/// How much longer than the last picture took its successor is waited for: no more than a fifth of a slow link is ours.
const PATIENCE: u32 = 4;
/// Longest wait, however slow the terminal is.
const LONGEST: Duration = Duration::from_secs(2);
/// Messages that wait for the loop; then their senders wait, and the switch counts the events that this reader misses.
const WAITING: usize = 256;

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
pub(crate) enum End {
    /// By a key or a signal.
    Left,
    /// The switch has stopped.
    Stopped,
}

/// How the screen ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) why: Result<End, WatchError>,
    /// What became of the last capture.
    pub(crate) captured: Option<String>,
}

/// What to say of the screen before there is one: its keys, and what it writes.
pub(crate) fn help() -> String {
    format!(
        "Keys:\n{}\nA capture is a pcapng file in the directory where watch was started, of {}.\nNO_COLOR takes the colours away.",
        panes::keys(),
        capture::most()
    )
}

/// Shows the switch until somebody leaves or it stops. Whatever the end, the terminal is as it was, and a capture is a whole file.
pub(crate) fn watch(client: ApiClient) -> Result<Ended, WatchError> {
    let began = Instant::now();
    let first = Snapshot::read(&client, Duration::ZERO)?;
    let app = App::new(first, Theme::of_environment(), TimeZone::system());
    let (sender, messages) = sync_channel(WAITING);
    let signals = source::signals(sender.clone())?;
    let screen = Screen::enter()?;
    let client = Arc::new(client);
    let orders = source::start(Arc::clone(&client), began, &sender)?;
    let captures = Captures::new(client);
    let mut watch = Watch { screen, app, captures, orders, began };
    let end = watch.show(&messages);
    let Watch { screen, captures, .. } = watch;
    drop(screen);
    let captured = captures.finish();
    signals.done();
    Ok(Ended { why: end, captured })
}

/// What is shown, where, and who does what keys ask for.
struct Watch {
    screen: Screen,
    app: App,
    captures: Captures,
    orders: Sender<Action>,
    began: Instant,
}

impl Watch {
    fn show(&mut self, messages: &Receiver<Message>) -> Result<End, WatchError> {
        let mut drawn = self.began;
        let mut due = self.began;
        loop {
            let now = Instant::now();
            if now >= due {
                self.draw()?;
                drawn = Instant::now();
                due = drawn + ((drawn - now) * PATIENCE).clamp(PICTURE, LONGEST);
                continue;
            }
            let message = match messages.recv_timeout(due - now) {
                Ok(message) => message,
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return Ok(End::Left),
            };
            if matches!(message, Message::Key(_) | Message::Resized) {
                due = due.min(drawn + KEY);
            }
            if let Some(end) = self.take(message)? {
                return Ok(end);
            }
        }
    }

    fn draw(&mut self) -> io::Result<()> {
        self.app.tick(self.began.elapsed());
        if let Some(ended) = self.captures.news() {
            self.app.say(ended);
        }
        self.app.capture = self.captures.tally();
        self.screen.draw(&mut self.app)
    }

    /// What comes of a message; the end, if it is one.
    fn take(&mut self, message: Message) -> Result<Option<End>, ClientError> {
        match message {
            Message::Snapshot(snapshot) => self.app.on_snapshot(*snapshot),
            Message::Event(event) => self.app.on_event(event),
            Message::NoEvents(why) => self.app.on_no_events(why),
            Message::Said(text) => self.app.say(text),
            Message::Resized => {}
            Message::Key(key) => match self.app.on_key(key) {
                Some(Action::Quit) => return Ok(Some(End::Left)),
                Some(Action::Capture) => self.capture(),
                // Who takes orders lives as long as this.
                Some(order) => _ = self.orders.send(order),
                None => {}
            },
            Message::Interrupted => return Ok(Some(End::Left)),
            Message::Stopped => return Ok(Some(End::Stopped)),
            Message::Failed(error) => return Err(error),
        }
        Ok(None)
    }

    fn capture(&mut self) {
        if let Err(error) = self.captures.end_or_begin(&self.app.wanted(Timestamp::now())) {
            self.app.say(error.to_string());
        }
    }
}
