//! A switch from its start to its end.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio::net::TcpListener;
use tracing::info;

use super::Config;
use super::log::Log;
use super::report::{PortReport, Status, Stopped};
use super::running::{End, Handle, Machine, RunError, Running, StartFailure};
use super::server::{self, Door, Socket};
use super::signals::Signals;
use super::topology::{Site, TopologyError};

/// Why a switch did not start, or did not end as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(transparent)]
    Start(#[from] RunError),
    #[error("{}: {source}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot serve metrics: {0}")]
    Metrics(#[source] io::Error),
    #[error("cannot hear signals: {0}")]
    Signals(#[source] io::Error),
    #[error("cannot tell that the switch is ready, so it stops: {0}")]
    Unwanted(#[source] io::Error),
    #[error("a worker stopped by itself, so the switch stops: {0}")]
    Worker(String),
}

/// How a switch ended.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What went wrong; nothing when it was asked to stop.
    pub(crate) error: Option<ServiceError>,
    /// What could not be taken away.
    pub(crate) left: Vec<TopologyError>,
}

impl From<ServiceError> for Outcome {
    fn from(error: ServiceError) -> Outcome {
        Outcome { error: Some(error), left: Vec::new() }
    }
}

/// A switch that forwards now.
#[derive(Debug)]
pub(crate) struct Started {
    /// The switch.
    pub(crate) status: Status,
    /// Its ports.
    pub(crate) ports: Vec<PortReport>,
    /// What the user should know, each a sentence.
    pub(crate) notices: Vec<String>,
    /// Asks it more.
    pub(crate) handle: Handle,
}

/// The socket of the switch called `name`.
pub(crate) fn socket_path(runtime: &Path, name: &str) -> PathBuf {
    runtime.join(format!("{name}.sock"))
}

/// Where the switch called `name` says why, if it stops by itself: detached, it has nobody to tell.
pub(crate) fn last_words_path(runtime: &Path, name: &str) -> PathBuf {
    runtime.join(format!("{name}.error"))
}

/// Writes down why a switch stopped, if it was not asked to.
pub(super) fn leave_last_words(path: &Path, outcome: &Outcome) {
    if let Some(error @ ServiceError::Worker(_)) = &outcome.error {
        // Whoever waits for the switch in the foreground is told all the same.
        let _ = fs::write(path, format!("{error}\n"));
    }
}

/// How a switch is heard, beside its API.
#[derive(Debug)]
pub(crate) struct Ways {
    /// Where metrics are served too.
    pub(crate) metrics: Option<std::net::TcpListener>,
    pub(crate) log: Log,
}

/// Runs a switch until it is asked to stop. `ready` is called when it forwards.
pub(crate) async fn run(
    config: Config,
    site: &Site,
    ways: Ways,
    ready: impl FnOnce(Started) -> io::Result<()>,
) -> Outcome {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return ServiceError::Signals(error).into(),
    };
    let Ways { metrics, log } = ways;
    let metrics = match metrics.map(own).transpose() {
        Ok(metrics) => metrics,
        Err(error) => return ServiceError::Metrics(error).into(),
    };
    let path = socket_path(&site.runtime, &config.name);
    let last_words = last_words_path(&site.runtime, &config.name);
    let running = match Running::start(config, site, || signals.pending()).await {
        Ok(running) => running,
        Err(StartFailure { why, left }) => return Outcome { error: Some(why.into()), left },
    };
    // Of an earlier one; mostly there is none.
    let _ = fs::remove_file(&last_words);
    let outcome = match Socket::bind(&path) {
        Ok(socket) => serve(running, Entrances { socket, metrics, log }, signals.next(), ready).await,
        Err(source) => Outcome { error: Some(ServiceError::Socket { path, source }), left: running.stop() },
    };
    leave_last_words(&last_words, &outcome);
    outcome
}

/// Where clients come in.
pub(super) struct Entrances {
    pub(super) socket: Socket,
    /// For metrics alone.
    pub(super) metrics: Option<TcpListener>,
    pub(super) log: Log,
}

impl Entrances {
    /// Lets clients in for ever. Whoever reads metrics takes none of the user's seats at the door.
    async fn open(&self, door: &Door, handle: Handle) -> Infallible {
        let scraped = server::metrics_router(handle.clone());
        let (router, _) = server::router(handle, self.log.clone());
        let metrics_door = Door::new();
        let metrics = async {
            match &self.metrics {
                Some(listener) => metrics_door.open(listener, scraped).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = door.open(&self.socket, router) => never,
            never = metrics => never,
        }
    }
}

/// A listener of this event loop.
fn own(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

pub(super) async fn serve<M: Machine>(
    mut running: Running<M>,
    entrances: Entrances,
    signal: impl Future<Output = ()>,
    ready: impl FnOnce(Started) -> io::Result<()>,
) -> Outcome {
    let (handle, mut commands) = Handle::new();
    running.tell_started();
    let told = ready(Started {
        status: running.status(),
        ports: running.port_reports(),
        notices: running.take_notices(),
        handle: handle.clone(),
    });
    if let Err(error) = told {
        return Outcome { error: Some(ServiceError::Unwanted(error)), left: running.stop() };
    }
    let door = Door::new();
    let end = tokio::select! {
        end = running.serve(&mut commands, signal) => end,
        never = entrances.open(&door, handle) => match never {},
    };
    info!(why = end.why(), "the switch stops");
    drop(entrances);
    drop(commands); // tells everybody who still waits for an answer
    let left = running.stop();
    let error = match end {
        End::Signal => None,
        End::WorkerFailed(why) => Some(ServiceError::Worker(why)),
        End::Asked(reply) => {
            // Whoever asked may have left.
            let _ = reply.send(Stopped { errors: left.iter().map(ToString::to_string).collect() });
            None
        }
    };
    door.close().await;
    Outcome { error, left }
}
