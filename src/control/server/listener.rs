//! Accepts clients: the switch's own user on the Unix socket, and local clients on the metrics address.
//! The number of connections and the duration of a request are limited. A stream may last as long as
//! the client likes, so the number of streams has a lower limit.

use std::convert::Infallible;
use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use nix::sys::stat::{Mode, fchmod};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixSocket, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most open connections. Further clients wait in the socket's backlog.
const MAX_CONNECTIONS: u32 = 64;
/// Length of the backlog. The kernel refuses further clients.
const BACKLOG: u32 = 1024;
/// Most open streams. Further ones are refused.
pub(super) const MAX_STREAMS: usize = 16;
/// A client must send its request header within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// A request must be answered, and its response read, within this time. It is enough to stop a switch
/// with thousands of ports, and to read a full FDB slowly.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// When the switch stops, clients have this long to read their response.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// Delay after a failed accept, which mostly means that no file descriptor is free.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The listening Unix socket. Removes its file when dropped.
#[derive(Debug)]
pub(crate) struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ApiSocket {
    /// Listens at `path` with mode 0600 from the start. Replaces the file that a killed switch left:
    /// the caller holds the lock on the name.
    pub(crate) fn bind(path: &Path) -> io::Result<ApiSocket> {
        if let Some(directory) = path.parent() {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixSocket::new_stream()?;
        // The file gets the mode of the socket (`unix_bind_bsd` in the kernel's `net/unix/af_unix.c`).
        fchmod(socket.as_fd(), Mode::S_IRUSR | Mode::S_IWUSR)?;
        socket.bind(path)?;
        Ok(ApiSocket { listener: socket.listen(BACKLOG)?, path: path.to_owned() })
    }
}

impl Drop for ApiSocket {
    fn drop(&mut self) {
        // The file may be gone already.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// A socket that accepts clients.
pub(crate) trait Accept {
    /// The connection to one client.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Accepts the next client.
    async fn next(&self) -> io::Result<Self::Stream>;
}

impl Accept for ApiSocket {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Accept for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Serves clients within the limits.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    connections: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Listener {
    /// No connection is open yet.
    pub(crate) fn new() -> Listener {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
        Listener { connections, streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    /// Accepts clients until it is dropped. Each connection has a task of its own.
    pub(crate) async fn open(&self, socket: &impl Accept, router: Router) -> Infallible {
        loop {
            // The semaphore is never closed.
            let Ok(permit) = Arc::clone(&self.connections).acquire_owned().await else {
                std::future::pending().await
            };
            match socket.next().await {
                Ok(stream) => {
                    let connection =
                        Connection { streams: Arc::clone(&self.streams), stream: Arc::default() };
                    tokio::spawn(serve_connection(stream, router.clone(), connection, permit));
                }
                Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
            }
        }
    }

    /// Waits until every client has read its response, at most [`DRAIN_TIMEOUT`].
    pub(crate) async fn close(&self) {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.connections.acquire_many(MAX_CONNECTIONS)).await;
    }
}

/// One connection. A handler can turn it into a stream.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    streams: Arc<Semaphore>,
    /// The stream's permit, if it is one. Held until the connection closes.
    stream: Arc<OnceLock<OwnedSemaphorePermit>>,
}

/// The limit of streams is reached.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "the switch serves {MAX_STREAMS} streams (events, captures, live traces) already: end one of them first"
)]
pub(super) struct TooManyStreams;

impl Connection {
    /// Exempts the connection from [`REQUEST_TIMEOUT`].
    pub(super) fn hold_stream(&self) -> Result<(), TooManyStreams> {
        let place = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| TooManyStreams)?;
        // A connection serves one request, so it is not set yet.
        let _ = self.stream.set(place);
        Ok(())
    }

    fn is_stream(&self) -> bool {
        self.stream.get().is_some()
    }
}

/// Serves one client. A broken connection is not an error of the switch.
async fn serve_connection<S>(stream: S, router: Router, connection: Connection, _seat: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let talk = serve_request(stream, router.layer(Extension(connection.clone())));
    tokio::pin!(talk);
    if tokio::time::timeout(REQUEST_TIMEOUT, &mut talk).await.is_err() && connection.is_stream() {
        let _ = talk.await;
    }
}

/// Reads one request and sends its response.
async fn serve_request<S>(stream: S, router: Router) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}
