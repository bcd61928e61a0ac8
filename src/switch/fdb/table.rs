//! The hash table of the forwarding database: chains of slots that are read without a lock.
//!
//! A slot's `link` word contains a sequence number and the index of the next slot in the chain. An odd
//! number means that the slot is in no chain. The number grows when the slot enters or leaves a chain,
//! which needs the writer's lock. A reader loads the link, then key and value, then the link again. If the
//! number is even and unchanged, key and value belong together. The reader also checks that the slot's key
//! belongs to its chain. New entries are linked at the head and do not change their place. So:
//! - a wrong value is never returned: key and value are from one use of the slot;
//! - a present entry is never missed: every visited slot was in this chain when its successor was read, and
//!   new entries are in front of it, not behind it.
//!
//! A walk that sees a change returns [`ChainChanged`]; the caller tries again, and finally takes the lock.
//! All loads are Acquire and all stores Release, so a thread that sees any word of a change also sees the odd number
//! that was stored first. On x86-64 these are plain moves.

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use super::entry::FdbKey;
use super::hash::Hash;
use super::value::Value;

/// No slot: the end of a chain or list.
pub(super) const NIL: u32 = u32::MAX;

/// 24 bytes.
#[derive(Debug)]
struct Slot {
    key: AtomicU64,
    value: AtomicU64,
    /// Sequence number (upper half) and next slot in the chain or in the free list.
    link: AtomicU64,
}

impl Slot {
    const fn new() -> Slot {
        Slot {
            key: AtomicU64::new(0),
            value: AtomicU64::new(Value::FREE.0),
            link: AtomicU64::new(link(1, NIL)),
        }
    }
}

const fn link(sequence: u32, next: u32) -> u64 {
    (sequence as u64) << 32 | next as u64
}

const fn sequence(link: u64) -> u32 {
    (link >> 32) as u32
}

#[allow(clippy::cast_possible_truncation, reason = "the lower half")]
const fn next(link: u64) -> u32 {
    link as u32
}

/// A slot that contains the key, and its value.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotValue {
    pub(super) at: u32,
    pub(super) value: Value,
}

/// The chain changed during the walk.
#[derive(Debug)]
pub(super) struct ChainChanged;

/// Slots and chains. Methods marked "needs the lock" are only for the holder of the writer's lock.
#[derive(Debug)]
pub(super) struct Table {
    hash: Hash,
    heads: Box<[AtomicU32]>,
    slots: Box<[Slot]>,
    /// All slots that were ever used are below this one.
    used: AtomicU32,
    len: AtomicUsize,
}

impl Table {
    /// Creates `max` slots, and at least twice as many chains, so that most chains have one entry and the
    /// branch predictor is right (measured: 7.7 ns per lookup in a full table, 10.9 ns with half the
    /// chains).
    #[allow(clippy::cast_possible_truncation, reason = "max is at most Fdb::MAX")]
    pub(super) fn new(max: usize, seed: u64) -> Table {
        let chains = 2 * max.next_power_of_two();
        Table {
            hash: Hash::new(seed, chains.ilog2()),
            heads: (0..chains).map(|_| AtomicU32::new(NIL)).collect(),
            slots: (0..max as u32).map(|_| Slot::new()).collect(),
            used: AtomicU32::new(0),
            len: AtomicUsize::new(0),
        }
    }

    pub(super) fn max(&self) -> usize {
        self.slots.len()
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Ordering::Relaxed)
    }

    /// One past the last slot that was ever used.
    pub(super) fn used(&self) -> u32 {
        self.used.load(Ordering::Acquire)
    }

    fn slot(&self, at: u32) -> &Slot {
        &self.slots[at as usize]
    }

    /// Walks along the chain of `key`, without a lock.
    #[inline]
    pub(super) fn walk(&self, key: u64) -> Result<Option<SlotValue>, ChainChanged> {
        let bucket = self.hash.bucket(key);
        let mut at = self.heads[bucket].load(Ordering::Acquire);
        while at != NIL {
            let slot = self.slot(at);
            let link = slot.link.load(Ordering::Acquire);
            let found = slot.key.load(Ordering::Acquire);
            let value = Value(slot.value.load(Ordering::Acquire));
            let again = slot.link.load(Ordering::Relaxed);
            if sequence(link) % 2 == 1 || sequence(again) != sequence(link) {
                return Err(ChainChanged);
            }
            if found == key {
                return Ok(Some(SlotValue { at, value }));
            }
            if self.hash.bucket(found) != bucket {
                return Err(ChainChanged);
            }
            at = next(link);
        }
        Ok(None)
    }

    /// The value of a slot; [`Value::FREE`] if it has no entry.
    pub(super) fn value(&self, at: u32) -> Value {
        Value(self.slot(at).value.load(Ordering::Acquire))
    }

    /// The key and value of a slot, if it has an entry.
    pub(super) fn entry(&self, at: u32) -> Option<(u64, Value)> {
        let slot = self.slot(at);
        loop {
            let link = slot.link.load(Ordering::Acquire);
            let (key, value) = (slot.key.load(Ordering::Acquire), self.value(at));
            if sequence(link) % 2 == 1 || value.is_free() {
                return None;
            }
            if sequence(slot.link.load(Ordering::Relaxed)) == sequence(link) {
                return Some((key, value));
            }
        }
    }

    /// Replaces a value if it is still `old`. The value contains the slot's generation (13 bits), so this
    /// cannot replace a later entry in the same slot.
    pub(super) fn exchange(&self, at: u32, old: Value, new: Value) -> bool {
        let value = &self.slot(at).value;
        value.compare_exchange(old.0, new.0, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Needs the lock: replaces a value, keeps the generation, and returns the old value.
    pub(super) fn replace(&self, at: u32, new: Value) -> Value {
        let new = new.of_generation(self.generation(at));
        Value(self.slot(at).value.swap(new.0, Ordering::AcqRel))
    }

    /// Needs the lock: the key of the entry in a slot.
    pub(super) fn key(&self, at: u32) -> FdbKey {
        FdbKey::unpack(self.slot(at).key.load(Ordering::Relaxed))
    }

    /// Needs the lock: clears the mark that an entry was refreshed.
    pub(super) fn clear_refreshed(&self, at: u32) {
        self.slot(at).value.fetch_and(!Value::REFRESHED, Ordering::AcqRel);
    }

    /// Needs the lock: a slot that was never used.
    pub(super) fn fresh(&self) -> Option<u32> {
        let at = self.used();
        if at as usize == self.slots.len() {
            return None;
        }
        self.used.store(at + 1, Ordering::Release);
        Some(at)
    }

    /// Needs the lock: links a slot that is in no chain at the head of its key's chain.
    pub(super) fn publish(&self, at: u32, key: u64, value: Value) {
        let head = &self.heads[self.hash.bucket(key)];
        let slot = self.slot(at);
        let even = sequence(slot.link.load(Ordering::Relaxed)).wrapping_add(1);
        slot.key.store(key, Ordering::Release);
        slot.value.store(value.of_generation(even >> 1).0, Ordering::Release);
        slot.link.store(link(even, head.load(Ordering::Relaxed)), Ordering::Release);
        head.store(at, Ordering::Release);
        self.len.store(self.len() + 1, Ordering::Relaxed);
    }

    /// Needs the lock: unlinks a slot whose value is already [`Value::FREE`], and returns its key. `then`
    /// becomes the next slot in the free list.
    pub(super) fn withdraw(&self, at: u32, then: u32) -> u64 {
        let slot = self.slot(at);
        let key = slot.key.load(Ordering::Relaxed);
        let old = slot.link.load(Ordering::Relaxed);
        slot.link.store(link(sequence(old).wrapping_add(1), then), Ordering::Release);
        self.unlink(self.hash.bucket(key), at, next(old));
        self.len.store(self.len() - 1, Ordering::Relaxed);
        key
    }

    /// Needs the lock: makes the predecessor of `at` point to `successor`.
    fn unlink(&self, bucket: usize, at: u32, successor: u32) {
        let mut before = self.heads[bucket].load(Ordering::Relaxed);
        if before == at {
            return self.heads[bucket].store(successor, Ordering::Release);
        }
        while before != NIL {
            let slot = self.slot(before);
            let old = slot.link.load(Ordering::Relaxed);
            if next(old) == at {
                return slot.link.store(link(sequence(old), successor), Ordering::Release);
            }
            before = next(old);
        }
    }

    /// Needs the lock: the next slot in the free list.
    pub(super) fn next_free(&self, at: u32) -> u32 {
        next(self.slot(at).link.load(Ordering::Relaxed))
    }

    fn generation(&self, at: u32) -> u32 {
        sequence(self.slot(at).link.load(Ordering::Relaxed)) >> 1
    }
}
