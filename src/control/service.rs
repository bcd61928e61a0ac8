//! A switch from its start to its end.

use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio::net::TcpListener;
use tracing::info;

use super::Config;
use super::log::Log;
use super::report::{PortReport, Status, StopReport};
use super::running::{Handle, HostNetwork, RunError, Running, StartFailure, StopReason};
use super::server::{self, ApiSocket, Listener};
use super::signals::TerminationSignals;
use super::topology::{Environment, TopologyError};

/// Why a switch did not start, or did not end as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(transparent)]
    Start(#[from] RunError),
    #[error("{}: {source}", path.display())]
    ApiSocket { path: PathBuf, source: io::Error },
    #[error("cannot serve metrics: {0}")]
    Metrics(#[source] io::Error),
    #[error("cannot hear signals: {0}")]
    Signals(#[source] io::Error),
    #[error("cannot tell that the switch is ready, so it stops: {0}")]
    Ready(#[source] io::Error),
    #[error("a worker stopped by itself, so the switch stops: {0}")]
    Worker(String),
}

/// How a switch ended.
#[derive(Debug, Default)]
pub(crate) struct ServiceOutcome {
    /// What went wrong; nothing when it was asked to stop.
    pub(crate) error: Option<ServiceError>,
    /// What could not be taken away.
    pub(crate) left: Vec<TopologyError>,
}

impl From<ServiceError> for ServiceOutcome {
    fn from(error: ServiceError) -> ServiceOutcome {
        ServiceOutcome { error: Some(error), left: Vec::new() }
    }
}

/// A switch that forwards now.
#[derive(Debug)]
pub(crate) struct StartedSwitch {
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
pub(crate) fn exit_reason_path(runtime: &Path, name: &str) -> PathBuf {
    runtime.join(format!("{name}.error"))
}

/// Writes down why a switch stopped, if it was not asked to.
pub(super) fn write_exit_reason(path: &Path, outcome: &ServiceOutcome) {
    if let Some(error @ ServiceError::Worker(_)) = &outcome.error {
        // The process in the foreground reports the error too.
        if fs::write(path, format!("{error}\n")).is_err() {
            let _ = fs::remove_file(path);
        }
    }
}

/// How a switch is heard, beside its API.
#[derive(Debug)]
pub(crate) struct ServiceOutputs {
    /// Where metrics are served too.
    pub(crate) metrics: Option<std::net::TcpListener>,
    pub(crate) log: Log,
}

/// Runs a switch until it is asked to stop. `ready` is called when it forwards.
pub(crate) async fn run(
    config: Config,
    environment: &Environment,
    outputs: ServiceOutputs,
    ready: impl FnOnce(StartedSwitch) -> io::Result<()>,
) -> ServiceOutcome {
    let mut signals = match TerminationSignals::listen() {
        Ok(signals) => signals,
        Err(error) => return ServiceError::Signals(error).into(),
    };
    let ServiceOutputs { metrics, log } = outputs;
    let metrics = match metrics.map(into_tokio).transpose() {
        Ok(metrics) => metrics,
        Err(error) => return ServiceError::Metrics(error).into(),
    };
    let path = socket_path(&environment.runtime, &config.name);
    let exit_reason = exit_reason_path(&environment.runtime, &config.name);
    let running = match Running::start(config, environment, || signals.pending()).await {
        Ok(running) => running,
        Err(StartFailure { why, left }) => return ServiceOutcome { error: Some(why.into()), left },
    };
    // Of an earlier one; mostly there is none.
    let _ = fs::remove_file(&exit_reason);
    let outcome = match ApiSocket::bind(&path) {
        Ok(socket) => serve(running, Endpoints { socket, metrics, log }, signals.next(), ready).await,
        Err(source) => {
            ServiceOutcome { error: Some(ServiceError::ApiSocket { path, source }), left: running.stop() }
        }
    };
    write_exit_reason(&exit_reason, &outcome);
    outcome
}

/// Where clients come in.
pub(super) struct Endpoints {
    pub(super) socket: ApiSocket,
    /// For metrics alone.
    pub(super) metrics: Option<TcpListener>,
    pub(super) log: Log,
}

impl Endpoints {
    /// Lets clients in for ever. Whoever reads metrics takes none of the user's connections at the listener.
    async fn open(&self, listener: &Listener, handle: Handle) -> Infallible {
        let scraped = server::metrics_router(handle.clone());
        let (router, _) = server::router(handle, self.log.clone());
        let metrics_listener = Listener::new();
        let metrics = async {
            match &self.metrics {
                Some(listener) => metrics_listener.open(listener, scraped).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            never = listener.open(&self.socket, router) => never,
            never = metrics => never,
        }
    }
}

/// A listener of this event loop.
fn into_tokio(listener: std::net::TcpListener) -> io::Result<TcpListener> {
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}

pub(super) async fn serve<M: HostNetwork>(
    mut running: Running<M>,
    endpoints: Endpoints,
    signal: impl Future<Output = ()>,
    ready: impl FnOnce(StartedSwitch) -> io::Result<()>,
) -> ServiceOutcome {
    let (handle, mut commands) = Handle::new();
    running.log_started();
    let told = ready(StartedSwitch {
        status: running.status(),
        ports: running.port_reports(),
        notices: running.take_notices(),
        handle: handle.clone(),
    });
    if let Err(error) = told {
        return ServiceOutcome { error: Some(ServiceError::Ready(error)), left: running.stop() };
    }
    let listener = Listener::new();
    let end = tokio::select! {
        end = running.serve(&mut commands, signal) => end,
        never = endpoints.open(&listener, handle) => match never {},
    };
    info!(why = end.describe(), "the switch stops");
    drop(endpoints);
    drop(commands); // tells everybody who still waits for an answer
    let left = running.stop();
    let error = match end {
        StopReason::Signal => None,
        StopReason::WorkerFailed(why) => Some(ServiceError::Worker(why)),
        StopReason::Request(reply) => {
            // Whoever asked may have left.
            let _ = reply.send(StopReport { errors: left.iter().map(ToString::to_string).collect() });
            None
        }
    };
    listener.close().await;
    ServiceOutcome { error, left }
}
