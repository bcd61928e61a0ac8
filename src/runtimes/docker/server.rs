//! The socket of the plugin, and the requests that arrive there.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header::CONTENT_TYPE};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use tokio::net::UnixListener;
use tokio::sync::Semaphore;

use super::{DockerError, DockerPlugin, names};
use crate::control::private_socket;
use crate::control::signals::TerminationSignals;
use crate::sys::blocking::run_blocking;
use crate::sys::socket_activation;

/// The content type of plugins (`moby/pkg/plugins/transport`).
const MEDIA_TYPE: &str = "application/vnd.docker.plugins.v1.2+json";
/// Longest request body, in bytes.
const MAX_BODY: usize = 1 << 20;
/// Most requests that are carried out at the same time. Further ones wait.
const MAX_REQUESTS: usize = 64;

/// Where dockerd connects to the plugin.
#[derive(Debug)]
pub(crate) enum PluginSocket {
    /// systemd listens, and has passed the socket.
    Passed(std::os::unix::net::UnixListener),
    /// The plugin listens at this path.
    Own(PathBuf),
}

impl PluginSocket {
    /// The socket that systemd has passed, or the one at `path`.
    ///
    /// # Errors
    /// Another program listens at `path`, or the file there is not a socket.
    pub(crate) fn choose(path: PathBuf) -> Result<PluginSocket, DockerError> {
        match socket_activation::take_socket()
            .map_err(|error| DockerError::Io("use the socket of systemd", error))?
        {
            Some(passed) => Ok(PluginSocket::Passed(passed.into())),
            None => check_free(&path).map(|()| PluginSocket::Own(path)),
        }
    }

    fn listen(&self) -> io::Result<UnixListener> {
        match self {
            PluginSocket::Passed(listener) => {
                listener.set_nonblocking(true)?;
                UnixListener::from_std(listener.try_clone()?)
            }
            PluginSocket::Own(path) => private_socket::bind(path),
        }
    }
}

/// A socket that no program has open is left over from a killed plugin.
fn check_free(path: &Path) -> Result<(), DockerError> {
    match fs::symlink_metadata(path) {
        Ok(file) if !file.file_type().is_socket() => return Err(DockerError::NotASocket(path.to_owned())),
        _ => {}
    }
    match UnixStream::connect(path) {
        Ok(_) => Err(DockerError::SocketInUse(path.to_owned())),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => Ok(()),
        Err(source) => Err(DockerError::File { what: "connect to", path: path.to_owned(), source }),
    }
}

/// The plugin with the number of requests that it may carry out.
type Shared = Arc<(DockerPlugin, Semaphore)>;

/// Answers requests until a signal arrives. Calls `ready` when dockerd can connect. dockerd itself listens at
/// `dockerd`. Switches and ports stay.
pub(crate) fn serve(
    plugin: DockerPlugin,
    socket: &PluginSocket,
    dockerd: PathBuf,
    ready: impl FnOnce(),
) -> Result<(), DockerError> {
    let failed = |what| move |error| DockerError::Io(what, error);
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build();
    executor.map_err(failed("start an event loop"))?.block_on(async {
        let mut signals = TerminationSignals::listen().map_err(failed("listen for signals"))?;
        let listener = socket.listen().map_err(failed("listen"))?;
        plugin.networks.watch_all()?;
        tokio::spawn(names::follow(Arc::clone(&plugin.networks), dockerd));
        let shared = Arc::new((plugin, Semaphore::new(MAX_REQUESTS)));
        let router = Router::new().fallback(answer).with_state(shared);
        ready();
        // Requests that have begun are answered.
        let served =
            axum::serve(listener, router).with_graceful_shutdown(async move { signals.next().await });
        served.await.map_err(failed("serve requests"))?;
        if let PluginSocket::Own(path) = socket {
            // Another program may have removed it.
            let _ = fs::remove_file(path);
        }
        Ok(())
    })
}

async fn answer(State(shared): State<Shared>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let body = match to_bytes(request.into_body(), MAX_BODY).await {
        Ok(body) => body,
        Err(error) => return respond((StatusCode::BAD_REQUEST, failure(&error.to_string()))),
    };
    // The semaphore is never closed.
    let _permit = shared.1.acquire().await;
    let plugin = Arc::clone(&shared);
    let failed = |why: &str| (StatusCode::INTERNAL_SERVER_ERROR, failure(why));
    let answered = match run_blocking("request", move || outcome(&plugin.0, &path, &body)) {
        Ok(answer) => answer.await.unwrap_or_else(|_| failed("the plugin failed: see its output")),
        Err(error) => failed(&format!("the plugin cannot start a thread: {error}")),
    };
    respond(answered)
}

/// The status and the body of the answer to a request. dockerd ignores the status 404 of a method that it does not
/// need.
pub(super) fn outcome(plugin: &DockerPlugin, path: &str, body: &[u8]) -> (StatusCode, Value) {
    match plugin.answer(path, body) {
        Ok(answer) => (StatusCode::OK, answer),
        Err(error @ DockerError::NoSuchMethod(_)) => (StatusCode::NOT_FOUND, failure(&error.line())),
        Err(error) => (StatusCode::OK, failure(&error.line())),
    }
}

/// An error, under the names that network drivers and IPAM drivers give it.
fn failure(line: &str) -> Value {
    json!({ "Err": line, "Error": line })
}

fn respond((status, body): (StatusCode, Value)) -> Response {
    (status, [(CONTENT_TYPE, MEDIA_TYPE)], body.to_string()).into_response()
}
