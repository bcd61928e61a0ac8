//! Names of containers, as labels of their ports. dockerd tells them (Engine API: `/events`, `/containers/ID/json`).
//!
//! This is apart from the requests of dockerd, which waits for their answers while a container starts. While dockerd
//! does not run, names stay as they are.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Empty};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1::{self, SendRequest};
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::endpoint::{Endpoint, set};
use super::error::DockerError;
use super::network::Networks;
use super::null_is_default;
use super::switch::{ENDPOINT, ports_with};
use super::watcher::{ErrorLog, log};
use crate::control::config::{ALIAS_LABEL, LONGEST_VALUE, LabelChanges, Labels};
use crate::control::report::PortSettings;
use crate::sys::blocking::run_blocking;

/// Labels of a port: the name and the ID of its container.
const NAME: &str = "docker.name";
const CONTAINER: &str = "docker.container";

/// Timeout of a request. dockerd answers questions about a container when it has started.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Time between two attempts to connect.
const RETRY: Duration = Duration::from_secs(1);
/// Longest event, in bytes. It contains the labels of a container.
const MAX_EVENT: usize = 1 << 20;

/// Why dockerd does not tell names.
#[derive(Debug, thiserror::Error)]
enum NamesError {
    #[error("cannot connect to {}: {source}: ports have no names of containers", path.display())]
    Connect { path: PathBuf, source: io::Error },
    #[error("dockerd closed the connection")]
    Closed,
    #[error("dockerd: {0}")]
    Http(#[from] hyper::Error),
    #[error("dockerd answers {0} to {1}")]
    Status(StatusCode, String),
    #[error("dockerd does not answer {0}")]
    TimedOut(String),
    #[error("dockerd sends what is not an answer: {0}")]
    Json(#[from] serde_json::Error),
    #[error("dockerd sends an event of more than {MAX_EVENT} bytes")]
    LongEvent,
    #[error("the request is not valid: {0}")]
    Request(#[from] hyper::http::Error),
    #[error("cannot start a thread: {0}")]
    Thread(io::Error),
}

/// A container, in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ListedContainer {
    id: String,
}

/// A container.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Container {
    id: String,
    /// With a slash before it.
    name: String,
    network_settings: NetworkSettings,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct NetworkSettings {
    #[serde(default, deserialize_with = "null_is_default")]
    networks: BTreeMap<String, ContainerNetwork>,
}

#[derive(Debug, Deserialize)]
struct ContainerNetwork {
    /// Empty if the container does not run.
    #[serde(default, rename = "EndpointID")]
    endpoint: String,
    #[serde(default, rename = "Aliases", deserialize_with = "null_is_default")]
    aliases: Vec<String>,
}

impl Container {
    /// The labels of its port in a network. The switch answers questions for its name and its aliases there, as far as
    /// a label has room for them.
    fn labels(&self, network: &ContainerNetwork) -> Labels {
        let name = self.name.trim_start_matches('/');
        let names = network.aliases.iter().fold(name.to_owned(), |names, alias| {
            match names.len() + 1 + alias.len() {
                ..=LONGEST_VALUE => format!("{names},{alias}"),
                _ => names,
            }
        });
        let label = |key: &str, value: &str| (key.to_owned(), value.to_owned());
        Labels::from([label(NAME, name), label(CONTAINER, &self.id), label(ALIAS_LABEL, &names)])
    }
}

/// An event.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEvent {
    #[serde(rename = "Type")]
    kind: String,
    actor: Actor,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Actor {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default, deserialize_with = "null_is_default")]
    attributes: BTreeMap<String, String>,
}

impl DockerEvent {
    /// The ID of its container.
    fn container(&self) -> Option<&String> {
        match self.kind.as_str() {
            "network" => self.actor.attributes.get("container"),
            _ => Some(&self.actor.id),
        }
    }
}

/// Keeps the labels of ports as dockerd names their containers. dockerd listens at `socket`. Never returns.
pub(super) async fn follow(networks: Arc<Networks>, socket: PathBuf) {
    let mut errors = ErrorLog::default();
    loop {
        if let Err(error) = follow_once(&networks, &socket).await {
            errors.log(error.to_string());
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Labels the ports of the containers that run, and of those that start, until the connection ends.
async fn follow_once(networks: &Arc<Networks>, socket: &Path) -> Result<(), NamesError> {
    let filters = json!({ "type": ["container", "network"], "event": ["start", "rename", "connect"] });
    let query = serde_urlencoded::to_string([("filters", filters.to_string())]).unwrap_or_default();
    let mut events = Answer::to(socket, &format!("/events?{query}")).await?;
    let running: Vec<ListedContainer> = get(socket, "/containers/json").await?;
    for container in running {
        label(networks, socket, &container.id).await?;
    }
    while let Some(line) = events.line().await? {
        let event: DockerEvent = serde_json::from_slice(&line)?;
        if let Some(container) = event.container() {
            label(networks, socket, container).await?;
        }
    }
    Err(NamesError::Closed)
}

/// Labels the ports of a container, if it is still there.
async fn label(networks: &Arc<Networks>, socket: &Path, container: &str) -> Result<(), NamesError> {
    let container: Container = match get(socket, &format!("/containers/{container}/json")).await {
        Err(NamesError::Status(StatusCode::NOT_FOUND, _)) => return Ok(()),
        container => container?,
    };
    let networks = Arc::clone(networks);
    let labelled =
        run_blocking("label", move || networks.label_ports(&container)).map_err(NamesError::Thread)?;
    // One that panics has printed why.
    let _ = labelled.await;
    Ok(())
}

impl Networks {
    fn label_ports(&self, container: &Container) {
        for network in container.network_settings.networks.values() {
            if let Err(error) = self.label_port(&network.endpoint, &container.labels(network)) {
                log(&format!("cannot label the port of {}: {}", container.name, error.line()));
            }
        }
    }

    /// An endpoint without a record is that of another driver. A port that is missing is restored with these labels.
    fn label_port(&self, endpoint: &str, labels: &Labels) -> Result<(), DockerError> {
        if endpoint.is_empty() {
            return Ok(());
        }
        let Some(record) = self.store.load::<Endpoint>(endpoint)? else { return Ok(()) };
        self.change_endpoint(endpoint, |record| record.port.labels.extend(labels.clone()))?;
        let client = self.switches.client(&self.find(&record.network)?.switch)?;
        let changes = |(key, value): (&String, &String)| (key.clone(), Some(value.clone()));
        let labels: LabelChanges = labels.iter().map(changes).collect();
        let settings = PortSettings { labels, ..PortSettings::default() };
        ports_with(&client, ENDPOINT, endpoint)?.iter().try_for_each(|port| set(&client, port, &settings))
    }
}

async fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T, NamesError> {
    let answer = Answer::to(socket, path).await?;
    let body = timeout(TIMEOUT, answer.body.collect()).await;
    let body = body.map_err(|_| NamesError::TimedOut(path.to_owned()))??;
    Ok(serde_json::from_slice(&body.to_bytes())?)
}

/// A successful answer of dockerd.
struct Answer {
    body: Incoming,
    /// The begin of a line.
    begun: Vec<u8>,
    /// Keeps the connection open.
    _sender: SendRequest<Empty<Bytes>>,
}

impl Answer {
    /// Sends a GET request.
    async fn to(socket: &Path, path: &str) -> Result<Answer, NamesError> {
        let stream = UnixStream::connect(socket).await;
        let stream = stream.map_err(|source| NamesError::Connect { path: socket.to_owned(), source })?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the answer, which reports its error.
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "docker").body(Empty::new())?;
        let answer = timeout(TIMEOUT, sender.send_request(request)).await;
        let answer = answer.map_err(|_| NamesError::TimedOut(path.to_owned()))??;
        match answer.status() {
            StatusCode::OK => Ok(Answer { body: answer.into_body(), begun: Vec::new(), _sender: sender }),
            status => Err(NamesError::Status(status, path.to_owned())),
        }
    }

    /// The next line; `None` at the end.
    async fn line(&mut self) -> Result<Option<Vec<u8>>, NamesError> {
        loop {
            if let Some(end) = self.begun.iter().position(|byte| *byte == b'\n') {
                return Ok(Some(self.begun.drain(..=end).collect()));
            }
            if self.begun.len() > MAX_EVENT {
                return Err(NamesError::LongEvent);
            }
            let Some(frame) = self.body.frame().await else { return Ok(None) };
            if let Ok(data) = frame?.into_data() {
                self.begun.extend_from_slice(&data);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As dockerd 20.10 sends them, shortened.
    #[test]
    fn finds_the_container_of_an_event() {
        for (event, container) in [
            (
                r#"{"Type":"container","Action":"start","Actor":{"ID":"c1","Attributes":{"name":"web"}}}"#,
                Some("c1"),
            ),
            (r#"{"Type":"container","Action":"rename","Actor":{"ID":"c1","Attributes":null}}"#, Some("c1")),
            (
                r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1","Attributes":{"container":"c1","type":"uswitch"}}}"#,
                Some("c1"),
            ),
            (r#"{"Type":"network","Action":"connect","Actor":{"ID":"n1"}}"#, None),
        ] {
            let parsed: DockerEvent = serde_json::from_str(event).unwrap();
            assert_eq!(parsed.container().map(String::as_str), container, "{event}");
        }
    }

    /// A server that answers a request with this body, and closes the connection.
    async fn serve_once(path: &Path, body: Vec<u8>) {
        let listener = tokio::net::UnixListener::bind(path).unwrap();
        let (stream, _) = listener.accept().await.unwrap();
        let answer = move |_| {
            let body = http_body_util::Full::new(Bytes::from(body.clone()));
            async { Ok::<_, std::convert::Infallible>(hyper::Response::new(body)) }
        };
        let service = hyper::service::service_fn(answer);
        // The client may close the connection first.
        let _ =
            hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
    }

    /// The lines of an answer with this body.
    async fn lines(body: &[u8]) -> Result<Vec<Vec<u8>>, NamesError> {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("docker.sock");
        let read = async {
            while !socket.exists() {
                tokio::task::yield_now().await;
            }
            let mut answer = Answer::to(&socket, "/events").await?;
            let mut lines = Vec::new();
            while let Some(line) = answer.line().await? {
                lines.push(line);
            }
            Ok(lines)
        };
        tokio::join!(read, serve_once(&socket, body.to_vec())).0
    }

    #[tokio::test]
    async fn ends_at_an_event_that_is_too_long() {
        assert_eq!(lines(b"{}\n[]\n{").await.unwrap(), [b"{}\n", b"[]\n"]);
        let longest = [vec![b' '; MAX_EVENT - 1], b"\n".to_vec()].concat();
        assert_eq!(lines(&longest).await.unwrap().len(), 1);
        assert!(matches!(lines(&vec![b' '; MAX_EVENT + 1]).await, Err(NamesError::LongEvent)));
    }

    #[test]
    fn labels_are_the_name_without_its_slash_and_the_id() {
        let inspected =
            |networks| json!({ "Id": "c1", "Name": "/web", "NetworkSettings": { "Networks": networks } });
        let container: Container = serde_json::from_value(inspected(json!(null))).unwrap();
        assert_eq!(container.network_settings.networks.len(), 0);
        let long = "a".repeat(LONGEST_VALUE);
        let networks = json!({ "lan": { "Aliases": ["www", long, "c1"] }, "other": { "Aliases": null } });
        let container: Container = serde_json::from_value(inspected(networks)).unwrap();
        for (network, aliases) in [("lan", "web,www,c1"), ("other", "web")] {
            let labels = [(NAME, "web"), (CONTAINER, "c1"), (ALIAS_LABEL, aliases)];
            let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
            let network = &container.network_settings.networks[network];
            assert_eq!(container.labels(network), Labels::from(labels));
        }
    }
}
