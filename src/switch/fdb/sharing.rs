//! Shares entries with a fast datapath ([`crate::switch::FastDatapath`]). An entry that changes is taken back first,
//! and is shared again when the next frame of its station has come to the workers.
//!
//! Addresses whose frames are flooded can be shared too: groups, and stations that are not known.

use std::collections::VecDeque;
use std::sync::Arc;

use super::{Fdb, FdbEntry, FdbKey, Stations, Value, flood_device};
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

    /// When a frame from the MAC of an entry was last seen, by the workers or by the fast datapath.
    pub fn last_seen(&self, now: Tick, entry: &FdbEntry) -> Tick {
        self.forwarded_at(now, entry.key).map_or(entry.seen, |at| at.max(entry.seen))
    }

    /// When the fast datapath last forwarded a frame from this address.
    fn forwarded_at(&self, now: Tick, key: FdbKey) -> Option<Tick> {
        let fast = self.fast.get()?;
        let seen = fast.stations().last_seen(key)?;
        Some(Tick(now.0.saturating_sub(fast.ticks_since(seen))))
    }

    /// The value of an entry, refreshed by what the fast datapath has forwarded.
    #[inline]
    pub(super) fn current(&self, now: Tick, key: FdbKey, value: Value) -> Value {
        if self.fast.get().is_none() { value } else { self.refreshed_by_fast(now, key, value) }
    }

    #[cold]
    fn refreshed_by_fast(&self, now: Tick, key: FdbKey, value: Value) -> Value {
        let at = if value.is_dynamic() { self.forwarded_at(now, key) } else { None };
        at.filter(|at| *at > value.seen()).map_or(value, |at| value.refreshed(at))
    }

    /// Refreshes the entries whose frames the fast datapath has forwarded.
    pub fn refresh_shared(&self, now: Tick) {
        if self.fast.get().is_none() {
            return;
        }
        (0..self.table.used()).for_each(|at| self.refresh_entry(now, at));
    }

    /// Refreshes the entry of a slot, if it has one whose frames the fast datapath has forwarded.
    pub(super) fn refresh_entry(&self, now: Tick, at: u32) {
        let Some((key, value)) = self.table.entry(at) else { return };
        let current = self.current(now, FdbKey::unpack(key), value);
        if current != value {
            // A worker that refreshes it meanwhile knows better.
            self.table.exchange(at, value, current);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

    use super::*;
    use crate::switch::fdb::{BUCKET_WORDS, BucketHash, Learned, WAYS, station_key};
    use crate::switch::{FastState, Identity, Membership, Vid};

    const P1: PortId = PortId(1);
    const P2: PortId = PortId(2);

    fn key(mac: Mac) -> FdbKey {
        FdbKey { vlan: 0, mac }
    }

    fn host(n: u64) -> FdbKey {
        key(Mac::from_u64(0x0200_0000_0000 | n))
    }

    /// Knows port N as device 10 + N, and has the ticks of the switch.
    #[derive(Debug)]
    struct Fast {
        stations: Stations,
        words: Arc<[AtomicU64]>,
        now: AtomicU32,
    }

    impl FastDatapath for Fast {
        fn stations(&self) -> &Stations {
            &self.stations
        }
        fn ticks_since(&self, seen: u32) -> u32 {
            self.now.load(Ordering::Relaxed) - seen
        }
        fn device(&self, port: PortId) -> Option<u32> {
            Some(10 + u32::from(port.0))
        }
        fn set_state(&self, _: PortId, _: FastState) {}
        fn set_vlan(&self, _: PortId, _: Vid, _: Membership) {}
        fn set_identity(&self, _: PortId, _: Option<&Identity>) {}
        fn watch(&self, _: Option<&[PortId]>, _: bool) {}
    }

    impl Fast {
        /// With a database of at most `max` entries.
        fn with_fdb(max: usize) -> (Arc<Fast>, Fdb) {
            let words: Arc<[AtomicU64]> = (0..64 * BUCKET_WORDS).map(|_| AtomicU64::new(0)).collect();
            let stations = Stations::new(Box::new(Arc::clone(&words)), BucketHash::new(64, [7, 9]));
            let fast = Arc::new(Fast { stations, words, now: AtomicU32::new(0) });
            let fdb = Fdb::new(max, 3000, 42);
            fdb.share_with(fast.clone());
            (fast, fdb)
        }

        /// What the kernel does when it forwards a frame from this station.
        fn forwards(&self, from: FdbKey, at: Tick) {
            let place = self.words.iter().position(|word| word.load(Ordering::Relaxed) == station_key(from));
            let value = &self.words[place.unwrap() + WAYS];
            value.store(
                value.load(Ordering::Relaxed) & u64::from(u32::MAX) | u64::from(at.0) << 32,
                Ordering::Relaxed,
            );
        }

        fn now_is(&self, now: Tick) -> Tick {
            self.now.store(now.0, Ordering::Relaxed);
            now
        }
    }

    #[test]
    fn frames_that_the_fast_datapath_forwards_refresh_entries() {
        let (fast, fdb) = Fast::with_fdb(8);
        for n in 1..=3 {
            fdb.learn(Tick(0), host(n), P1);
            fast.stations.insert(host(n), 11);
        }
        fast.forwards(host(1), Tick(1990));
        fast.forwards(host(2), Tick(1999));
        let now = fast.now_is(Tick(2000));
        let mut seen: Vec<u32> = fdb.page(now, 0, 8).0.iter().map(|entry| entry.seen.0).collect();
        seen.sort_unstable();
        assert_eq!(seen, [0, 1990, 1999]);
        assert_eq!(fdb.last_seen(now, &fdb.entry(host(2)).unwrap()), Tick(1999));
        assert_eq!(fdb.learn(now, host(1), P1), Learned::Known);
        assert_eq!(fdb.learn(now, host(2), P2), Learned::Moved { from: P1, after: 1 });
        assert_eq!(fdb.learn(now, host(3), P1), Learned::Returned { after: 2000 });
    }

    #[test]
    fn entry_that_the_fast_datapath_uses_gets_a_second_chance() {
        let (fast, fdb) = Fast::with_fdb(3);
        for n in 1..=3 {
            fdb.learn(Tick(0), host(n), P1);
            fast.stations.insert(host(n), 11);
        }
        fast.forwards(host(1), Tick(9));
        let learned = fdb.learn(fast.now_is(Tick(10)), host(4), P1);
        assert_eq!(learned, Learned::Evicted { from: P1, gone: host(2) });
    }

    /// The workers share it again with the next frame.
    #[test]
    fn time_of_the_last_frame_survives_the_loss_of_the_device() {
        let (fast, _fdb) = Fast::with_fdb(8);
        fast.stations.insert(host(1), 11);
        fast.forwards(host(1), Tick(9));
        fast.stations.remove_all(|device| device == 11);
        assert_eq!((fast.stations.device(host(1)), fast.stations.last_seen(host(1))), (None, Some(9)));
        fast.stations.insert(host(1), 12);
        assert_eq!((fast.stations.device(host(1)), fast.stations.last_seen(host(1))), (Some(12), Some(9)));
        fast.stations.remove(host(1));
        assert_eq!(fast.stations.last_seen(host(1)), None);
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
