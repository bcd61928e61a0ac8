//! Client of a running switch's API.

use std::ops::ControlFlow;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::{CONNECTION, HeaderValue, UPGRADE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;
use tokio::time::Instant;
use tokio::time::error::Elapsed;

use super::report::{ErrorCode, ErrorReport};
use super::server::HANDOVER_PROTOCOL;
use super::service::{exit_reason_path, socket_path};
use super::signals::TerminationSignals;
use crate::sys::process;
use crate::sys::runtime_dir::ROOT_RUNTIME_DIR;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no switch named {name} is running{}{hint}", advice(name, running))]
    NotRunning { name: String, running: Vec<String>, hint: String },
    #[error("{0} was killed: `uswitch stop --name {0}` removes what it left behind")]
    Killed(String),
    #[error("{}: {source}: the switch belongs to another user: try sudo", path.display())]
    Forbidden { path: PathBuf, source: io::Error },
    /// The switch's error.
    #[error("{error}")]
    Refused { error: String, code: Option<ErrorCode> },
    #[error("{name} does not answer: its process {pid} is stopped; `kill -CONT {pid}` continues it")]
    Suspended { name: String, pid: u32 },
    #[error("{name} does not respond: {why}")]
    Broken { name: String, why: String },
    #[error("{0} runs in another container: choose a network namespace that it sees with --netns")]
    OtherContainer(String),
}

fn advice(name: &str, running: &[String]) -> String {
    match running {
        [] => format!(": start it with `uswitch start --name {name}`"),
        running => format!(" (running: {}): choose one with --name", running.join(", ")),
    }
}

/// Names of the sockets in `runtime`, sorted: running switches and killed ones.
pub(crate) fn names(runtime: &Path) -> Vec<String> {
    let files = std::fs::read_dir(runtime).into_iter().flatten().flatten();
    let paths = files.map(|file| file.path());
    let sockets = paths.filter(|path| path.extension().is_some_and(|extension| extension == "sock"));
    let mut names: Vec<String> =
        sockets.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort_unstable();
    names
}

/// Timeout of requests that only read.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// Timeout of requests that change something. Removing thousands of ports takes minutes.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// Delay before another attempt to connect.
const CONNECT_RETRY: Duration = Duration::from_millis(20);

/// Time between two checks whether the process of the switch is stopped.
const SUSPENDED_CHECK: Duration = Duration::from_secs(1);

/// Longest line of a stream, in bytes.
const MAX_LINE: usize = 1 << 20;

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The reader needs no more.
    ReaderDone,
    /// The switch ended the stream: it stops.
    SwitchStopped,
    /// A signal: Ctrl-C, `kill`, or the terminal closed.
    Interrupted,
}

/// A client of one switch.
#[derive(Debug)]
pub(crate) struct ApiClient {
    name: String,
    runtime: PathBuf,
    executor: Runtime,
}

impl ApiClient {
    /// A client of the switch called `name`. It connects with the first request.
    pub(crate) fn new(name: &str, runtime: &Path) -> io::Result<ApiClient> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(ApiClient { name: name.to_owned(), runtime: runtime.to_owned(), executor })
    }

    /// A second client of the same switch, for another thread.
    pub(crate) fn new_connection(&self) -> io::Result<ApiClient> {
        ApiClient::new(&self.name, &self.runtime)
    }

    /// Sends a GET request.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, Bytes::new())
    }

    /// Sends a POST request.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.request(Method::POST, path, json.into())
    }

    /// Sends a PUT request.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.request(Method::PUT, path, json.into())
    }

    /// Sends a PATCH request.
    pub(crate) fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.request(Method::PATCH, path, json.into())
    }

    /// Sends a DELETE request.
    pub(crate) fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.request(Method::DELETE, path, Bytes::new())
    }

    /// Reads a stream until `take` breaks, `reader_closed` resolves (the output of this program is
    /// closed), a signal arrives, or the switch ends the stream.
    pub(crate) fn stream<E: From<ClientError>>(
        &self,
        path: &str,
        reader_closed: impl Future<Output = ()>,
        take: impl FnMut(&[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<StreamEnd, E> {
        self.executor.block_on(async {
            let mut signals = TerminationSignals::listen().map_err(|error| self.broken(&error))?;
            let request = self.prepare(Method::GET, path, Bytes::new())?;
            let stream = TokioIo::new(self.connect().await?);
            let (sender, connection) = http1::handshake(stream).await.map_err(|error| self.broken(&error))?;
            tokio::select! {
                () = signals.next() => Ok(StreamEnd::Interrupted),
                () = reader_closed => Ok(StreamEnd::ReaderDone),
                end = drive(connection, self.follow(sender, request, take)) => end,
            }
        })
    }

    async fn follow<E: From<ClientError>>(
        &self,
        mut sender: SendRequest<Full<Bytes>>,
        request: Request<Full<Bytes>>,
        mut take: impl FnMut(&[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<StreamEnd, E> {
        let answer = tokio::time::timeout(READ_TIMEOUT, sender.send_request(request)).await;
        let mut body = match answer.map_err(|_| self.timed_out(READ_TIMEOUT))? {
            Ok(answer) if answer.status().is_success() => answer.into_body(),
            Ok(answer) => {
                let status = answer.status();
                let body = answer.into_body().collect().await.map_err(|error| self.broken(&error))?;
                return Err(self.refusal(status, &body.to_bytes()).into());
            }
            Err(error) => return Err(self.connection_lost(&error).await.into()),
        };
        while let Some(frame) = body.frame().await {
            let frame = match frame {
                Ok(frame) => frame,
                Err(error) => return Err(self.connection_lost(&error).await.into()),
            };
            if let Ok(data) = frame.into_data()
                && take(&data)?.is_break()
            {
                return Ok(StreamEnd::ReaderDone);
            }
        }
        Ok(StreamEnd::SwitchStopped)
    }

    /// As [`ApiClient::stream`], for JSON lines (NDJSON).
    pub(crate) fn lines<E: From<ClientError>>(
        &self,
        path: &str,
        reader_closed: impl Future<Output = ()>,
        mut take: impl FnMut(&[u8]) -> Result<ControlFlow<()>, E>,
    ) -> Result<StreamEnd, E> {
        let mut begun = Vec::new();
        self.stream(path, reader_closed, |chunk| {
            for piece in chunk.split_inclusive(|byte| *byte == b'\n') {
                begun.extend_from_slice(piece);
                match begun.split_last() {
                    Some((b'\n', line)) if take(line)?.is_break() => return Ok(ControlFlow::Break(())),
                    Some((b'\n', _)) => begun.clear(),
                    _ if begun.len() > MAX_LINE => {
                        return Err(self.broken(&"its response has a line that is too long").into());
                    }
                    _ => {}
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// Changes a connection to the protocol of `POST /v1/handover`. The socket is blocking.
    pub(crate) fn hand_over(&self) -> Result<OwnedFd, ClientError> {
        let mut request = self.prepare(Method::POST, "/v1/handover", Bytes::new())?;
        request.headers_mut().insert(CONNECTION, HeaderValue::from_static("upgrade"));
        request.headers_mut().insert(UPGRADE, HeaderValue::from_static(HANDOVER_PROTOCOL));
        self.executor.block_on(async {
            let stream = TokioIo::new(self.connect().await?);
            let (mut sender, connection) =
                http1::handshake(stream).await.map_err(|error| self.broken(&error))?;
            let exchange = async {
                let answer = tokio::time::timeout(READ_TIMEOUT, sender.send_request(request)).await;
                let answer = answer.map_err(|_| self.timed_out(READ_TIMEOUT))?;
                let answer = answer.map_err(|error| self.broken(&error))?;
                if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
                    let status = answer.status();
                    let body = answer.into_body().collect().await.map_err(|error| self.broken(&error))?;
                    return Err(self.refusal(status, &body.to_bytes()));
                }
                hyper::upgrade::on(answer).await.map_err(|error| self.broken(&error))
            };
            let upgraded = drive(connection.with_upgrades(), exchange).await?;
            let parts = upgraded.downcast::<TokioIo<UnixStream>>();
            let parts = parts.map_err(|_| self.broken(&"the connection is not a Unix socket"))?;
            let socket = parts.io.into_inner().into_std().map_err(|error| self.broken(&error))?;
            socket.set_nonblocking(false).map_err(|error| self.broken(&error))?;
            socket.set_read_timeout(Some(CHANGE_TIMEOUT)).map_err(|error| self.broken(&error))?;
            Ok(socket.into())
        })
    }

    /// The PID of the switch in this process's PID namespace.
    pub(crate) fn pid(&self) -> Result<u32, ClientError> {
        self.executor.block_on(async {
            peer_pid(&self.connect().await?).ok_or_else(|| self.broken(&"its process ID is unknown"))
        })
    }

    /// A path of this process's network namespace for the switch; `None`: it is the switch's own.
    pub(crate) fn caller_netns(&self) -> Result<Option<String>, ClientError> {
        let switch = self.pid()?;
        let differs = |kind: &str| {
            let of = |process: String| fs::read_link(format!("/proc/{process}/ns/{kind}"));
            let both = of("self".to_owned()).and_then(|own| Ok(own != of(switch.to_string())?));
            both.map_err(|error| self.broken(&format!("its network namespace is unknown: {error}")))
        };
        match (differs("net")?, differs("pid")?) {
            (false, _) => Ok(None),
            (true, false) => Ok(Some(format!("/proc/{}/ns/net", std::process::id()))),
            // There it would be the path of another process.
            (true, true) => Err(ClientError::OtherContainer(self.name.clone())),
        }
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let timeout = if method == Method::GET { READ_TIMEOUT } else { CHANGE_TIMEOUT };
        let request = self.prepare(method, path, body)?;
        self.executor.block_on(async {
            let stream = self.connect().await?;
            let pid = peer_pid(&stream);
            if let Some(pid) = pid
                && process::is_stopped(pid)
            {
                // Nothing is sent, so nothing is done when the process continues.
                tokio::time::sleep(SUSPENDED_CHECK).await;
                if process::is_stopped(pid) {
                    return Err(ClientError::Suspended { name: self.name.clone(), pid });
                }
            }
            tokio::select! {
                outcome = exchange(stream, request, timeout) => match outcome {
                    Ok((status, body)) => self.answer(status, &body),
                    Err(ExchangeError::Http(error)) => Err(self.connection_lost(&error).await),
                    Err(ExchangeError::TimedOut(_)) => Err(self.timed_out(timeout)),
                },
                pid = suspended(pid) => Err(ClientError::Suspended { name: self.name.clone(), pid }),
            }
        })
    }

    fn prepare(&self, method: Method, path: &str, body: Bytes) -> Result<Request<Full<Bytes>>, ClientError> {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", "uswitch")
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| self.broken(&error))
    }

    fn answer<T: DeserializeOwned>(&self, status: StatusCode, body: &[u8]) -> Result<T, ClientError> {
        if !status.is_success() {
            return Err(self.refusal(status, body));
        }
        let json = if body.is_empty() { b"null" } else { body };
        serde_json::from_slice(json).map_err(|error| self.broken(&error))
    }

    fn refusal(&self, status: StatusCode, body: &[u8]) -> ClientError {
        match serde_json::from_slice::<ErrorReport>(body) {
            Ok(ErrorReport { error, code }) => ClientError::Refused { error, code },
            Err(_) => self.broken(&status),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let path = socket_path(&self.runtime, &self.name);
        let deadline = Instant::now() + READ_TIMEOUT;
        let connected = loop {
            match UnixStream::connect(&path).await {
                // The backlog is full.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < deadline => {
                    tokio::time::sleep(CONNECT_RETRY).await;
                }
                connected => break connected,
            }
        };
        connected.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                let running = names(&self.runtime);
                ClientError::NotRunning { name: self.name.clone(), running, hint: self.hint() }
            }
            io::ErrorKind::ConnectionRefused => ClientError::Killed(self.name.clone()),
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path, source },
            _ => self.broken(&source),
        })
    }

    /// A likely reason why no switch is running. Users other than root only see that root's switches
    /// may exist.
    fn hint(&self) -> String {
        let exit_reason = fs::read_to_string(exit_reason_path(&self.runtime, &self.name)).unwrap_or_default();
        let roots = Path::new(ROOT_RUNTIME_DIR);
        match exit_reason.lines().next() {
            Some(why) => format!("; the last one ended: {why}"),
            None if self.runtime != roots && roots.exists() => ", or it belongs to root: try sudo".to_owned(),
            None => String::new(),
        }
    }

    /// A broken connection may be that of a killed switch. Further attempts show that.
    async fn connection_lost(&self, error: &hyper::Error) -> ClientError {
        const ATTEMPTS: u32 = 20;
        const PAUSE: Duration = Duration::from_millis(50);
        for _ in 0..ATTEMPTS {
            match self.connect().await {
                Err(error) => return error,
                // The kernel closes the connections of a killed process before its listener, and says only after
                // both that the process has ended.
                Ok(stream) if peer_pid(&stream).is_some_and(process::is_ending) => {
                    return ClientError::Killed(self.name.clone());
                }
                Ok(_) => tokio::time::sleep(PAUSE).await,
            }
        }
        self.broken(error)
    }

    fn timed_out(&self, timeout: Duration) -> ClientError {
        self.broken(&format!("no response within {} seconds", timeout.as_secs()))
    }

    pub(crate) fn broken(&self, why: &dyn ToString) -> ClientError {
        ClientError::Broken { name: self.name.clone(), why: why.to_string() }
    }
}

/// The PID of the switch at the other end; `None` in another PID namespace.
fn peer_pid(stream: &UnixStream) -> Option<u32> {
    u32::try_from(stream.peer_cred().ok()?.pid()?).ok()
}

/// Resolves with the PID when the process has been stopped (SIGSTOP) at two checks in a row.
async fn suspended(pid: Option<u32>) -> u32 {
    let Some(pid) = pid else { return std::future::pending().await };
    let mut checks = 0;
    while checks < 2 {
        tokio::time::sleep(SUSPENDED_CHECK).await;
        checks = if process::is_stopped(pid) { checks + 1 } else { 0 };
    }
    pid
}

/// Why there is no whole response.
#[derive(Debug, thiserror::Error)]
enum ExchangeError {
    #[error(transparent)]
    Http(#[from] hyper::Error),
    #[error(transparent)]
    TimedOut(#[from] Elapsed),
}

/// Sends a request and reads its response. `timeout` limits the wait for its start and for each part, so that
/// a large response may take longer.
async fn exchange(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
    timeout: Duration,
) -> Result<(StatusCode, Bytes), ExchangeError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let response = async {
        let response: Response<_> = tokio::time::timeout(timeout, sender.send_request(request)).await??;
        let (head, mut body) = response.into_parts();
        let mut bytes = Vec::new();
        while let Some(frame) = tokio::time::timeout(timeout, body.frame()).await? {
            bytes.extend_from_slice(frame?.data_ref().map_or(&[], |data| data));
        }
        Ok((head.status, bytes.into()))
    };
    drive(connection, response).await
}

/// Polls the connection, which moves the bytes, together with the request on it. A connection that ends
/// first makes the request fail.
async fn drive<T>(connection: impl Future, talk: impl Future<Output = T>) -> T {
    tokio::pin!(talk);
    tokio::select! {
        biased;
        said = &mut talk => said,
        _ = connection => talk.await,
    }
}
