//! Keeps idle CPUs out of sleep states while a worker busy-polls.
//!
//! A host that waits for an answer leaves its CPU idle, and an idle CPU sleeps. Waking it takes longer than forwarding
//! the frame, above all in a virtual machine, where both the sleep and the interrupt leave the guest. An open file
//! `/dev/cpu_dma_latency` limits the wake-up latency of all CPUs, in microseconds; at 0 they do not sleep at all
//! (Linux `Documentation/power/pm_qos_interface.rst`). The request ends with the file, so a killed switch leaves none.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};

use super::engine::Wait;
use super::poll_policy::TrafficPattern;

const DEVICE: &str = "/dev/cpu_dma_latency";

/// No request (`PM_QOS_DEFAULT_VALUE`).
const NO_LIMIT: i32 = -1;

/// The request of a worker, or of the fast path.
#[derive(Debug)]
pub struct CpuLatency {
    request: File,
    awake: bool,
}

impl CpuLatency {
    /// Opens the file without a request.
    ///
    /// # Errors
    /// Only root may open the file.
    pub fn open() -> io::Result<CpuLatency> {
        let request = OpenOptions::new().write(true).open(DEVICE);
        let request = request
            .map_err(|error| io::Error::new(error.kind(), format!("cannot open {DEVICE}: {error}")))?;
        Ok(CpuLatency { request, awake: false })
    }

    /// Called before each wait. No CPU sleeps from the start of request-response traffic until the worker sleeps. A
    /// bulk transfer ends the request too: it is slower beside idle CPUs that spin (`docs/experiments.md`). A change
    /// costs one system call.
    pub(super) fn note(&mut self, wait: Wait, pattern: TrafficPattern) {
        let awake = wait == Wait::Poll
            && match pattern {
                TrafficPattern::RequestResponse => true,
                TrafficPattern::Idle => self.awake,
                TrafficPattern::Bulk => false,
            };
        self.keep_awake(awake);
    }

    /// Keeps the CPUs awake, or not any more.
    pub fn keep_awake(&mut self, awake: bool) {
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
