//! The stations of the kernel fast path ([`crate::fastpath`]): a copy of those entries of the database whose frames the
//! kernel forwards itself, in memory that it reads.
//!
//! The table has buckets of four entries: a cache line. An entry is a word with the key, which is zero where there is
//! none, and a word with the device of its port in the low half and the time of its last frame in the high half, which
//! the kernel writes. An entry without a device (0) only keeps that time. What finds its bucket full stays with user
//! space.
//!
//! Whoever holds the lock of the database changes the table. The kernel reads without a lock: the key, the device, and
//! then the key again. A place that became another station's in between has another key, because a key is removed
//! before the device changes. So no frame goes to a device where its station is not.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use super::FdbKey;
use crate::switch::{Ports, Vid};

/// Entries of a bucket.
pub const WAYS: usize = 4;
/// Words of a bucket: the keys, then the values.
pub const BUCKET_WORDS: usize = 2 * WAYS;
/// The first of the numbers that stand for the ports of a flood. The devices of ports have smaller ones.
#[allow(clippy::cast_possible_truncation, reason = "a small number")]
pub const FLOOD: u32 = 2 * (Ports::MAX as u32 + 1);
/// The tick of the kernel's times: 2^27 ns, 134 ms.
pub const TICK_SHIFT: u32 = 27;

/// In the place of a device. No device has this index.
const NO_DEVICE: u32 = 0;

/// Memory of a table.
type Memory = Box<dyn AsRef<[AtomicU64]> + Send + Sync>;

/// How an address chooses its bucket: multiplicative hashing (Knuth, TAOCP 6.4) with secret numbers, so that no host
/// fills the bucket of another one on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketHash {
    /// Added to the key without carry.
    pub mask: u64,
    /// Odd.
    pub factor: u64,
    /// 64 less the bits of a bucket's number.
    pub shift: u32,
}

impl BucketHash {
    /// For a power of two of `buckets`, with a secret `seed`.
    pub fn new(buckets: usize, seed: [u64; 2]) -> BucketHash {
        BucketHash { mask: seed[0], factor: seed[1] | 1, shift: 64 - buckets.max(2).trailing_zeros() }
    }

    fn bucket(self, key: u64) -> usize {
        #[allow(clippy::cast_possible_truncation, reason = "less than the number of buckets")]
        let bucket = ((key ^ self.mask).wrapping_mul(self.factor) >> self.shift) as usize;
        bucket
    }
}

/// A key as the kernel reads it from a frame: the first two octets of the MAC, then the last four, in the order of the
/// machine.
pub fn station_key(key: FdbKey) -> u64 {
    let [a, b, c, d, e, f] = key.mac.0;
    u64::from(key.vlan) << 48
        | u64::from(u16::from_ne_bytes([a, b])) << 32
        | u64::from(u32::from_ne_bytes([c, d, e, f]))
}

/// What stands for the ports of a flood in a VLAN (0: without VLANs), in the place of a device.
pub const fn flood_device(vlan: u16) -> u32 {
    FLOOD + vlan as u32
}

/// The VLANs that have a [`flood_device`], 0 among them.
pub const FLOOD_DEVICES: u32 = Vid::MAX as u32 + 1;

/// The table.
pub struct Stations {
    memory: Memory,
    hash: BucketHash,
}

impl fmt::Debug for Stations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stations").field("hash", &self.hash).finish_non_exhaustive()
    }
}

impl Stations {
    /// A table in this memory, which has [`BUCKET_WORDS`] words for each bucket of `hash`, all zero.
    pub fn new(memory: Box<dyn AsRef<[AtomicU64]> + Send + Sync>, hash: BucketHash) -> Stations {
        Stations { memory, hash }
    }

    /// The words of the bucket of a key: keys and values.
    fn bucket(&self, key: u64) -> (&[AtomicU64], &[AtomicU64]) {
        let words = (*self.memory).as_ref();
        let start = self.hash.bucket(key) * BUCKET_WORDS;
        words.get(start..start + BUCKET_WORDS).unwrap_or_default().split_at_checked(WAYS).unwrap_or_default()
    }

    /// The value of a key.
    fn find(&self, key: u64) -> Option<&AtomicU64> {
        let (keys, values) = self.bucket(key);
        let way = keys.iter().position(|word| word.load(Ordering::Acquire) == key)?;
        values.get(way)
    }

    /// The device of a station.
    pub fn device(&self, key: FdbKey) -> Option<u32> {
        let device = device_of(self.find(station_key(key))?.load(Ordering::Acquire));
        (device != NO_DEVICE).then_some(device)
    }

    /// The kernel's tick of the last frame from a station that the kernel forwarded.
    pub fn last_seen(&self, key: FdbKey) -> Option<u32> {
        let seen = (self.find(station_key(key))?.load(Ordering::Acquire) >> 32) as u32;
        (seen != 0).then_some(seen)
    }

    /// Whether a station that is not there has a place.
    pub fn has_room(&self, key: FdbKey) -> bool {
        let (keys, values) = self.bucket(station_key(key));
        keys.iter().zip(values).any(is_free)
    }

    /// Puts a station behind a device. Returns whether there was room. One thread at a time.
    pub fn insert(&self, key: FdbKey, device: u32) -> bool {
        let seen = self.last_seen(key).map_or(0, |seen| u64::from(seen) << 32);
        let key = station_key(key);
        debug_assert_ne!(key, 0, "the key of an empty place");
        let (keys, values) = self.bucket(key);
        let with_key = |key| keys.iter().position(|word| word.load(Ordering::Relaxed) == key);
        // Times of other stations are kept if there is room.
        let place = with_key(key).or_else(|| with_key(0));
        let place = place.or_else(|| keys.iter().zip(values).position(is_free));
        let Some((word, value)) = place.map(|place| (&keys[place], &values[place])) else {
            return false;
        };
        word.store(0, Ordering::Release);
        value.store(seen | u64::from(device), Ordering::Release);
        word.store(key, Ordering::Release);
        true
    }

    /// Whether the kernel floods frames to this address.
    pub fn is_flooded(&self, key: FdbKey) -> bool {
        self.device(key) == Some(flood_device(key.vlan))
    }

    /// Removes an address whose frames are flooded, if they still are. One thread at a time.
    pub(super) fn end_flood(&self, key: FdbKey) {
        if self.is_flooded(key) {
            self.remove(key);
        }
    }

    /// Takes these devices from all stations. The times of their last frames stay. Another thread may change the table
    /// meanwhile: what it puts into a place that is being changed loses its device too.
    pub fn remove_all(&self, of: impl Fn(u32) -> bool) {
        for bucket in (*self.memory).as_ref().chunks_exact(BUCKET_WORDS) {
            let (keys, values) = bucket.split_at(WAYS);
            let used = keys.iter().zip(values).filter(|(key, _)| key.load(Ordering::Relaxed) != 0);
            let theirs = used.filter(|(_, value)| of(device_of(value.load(Ordering::Acquire))));
            theirs.for_each(|(_, value)| _ = value.fetch_and(!u64::from(u32::MAX), Ordering::AcqRel));
        }
    }

    /// Removes a station. One thread at a time.
    pub fn remove(&self, key: FdbKey) {
        let key = station_key(key);
        let (keys, _) = self.bucket(key);
        if let Some(word) = keys.iter().find(|word| word.load(Ordering::Relaxed) == key) {
            word.store(0, Ordering::Release);
        }
    }
}

/// Whether a place, a key and its value, has no station with a device.
fn is_free((key, value): (&AtomicU64, &AtomicU64)) -> bool {
    key.load(Ordering::Relaxed) == 0 || device_of(value.load(Ordering::Relaxed)) == NO_DEVICE
}

#[allow(clippy::cast_possible_truncation, reason = "the low half")]
const fn device_of(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Mac;

    struct Heap(Vec<AtomicU64>);

    impl AsRef<[AtomicU64]> for Heap {
        fn as_ref(&self) -> &[AtomicU64] {
            &self.0
        }
    }

    fn table(buckets: usize) -> Stations {
        let words = (0..buckets * BUCKET_WORDS).map(|_| AtomicU64::new(0)).collect();
        Stations::new(Box::new(Heap(words)), BucketHash::new(buckets, [0x1234_5678, 0x9e37_79b9_7f4a_7c15]))
    }

    fn key(n: u64) -> FdbKey {
        FdbKey { vlan: 0, mac: Mac::from_u64(0x0200_0000_0000 | n) }
    }

    #[test]
    fn inserts_moves_and_removes() {
        let table = table(64);
        assert_eq!(table.device(key(1)), None);
        assert!(table.insert(key(1), 3));
        assert!(table.insert(FdbKey { vlan: 7, ..key(1) }, 5));
        assert_eq!((table.device(key(1)), table.last_seen(key(1))), (Some(3), None));
        assert!(table.insert(key(1), 4));
        assert_eq!(table.device(key(1)), Some(4));
        assert!(table.insert(key(2), 4));
        table.remove_all(|device| device == 5);
        assert_eq!([key(1), key(2)].map(|key| table.device(key)), [Some(4); 2]);
        assert!(table.insert(FdbKey { vlan: 7, ..key(1) }, 5));
        table.remove_all(|device| device == 4);
        assert_eq!([key(1), key(2)].map(|key| table.device(key)), [None; 2]);
        assert!(table.has_room(key(1)));
        assert!(table.insert(key(1), 4));
        table.remove(key(1));
        assert_eq!(table.device(key(1)), None);
        assert_eq!(table.device(FdbKey { vlan: 7, ..key(1) }), Some(5));
    }

    #[test]
    fn a_full_bucket_takes_no_more() {
        let table = table(2);
        let taken: Vec<u64> = (0..100).filter(|n| table.insert(key(*n), 1)).collect();
        assert_eq!(taken.len(), 2 * WAYS);
        assert!((0..100).all(|n| !table.has_room(key(n))));
        table.remove(key(taken[0]));
        assert!(table.insert(key(taken[0]), 1));
    }

    #[test]
    fn buckets_are_used_evenly() {
        let hash = BucketHash::new(1024, [7, 0x9e37_79b9_7f4a_7c15]);
        let mut used = [0; 1024];
        (0..4096).for_each(|n| used[hash.bucket(station_key(key(n)))] += 1);
        assert!(used.iter().all(|count| *count < 16), "{used:?}");
    }
}
