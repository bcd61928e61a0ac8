//! Who may come in: the switch's own user, and where metrics are served this machine; so many at a time, for so long. A
//! client that is given a stream may stay as long as it likes, and so there are fewer streams than seats.

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
const SEATS: u32 = 64;
/// Clients that wait; more are refused by the kernel.
const BACKLOG: u32 = 1024;
/// Streams at a time; more are refused.
pub(super) const STREAMS: usize = 16;
/// How long a client may take to say what it wants.
const HEADER_TIME: Duration = Duration::from_secs(10);
/// How long a client without a stream may stay: long enough to stop a switch of thousands of ports, and to read a full
/// forwarding database slowly.
const STAY: Duration = Duration::from_secs(300);
/// How long clients have to read their last answer when the switch ends.
const LAST_ANSWER: Duration = Duration::from_secs(1);
/// How long to wait when the kernel has no descriptor for another client.
const NO_DESCRIPTOR: Duration = Duration::from_millis(100);

/// The listening socket; its file goes with it.
#[derive(Debug)]
pub(crate) struct Socket {
    listener: UnixListener,
    path: PathBuf,
}

impl Socket {
    /// Listens at `path`, mode 0600 from the first moment. A file that a killed switch left there is replaced: the
    /// caller has the name to itself.
    pub(crate) fn bind(path: &Path) -> io::Result<Socket> {
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
        Ok(Socket { listener: socket.listen(BACKLOG)?, path: path.to_owned() })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Where clients come from.
pub(crate) trait Entrance {
    /// A client.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// The next one.
    async fn next(&self) -> io::Result<Self::Stream>;
}

impl Entrance for Socket {
    type Stream = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.listener.accept().await?.0)
    }
}

impl Entrance for TcpListener {
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        Ok(self.accept().await?.0)
    }
}

/// Lets clients in.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    seats: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

impl Door {
    /// With all seats free.
    pub(crate) fn new() -> Door {
        let seats = Arc::new(Semaphore::new(SEATS as usize));
        Door { seats, streams: Arc::new(Semaphore::new(STREAMS)) }
    }

    /// Lets clients in for ever, each on a task of its own.
    pub(crate) async fn open(&self, entrance: &impl Entrance, router: Router) -> Infallible {
        loop {
            // Nobody closes the semaphore, so a seat always comes.
            let Ok(seat) = Arc::clone(&self.seats).acquire_owned().await else {
                std::future::pending().await
            };
            match entrance.next().await {
                Ok(stream) => {
                    let visit = Visit { streams: Arc::clone(&self.streams), stream: Arc::default() };
                    tokio::spawn(seated(stream, router.clone(), visit, seat));
                }
                Err(_) => tokio::time::sleep(NO_DESCRIPTOR).await,
            }
        }
    }

    /// Returns when every client has its answer, or has had time enough to read it.
    pub(crate) async fn close(&self) {
        let _ = tokio::time::timeout(LAST_ANSWER, self.seats.acquire_many(SEATS)).await;
    }
}

/// A client's stay, which a handler can prolong.
#[derive(Debug, Clone)]
pub(super) struct Visit {
    streams: Arc<Semaphore>,
    /// Its place among the streams, if it has one; kept to the end of the visit, however slowly it reads.
    stream: Arc<OnceLock<OwnedSemaphorePermit>>,
}

/// There are as many streams as there may be.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("{STREAMS} clients follow this switch already: end one of them first")]
pub(super) struct TooManyStreams;

impl Visit {
    /// Lets the client stay as long as it likes, for an answer that goes on.
    pub(super) fn prolong(&self) -> Result<(), TooManyStreams> {
        let place = Arc::clone(&self.streams).try_acquire_owned().map_err(|_| TooManyStreams)?;
        // There is one request a visit, so it has none yet.
        let _ = self.stream.set(place);
        Ok(())
    }

    fn is_prolonged(&self) -> bool {
        self.stream.get().is_some()
    }
}

/// How the client left is its own affair.
async fn seated<S>(stream: S, router: Router, visit: Visit, _seat: OwnedSemaphorePermit)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let talk = talk(stream, router.layer(Extension(visit.clone())));
    tokio::pin!(talk);
    if tokio::time::timeout(STAY, &mut talk).await.is_err() && visit.is_prolonged() {
        let _ = talk.await;
    }
}

/// One request, one answer.
async fn talk<S>(stream: S, router: Router) -> hyper::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIME)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router))
        .await
}
