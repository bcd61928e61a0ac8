//! The watchdog: finds workers that do not respond, reports them, and uses them again when they recover.
//!
//! Workers are checked while frames move, once a second, and for each status report. An idle switch without
//! requests runs no timer.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{HostNetwork, Running};
use crate::control::event::{Event, EventType};
use crate::datapath::WorkerChange;
use crate::switch::PortId;

/// Time between two checks of a worker that has not answered.
const INTERVAL: Duration = Duration::from_secs(1);

/// The watchdog's state.
#[derive(Debug, Default)]
pub(super) struct Watchdog {
    /// When to check the workers, if one has not answered or detached.
    check_at: Option<Instant>,
    /// Numbers of removed ports that a stalled worker has not detached.
    retired: Vec<PortId>,
}

impl Watchdog {
    /// Waits for the next check. Never returns while all workers respond.
    pub(super) fn due(&self) -> impl Future<Output = ()> + 'static {
        let next = self.check_at;
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// Asks the workers to respond, and waits for them.
    pub(super) fn check_workers_now(&mut self) {
        self.datapath.ping_workers();
        self.datapath.await_pings();
        self.update_watchdog();
    }

    /// Checks the workers that have not answered.
    pub(super) fn check_workers(&mut self) {
        self.watchdog.check_at = None;
        self.datapath.check_pings();
    }

    /// Reports changes, and starts the timer if a worker has not answered.
    pub(super) fn update_watchdog(&mut self) {
        for change in self.datapath.worker_changes() {
            self.report_worker(change);
        }
        let Running { watchdog, datapath, switch, .. } = self;
        watchdog.retired.retain(|id| {
            let detaching = datapath.is_detaching(*id);
            if !detaching {
                switch.ports.remove(*id);
            }
            detaching
        });
        if datapath.awaits_pings() || !watchdog.retired.is_empty() {
            watchdog.check_at.get_or_insert_with(|| Instant::now() + INTERVAL);
        } else {
            watchdog.check_at = None;
        }
    }

    fn report_worker(&mut self, WorkerChange { worker, stalled }: WorkerChange) {
        let kind = if stalled {
            warn!(worker, "a worker does not respond");
            EventType::WorkerStalled
        } else {
            info!(worker, "the worker responds again");
            EventType::WorkerRecovered
        };
        self.events.history.add(Event { worker: Some(worker), ..Event::at(Timestamp::now(), kind) });
    }

    /// Frees the number of a removed port, at once or when the last worker has detached it.
    pub(super) fn release_port(&mut self, id: PortId) {
        if self.datapath.is_detaching(id) {
            self.watchdog.retired.push(id);
        } else {
            self.switch.ports.remove(id);
        }
    }
}
