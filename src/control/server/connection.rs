//! Limits of connections. Each connection knows what it waits for and since when.
//!
//! Every client may be slow or hostile, also one of the switch's own user. When a limit is reached, the
//! connection that has waited for its client longest is closed. So a client that sends its request and
//! reads the response without a pause, like the command line, always gets through.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Extension;
use axum::body::HttpBody;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use super::error::ApiError;

/// Most open connections.
pub(super) const MAX_CONNECTIONS: u32 = 128;
/// Most open streams. Further ones are refused.
pub(super) const MAX_STREAMS: usize = 16;
/// A request must be answered, and its response read, within this time. It is enough to stop a switch
/// with thousands of ports, and to read a full FDB slowly.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(300);
/// A client that takes no byte of its response for this time is disconnected.
pub(super) const SEND_TIMEOUT: Duration = Duration::from_secs(10);
/// When a limit is reached, a connection can be closed after it has waited for its client this long.
const EVICT_AFTER: Duration = Duration::from_millis(100);
/// How often a new client looks for a connection to close.
const ADMIT_RETRY: Duration = Duration::from_millis(20);
/// Most KiB of responses that clients have not read yet.
pub(super) const MAX_UNSENT_KIB: u32 = 32 * 1024;
/// Responses up to this size, in bytes, do not count. All connections together hold few of them.
const SMALL_RESPONSE: u64 = 64 * 1024;

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// For the client to send its request.
    Receiving,
    /// For the handler.
    Handling,
    /// For the client to read the response.
    Sending,
    /// The response is a stream. It lasts as long as the client likes.
    Streaming,
    /// It was closed in favour of another connection.
    Evicted,
}

impl Phase {
    fn waits_for_client(self) -> bool {
        matches!(self, Phase::Receiving | Phase::Sending)
    }
}

/// The limits of one listener.
#[derive(Debug)]
pub(super) struct ListenerLimits {
    connections: Arc<Semaphore>,
    streams: Arc<Semaphore>,
    /// In KiB.
    unsent: Arc<Semaphore>,
    open: Mutex<Vec<Connection>>,
}

impl ListenerLimits {
    pub(super) fn new() -> ListenerLimits {
        ListenerLimits {
            connections: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)),
            streams: Arc::new(Semaphore::new(MAX_STREAMS)),
            unsent: Arc::new(Semaphore::new(MAX_UNSENT_KIB as usize)),
            open: Mutex::default(),
        }
    }

    /// Makes room for a new connection.
    pub(super) async fn admit(self: &Arc<ListenerLimits>) -> OpenConnection {
        let permit = loop {
            if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
                break permit;
            }
            self.evict(|_| true);
            let free = Arc::clone(&self.connections).acquire_owned();
            // The semaphore is never closed.
            if let Ok(Ok(permit)) = tokio::time::timeout(ADMIT_RETRY, free).await {
                break permit;
            }
        };
        let connection = Connection(Arc::new(ConnectionState {
            accepted: Instant::now(),
            state: Mutex::new((Phase::Receiving, Instant::now())),
            changed: Notify::new(),
            limits: Arc::clone(self),
            stream: OnceLock::new(),
            unsent: OnceLock::new(),
        }));
        self.open().push(connection.clone());
        OpenConnection { connection, _permit: permit }
    }

    /// Waits until no connection is open.
    pub(super) async fn drained(&self) {
        let _ = self.connections.acquire_many(MAX_CONNECTIONS).await;
    }

    /// Closes the connection that has waited for its client longest. Returns whether there was one.
    fn evict(&self, candidate: impl Fn(&Connection) -> bool) -> bool {
        let open = self.open();
        let waiting = open.iter().filter(|connection| candidate(connection));
        let longest = waiting
            .filter_map(|connection| Some((connection.waiting_since()?, connection)))
            .min_by_key(|(since, _)| *since);
        match longest {
            Some((since, connection)) if since.elapsed() >= EVICT_AFTER => {
                connection.enter(Phase::Evicted);
                true
            }
            _ => false,
        }
    }

    fn open(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection that counts as open until this is dropped.
#[derive(Debug)]
pub(super) struct OpenConnection {
    pub(super) connection: Connection,
    _permit: OwnedSemaphorePermit,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        let Connection(shared) = &self.connection;
        shared.limits.open().retain(|Connection(other)| !Arc::ptr_eq(other, shared));
    }
}

/// One connection. A handler can turn it into a stream.
#[derive(Debug, Clone)]
pub(super) struct Connection(Arc<ConnectionState>);

#[derive(Debug)]
struct ConnectionState {
    accepted: Instant,
    /// The phase, and when it began. While sending, when the client last took a byte.
    state: Mutex<(Phase, Instant)>,
    changed: Notify,
    limits: Arc<ListenerLimits>,
    /// The permit of a stream. Held until the connection closes.
    stream: OnceLock<OwnedSemaphorePermit>,
    /// The permit of a large response. Held until the connection closes.
    unsent: OnceLock<OwnedSemaphorePermit>,
}

/// The limit of streams is reached.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error(
    "the switch serves {MAX_STREAMS} streams (events, captures, live traces) already: end one of them first"
)]
pub(super) struct TooManyStreams;

/// A response that shares its bytes with others and so needs no extra memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct SharedBody;

impl Connection {
    /// Turns the connection into a stream, which may last as long as the client likes.
    pub(super) fn hold_stream(&self) -> Result<(), TooManyStreams> {
        let permit = Arc::clone(&self.0.limits.streams).try_acquire_owned().map_err(|_| TooManyStreams)?;
        // A connection serves one request, so it is not set yet.
        let _ = self.0.stream.set(permit);
        self.enter(Phase::Streaming);
        Ok(())
    }

    /// The request is complete.
    pub(super) fn request_received(&self) {
        self.enter(Phase::Handling);
    }

    /// Waits until the connection has used up its time or is evicted. Never returns for a stream.
    pub(super) async fn overdue(&self) {
        loop {
            match self.deadline() {
                None => self.0.changed.notified().await,
                Some(deadline) if deadline <= Instant::now() => return,
                Some(deadline) => tokio::select! {
                    () = self.0.changed.notified() => {}
                    () = tokio::time::sleep_until(deadline) => {}
                },
            }
        }
    }

    /// Begins to send a response, if there is memory for it.
    async fn send(&self, response: Response) -> Response {
        if self.0.stream.get().is_some() {
            return response;
        }
        let length = response.body().size_hint().exact().unwrap_or(0);
        let counts = length > SMALL_RESPONSE && response.extensions().get::<SharedBody>().is_none();
        let response = if counts && !self.reserve(length).await {
            ApiError::TooMuchUnsent.into_response()
        } else {
            response
        };
        self.enter(Phase::Sending);
        response
    }

    async fn reserve(&self, bytes: u64) -> bool {
        let limits = &self.0.limits;
        let kib = u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(MAX_UNSENT_KIB);
        loop {
            if let Ok(permit) = Arc::clone(&limits.unsent).try_acquire_many_owned(kib) {
                // A connection serves one request, so it is not set yet.
                let _ = self.0.unsent.set(permit);
                return true;
            }
            if !limits.evict(|connection| connection.0.unsent.get().is_some()) {
                return false;
            }
            // The evicted connection's task runs now and frees its memory.
            tokio::task::yield_now().await;
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let (phase, since) = *self.state();
        let end = self.0.accepted + REQUEST_TIMEOUT;
        match phase {
            Phase::Receiving | Phase::Handling => Some(end),
            Phase::Sending => Some(end.min(since + SEND_TIMEOUT)),
            Phase::Streaming => None,
            Phase::Evicted => Some(since),
        }
    }

    fn waiting_since(&self) -> Option<Instant> {
        let (phase, since) = *self.state();
        phase.waits_for_client().then_some(since)
    }

    fn enter(&self, phase: Phase) {
        let mut state = self.state();
        if state.0 != Phase::Evicted {
            *state = (phase, Instant::now());
        }
        drop(state);
        self.0.changed.notify_one();
    }

    /// The client took some bytes.
    fn bytes_taken(&self) {
        let (phase, since) = &mut *self.state();
        if *phase == Phase::Sending {
            *since = Instant::now();
        }
    }

    fn state(&self) -> MutexGuard<'_, (Phase, Instant)> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Follows the phases of a request.
pub(super) async fn follow_phases(
    Extension(connection): Extension<Connection>,
    request: Request,
    next: Next,
) -> Response {
    if request.body().is_end_stream() {
        connection.request_received();
    }
    let response = next.run(request).await;
    connection.send(response).await
}

/// A socket that notifies its connection when the client reads bytes.
#[derive(Debug)]
pub(super) struct Monitored<S> {
    pub(super) socket: S,
    pub(super) connection: Connection,
}

impl<S: AsyncRead + Unpin> AsyncRead for Monitored<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Monitored<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.socket).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.connection.bytes_taken();
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
