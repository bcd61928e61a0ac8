//! The kernel fast path of a running switch.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tracing::info;

use super::{HostNetwork, RunError, Running};
use crate::control::config::FastPathChoice;
use crate::control::topology::Topology;
use crate::fastpath::FastPath;
use crate::switch::{FastDatapath, PortCounts, PortId};

impl Running<Topology> {
    /// Loads the fast path, so that the ports that are added from now on use it.
    pub(super) fn start_fast_path(&mut self) -> Result<(), RunError> {
        if self.config.fast_path == FastPathChoice::Off {
            return Ok(());
        }
        let random = RandomState::new();
        let seed = [0, 1].map(|n| random.hash_one(n));
        let gateways = self.config.gateways().collect();
        let made = FastPath::new(self.config.fdb_max, seed, gateways).map(Arc::new);
        let used = made.map_err(RunError::from).and_then(|fast| {
            self.network.use_fast_path(Arc::clone(&fast))?;
            Ok(fast)
        });
        match used {
            Ok(fast) => {
                let shared: Arc<dyn FastDatapath> = fast.clone();
                self.switch.add_fast_datapath(&shared);
                self.fast_path = Some(fast);
                Ok(())
            }
            Err(why) if self.config.fast_path == FastPathChoice::Auto => {
                info!(%why, "no fast path");
                self.fast_path_note = Some(why.to_string());
                Ok(())
            }
            Err(why) => Err(why),
        }
    }
}

impl<M: HostNetwork> Running<M> {
    /// Refreshes the entries whose frames the workers have not seen.
    pub(super) fn refresh_fast_entries(&self) {
        if let Some(fast) = &self.fast_path {
            self.switch.fdb.refresh_shared(self.datapath.now(), |seen| fast.ticks_since(seen));
        }
    }

    /// Adds what the fast path has forwarded to what the workers have counted.
    pub(super) fn add_fast_counts(&self, id: PortId, mut counts: PortCounts) -> PortCounts {
        let Some(fast) = &self.fast_path else { return counts };
        let fast = fast.counts(id);
        counts.rx_frames += fast.rx_frames;
        counts.rx_bytes += fast.rx_bytes;
        counts.forwarded += fast.rx_frames;
        counts.tx_frames += fast.tx_frames;
        counts.tx_bytes += fast.tx_bytes;
        counts
    }
}
