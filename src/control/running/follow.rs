//! Follows live frames: explains what the workers' mirrors show, sampled.
//!
//! The brain looks once in [`PERIOD`]. What came meanwhile and found the mirror full was missed, and is told as a number: so a
//! follower costs a bounded part of the brain's time, whatever the load.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::trace::Decision;
use super::{Machine, RunError, Running};
use crate::control::feed::{Feed, Feeder, feed};
use crate::control::trace::{TraceFilter, Traced};
use crate::datapath::{Direction, Mirror, RECORDS, Record, Wanted};
use crate::switch::{Frame, Verdict};

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(100);
/// What is copied of a frame, in bytes: the headers, by which it is named and counted.
const SNAPLEN: usize = 256;

/// Who follows live frames.
#[derive(Debug)]
pub(super) struct Followers {
    list: Vec<Follower>,
    next_look: Instant,
}

#[derive(Debug)]
struct Follower {
    mirror: Mirror,
    feeder: Feeder<Traced>,
    /// Frames until the limit.
    left: u64,
    /// Frames that were missed, and are told.
    missed: u64,
}

impl Followers {
    /// Nobody.
    pub(super) fn new() -> Followers {
        Followers { list: Vec::new(), next_look: Instant::now() }
    }

    /// Returns when it is time to look; never while nobody follows.
    pub(super) async fn due(&self) {
        if self.list.is_empty() {
            return std::future::pending().await;
        }
        tokio::time::sleep_until(self.next_look).await;
    }
}

impl<M: Machine> Running<M> {
    /// The traces of live frames, from now on.
    pub(super) fn follow(&mut self, filter: &TraceFilter) -> Result<Feed<Traced>, RunError> {
        let named = filter.ifname.as_ref().map(|name| self.port_named(name)).transpose()?;
        let limit = filter.limit.unwrap_or(u64::MAX);
        let wanted = Wanted {
            ports: named.map(|port| vec![port]),
            direction: Some(Direction::In),
            drops_only: filter.drops,
            snaplen: SNAPLEN,
            limit,
            ..Wanted::default()
        };
        let (feeder, feed) = feed(RECORDS);
        if limit > 0 {
            let mirror = self.datapath.mirror(wanted, Arc::new(|| ()))?;
            self.followers.list.push(Follower { mirror, feeder, left: limit, missed: 0 });
        }
        Ok(feed)
    }

    /// Explains what came since the last look. Who has left, or has all, is let go.
    pub(super) fn look_at_frames(&mut self) {
        let mut list = std::mem::take(&mut self.followers.list);
        list.retain_mut(|follower| self.serve_follower(follower).is_continue());
        self.followers.list = list;
        self.followers.next_look = Instant::now() + PERIOD;
    }

    fn serve_follower(&self, follower: &mut Follower) -> ControlFlow<()> {
        // Asked before the last records are taken.
        let over = follower.mirror.is_over();
        for record in std::iter::from_fn(|| follower.mirror.take()).take(RECORDS) {
            if let Some(traced) = self.explain_record(&record)
                && follower.feeder.offer(traced).is_err()
            {
                return ControlFlow::Break(());
            }
            follower.left = follower.left.saturating_sub(1);
        }
        let lost = follower.mirror.lost_in_all();
        let missed = lost.saturating_sub(follower.missed);
        if missed > 0 {
            (follower.missed, follower.left) = (lost, follower.left.saturating_sub(missed));
            follower.feeder.miss(missed);
        }
        if over || follower.left == 0 || follower.feeder.is_left() {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }

    /// What the record tells, in the names of the ports; nothing of a frame that the switch itself made.
    fn explain_record(&self, record: &Record) -> Option<Traced> {
        let transit = record.transit();
        // Only headers were copied; a frame is judged by its length too.
        let mut bytes = record.bytes.to_vec();
        bytes.resize(record.length, 0);
        let sent = transit.egress.iter().map(|port| (*port, Ok(())));
        let refused = transit.refused.iter().map(|(port, reason)| (*port, Err(*reason)));
        let alone = match transit.verdict {
            Verdict::Refused { egress, reason } => Some((egress, Err(reason))),
            _ => None,
        };
        let decision = Decision {
            frame: Frame { bytes: &bytes, vnet: record.vnet },
            ingress: transit.ingress?,
            steps: record.steps,
            verdict: transit.verdict,
            egress: sent.chain(refused).chain(alone).collect(),
        };
        let mut trace = self.explain(&decision);
        trace.time = record.time.try_into().ok();
        Some(Traced::Frame(Box::new(trace)))
    }
}
