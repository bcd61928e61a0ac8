//! Idle CPUs that do not sleep while a worker looks for frames.
//!
//! A station that waits for its answer leaves its CPU idle, and an idle CPU sleeps. To wake it takes longer than to forward
//! the frame, most of all in a virtual machine, where sleep and interrupt both leave it. A file `/dev/cpu_dma_latency` that is
//! open asks all CPUs of the machine to wake within so many microseconds; at 0 they do not sleep at all
//! (Linux `Documentation/power/pm_qos_interface.rst`). The request ends with the file, so a switch that was killed leaves none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use super::engine::Wait;
use super::poll_policy::TrafficPattern;

const DEVICE: &str = "/dev/cpu_dma_latency";

/// `PM_QOS_DEFAULT_VALUE`: no request.
const NO_LIMIT: i32 = -1;

/// One worker's request.
#[derive(Debug)]
pub(super) struct CpuLatency {
    request: File,
    awake: bool,
}

impl CpuLatency {
    /// Asks for nothing yet.
    ///
    /// # Errors
    /// Only root may open the file.
    pub(super) fn open() -> io::Result<CpuLatency> {
        let request = OpenOptions::new().write(true).open(DEVICE);
        let request = request
            .map_err(|error| io::Error::new(error.kind(), format!("cannot open {DEVICE}: {error}")))?;
        Ok(CpuLatency { request, awake: false })
    }

    /// Before the worker waits: from when stations talk until it sleeps, no CPU does. A transfer in bulk ends that too: it
    /// is slower beside idle CPUs that spin (`docs/experiments.md`). Costs a system call when it changes.
    pub(super) fn note(&mut self, wait: Wait, pattern: TrafficPattern) {
        let awake = wait == Wait::Poll
            && match pattern {
                TrafficPattern::RequestResponse => true,
                TrafficPattern::Idle => self.awake,
                TrafficPattern::Bulk => false,
            };
        if self.awake != awake {
            self.awake = awake;
            let microseconds = if awake { 0 } else { NO_LIMIT };
            // It cannot fail on an open file; if it did, CPUs would sleep as they do without.
            let _ = self.request.write(&microseconds.to_ne_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_cpu_latency_during_request_response() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut latency = CpuLatency { request: file.reopen().unwrap(), awake: false };
        let mut asked = |wait, pattern| -> Vec<i32> {
            latency.note(wait, pattern);
            let written = std::fs::read(file.path()).unwrap();
            written.as_chunks().0.iter().map(|us| i32::from_ne_bytes(*us)).collect()
        };
        assert_eq!(asked(Wait::Poll, TrafficPattern::Idle), [0; 0]);
        assert_eq!(asked(Wait::Poll, TrafficPattern::RequestResponse), [0]);
        assert_eq!(asked(Wait::Poll, TrafficPattern::Idle), [0]);
        assert_eq!(asked(Wait::Poll, TrafficPattern::RequestResponse), [0]);
        assert_eq!(asked(Wait::Sleep, TrafficPattern::RequestResponse), [0, -1]);
        assert_eq!(asked(Wait::Sleep, TrafficPattern::Idle), [0, -1]);
        assert_eq!(asked(Wait::Poll, TrafficPattern::RequestResponse), [0, -1, 0]);
        assert_eq!(asked(Wait::Poll, TrafficPattern::Bulk), [0, -1, 0, -1]);
        assert_eq!(asked(Wait::Poll, TrafficPattern::Idle), [0, -1, 0, -1]);
    }
}
