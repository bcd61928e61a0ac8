//! Who may come in: the switch's own user, and where metrics are served this machine; so many at a time, for so long. A
//! client that is given a stream may stay as long as it likes, and so there are fewer streams than connections.

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

/// Clients at a time; more wait in the socket's backlog.
const MAX_CONNECTIONS: u32 = 64;
/// Clients that wait; more are refused by the kernel.
const BACKLOG: u32 = 1024;
/// Streams at a time; more are refused.
pub(super) const MAX_STREAMS: usize = 16;
/// How long a client may take to say what it wants.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client without a stream may stay: long enough to stop a switch of thousands of ports, and to read a full
/// forwarding database slowly.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// How long clients have to read their last answer when the switch ends.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(1);
/// How long to wait when the kernel has no descriptor for another client.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct ApiSocket {
    listener: UnixListener,
    path: PathBuf,
}

impl ApiSocket {
    /// Listens at `path`, mode 0600 from the first moment. A file that a killed switch left there is replaced: the
    /// caller has the name to itself.
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
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where clients come from.
pub(crate) trait Accept {
    /// A client.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
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

/// Lets clients in.
#[derive(Debug, Clone)]
pub(crate) struct Listener {
    connections: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Listener {
    /// With all connections free.
    pub(crate) fn new() -> Listener {
        let connections = Arc::new(Semaphore::new(MAX_CONNECTIONS as usize));
        Listener { connections, streams: Arc::new(Semaphore::new(MAX_STREAMS)) }
    }

    /// Lets clients in for ever, each on a task of its own.
    pub(crate) async fn open(&self, socket: &impl Accept, router: Router) -> Infallible {
        loop {
            // Nobody closes the semaphore, so a permit always comes.
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

    /// Returns when every client has its answer, or has had time enough to read it.
    pub(crate) async fn close(&self) {
        let _ = tokio::time::timeout(DRAIN_TIMEOUT, self.connections.acquire_many(MAX_CONNECTIONS)).await;
    }
}

/// A client's stay, which a handler can hold_stream.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    streams: Arc<Semaphore>,
    /// Its place among the streams, if it has one; kept to the end of the connection, however slowly it reads.
    stream: Arc<OnceLock<OwnedSemaphorePermit>>,
}

/// There are as many streams as there may be.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{MAX_STREAMS} clients follow this switch already: end one of them first")]
pub(super) struct TooManyStreams;

impl Connection {
    /// Lets the client stay as long as it likes, for an answer that goes on.
    pub(super) fn hold_stream(&self) -> Result<(), TooManyStreams> {
        let place = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| TooManyStreams)?;
        // There is one request a connection, so it has none yet.
        let _ = self.stream.set(place);
        Ok(())
    }

    fn is_stream(&self) -> bool {
        self.stream.get().is_some()
    }
}

/// How the client left is its own affair.
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

/// One request, one answer.
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
