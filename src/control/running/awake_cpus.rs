//! Keeps idle CPUs awake during request-response traffic of the fast path, with a configured busy-poll time. The
//! workers, which do the same for theirs ([`CpuLatency`]), do not see that traffic, so control reads its counters.

use std::future::Future;

use tokio::time::{Duration, Instant};

use super::{HostNetwork, Running};
use crate::datapath::{BusyPoll, CpuLatency};
use crate::fastpath::{FastCounts, FastPath};

/// How often the counters are read.
const INTERVAL: Duration = Duration::from_millis(100);
/// Received frames in an interval of request-response traffic, 400 to 200 000 a second. Fewer are single requests, more
/// are bulk.
const REQUEST_RESPONSE: std::ops::Range<u64> = 40..20_000;
/// Longest mean of such frames, in bytes. Super-frames belong to a bulk transfer.
const LONGEST_MEAN: u64 = 4096;

#[derive(Debug)]
pub(super) struct AwakeCpus {
    latency: CpuLatency,
    counted: FastCounts,
    due: Instant,
}

impl<M: HostNetwork> Running<M> {
    /// Begins to watch the counters, if CPUs may have to be kept awake. Where that is not allowed, the workers have
    /// said so.
    pub(super) fn start_awake_cpus(&mut self, fast: &FastPath) {
        let asked = matches!(self.config.busy_poll, BusyPoll::For(time) if !time.is_zero());
        let latency = asked.then(CpuLatency::open).and_then(Result::ok);
        let due = Instant::now() + INTERVAL;
        self.awake_cpus = latency.map(|latency| AwakeCpus { latency, counted: fast.total_counts(), due });
    }

    /// Waits for the next look at the counters.
    pub(super) fn awake_cpus_due(&self) -> impl Future<Output = ()> + 'static {
        let due = self.awake_cpus.as_ref().map(|awake| awake.due);
        async move {
            match due {
                Some(due) => tokio::time::sleep_until(due).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Looks at the counters.
    pub(super) fn update_awake_cpus(&mut self) {
        let (Some(awake), Some(fast)) = (&mut self.awake_cpus, &self.fast_path) else { return };
        let counted = fast.total_counts();
        awake.latency.keep_awake(is_request_response(awake.counted, counted));
        awake.counted = counted;
        awake.due = Instant::now() + INTERVAL;
    }
}

fn is_request_response(before: FastCounts, now: FastCounts) -> bool {
    let frames = now.rx_frames.wrapping_sub(before.rx_frames);
    let bytes = now.rx_bytes.wrapping_sub(before.rx_bytes);
    REQUEST_RESPONSE.contains(&frames) && bytes / frames <= LONGEST_MEAN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_request_response_from_single_frames_and_bulk() {
        let before = FastCounts { rx_frames: u64::MAX - 5, rx_bytes: 7, ..FastCounts::default() };
        let is = |frames: u64, bytes: u64| {
            let rx_frames = before.rx_frames.wrapping_add(frames);
            is_request_response(before, FastCounts { rx_frames, rx_bytes: 7 + bytes, ..before })
        };
        assert!(is(40, 40 * 98) && is(10_000, 10_000 * 1514));
        assert!(!is(0, 0) && !is(39, 39 * 98), "single frames");
        assert!(!is(2000, 2000 * 60_000) && !is(30_000, 30_000 * 60), "bulk");
    }
}
