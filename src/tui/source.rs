//! Threads that bring what the screen shows: snapshots, events, keys, signals.

use std::future;
use std::io;
use std::ops::ControlFlow;
use std::process;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use ratatui::crossterm::event::{self, KeyEvent, KeyEventKind};

use super::app::Action;
use super::screen::give_back_keys;
use super::snapshot::Snapshot;
use crate::control::client::{ApiClient, ClientError, StreamEnd};
use crate::control::event::Event;
use crate::control::report::FlushReport;
use crate::control::signals::Signals;
use crate::control::words::counted;

/// Between two snapshots.
const PERIOD: Duration = Duration::from_millis(500);
/// How much longer than it took to read a large switch it is left alone.
const RESPITE: u32 = 4;
/// Snapshots in a row that may fail.
const RETRIES: u32 = 3;
/// Events from before the screen was there.
const LAST: usize = 200;
/// How long a terminal that takes no output keeps a signal from ending us.
const GRACE: Duration = Duration::from_secs(2);

/// What comes.
#[derive(Debug)]
pub(super) enum Message {
    Snapshot(Box<Snapshot>),
    Event(Event),
    /// There will be no more events, and why.
    NoEvents(String),
    /// What became of an order.
    Said(String),
    Key(KeyEvent),
    Resized,
    Interrupted,
    /// The switch has stopped.
    Stopped,
    Failed(ClientError),
}

/// Starts all but the signals. Orders go where this returns.
pub(super) fn start(
    client: Arc<ApiClient>,
    began: Instant,
    messages: &SyncSender<Message>,
) -> io::Result<Sender<Action>> {
    let (orders, ordered) = mpsc::channel();
    let (poller, follower, servant) = (Arc::clone(&client), Arc::clone(&client), client);
    spawn("poll", messages, move |messages| poll(&poller, began, &messages))?;
    spawn("events", messages, move |messages| follow(&follower, &messages))?;
    spawn("orders", messages, move |messages| serve(&servant, &ordered, &messages))?;
    spawn("keys", messages, |messages| keys(&messages))?;
    Ok(orders)
}

fn spawn(
    name: &str,
    messages: &SyncSender<Message>,
    work: impl FnOnce(SyncSender<Message>) + Send + 'static,
) -> io::Result<()> {
    let messages = messages.clone();
    thread::Builder::new().name(name.to_owned()).spawn(move || work(messages)).map(drop)
}

fn poll(client: &ApiClient, began: Instant, messages: &SyncSender<Message>) {
    let mut failed = 0;
    loop {
        let asked = Instant::now();
        let message = match Snapshot::read(client, began.elapsed()) {
            Ok(snapshot) => {
                failed = 0;
                Some(Message::Snapshot(Box::new(snapshot)))
            }
            Err(ClientError::NotRunning { .. }) => Some(Message::Stopped),
            // One that is about to stop may break off: the end of the events says so.
            Err(error) => {
                failed += 1;
                (failed == RETRIES).then_some(Message::Failed(error))
            }
        };
        if message.is_some_and(|message| messages.send(message).is_err()) {
            return;
        }
        thread::sleep(PERIOD.max(asked.elapsed() * RESPITE));
    }
}

fn follow(client: &ApiClient, messages: &SyncSender<Message>) {
    let end = client.lines(&format!("/v1/events?follow=true&last={LAST}"), future::pending(), |line| {
        // One of a type that this program does not know is not shown.
        let event = serde_json::from_slice(line).ok();
        let nobody_looks = event.is_some_and(|event| messages.send(Message::Event(event)).is_err());
        let go_on = if nobody_looks { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        Ok::<_, ClientError>(go_on)
    });
    let message = match end {
        Ok(StreamEnd::SwitchStopped) => Message::Stopped,
        Ok(StreamEnd::ReaderDone | StreamEnd::Interrupted) => return,
        Err(error) => Message::NoEvents(error.to_string()),
    };
    // Fails when nobody looks any more.
    let _ = messages.send(message);
}

fn serve(client: &ApiClient, orders: &Receiver<Action>, messages: &SyncSender<Message>) {
    for order in orders {
        let said = match order {
            // Done where keys are read.
            Action::Quit | Action::Capture => continue,
            Action::Flush => match client.post("/v1/fdb/flush", &()) {
                Ok(FlushReport { flushed }) => format!("{} forgotten", counted(flushed, "address")),
                Err(error) => error.to_string(),
            },
        };
        if messages.send(Message::Said(said)).is_err() {
            return;
        }
    }
}

fn keys(messages: &SyncSender<Message>) {
    loop {
        let message = match event::read() {
            Ok(event::Event::Key(key)) if key.kind != KeyEventKind::Release => Message::Key(key),
            Ok(event::Event::Resize(..)) => Message::Resized,
            Ok(_) => continue,
            // The terminal has gone.
            Err(_) => Message::Interrupted,
        };
        let last = matches!(message, Message::Interrupted);
        if messages.send(message).is_err() || last {
            return;
        }
    }
}

/// Says when it is dropped, or [`Watchdog::done`], that the terminal was given back.
#[derive(Debug)]
pub(super) struct Watchdog {
    alive: Sender<()>,
}

impl Watchdog {
    /// The terminal has been given back.
    pub(super) fn done(self) {
        drop(self.alive);
    }
}

/// Hears the signals that end a program, from now on. Where a picture that cannot be written holds up the end, it ends
/// the process without it.
pub(super) fn signals(messages: SyncSender<Message>) -> io::Result<Watchdog> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let mut signals = runtime.block_on(async { Signals::listen() })?;
    let (alive, done) = mpsc::channel::<()>();
    let wait = move || {
        runtime.block_on(signals.next());
        // The queue is full only while nothing is drawn, and then the wait below ends it.
        let _ = messages.try_send(Message::Interrupted);
        if done.recv_timeout(GRACE) == Err(mpsc::RecvTimeoutError::Timeout) {
            give_back_keys();
            process::exit(1);
        }
    };
    thread::Builder::new().name("signals".to_owned()).spawn(wait)?;
    Ok(Watchdog { alive })
}
