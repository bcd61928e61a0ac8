//! Shares entries with a fast datapath ([`crate::switch::FastDatapath`]). An entry that changes is taken back first,
//! and is shared again when the next frame of its station has come to the workers.
//!
//! Addresses whose frames are flooded can be shared too: groups, and stations that are not known.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Fdb, FdbKey, Stations, flood_device};
use crate::switch::{FastDatapath, PortId, Tick};
use crate::wire::Mac;

/// Frames that a fast datapath may forward: from a known station to another one, or to all ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    pub(in crate::switch) source: (FdbKey, PortId),
    pub(in crate::switch) destination: (FdbKey, ShareTo),
}

impl Share {
    /// Whether frames to this destination are still flooded. `floods_groups`: those to groups are.
    fn is_flooded(&self, floods_groups: impl Fn() -> bool) -> bool {
        let (destination, _) = self.destination;
        !destination.mac.is_group() || destination.mac == Mac::BROADCAST || floods_groups()
    }
}

/// Where they go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::switch) enum ShareTo {
    /// To this port.
    Station(PortId),
    /// To all ports.
    All,
}

/// The addresses whose frames a fast datapath floods, except the broadcast address: at most [`Flooded::MAX`]. A new one
/// replaces the oldest.
#[derive(Debug, Default)]
pub(super) struct Flooded(VecDeque<FdbKey>);

impl Flooded {
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
        stations.insert(key, flood_device(key.vlan));
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
        self.lock().flooded.0.reserve(Flooded::MAX);
        let _ = self.fast.set(fast);
    }

    /// The datapath with which entries are shared.
    #[inline]
    pub(in crate::switch) fn shared_with(&self) -> Option<&Arc<dyn FastDatapath>> {
        self.fast.get()
    }

    /// Whether the fast datapath could forward such frames, and does not yet.
    pub(in crate::switch) fn would_share(&self, share: &Share, floods_groups: impl Fn() -> bool) -> bool {
        let Some(fast) = self.fast.get() else { return false };
        let is_missing = |(key, device)| {
            let known = fast.stations().device(key);
            known != Some(device) && (known.is_some() || fast.stations().has_room(key))
        };
        let Share { source: (source, ingress), destination: (destination, to) } = *share;
        let to = match to {
            ShareTo::Station(port) => fast.device(port),
            ShareTo::All => share.is_flooded(floods_groups).then(|| flood_device(destination.vlan)),
        };
        let (Some(from), Some(to)) = (fast.device(ingress), to) else { return false };
        [(source, from), (destination, to)].into_iter().any(is_missing)
    }

    /// Lets the fast datapath forward such frames from now on, if what was known of them still holds.
    pub(in crate::switch) fn share(&self, share: &Share, floods_groups: impl Fn() -> bool) {
        if !self.would_share(share, &floods_groups) {
            return;
        }
        let (Some(fast), mut writer) = (self.fast.get(), self.lock()) else { return };
        let share_station = |key: FdbKey, port| {
            let found = self.find_locked(key.pack()).filter(|found| !found.value.is_free());
            if let Some(device) = fast.device(port)
                && found.is_some_and(|found| found.value.port() == port)
                && fast.stations().device(key) != Some(device)
            {
                fast.stations().insert(key, device);
            }
        };
        let Share { source: (source, ingress), destination: (destination, to) } = *share;
        share_station(source, ingress);
        match to {
            ShareTo::Station(port) => share_station(destination, port),
            ShareTo::All => {
                let is_known = self.find_locked(destination.pack()).is_some();
                if !is_known && !fast.stations().is_flooded(destination) && share.is_flooded(floods_groups) {
                    writer.flooded.add(fast.stations(), destination);
                }
            }
        }
    }

    /// Takes an address back whose frames are flooded, so that a worker decides about the next one.
    pub(in crate::switch) fn unshare_flood(&self, key: FdbKey) {
        if let Some(fast) = self.fast.get()
            && fast.stations().is_flooded(key)
        {
            let _writer = self.lock();
            fast.stations().end_flood(key);
        }
    }

    /// Groups have members from now on, so the fast datapath does not flood their frames. The caller has changed what
    /// `floods_groups` of [`Fdb::share`] says.
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

    /// Refreshes the entries of the stations whose frames the fast datapath forwarded. `since` says how many ticks ago
    /// its time was the given one.
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
        let is_flooded = |key| stations.is_flooded(key);
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
