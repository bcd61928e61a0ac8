//! Answers that go on, over a real socket.

use std::io::{BufRead, BufReader, Write};
use std::ops::ControlFlow;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use axum::response::Response;
use axum::routing::get;
use axum::{Extension, Router};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;

use super::door::{Door, STREAMS, Socket, Visit};
use super::error::ApiError;
use super::stream::ndjson;
use crate::control::client::{Client, ClientError, StreamEnd};
use crate::control::feed::{Feeder, Gone, feed};

/// Lines that wait for a slow reader.
const LENGTH: usize = 4;

type Answer = Result<Response, ApiError>;

/// `/numbers` streams 0 and then what the test writes, a gap as a negative number; `/short` does not.
fn routes(feeders: Sender<Feeder<i64>>) -> Router {
    let numbers = async move |Extension(visit): Extension<Visit>| -> Answer {
        visit.prolong()?;
        let (feeder, feed) = feed(LENGTH);
        feeder.offer(0).unwrap();
        feeders.send(feeder).unwrap();
        Ok(ndjson(feed, |missed| -i64::try_from(missed).unwrap()))
    };
    Router::new().route("/numbers", get(numbers)).route("/short", get(async || "7"))
}

/// What a test has of the server.
struct Outside {
    runtime: PathBuf,
    feeders: Receiver<Feeder<i64>>,
}

impl Outside {
    fn client(&self) -> Client {
        Client::new("uswitch0", &self.runtime).unwrap()
    }

    /// A client that reads only when it is told to, and the feeder of its stream. (HTTP/1.0 has no chunks.)
    fn follow(&self) -> (BufReader<UnixStream>, Feeder<i64>) {
        let mut stream = UnixStream::connect(self.runtime.join("uswitch0.sock")).unwrap();
        stream.write_all(b"GET /numbers HTTP/1.0\r\nhost: x\r\n\r\n").unwrap();
        (BufReader::new(stream), self.feeder())
    }

    fn feeder(&self) -> Feeder<i64> {
        self.feeders.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

/// Runs `test` on a thread of its own beside a server, until it drops what it was given or ends.
fn with_server(test: impl FnOnce(Outside) + Send + 'static) {
    let directory = tempfile::tempdir().unwrap();
    let runtime = directory.path().to_owned();
    let executor = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    executor.block_on(async {
        let socket = Socket::bind(&runtime.join("uswitch0.sock")).unwrap();
        let (feeders, fed) = channel();
        let (finished, finish) = oneshot::channel::<()>();
        let tester = std::thread::spawn(move || {
            test(Outside { runtime, feeders: fed });
            drop(finished);
        });
        let door = Door::new();
        tokio::select! {
            _ = finish => {}
            never = door.open(&socket, routes(feeders)) => match never {},
        }
        door.close().await;
        if let Err(panic) = tester.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

/// The numbers of a stream that has ended.
fn rest(stream: BufReader<UnixStream>) -> Vec<i64> {
    stream.lines().filter_map(|line| line.unwrap().parse().ok()).collect()
}

#[test]
fn lines_come_when_they_are_written_and_the_end_is_clear() {
    with_server(|server| {
        let (mut feeder, mut seen) = (None, Vec::new());
        let end = server.client().lines("/numbers", std::future::pending(), |line| {
            let number: i64 = serde_json::from_slice(line).unwrap();
            seen.push(number);
            // The next line is written only when this one has come.
            match number {
                3 => drop(feeder.take()),
                number => feeder.get_or_insert_with(|| server.feeder()).offer(number + 1).unwrap(),
            }
            Ok::<_, ClientError>(ControlFlow::Continue(()))
        });
        assert_eq!((end.unwrap(), seen), (StreamEnd::Finished, vec![0, 1, 2, 3]));
    });
}

#[test]
fn a_client_that_has_enough_leaves_and_the_writer_hears_of_it() {
    with_server(|server| {
        let enough = |_: &[u8]| Ok::<_, ClientError>(ControlFlow::Break(()));
        assert_eq!(
            server.client().lines("/numbers", std::future::pending(), enough).unwrap(),
            StreamEnd::Enough
        );
        let feeder = server.feeder();
        while feeder.offer(1) != Err(Gone) {
            std::thread::yield_now();
        }
    });
}

/// The socket's buffers take some hundred kilobytes first.
#[test]
fn a_client_that_does_not_read_misses_lines_and_is_told_how_many() {
    with_server(|server| {
        let (stream, feeder) = server.follow();
        const WRITTEN: i64 = 1_000_000;
        for number in 1..=WRITTEN {
            feeder.offer(number).unwrap();
        }
        drop(feeder);
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
fn streams_leave_seats_for_short_requests_and_one_too_many_is_refused() {
    with_server(|server| {
        let mut streams: Vec<_> = (0..STREAMS).map(|_| server.follow()).collect();
        let client = server.client();
        let refused =
            || match client.lines("/numbers", std::future::pending(), |_| Ok(ControlFlow::Break(()))) {
                Err(ClientError::Refused(why)) => Some(why),
                other => other.map(|_| None).unwrap(),
            };
        assert_eq!(refused().unwrap(), "16 clients follow this switch already: end one of them first");
        assert_eq!(client.get::<u32>("/short").unwrap(), 7);
        streams.pop();
        while refused().is_some() {
            std::thread::yield_now();
        }
    });
}

/// With time that a test can make pass.
#[tokio::test(start_paused = true)]
async fn only_a_client_with_a_stream_may_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("uswitch0.sock");
    let socket = Socket::bind(&path).unwrap();
    let (feeders, fed) = channel();
    let routes = routes(feeders).route("/never", get(std::future::pending::<()>));
    tokio::spawn(async move { Door::new().open(&socket, routes).await });
    let ask = async |what: &str| {
        let mut stream = tokio::net::UnixStream::connect(&path).await.unwrap();
        stream.write_all(format!("GET {what} HTTP/1.1\r\nhost: x\r\n\r\n").as_bytes()).await.unwrap();
        stream
    };
    let (mut short, mut long) = (ask("/never").await, ask("/numbers").await);
    let mut text = String::new();
    assert_eq!(short.read_to_string(&mut text).await.unwrap(), 0, "it was shown out");
    tokio::time::sleep(Duration::from_secs(3600)).await;
    fed.recv().unwrap().offer(1).unwrap();
    long.read_to_string(&mut text).await.unwrap();
    assert!(text.ends_with("0\n\r\n2\r\n1\n\r\n0\r\n\r\n"), "{text:?}");
}
