//! `uswitch watch`: a screen that stays open on a running switch.
//!
//! It is a client of the API like any other. Threads bring what there is (`source`): a snapshot twice a second, events
//! as they happen, keys, signals. The loop below puts that into [`app::App`], which is plain data, and draws it by a pure
//! function of it (`panes`), at most four times a second and less often where the terminal is slow.

mod app;
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

use jiff::tz::TimeZone;

use crate::control::client::{Client, ClientError};
use app::{Action, App};
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

/// How the screen ended.
#[derive(Debug)]
pub(crate) enum End {
    /// By a key or a signal.
    Left,
    /// The switch has stopped.
    Stopped,
}

/// Shows the switch until somebody leaves or it stops. Whatever the end, the terminal is as it was.
pub(crate) fn watch(client: Client) -> Result<End, WatchError> {
    let began = Instant::now();
    let first = Snapshot::read(&client, Duration::ZERO)?;
    let mut app = App::new(first, Theme::of_environment(), TimeZone::system());
    let (sender, messages) = sync_channel(WAITING);
    let signals = source::signals(sender.clone())?;
    let mut screen = Screen::enter()?;
    let orders = source::start(Arc::new(client), began, &sender)?;
    let end = show(&mut screen, &mut app, &messages, &orders, began);
    drop(screen);
    signals.done();
    end
}

fn show(
    screen: &mut Screen,
    app: &mut App,
    messages: &Receiver<Message>,
    orders: &Sender<Action>,
    began: Instant,
) -> Result<End, WatchError> {
    let mut drawn = began;
    let mut due = began;
    loop {
        let now = Instant::now();
        if now >= due {
            app.tick(began.elapsed());
            screen.draw(app)?;
            drawn = Instant::now();
            due = drawn + ((drawn - now) * PATIENCE).clamp(PICTURE, LONGEST);
            continue;
        }
        let message = match messages.recv_timeout(due - now) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return Ok(End::Left),
        };
        match message {
            Message::Snapshot(snapshot) => app.on_snapshot(*snapshot),
            Message::Event(event) => app.on_event(event),
            Message::NoEvents(why) => app.on_no_events(why),
            Message::Said(text) => app.say(text),
            Message::Resized => due = due.min(drawn + KEY),
            Message::Key(key) => {
                due = due.min(drawn + KEY);
                match app.on_key(key) {
                    Some(Action::Quit) => return Ok(End::Left),
                    // Who takes orders lives as long as this loop.
                    Some(order) => _ = orders.send(order),
                    None => {}
                }
            }
            Message::Interrupted => return Ok(End::Left),
            Message::Stopped => return Ok(End::Stopped),
            Message::Failed(error) => return Err(error.into()),
        }
    }
}
