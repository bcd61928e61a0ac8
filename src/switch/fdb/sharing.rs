//! Shares entries with a fast datapath ([`crate::switch::FastDatapath`]). An entry that changes is taken back first, and is
//! shared again when the next frame of its station has come to the workers.

use std::sync::Arc;

use super::{Fdb, FdbKey};
use crate::switch::{FastDatapath, PortId, Tick};

impl Fdb {
    /// Shares entries with this datapath from now on.
    pub(in crate::switch) fn share_with(&self, fast: Arc<dyn FastDatapath>) {
        let _ = self.fast.set(fast);
    }

    /// The datapath with which entries are shared.
    #[inline]
    pub(in crate::switch) fn shared_with(&self) -> Option<&Arc<dyn FastDatapath>> {
        self.fast.get()
    }

    /// Two known stations exchange frames: the fast datapath may forward them.
    pub(super) fn share_pair(&self, fast: &dyn FastDatapath, stations: [(FdbKey, PortId); 2]) {
        let devices = stations.map(|(_, port)| fast.device(port));
        let [Some(_), Some(_)] = devices else { return };
        for ((key, port), device) in stations.into_iter().zip(devices) {
            let shared = fast.stations().device(key);
            if shared == device || shared.is_none() && !fast.stations().has_room(key) {
                continue;
            }
            let _writer = self.lock();
            let is_there = |value: &super::SlotValue| !value.value.is_free() && value.value.port() == port;
            if let Some(device) = device
                && self.find_locked(key.pack()).is_some_and(|found| is_there(&found))
            {
                fast.stations().insert(key, device);
            }
        }
    }

    /// Needs the lock: takes an entry back, before it changes.
    pub(super) fn unshare(&self, key: FdbKey) {
        if let Some(fast) = self.fast.get() {
            fast.stations().remove(key);
        }
    }

    /// Refreshes the entries of the stations whose frames the fast datapath forwarded. `since` says how many ticks ago its
    /// time was the given one.
    pub fn refresh_shared(&self, now: Tick, since: impl Fn(u32) -> u32) {
        let Some(fast) = self.fast.get() else { return };
        for at in 0..self.table.used() {
            let Some((key, value)) = self.table.entry(at) else { continue };
            let Some(seen) = fast.stations().last_seen(FdbKey::unpack(key)) else { continue };
            let seen = Tick(now.0.saturating_sub(since(seen)));
            if value.is_dynamic() && seen > value.seen() {
                // A worker that refreshes it meanwhile knows better.
                self.table.exchange(at, value, value.refreshed(seen));
            }
        }
    }
}
