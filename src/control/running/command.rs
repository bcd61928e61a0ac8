//! What a running switch can be asked, from any task or thread.

use tokio::sync::{mpsc, oneshot};

use super::RunError;
use super::mirror::{MirrorReader, MirrorRequest};
use crate::control::event::{Event, EventFilter};
use crate::control::metrics::MetricsSnapshot;
use crate::control::report::{
    AddedPort, FdbFilter, FdbReport, NewFdbEntry, NewPort, PortReport, PortStats, Status, StopReport,
};
use crate::control::subscription::Subscription;
use crate::control::trace::{LiveTraceLine, Trace, TraceFilter, TraceRequest};
use crate::wire::Mac;

/// Where an answer goes.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// The complete list of what a running switch can be asked.
#[derive(Debug)]
pub(crate) enum Command {
    Status(Reply<Status>),
    Ports(Reply<Vec<PortReport>>),
    AddPort(Box<NewPort>, Reply<Result<AddedPort, RunError>>),
    RemovePort(String, Reply<Result<(), RunError>>),
    Fdb(FdbFilter, Reply<Vec<FdbReport>>),
    AddFdb(NewFdbEntry, Reply<Result<(), RunError>>),
    RemoveFdb(Mac, u16, Reply<Result<(), RunError>>),
    FlushFdb(Option<String>, Reply<Result<usize, RunError>>),
    Stats(Reply<Vec<PortStats>>),
    Metrics(Reply<Box<MetricsSnapshot>>),
    Events(EventFilter, Reply<Vec<Event>>),
    /// What has happened, and then what happens.
    FollowEvents(EventFilter, Reply<Subscription<Event>>),
    Mirror(Box<MirrorRequest>, Reply<Result<MirrorReader, RunError>>),
    Trace(Box<TraceRequest>, Reply<Result<Trace, RunError>>),
    FollowFrames(TraceFilter, Reply<Result<Subscription<LiveTraceLine>, RunError>>),
    /// Answered when everything is gone.
    Stop(Reply<StopReport>),
}

/// Commands that may wait; more make the asker wait.
const WAITING: usize = 64;

/// Asks a running switch.
#[derive(Debug, Clone)]
pub(crate) struct Handle(mpsc::Sender<Command>);

/// The switch stops or has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the switch is stopping")]
pub(crate) struct Stopping;

impl Handle {
    /// A handle, and what it asks.
    pub(crate) fn new() -> (Handle, mpsc::Receiver<Command>) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Handle(sender), receiver)
    }

    /// Returns when the switch stops.
    pub(crate) async fn stopping(&self) {
        self.0.closed().await;
    }

    /// Asks and waits for the answer.
    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.send(command(reply)).await.map_err(|_| Stopping)?;
        answer.await.map_err(|_| Stopping)
    }

    /// Asks and waits for the answer, on a thread that is not the switch's own.
    pub(crate) fn ask_blocking<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, Stopping> {
        let (reply, answer) = oneshot::channel();
        self.0.blocking_send(command(reply)).map_err(|_| Stopping)?;
        answer.blocking_recv().map_err(|_| Stopping)
    }
}
