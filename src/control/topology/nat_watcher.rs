//! Restores the nftables table of the routing when another program changes or deletes it: `nft flush ruleset`, a reload
//! of a firewall.
//!
//! A notification ([`crate::sys::nftables_monitor`]) only says that the table may have changed. The table is then
//! compared with the one that was installed, so our own changes are not reported. There is a limit, because another
//! program may delete the table again and again.

use std::collections::VecDeque;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;
use tracing::warn;

use super::routing::Routing;
use super::{TopologyError, nat};
use crate::sys::nftables_monitor::NftablesMonitor;

/// The table is restored at most [`RESTORES`] times in this time.
const PERIOD: Duration = Duration::from_secs(60);
const RESTORES: usize = 5;

/// A change to the nftables table by another program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NatChange {
    /// The table was changed, and has been restored.
    Restored {
        /** The name of the program, if it is known. */
        by: Option<String>,
    },
    /// The table was changed, and is not restored for now.
    Failed {
        /** The reason, a sentence. */
        why: String,
    },
}

/// Watches the table of a switch.
#[derive(Debug)]
pub(super) struct NatWatcher {
    routing: Routing,
    monitor: NftablesMonitor,
    /// The table as nft lists it.
    installed: Value,
    limit: RestoreLimit,
    /// When to look at the table again, after a failure.
    retry_at: Option<Instant>,
    /// The last reported change is [`NatChange::Failed`].
    failed: bool,
    /// The devices do not route from and to 127.0.0.1, because the table is not as it was installed.
    loopback_closed: bool,
}

impl NatWatcher {
    /// Installs the table of a switch and watches it. Call this within a Tokio runtime.
    pub(super) fn install(routing: Routing) -> Result<NatWatcher, TopologyError> {
        // Before the table exists, so that no change is missed.
        let failed = |source| TopologyError::Kernel { what: "listen for changes of nftables", source };
        let monitor = NftablesMonitor::open(&nat::table_name(&routing.switch)).map_err(failed)?;
        nat::install_table(&routing)?;
        Ok(NatWatcher {
            installed: nat::list_table(&routing.switch)?,
            routing,
            monitor,
            limit: RestoreLimit::default(),
            retry_at: None,
            failed: false,
            loopback_closed: false,
        })
    }

    /// Replaces the table. After an error it is as before.
    pub(super) fn replace(&mut self, routing: Routing) -> Result<(), TopologyError> {
        nat::install_table(&routing)?;
        self.installed = nat::list_table(&routing.switch)?;
        self.routing = routing;
        Ok(())
    }

    /// The next change by another program. Cancel-safe.
    pub(super) async fn next(&mut self) -> NatChange {
        loop {
            let program = tokio::select! {
                change = self.monitor.next() => match change {
                    Ok(change) => change.program,
                    // After an error other than an overrun a retry would spin.
                    Err(_) => std::future::pending().await,
                },
                () = until(self.retry_at) => None,
            };
            if let Some(change) = self.check(program) {
                return change;
            }
        }
    }

    /// Compares the table with the one that was installed, and restores it.
    fn check(&mut self, by: Option<String>) -> Option<NatChange> {
        let now = Instant::now();
        if self.retry_at.is_some_and(|retry_at| now < retry_at) {
            return None;
        }
        self.retry_at = None;
        // A table that cannot be listed does not exist, or has rules that are not ours.
        if nat::list_table(&self.routing.switch).is_ok_and(|table| table == self.installed) {
            self.open_loopback();
            return std::mem::take(&mut self.failed).then_some(NatChange::Restored { by: None });
        }
        // Until the table is there again, it does not keep containers from 127.0.0.1 of the host.
        self.loopback_closed = true;
        self.route_loopback(false);
        if let Err(retry_at) = self.limit.take(now) {
            let program = by.map(|name| format!(", such as {name},")).unwrap_or_default();
            let table = nat::table_name(&self.routing.switch);
            return self.fail(
                retry_at,
                format!(
                    "other programs{program} change the nftables table {table} again and again, which is restored \
                     at most {RESTORES} times in a minute: NAT and published ports may not work"
                ),
            );
        }
        match nat::install_table(&self.routing) {
            Ok(()) => {
                self.open_loopback();
                self.failed = false;
                Some(NatChange::Restored { by })
            }
            Err(error) => self.fail(now + PERIOD, format!("the nftables table cannot be restored: {error}")),
        }
    }

    /// Routes from and to 127.0.0.1 again.
    fn open_loopback(&mut self) {
        if std::mem::take(&mut self.loopback_closed) {
            self.route_loopback(true);
        }
    }

    /// Routes from and to 127.0.0.1, if a port is published there, or not.
    fn route_loopback(&self, on: bool) {
        if self.routing.routes_loopback()
            && let Err(error) = nat::route_loopback(&self.routing, on)
        {
            warn!("{error}");
        }
    }

    /// Reports a failure unless the last change was one, too.
    fn fail(&mut self, retry_at: Instant, why: String) -> Option<NatChange> {
        self.retry_at = Some(retry_at);
        (!std::mem::replace(&mut self.failed, true)).then_some(NatChange::Failed { why })
    }
}

/// Resolves at this time; never, if there is none.
pub(super) async fn until(time: Option<Instant>) {
    match time {
        Some(time) => tokio::time::sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// The times at which the table was restored last.
#[derive(Debug, Default)]
struct RestoreLimit {
    recent: VecDeque<Instant>,
}

impl RestoreLimit {
    /// Counts one more, or returns when the next is allowed.
    fn take(&mut self, now: Instant) -> Result<(), Instant> {
        if self.recent.len() == RESTORES
            && let Some(first) = self.recent.pop_front()
            && now < first + PERIOD
        {
            self.recent.push_front(first);
            return Err(first + PERIOD);
        }
        self.recent.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_restores_in_a_period() {
        let (mut limit, start) = (RestoreLimit::default(), Instant::now());
        let after = |seconds| start + Duration::from_secs(seconds);
        for second in 0..RESTORES as u64 {
            assert_eq!(limit.take(after(second)), Ok(()));
        }
        assert_eq!(limit.take(after(59)), Err(after(60)));
        assert_eq!(limit.take(after(60)), Ok(()));
        assert_eq!(limit.take(after(60)), Err(after(61)));
        assert_eq!(limit.take(after(1000)), Ok(()));
    }
}
