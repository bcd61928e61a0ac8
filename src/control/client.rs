//! Speaks to a running switch over its socket.

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::report::ErrorReport;
use super::service::{exit_reason_path, socket_path};
use super::signals::TerminationSignals;
use crate::sys::runtime_dir::ROOT_RUNTIME_DIR;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    #[error("no switch named {name} is running: {}{hint}", advice(name, running))]
    NotRunning { name: String, running: Vec<String>, hint: String },
    #[error("{0} was killed: `uswitch stop --name {0}` takes away what it left behind")]
    Killed(String),
    #[error("{}: {source}: the switch is another user's, try sudo", path.display())]
    Forbidden { path: PathBuf, source: io::Error },
    /// What the switch said.
    #[error("{0}")]
    Refused(String),
    #[error("{name} does not answer: {why}")]
    Broken { name: String, why: String },
}

fn advice(name: &str, running: &[String]) -> String {
    match running {
        [] => format!("start it with `uswitch start --name {name}`"),
        running => format!("--name names one that is ({})", running.join(", ")),
    }
}

/// Names of the sockets in `runtime`, in order: the switches that run, and those that were killed.
pub(crate) fn names(runtime: &Path) -> Vec<String> {
    let files = std::fs::read_dir(runtime).into_iter().flatten().flatten();
    let paths = files.map(|file| file.path());
    let sockets = paths.filter(|path| path.extension().is_some_and(|extension| extension == "sock"));
    let mut names: Vec<String> =
        sockets.filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned())).collect();
    names.sort_unstable();
    names
}

/// How long to wait for what the switch only has to look up.
const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait for what it has to do: thousands of ports take a while to go away.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(600);

/// Longest line that a switch may send, in bytes.
const MAX_LINE: usize = 1 << 20;

/// How an answer that goes on came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum StreamEnd {
    /// The reader had enough.
    ReaderDone,
    /// The switch has no more to say: it stops.
    SwitchStopped,
    /// Ctrl-C, `kill`, or the terminal went away.
    Interrupted,
}

/// Asks one switch.
#[derive(Debug)]
pub(crate) struct ApiClient {
    name: String,
    runtime: PathBuf,
    executor: Runtime,
}

impl ApiClient {
    /// Of the switch called `name`, which is looked for only when it is asked.
    pub(crate) fn new(name: &str, runtime: &Path) -> io::Result<ApiClient> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(ApiClient { name: name.to_owned(), runtime: runtime.to_owned(), executor })
    }

    /// Asks the same switch, and lets nobody wait who asks by this one.
    pub(crate) fn new_connection(&self) -> io::Result<ApiClient> {
        ApiClient::new(&self.name, &self.runtime)
    }

    /// Reads.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.request(Method::GET, path, Bytes::new())
    }

    /// Asks for something to be done.
    pub(crate) fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.request(Method::POST, path, json.into())
    }

    /// Changes something.
    pub(crate) fn put<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let json = serde_json::to_vec(body).map_err(|error| self.broken(&error))?;
        self.request(Method::PUT, path, json.into())
    }

    /// Takes away.
    pub(crate) fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.request(Method::DELETE, path, Bytes::new())
    }

    /// Reads an answer that goes on, as it comes, until `take` has enough, `reader_closed` resolves (nobody
    /// hears it any more), a signal comes, or the switch ends it.
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

    /// As [`ApiClient::stream`], for an answer of lines: NDJSON.
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
                        return Err(self.broken(&"it sends a line without end").into());
                    }
                    _ => {}
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    /// The switch's process, as this process sees it.
    pub(crate) fn pid(&self) -> Result<u32, ClientError> {
        self.executor.block_on(async {
            let peer = self.connect().await?.peer_cred().map_err(|error| self.broken(&error))?;
            peer.pid().and_then(|pid| u32::try_from(pid).ok()).ok_or_else(|| self.broken(&"it has no pid"))
        })
    }

    fn request<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<T, ClientError> {
        let timeout = if method == Method::GET { READ_TIMEOUT } else { CHANGE_TIMEOUT };
        let request = self.prepare(method, path, body)?;
        let exchange = async {
            let stream = self.connect().await?;
            match exchange(stream, request).await {
                Ok((status, body)) => self.answer(status, &body),
                Err(error) => Err(self.connection_lost(&error).await),
            }
        };
        let in_time = async { tokio::time::timeout(timeout, exchange).await };
        self.executor.block_on(in_time).unwrap_or_else(|_| Err(self.timed_out(timeout)))
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
            Ok(report) => ClientError::Refused(report.error),
            Err(_) => self.broken(&status),
        }
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        let path = socket_path(&self.runtime, &self.name);
        UnixStream::connect(&path).await.map_err(|source| match source.kind() {
            io::ErrorKind::NotFound => {
                let running = names(&self.runtime);
                ClientError::NotRunning { name: self.name.clone(), running, hint: self.hint() }
            }
            io::ErrorKind::ConnectionRefused => ClientError::Killed(self.name.clone()),
            io::ErrorKind::PermissionDenied => ClientError::Forbidden { path, source },
            _ => self.broken(&source),
        })
    }

    /// Why there is none, as far as that can be known. Of root's switches others see only that there may be some.
    fn hint(&self) -> String {
        let exit_reason = fs::read_to_string(exit_reason_path(&self.runtime, &self.name)).unwrap_or_default();
        let roots = Path::new(ROOT_RUNTIME_DIR);
        match exit_reason.lines().next() {
            Some(why) => format!("; the last one ended: {why}"),
            None if self.runtime != roots && roots.exists() => ", or it is root's: try sudo".to_owned(),
            None => String::new(),
        }
    }

    /// A connection that broke off may be that of a killed switch, which takes connections until the kernel has closed
    /// its socket.
    async fn connection_lost(&self, error: &hyper::Error) -> ClientError {
        self.connect().await.err().unwrap_or_else(|| self.broken(error))
    }

    fn timed_out(&self, timeout: Duration) -> ClientError {
        self.broken(&format!("nothing came within {} seconds", timeout.as_secs()))
    }

    fn broken(&self, why: &dyn ToString) -> ClientError {
        ClientError::Broken { name: self.name.clone(), why: why.to_string() }
    }
}

async fn exchange(stream: UnixStream, request: Request<Full<Bytes>>) -> hyper::Result<(StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer: Response<_> = sender.send_request(request).await?;
        Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
    };
    drive(connection, answer).await
}

/// Talks over a connection. That moves the bytes; it ends with the talk, or before it with the error that is then the
/// talk's too.
async fn drive<T>(connection: impl Future, talk: impl Future<Output = T>) -> T {
    tokio::pin!(talk);
    tokio::select! {
        biased;
        said = &mut talk => said,
        _ = connection => talk.await,
    }
}
