//! What a cell says while it measures: lines of JSON on its pipe.

use std::fs::File;
use std::io::{self, Write};

use serde::{Deserialize, Serialize};

use super::error::BenchError;
use super::metric::{Metric, RttLoad};

/// Something that happened in a cell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum BenchEvent {
    /// A measurement begins.
    Step(String),
    /// More of what the switch is: the engine that it took.
    Detail(String),
    /// How far apart the CPUs were, nanoseconds, while what follows was measured.
    Distance(Option<f64>),
    /// It has a value.
    Value(Metric, f64),
    /// Round-trip times in full: percent, microseconds.
    Times(RttLoad, Vec<(f64, f64)>),
    /// What a reader must know.
    Note(String),
    /// Nothing can be measured: there are no namespaces for us.
    NoNamespaces(String),
    /// The switch cannot be measured at all.
    Failed(String),
    /// All was measured.
    Done,
}

/// Tells events.
#[derive(Debug)]
pub(super) struct EventWriter(File);

impl EventWriter {
    pub(super) fn new(pipe: File) -> EventWriter {
        EventWriter(pipe)
    }

    /// Says it at once.
    ///
    /// # Errors
    /// Nobody listens any more.
    pub(super) fn write(&mut self, event: &BenchEvent) -> Result<(), BenchError> {
        let line = serde_json::to_string(event).map_err(io::Error::other);
        let written = line.and_then(|line| self.0.write_all((line + "\n").as_bytes()));
        written.map_err(BenchError::io("tell what was measured"))
    }
}

/// Puts lines together that come in pieces.
#[derive(Debug, Default)]
pub(super) struct EventParser(Vec<u8>);

impl EventParser {
    /// The events that are whole now. What is no event is none: only our own code writes there.
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
            BenchEvent::Times(RttLoad::Idle, vec![(50.0, 42.5)]),
            BenchEvent::Done,
        ];
        let lines: Vec<String> = events.iter().map(|event| serde_json::to_string(event).unwrap()).collect();
        let text = lines.join("\n") + "\n";
        let mut parser = EventParser::default();
        let got: Vec<BenchEvent> = text.as_bytes().chunks(7).flat_map(|piece| parser.push(piece)).collect();
        assert_eq!(got, events);
    }
}
