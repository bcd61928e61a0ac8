//! Tests of streaming responses over a real socket.

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use axum::body::Bytes;
use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::connection::{Connection, MAX_CONNECTIONS, MAX_STREAMS, MAX_UNSENT_KIB, SEND_TIMEOUT};
use super::error::ApiError;
use super::listener::{ApiSocket, Listener};
use super::stream::ndjson;
use crate::control::client::{ApiClient, ClientError, StreamEnd};
use crate::control::subscription::{SubscriberClosed, SubscriptionSender, subscription};

/// Length of the subscription's queue.
const LENGTH: usize = 4;

type ApiResult = Result<Response, ApiError>;

/// `/numbers` streams 0 and then what the test sends; missed items are a negative count. `/short` is a
/// plain response.
fn routes(senders: Sender<SubscriptionSender<i64>>) -> Router {
    let numbers = async move |Extension(connection): Extension<Connection>| -> ApiResult {
        connection.hold_stream()?;
        let (sender, subscription) = subscription(LENGTH);
        sender.send(0).unwrap();
        senders.send(sender).unwrap();
        Ok(ndjson(subscription, |missed| -i64::try_from(missed).unwrap()))
    };
    Router::new().route("/numbers", get(numbers)).route("/short", get(async || "7"))
}

/// A server without a switch, as a client sees it.
struct TestServer {
    runtime: PathBuf,
    senders: Receiver<SubscriptionSender<i64>>,
}

impl TestServer {
    fn client(&self) -> ApiClient {
        ApiClient::new("uswitch0", &self.runtime).unwrap()
    }

    /// A raw client, and the sender of its stream. HTTP/1.0 has no chunks, so lines can be read as they
    /// are.
    fn follow(&self) -> (BufReader<UnixStream>, SubscriptionSender<i64>) {
        let mut stream = UnixStream::connect(self.runtime.join("uswitch0.sock")).unwrap();
        stream.write_all(b"GET /numbers HTTP/1.0\r\nhost: x\r\n\r\n").unwrap();
        (BufReader::new(stream), self.sender())
    }

    fn sender(&self) -> SubscriptionSender<i64> {
        self.senders.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// Runs a server, and `test` on a second thread, until `test` returns.
fn with_server(test: impl FnOnce(TestServer) + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let runtime = directory.path().to_owned();
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let socket = ApiSocket::bind(&runtime.join("uswitch0.sock")).unwrap();
        let (senders, fed) = channel();
        let (finished, finish) = oneshot::channel::<()>();
        let tester = std::thread::spawn(move || {
            test(TestServer { runtime, senders: fed });
            drop(finished);
        });
        let listener = Listener::new();
        tokio::select! {
            _ = finish => {}
            never = listener.open(&socket, routes(senders)) => match never {},
        }
        listener.close().await;
        if let Err(panic) = tester.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// All numbers of a stream that has ended.
fn rest(stream: BufReader<UnixStream>) -> Vec<i64> {
    stream.lines().filter_map(|line| line.unwrap().parse().ok()).collect()
}

#[test]
fn streams_each_line_at_once_and_marks_the_end() {
    with_server(|server| {
        let (mut sender, mut seen) = (None, Vec::new());
        let end = server.client().lines("/numbers", std::future::pending(), |line| {
            let number: i64 = serde_json::from_slice(line).unwrap();
            seen.push(number);
            // The next line is sent only after this one has arrived.
            match number {
                3 => drop(sender.take()),
                number => sender.get_or_insert_with(|| server.sender()).send(number + 1).unwrap(),
            }
            Ok::<_, ClientError>(ControlFlow::Continue(()))
        });
        assert_eq!((end.unwrap(), seen), (StreamEnd::SwitchStopped, vec![0, 1, 2, 3]));
    });
}

#[test]
fn sender_notices_disconnected_client() {
    with_server(|server| {
        let enough = |_: &[u8]| Ok::<_, ClientError>(ControlFlow::Break(()));
        assert_eq!(
            server.client().lines("/numbers", std::future::pending(), enough).unwrap(),
            StreamEnd::ReaderDone
        );
        let sender = server.sender();
        while sender.send(1) != Err(SubscriberClosed) {
            std::thread::yield_now();
        }
    });
}

/// Sends more than the socket's buffers hold (some hundred kilobytes).
#[test]
fn slow_client_receives_count_of_missed_lines() {
    with_server(|server| {
        let (stream, sender) = server.follow();
        const WRITTEN: i64 = 1_000_000;
        for number in 1..=WRITTEN {
            sender.send(number).unwrap();
        }
        drop(sender);
        let read = rest(stream);
        let missed: i64 = read.iter().filter(|number| **number < 0).sum();
        let lines = read.iter().filter(|number| **number > 0).count() as i64;
        assert!(missed < 0, "nothing was missed");
        assert_eq!(lines - missed, WRITTEN);
        let mut next = 1;
        for number in &read[1..] {
            next = if *number < 0 {
                next - number
            } else {
                assert_eq!(*number, next);
                next + 1
            };
        }
    });
}

#[test]
fn limits_streams_and_still_serves_requests() {
    with_server(|server| {
        let mut streams: Vec<_> = (0..MAX_STREAMS).map(|_| server.follow()).collect();
        let client = server.client();
        let refused =
            || match client.lines("/numbers", std::future::pending(), |_| Ok(ControlFlow::Break(()))) {
                Err(ClientError::Refused { error, .. }) => Some(error),
                other => other.map(|_| None).unwrap(),
            };
        assert_eq!(
            refused().unwrap(),
            "the switch serves 16 streams (events, captures, live traces) already: end one of them first"
        );
        assert_eq!(client.get::<u32>("/short").unwrap(), 7);
        streams.pop();
        while refused().is_some() {
            std::thread::yield_now();
        }
    });
}

/// A response of this size needs a reservation, and does not fit the socket's buffers.
const LARGE: usize = 8 << 20;

/// `/large` is a large response that `live` counts as long as it is in memory.
fn large_route(live: &Arc<()>) -> Router {
    struct Counted {
        _live: Arc<()>,
        bytes: Vec<u8>,
    }
    impl AsRef<[u8]> for Counted {
        fn as_ref(&self) -> &[u8] {
            &self.bytes
        }
    }
    let live = Arc::clone(live);
    let large = async move || Bytes::from_owner(Counted { _live: Arc::clone(&live), bytes: vec![0; LARGE] });
    Router::new().route("/large", get(large)).route("/short", get(async || "7"))
}

async fn open(path: &Path, request: &str) -> tokio::net::UnixStream {
    let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    stream
}

const HALF_REQUEST: &str = "GET /short HT";
const SHORT: &str = "GET /short HTTP/1.1\r\nhost: x\r\n\r\n";
const LARGE_REQUEST: &str = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";

/// Runs `test` beside a server with these routes. Time is paused, so that timeouts pass at once.
async fn beside_server(routes: Router, test: impl AsyncFnOnce(&Path)) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("uswitch0.sock");
    let socket = ApiSocket::bind(&path).unwrap();
    tokio::spawn(async move { Listener::new().open(&socket, routes).await });
    test(&path).await;
}

async fn response(mut stream: tokio::net::UnixStream) -> String {
    let mut text = Vec::new();
    stream.read_to_end(&mut text).await.unwrap();
    String::from_utf8(text).unwrap()
}

/// Neither clients that send no request nor those that read no response keep another out.
#[tokio::test(start_paused = true)]
async fn closes_longest_waiting_connection_when_full() {
    beside_server(large_route(&Arc::default()), async |path| {
        for request in [HALF_REQUEST, LARGE_REQUEST] {
            let mut idle = Vec::new();
            for _ in 0..2 * MAX_CONNECTIONS {
                idle.push(open(path, request).await);
            }
            assert!(response(open(path, SHORT).await).await.ends_with("\r\n7"), "{request}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn disconnects_client_that_does_not_read() {
    let live = Arc::default();
    beside_server(large_route(&live), async |path| {
        let stream = open(path, LARGE_REQUEST).await;
        tokio::time::sleep(SEND_TIMEOUT / 2).await;
        assert_eq!(Arc::strong_count(&live), 3, "the response is in memory");
        tokio::time::sleep(SEND_TIMEOUT).await;
        assert_eq!(Arc::strong_count(&live), 2, "the response is gone");
        assert!(response(stream).await.len() < LARGE);
    })
    .await;
}

/// A client that reads slowly, but reads, gets its whole response.
#[tokio::test(start_paused = true)]
async fn keeps_client_that_reads_slowly() {
    beside_server(large_route(&Arc::default()), async |path| {
        let mut stream = open(path, LARGE_REQUEST).await;
        let (mut part, mut length) = (vec![0; LARGE / 8], 0);
        loop {
            tokio::time::sleep(SEND_TIMEOUT / 2).await;
            match stream.read(&mut part).await.unwrap() {
                0 => break,
                read => length += read,
            }
        }
        assert!(length > LARGE);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn bounds_memory_of_unread_responses() {
    let live = Arc::default();
    beside_server(large_route(&live), async |path| {
        let mut unread = Vec::new();
        for _ in 0..20 {
            unread.push(open(path, LARGE_REQUEST).await);
            tokio::time::sleep(Duration::from_millis(200)).await;
            assert!(Arc::strong_count(&live) <= 2 + MAX_UNSENT_KIB as usize * 1024 / LARGE);
        }
        assert!(response(open(path, LARGE_REQUEST).await).await.len() > LARGE, "a reader gets its response");
    })
    .await;
}

/// Runs with paused time, so that hours pass at once.
#[tokio::test(start_paused = true)]
async fn closes_requests_after_timeout_but_keeps_streams() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("uswitch0.sock");
    let socket = ApiSocket::bind(&path).unwrap();
    let (senders, fed) = channel();
    let routes = routes(senders).route("/never", get(std::future::pending::<()>));
    tokio::spawn(async move { Listener::new().open(&socket, routes).await });
    let ask = async |what: &str| {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(format!("GET {what} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    };
    let (mut short, mut long) = (ask("/never").await, ask("/numbers").await);
    let mut text = String::new();
    assert_eq!(short.read_to_string(&mut text).await.unwrap(), 0, "its connection was closed");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    fed.recv().unwrap().send(1).unwrap();
    long.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("0\n\r\n2\r\n1\n\r\n0\r\n\r\n"), "{text:?}");
}
