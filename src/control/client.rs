//! Speaks to a running switch over its socket.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use super::report::ErrorReport;
use super::service::{last_words_path, socket_path};
use crate::sys::runtime::OF_ROOT;

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
const GLANCE: Duration = Duration::from_secs(10);
/// How long to wait for what it has to do: thousands of ports take a while to go away.
const WORK: Duration = Duration::from_secs(600);

/// Asks one switch.
#[derive(Debug)]
pub(crate) struct Client {
    name: String,
    runtime: PathBuf,
    executor: Runtime,
}

impl Client {
    /// Of the switch called `name`, which is looked for only when it is asked.
    pub(crate) fn new(name: &str, runtime: &Path) -> io::Result<Client> {
        let executor = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        Ok(Client { name: name.to_owned(), runtime: runtime.to_owned(), executor })
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
        let patience = if method == Method::GET { GLANCE } else { WORK };
        let exchange = async {
            let stream = self.connect().await?;
            let request = Request::builder()
                .method(method)
                .uri(path)
                .header("host", "uswitch")
                .header("content-type", "application/json")
                .body(Full::new(body))
                .map_err(|error| self.broken(&error))?;
            match exchange(stream, request).await {
                Ok((status, body)) => self.answer(status, &body),
                // A killed switch takes connections until the kernel has closed its socket.
                Err(error) => Err(self.connect().await.err().unwrap_or_else(|| self.broken(&error))),
            }
        };
        let in_time = async { tokio::time::timeout(patience, exchange).await };
        self.executor.block_on(in_time).unwrap_or_else(|_| {
            Err(self.broken(&format!("nothing came within {} seconds", patience.as_secs())))
        })
    }

    fn answer<T: DeserializeOwned>(&self, status: hyper::StatusCode, body: &[u8]) -> Result<T, ClientError> {
        if !status.is_success() {
            return Err(match serde_json::from_slice::<ErrorReport>(body) {
                Ok(report) => ClientError::Refused(report.error),
                Err(_) => self.broken(&status),
            });
        }
        let json = if body.is_empty() { b"null" } else { body };
        serde_json::from_slice(json).map_err(|error| self.broken(&error))
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
        let last_words = fs::read_to_string(last_words_path(&self.runtime, &self.name)).unwrap_or_default();
        let roots = Path::new(OF_ROOT);
        match last_words.lines().next() {
            Some(why) => format!("; the last one ended: {why}"),
            None if self.runtime != roots && roots.exists() => ", or it is root's: try sudo".to_owned(),
            None => String::new(),
        }
    }

    fn broken(&self, why: &dyn ToString) -> ClientError {
        ClientError::Broken { name: self.name.clone(), why: why.to_string() }
    }
}

async fn exchange(
    stream: UnixStream,
    request: Request<Full<Bytes>>,
) -> hyper::Result<(hyper::StatusCode, Bytes)> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let answer = async {
        let answer: Response<_> = sender.send_request(request).await?;
        Ok((answer.status(), answer.into_body().collect().await?.to_bytes()))
    };
    // The connection moves the bytes; it ends with the answer, or before it with the error that the answer then is.
    tokio::pin!(answer);
    tokio::select! {
        biased;
        answer = &mut answer => answer,
        _ = connection => answer.await,
    }
}
