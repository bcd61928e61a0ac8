//! Events that an isolated process reports while it measures: lines of JSON on a pipe.

use std::fs::File;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::error::BenchError;
use super::metric::{Metric, RoundTrip};

/// An event of an isolated process.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum BenchEvent {
    /// A measurement begins.
    Step(String),
    /// More about the switch, such as the engine that it uses.
    Detail(String),
    /// Distance between the CPUs in nanoseconds, for the values that follow.
    Distance(Option<f64>),
    /// A measured value.
    Value(Metric, f64),
    /// The distribution of round-trip times: percent, microseconds.
    Times(RoundTrip, Vec<(f64, f64)>),
    /// A note for the reader of the report.
    Note(String),
    /// The namespaces could not be created, so nothing can be measured.
    NoNamespaces(String),
    /// This switch cannot be measured.
    Failed(String),
    /// All tests are done.
    Done,
}

/// Writes events to the pipe.
#[derive(Debug)]
pub(super) struct EventWriter(File);

impl EventWriter {
    pub(super) fn new(pipe: File) -> EventWriter {
        EventWriter(pipe)
    }

    /// Writes an event immediately.
    ///
    /// # Errors
    /// The parent has closed the pipe.
    pub(super) fn write(&mut self, event: &BenchEvent) -> Result<(), BenchError> {
        let line = serde_json::to_string(event).map_err(io::Error::other);
        let written = line.and_then(|line| self.0.write_all((line + "\n").as_bytes()));
        written.map_err(BenchError::io("report a measurement"))
    }
}

/// Assembles lines that arrive in pieces.
#[derive(Debug, Default)]
pub(super) struct EventParser(Vec<u8>);

impl EventParser {
    /// Returns the events that are complete. Lines that do not parse are ignored: only our own code writes
    /// to this pipe.
    pub(super) fn push(&mut self, piece: &[u8]) -> Vec<BenchEvent> {
        self.0.extend_from_slice(piece);
        let Some(end) = self.0.iter().rposition(|&byte| byte == b'\n') else { return Vec::new() };
        let whole: Vec<u8> = self.0.drain(..=end).collect();
        whole.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_lines_received_in_pieces() {
        let events = [
            BenchEvent::Step("tcp".to_owned()),
            BenchEvent::Distance(Some(27.5)),
            BenchEvent::Value(Metric::FrameRate(64), 1e6),
            BenchEvent::Times(RoundTrip::Udp, vec![(50.0, 42.5)]),
            BenchEvent::Done,
        ];
        let lines: Vec<String> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        let text = lines.join("\n") + "\n";
        let mut parser = EventParser::default();
        let got: Vec<BenchEvent> = text.as_bytes().chunks(7).flat_map(|piece| parser.push(piece)).collect();
        assert_eq!(got, events);
    }
}
