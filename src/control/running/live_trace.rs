//! Traces live frames, sampled through the workers' mirrors.
//!
//! The control task reads the mirrors once per [`DRAIN_INTERVAL`]. Frames that find a mirror's queue
//! full are counted as missed. So a trace costs the control task a bounded share of its time at any
//! load.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::trace::TracedDecision;
use super::{HostNetwork, RunError, Running};
use crate::control::subscription::{Subscription, SubscriptionSender, subscription};
use crate::control::trace::{LiveTraceLine, TraceFilter};
use crate::datapath::{Direction, Mirror, MirrorRecord, MirrorSpec, RECORDS};
use crate::switch::Frame;

/// Interval of reads.
const DRAIN_INTERVAL: Duration = Duration::from_millis(100);
/// Bytes copied of each frame. They cover the headers that a trace shows.
const SNAPLEN: usize = 256;

/// All running live traces.
#[derive(Debug)]
pub(super) struct LiveTraces {
    list: Vec<LiveTrace>,
    next_look: Instant,
}

#[derive(Debug)]
struct LiveTrace {
    mirror: Mirror,
    sender: SubscriptionSender<LiveTraceLine>,
    /// Frames left until the limit.
    left: u64,
    /// Missed frames reported so far.
    missed: u64,
}

impl LiveTraces {
    pub(super) fn new() -> LiveTraces {
        LiveTraces { list: Vec::new(), next_look: Instant::now() }
    }

    /// Waits for the next read. Never returns while there is no live trace.
    pub(super) async fn due(&self) {
        if self.list.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.next_look).await;
    }
}

impl<M: HostNetwork> Running<M> {
    /// Starts a live trace.
    pub(super) fn follow_frames(
        &mut self,
        filter: &TraceFilter,
    ) -> Result<Subscription<LiveTraceLine>, RunError> {
        let named = filter.ifname.as_ref().map(|name| self.port_named(name)).transpose()?;
        let limit = filter.limit.unwrap_or(u64::MAX);
        let wanted = MirrorSpec {
            ports: named.map(|port| vec![port]),
            direction: Some(Direction::In),
            drops_only: filter.drops,
            snaplen: SNAPLEN,
            limit,
            ..MirrorSpec::default()
        };
        let (sender, subscription) = subscription(RECORDS);
        if limit > 0 {
            let mirror = self.start_mirror(wanted, Arc::new(|| ()))?;
            self.live_traces.list.push(LiveTrace { mirror, sender, left: limit, missed: 0 });
        }
        Ok(subscription)
    }

    /// Traces the frames since the last call. Ends live traces whose client disconnected or whose limit
    /// is reached.
    pub(super) fn drain_live_traces(&mut self) {
        let mut list = std::mem::take(&mut self.live_traces.list);
        list.retain_mut(|live_trace| self.drain_live_trace(live_trace).is_continue());
        self.live_traces.list = list;
        self.live_traces.next_look = Instant::now() + DRAIN_INTERVAL;
    }

    fn drain_live_trace(&self, live_trace: &mut LiveTrace) -> ControlFlow<()> {
        // Checked before the last records are read, so that none is lost.
        let over = live_trace.mirror.is_finished();
        for record in std::iter::from_fn(|| live_trace.mirror.take()).take(RECORDS) {
            if let Some(traced) = self.explain_record(&record)
                && live_trace.sender.send(traced).is_err()
            {
                return ControlFlow::Break(());
            }
            live_trace.left = live_trace.left.saturating_sub(1);
        }
        let lost = live_trace.mirror.total_lost();
        let missed = lost.saturating_sub(live_trace.missed);
        if missed > 0 {
            (live_trace.missed, live_trace.left) = (lost, live_trace.left.saturating_sub(missed));
            live_trace.sender.record_missed(missed);
        }
        if over || live_trace.left == 0 || live_trace.sender.is_closed() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// Describes a record. `None` for a frame that the switch itself sent.
    fn explain_record(&self, record: &MirrorRecord) -> Option<LiveTraceLine> {
        // A frame that the switch made has no decision.
        record.ingress?;
        // Only headers were copied, but the decision depends on the length too.
        let mut bytes = record.bytes.to_vec();
        bytes.resize(record.length, 0);
        let decision = TracedDecision {
            time: record.time,
            frame: Frame { bytes: &bytes, vnet: record.vnet },
            steps: record.steps,
            outcome: &record.outcome,
            not_flooded: &[],
        };
        let mut trace = self.explain(&decision);
        trace.time = record.time.try_into().ok();
        Some(LiveTraceLine::Frame(Box::new(trace)))
    }
}
