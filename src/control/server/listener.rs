//! Accepts clients: the switch's own user on the Unix socket, and local clients on the metrics address.
//! [`ListenerLimits`] bounds what they use.

use std::convert::Infallible;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::middleware::from_fn;
use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use super::connection::{ListenerLimits, Monitored, OpenConnection, follow_phases};
use crate::control::private_socket;

/// A client must send its request header within this time.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// Most bytes of a request header, and of the part of a response that waits in a buffer.
const MAX_BUFFER: usize = 64 * 1024;
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
    /// Listens at `path`. Replaces the file that a killed switch left: the caller holds the lock on the name.
    pub(crate) fn bind(path: &Path) -> io::Result<ApiSocket> {
        Ok(ApiSocket { listener: private_socket::bind(path)?, path: path.to_owned() })
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
pub(crate) struct Listener(Arc<ListenerLimits>);

impl Listener {
    /// No connection is open yet.
    pub(crate) fn new() -> Listener {
        Listener(Arc::new(ListenerLimits::new()))
    }

    /// Accepts clients until it is dropped. Each connection has a separate task.
    pub(crate) async fn open(&self, socket: &impl Accept, router: Router) -> Infallible {
        let router = router.layer(from_fn(follow_phases));
        loop {
            match socket.next().await {
                Ok(stream) => {
                    let open = self.0.admit().await;
                    tokio::spawn(serve_connection(stream, router.clone(), open));
                }
                Err(_) => tokio::time::sleep(ACCEPT_RETRY).await,
            }
        }
    }

    /// Waits until every client has read its response, at most [`DRAIN_TIMEOUT`].
    pub(crate) async fn close(&self) {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.0.drained()).await;
    }
}

/// Serves one client until it has its response or its time is over. A broken connection is not an error of
/// the switch.
async fn serve_connection<S>(socket: S, router: Router, open: OpenConnection)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let connection = &open.connection;
    let router = router.layer(Extension(connection.clone()));
    tokio::select! {
        _ = serve_request(Monitored { socket, connection: connection.clone() }, router) => {}
        () = connection.overdue() => {}
    }
}

/// Reads one request and sends its response.
async fn serve_request<S>(socket: S, router: Router) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(MAX_BUFFER)
        .keep_alive(false)
        .serve_connection(TokioIo::new(socket), TowerToHyperService::new(router))
        .with_upgrades()
        .await
}
