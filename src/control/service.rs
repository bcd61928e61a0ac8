//! Runs a switch from start to stop.

use std::convert::Infallible;
use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use tokio::net::TcpListener;
use tracing::info;

use super::Config;
use super::log::Log;
use super::metrics::SharedMetrics;
use super::report::{ErrorCode, PortReport, Status, StopReport};
use super::running::{Handle, HostNetwork, RunError, Running, StartFailure, StopReason};
use super::server::{self, ApiSocket, Listener};
use super::signals::TerminationSignals;
use super::topology::{Environment, TopologyError};
use crate::sys::confine::{self, ConfineError};

/// Why a switch did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    #[error(transparent)]
    Start(#[from] RunError),
    #[error("{}: {source}", path.display())]
    ApiSocket { path: PathBuf, source: io::Error },
    #[error("cannot serve metrics: {0}")]
    Metrics(#[source] io::Error),
    #[error("cannot listen for signals: {0}")]
    Signals(#[source] io::Error),
    #[error(transparent)]
    Privileges(ConfineError),
    #[error("cannot report that the switch is ready, so it stops: {0}")]
    Ready(#[source] io::Error),
    #[error("a worker failed, so the switch stops: {0}")]
    Worker(String),
}

impl ServiceError {
    /// The kind of error, where the command line can give advice about it.
    pub(crate) fn code(&self) -> Option<ErrorCode> {
        match self {
            ServiceError::Start(error) => error.code(),
            _ => None,
        }
    }
}

/// How a switch stopped.
#[derive(Debug, Default)]
pub(crate) struct ServiceOutcome {
    /// The error; `None` after a requested stop.
    pub(crate) error: Option<ServiceError>,
    /// What the teardown could not remove.
    pub(crate) left: Vec<TopologyError>,
}

impl From<ServiceError> for ServiceOutcome {
    fn from(error: ServiceError) -> ServiceOutcome {
        ServiceOutcome { error: Some(error), left: Vec::new() }
    }
}

/// A switch that has started to forward.
#[derive(Debug)]
pub(crate) struct StartedSwitch {
    pub(crate) status: Status,
    pub(crate) ports: Vec<PortReport>,
    /// Notices for the user, a sentence each.
    pub(crate) notices: Vec<String>,
    /// Sends it commands.
    pub(crate) handle: Handle,
}

/// The API socket of the switch called `name`.
pub(crate) fn socket_path(runtime: &Path, name: &str) -> PathBuf {
    runtime.join(format!("{name}.sock"))
}

/// The file in which a switch that fails writes its reason. A detached switch has no terminal for it.
pub(crate) fn exit_reason_path(runtime: &Path, name: &str) -> PathBuf {
    runtime.join(format!("{name}.error"))
}

/// Writes the reason why a switch stopped by itself.
pub(super) fn write_exit_reason(path: &Path, outcome: &ServiceOutcome) {
    if let Some(error @ ServiceError::Worker(_)) = &outcome.error {
        // A switch in the foreground prints the reason as well.
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
        if file.and_then(|mut file| writeln!(file, "{error}")).is_err() {
            let _ = fs::remove_file(path);
        }
    }
}

/// What a switch offers beside its API.
#[derive(Debug)]
pub(crate) struct ServiceOutputs {
    /// The listener of the metrics address.
    pub(crate) metrics: Option<std::net::TcpListener>,
    pub(crate) log: Log,
}

/// Runs a switch until it is asked to stop. Calls `ready` when it forwards.
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
    if let Err(error) = confine::restrict_control() {
        return ServiceOutcome { error: Some(ServiceError::Privileges(error)), left: running.stop() };
    }
    // A previous switch of this name may have left one.
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

/// The sockets that clients connect to.
pub(super) struct Endpoints {
    pub(super) socket: ApiSocket,
    /// Serves metrics only.
    pub(super) metrics: Option<TcpListener>,
    pub(super) log: Log,
}

impl Endpoints {
    /// Accepts clients until it is dropped. Metrics clients have separate connections, so they
    /// cannot block the API.
    async fn open(&self, listener: &Listener, handle: Handle) -> Infallible {
        let shared = SharedMetrics::new(handle.clone());
        let scraped = server::metrics_router(shared.clone());
        let (router, _) = server::router(handle, shared, self.log.clone());
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

/// Registers a listener with the runtime.
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
    let reported = ready(StartedSwitch {
        status: running.status(),
        ports: running.port_reports(),
        notices: running.take_notices(),
        handle: handle.clone(),
    });
    if let Err(error) = reported {
        return ServiceOutcome { error: Some(ServiceError::Ready(error)), left: running.stop() };
    }
    let listener = Listener::new();
    let end = tokio::select! {
        end = running.serve(&mut commands, signal) => end,
        never = endpoints.open(&listener, handle) => match never {},
    };
    info!(why = end.describe(), "the switch stops");
    drop(endpoints);
    drop(commands); // fails all pending requests
    let left = running.stop();
    let error = match end {
        StopReason::Signal => None,
        StopReason::WorkerFailed(why) => Some(ServiceError::Worker(why)),
        StopReason::Request(reply) => {
            // The client may have disconnected.
            let _ = reply.send(StopReport { errors: left.iter().map(ToString::to_string).collect() });
            None
        }
    };
    listener.close().await;
    ServiceOutcome { error, left }
}
