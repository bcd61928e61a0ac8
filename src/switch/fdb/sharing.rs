//! Shares entries with a fast datapath ([`crate::switch::FastDatapath`]). An entry that changes is taken back first, and is
//! shared again when the next frame of its station has come to the workers.

//!
//! Addresses whose frames are flooded can be shared too: groups, and stations that are not known.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{FLOOD, Fdb, FdbKey, Stations};
use crate::switch::{FastDatapath, PortId, Tick};
use crate::wire::Mac;

/// The addresses whose frames a fast datapath floods, except the broadcast address. Whoever sends to many addresses takes
/// the places of the oldest ones only.
#[derive(Debug)]
pub(super) struct Flooded(VecDeque<FdbKey>);

impl Default for Flooded {
    fn default() -> Flooded {
        Flooded(VecDeque::with_capacity(Flooded::MAX))
    }
}

impl Flooded {
    /// The most of them.
    const MAX: usize = 64;

    /// Shares one more.
    fn add(&mut self, stations: &Stations, key: FdbKey) {
        if key.mac != Mac::BROADCAST && !self.0.contains(&key) {
            if self.0.len() == Self::MAX
                && let Some(oldest) = self.0.pop_front()
            {
                stations.end_flood(oldest);
            }
            self.0.push_back(key);
        }
        stations.insert(key, FLOOD);
    }

    /// Takes back those that match.
    fn remove(&mut self, stations: &Stations, matches: impl Fn(FdbKey) -> bool) {
        self.0.retain(|key| {
            let gone = matches(*key);
            if gone {
                stations.end_flood(*key);
            }
            !gone
        });
    }
}

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
        if stations.iter().all(|(_, port)| fast.device(*port).is_some()) {
            stations.into_iter().for_each(|(key, port)| self.share_station(fast, key, port));
        }
    }

    fn share_station(&self, fast: &dyn FastDatapath, key: FdbKey, port: PortId) {
        let Some(device) = fast.device(port) else { return };
        let shared = fast.stations().device(key);
        if shared == Some(device) || shared.is_none() && !fast.stations().has_room(key) {
            return;
        }
        let _writer = self.lock();
        let is_there = |value: &super::SlotValue| !value.value.is_free() && value.value.port() == port;
        if let Some(device) = fast.device(port)
            && self.find_locked(key.pack()).is_some_and(|found| is_there(&found))
        {
            fast.stations().insert(key, device);
        }
    }

    /// A known station sends to an address that is flooded: the fast datapath may flood its frames. `is_flooded` says whether
    /// it still is, as far as the database does not know.
    pub(super) fn share_flood(
        &self,
        fast: &dyn FastDatapath,
        (source, port): (FdbKey, PortId),
        destination: FdbKey,
        is_flooded: &dyn Fn() -> bool,
    ) {
        let stations = fast.stations();
        if fast.device(port).is_none() {
            return;
        }
        self.share_station(fast, source, port);
        if stations.device(destination) == Some(FLOOD) || !stations.has_room(destination) || !is_flooded() {
            return;
        }
        let mut writer = self.lock();
        if self.find_locked(destination.pack()).is_none() && is_flooded() {
            writer.flooded.add(stations, destination);
        }
    }

    /// Groups have members from now on, so the fast datapath does not flood their frames. The caller has changed what
    /// `is_flooded` of [`Fdb::share_flood`] says.
    pub(in crate::switch) fn unshare_groups(&self) {
        if let Some(fast) = self.fast.get() {
            self.lock().flooded.remove(fast.stations(), |key| key.mac.is_group());
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU64;

    use super::*;
    use crate::switch::fdb::{BUCKET_WORDS, BucketHash};

    fn key(mac: Mac) -> FdbKey {
        FdbKey { vlan: 0, mac }
    }

    #[test]
    fn many_flooded_addresses_take_few_places() {
        const BUCKETS: usize = 512;
        let words: Vec<AtomicU64> = (0..BUCKETS * BUCKET_WORDS).map(|_| AtomicU64::new(0)).collect();
        let stations = Stations::new(Box::new(words), BucketHash::new(BUCKETS, [7, 0x9e37_79b9_7f4a_7c15]));
        let mut flooded = Flooded::default();
        let unknown = |n| key(Mac::from_u64(0x0200_0000_0000 | n));
        let group = key(Mac([1, 0, 0x5e, 0, 0, 1]));
        let is_flooded = |key| stations.device(key) == Some(FLOOD);
        flooded.add(&stations, key(Mac::BROADCAST));
        (0..1000).for_each(|n| flooded.add(&stations, unknown(n)));
        let max = Flooded::MAX as u64;
        assert!((0..1000).all(|n| is_flooded(unknown(n)) == (n >= 1000 - max)), "the latest ones");
        // One that has become a station meanwhile stays that.
        stations.insert(unknown(999), 4);
        (0..max).for_each(|n| flooded.add(&stations, unknown(2000 + n)));
        assert_eq!(stations.device(unknown(999)), Some(4));
        flooded.add(&stations, group);
        flooded.remove(&stations, |key| key.mac.is_group());
        assert!(!is_flooded(group) && is_flooded(unknown(2000 + max - 1)) && is_flooded(key(Mac::BROADCAST)));
    }
}
