//! The forwarding database (FDB): (VLAN, MAC) -> port (IEEE 802.1D-2004 §7.9).
//!
//! [`Fdb::lookup`], and [`Fdb::learn`] of a MAC that has not moved, take no lock (unless the chain changed
//! during eight attempts in a row). They write nothing except the last-seen tick, when it has changed.
//! Changes of the table (new entry, move, eviction, ageing, a user's change) take one mutex, for a bounded
//! amount of work.
//!
//! - `table`: a hash table with chains of slots. Each slot has a sequence number (seqlock). The hash is keyed
//!   (`hash`), so an attacker cannot choose addresses that fall into one chain.
//! - `value`: port, kind and last-seen tick in one word, exchanged atomically by a refresh.
//! - `learned_of_ports`: each port's learned entries by age, and the ports by their number of entries.
//!
//! All memory is allocated at creation: 34 bytes per entry (24 for the slot, 8 for its links, 2 for the
//! ring heads), 4 bytes per chain (twice the number of entries, rounded up to a power of two) and 80 KiB
//! for the ports. That is 0.4 MiB for 8192 entries and 41 MiB for a million.
//!
//! When the database is full, an entry of the port with most learned entries is evicted. If no port has more than the
//! ingress port of the new address, the ingress port loses one. So a MAC flood on one port can evict from another port
//! only what exceeds an equal share. Static and permanent entries count towards the limit and are never evicted. A port
//! can have a lower limit of its own ([`Fdb::set_max_learned`]), at which nothing more is learned there.
//!
//! The evicted entry is the port's oldest, in order of insertion. Exact LRU order would need the lock for
//! every refresh. Instead, a refresh marks the entry, and an eviction moves up to four marked entries to
//! the end of the list ("second chance"), so it does a constant amount of work.
//!
//! A lookup ignores an entry that has aged, also before [`Fdb::age`] removes it. A frame from that MAC
//! before the removal refreshes or moves the entry as if it had not aged.

mod dry_run;
mod entry;
mod hash;
mod learned_of_ports;
mod sharing;
mod stations;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

pub use self::dry_run::{Database, DryRun};
pub use self::entry::{FdbEntry, FdbError, FdbKey, FdbKind, FdbState, Learned};
pub(super) use self::hash::Hash;
use self::learned_of_ports::LearnedOfPorts;
use self::sharing::Flooded;
pub use self::sharing::Share;
pub(super) use self::sharing::ShareTo;
pub use self::stations::{
    BUCKET_WORDS, BucketHash, FLOOD, FLOOD_DEVICES, Stations, TICK_SHIFT, WAYS, flood_device, station_key,
};
use self::table::{NIL, SlotValue, Table};
use self::value::Value;
use super::{FastDatapath, PortId, Tick, Vid};
use crate::wire::Mac;

/// Entries checked while the lock is held once.
const CHUNK: u32 = 256;
/// Attempts without the lock before a reader takes it.
const TRIES: usize = 8;
/// Refreshed entries that an eviction skips.
const SECOND_CHANCES: usize = 4;

/// The forwarding database.
#[derive(Debug)]
pub struct Fdb {
    table: Table,
    writer: Mutex<Writer>,
    /// Ageing time in ticks. It changes alone, so its order with other memory does not matter.
    ageing: AtomicU32,
    /// Forwards what it knows of the database itself.
    fast: OnceLock<Arc<dyn FastDatapath>>,
}

/// State that only the holder of the lock can access.
#[derive(Debug)]
struct Writer {
    /// Head of the list of free slots.
    free: u32,
    learned: LearnedOfPorts,
    /// MACs that are learned on one port only, and that port.
    reserved: BTreeMap<Mac, PortId>,
    flooded: Flooded,
}

impl Writer {
    /// The port that `mac` is reserved for, if that is not `port`.
    fn reserved_for_other(&self, mac: Mac, port: PortId) -> Option<PortId> {
        self.reserved.get(&mac).copied().filter(|owner| *owner != port)
    }
}

/// The outcome of learning, and what it changes.
struct Learning {
    learned: Learned,
    change: Option<Change>,
}

/// A change of the table by learning.
enum Change {
    /// The entry was seen again.
    Refresh(SlotValue),
    /// The entry moves to another port.
    Move(SlotValue),
    /// A new entry.
    Insert(Room),
}

/// Room for a new entry.
enum Room {
    /// A free slot.
    Free,
    /// The slot of an entry that is evicted.
    Of(Victim),
}

/// The entry to evict from a full table.
struct Victim {
    port: PortId,
    at: u32,
    /// Number of older entries of the port that get a second chance.
    passed: usize,
}

impl Fdb {
    /// Upper limit for the size of a database.
    pub const MAX: usize = 1 << 24;

    /// An empty database of at most `max` entries (and at most [`Fdb::MAX`]) with the given ageing time in
    /// ticks. With an `ageing` of 0 nothing is learned, so everything is flooded (as in the Linux bridge).
    pub fn new(max: usize, ageing: u32, seed: u64) -> Fdb {
        let max = max.min(Self::MAX);
        let writer = Writer {
            free: NIL,
            learned: LearnedOfPorts::new(max),
            reserved: BTreeMap::new(),
            flooded: Flooded::default(),
        };
        Fdb {
            table: Table::new(max, seed),
            writer: Mutex::new(writer),
            ageing: AtomicU32::new(ageing),
            fast: OnceLock::new(),
        }
    }

    /// The ageing time in ticks.
    pub fn ageing(&self) -> u32 {
        self.ageing.load(Ordering::Relaxed)
    }

    /// Changes the ageing time, also for entries that were learned before.
    pub fn set_ageing(&self, ticks: u32) {
        self.ageing.store(ticks, Ordering::Relaxed);
    }

    /// Limits the entries that are learned on a port. Those that it has stay. `None` ends the limit.
    pub fn set_max_learned(&self, port: PortId, max: Option<u32>) {
        self.lock().learned.set_limit(port, max.unwrap_or(u32::MAX));
    }

    /// Number of entries that were learned on a port and have not been removed.
    pub fn learned_on(&self, port: PortId) -> u32 {
        self.lock().learned.count(port)
    }

    /// The port of `key`. Ignores entries that have aged, also before [`Fdb::age`] removes them.
    #[inline(always)]
    pub fn lookup(&self, now: Tick, key: FdbKey) -> Option<PortId> {
        let value = self.find(key.pack())?.value;
        let ageing = self.ageing();
        let has_aged = value.has_aged(now, ageing) && self.current(now, key, value).has_aged(now, ageing);
        (!value.is_free() && !has_aged).then(|| value.port())
    }

    /// The entry of `key`, aged or not.
    pub fn entry(&self, key: FdbKey) -> Option<FdbEntry> {
        let value = self.find(key.pack())?.value;
        (!value.is_free()).then(|| FdbEntry::unpack(key.pack(), value))
    }

    /// The entries of a MAC in all VLANs, and without a VLAN, aged or not.
    pub fn entries_of(&self, mac: Mac) -> impl Iterator<Item = FdbEntry> + '_ {
        (0..=Vid::MAX).filter_map(move |vlan| self.entry(FdbKey { vlan, mac }))
    }

    /// Learns that a frame from `key` was received on `port`. Locks only when the table changes.
    #[inline(always)]
    pub fn learn(&self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        match self.table.walk(key.pack()) {
            Ok(Some(found))
                if found.value.is_learned_on(port) && now <= found.value.seen() && self.ageing() != 0 =>
            {
                Learned::Known
            }
            _ => self.learn_change(now, key, port),
        }
    }

    /// Learns what is not known yet, or was not seen in this tick.
    #[inline(never)]
    fn learn_change(&self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        if self.ageing() == 0 {
            return Learned::Off;
        }
        for _ in 0..TRIES {
            let Some(SlotValue { at, value }) = self.find(key.pack()) else { break };
            if value.is_free() || value.port() != port {
                break;
            }
            if !value.is_dynamic() {
                return Learned::Static;
            }
            if now <= value.seen() {
                return Learned::Known;
            }
            if self.table.exchange(at, value, value.refreshed(now)) {
                return self.refreshed(now, key, value);
            }
        }
        self.learn_locked(now, key, port)
    }

    /// The outcome of a refresh of an entry that had this value. (If two workers refresh an entry at the same time,
    /// neither reports a return.)
    #[inline]
    fn refreshed(&self, now: Tick, key: FdbKey, value: Value) -> Learned {
        let silence = |value: Value| now.since(value.seen());
        let is_short = |silence: u32| silence < self.ageing().div_ceil(3);
        if is_short(silence(value)) {
            return Learned::Known;
        }
        let after = silence(self.current(now, key, value));
        if is_short(after) { Learned::Known } else { Learned::Returned { after } }
    }

    #[cold]
    fn learn_locked(&self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        let mut writer = self.lock();
        let Learning { learned, change } = self.plan(&writer, now, key, port);
        match change {
            None => {}
            Some(Change::Refresh(SlotValue { at, value })) => {
                self.table.replace(at, value.refreshed(now));
            }
            Some(Change::Move(SlotValue { at, value })) => {
                self.unshare(key);
                self.table.replace(at, value.moved(port, now));
                if value.is_dynamic() {
                    writer.learned.remove_entry(value.port(), at);
                    writer.learned.add_entry(port, at);
                }
            }
            Some(Change::Insert(room)) => {
                self.insert(&mut writer, key, Value::learned(port, now), room);
            }
        }
        learned
    }

    /// Needs the lock: what a frame from `key` on `port` changes.
    fn plan(&self, writer: &Writer, now: Tick, key: FdbKey, port: PortId) -> Learning {
        if let Some(owner) = writer.reserved_for_other(key.mac, port) {
            return Learning { learned: Learned::Reserved { owner }, change: None };
        }
        let Some(found) = self.find_locked(key.pack()) else {
            if writer.learned.is_at_limit(port) {
                return Learning { learned: Learned::LimitReached, change: None };
            }
            let (learned, change) = match self.room_for(writer, now, port) {
                None => (Learned::Refused, None),
                Some(room @ Room::Free) => (Learned::New, Some(Change::Insert(room))),
                Some(room @ Room::Of(Victim { port: from, at, .. })) => {
                    let gone = self.table.key(at);
                    (Learned::Evicted { from, gone }, Some(Change::Insert(room)))
                }
            };
            return Learning { learned, change };
        };
        match self.current(now, key, found.value).learn_outcome(now, port) {
            Learned::Known if now > found.value.seen() => {
                let learned = self.refreshed(now, key, found.value);
                Learning { learned, change: Some(Change::Refresh(found)) }
            }
            Learned::Moved { .. } if found.value.is_dynamic() && writer.learned.is_at_limit(port) => {
                Learning { learned: Learned::LimitReached, change: None }
            }
            learned @ Learned::Moved { .. } => Learning { learned, change: Some(Change::Move(found)) },
            learned => Learning { learned, change: None },
        }
    }

    /// Reserves a MAC, at most one for each port: it is not learned on other ports from now on, and forgotten where it
    /// was learned. `None` ends the reservation.
    pub fn reserve(&self, port: PortId, mac: Option<Mac>) {
        let mut writer = self.lock();
        writer.reserved.retain(|_, owner| *owner != port);
        if let Some(mac) = mac {
            writer.reserved.insert(mac, port);
            drop(writer);
            self.sweep_mac(mac, port);
        }
    }

    /// Removes the dynamic entries of a MAC that are on another port, in all VLANs.
    fn sweep_mac(&self, mac: Mac, port: PortId) {
        for entry in self.entries_of(mac) {
            let mut writer = self.lock();
            let Some(found) = self.find_locked(entry.key.pack()) else { continue };
            if found.value.is_dynamic() && found.value.port() != port {
                self.take_out(&mut writer, found.at);
            }
        }
    }

    /// Adds or replaces an entry. In a full database a learned entry is evicted.
    pub fn add(
        &self,
        now: Tick,
        key: FdbKey,
        port: PortId,
        kind: impl Into<FdbKind>,
    ) -> Result<(), FdbError> {
        if key.mac.is_group() || key.mac.is_zero() {
            return Err(FdbError::NotUnicast(key.mac));
        }
        let mut writer = self.lock();
        let value = Value::new(port, kind.into(), now);
        let Some(SlotValue { at, value: old }) = self.find_locked(key.pack()) else {
            let room = self.room_for(&writer, now, port).ok_or(FdbError::Full)?;
            self.insert(&mut writer, key, value, room);
            return Ok(());
        };
        self.unshare(key);
        self.table.replace(at, value);
        if old.is_dynamic() {
            writer.learned.remove_entry(old.port(), at);
        }
        if value.is_dynamic() {
            writer.learned.add_entry(port, at);
        }
        Ok(())
    }

    /// Removes an entry, if it exists.
    pub fn remove(&self, key: FdbKey) -> Option<FdbEntry> {
        let mut writer = self.lock();
        let found = self.find_locked(key.pack())?;
        Some(self.take_out(&mut writer, found.at))
    }

    /// Removes all learned entries, or those of one port. Returns how many.
    pub fn flush(&self, port: Option<PortId>) -> usize {
        self.remove_matching(|entry| {
            entry.kind.state == FdbState::Dynamic && port.is_none_or(|port| port == entry.port)
        })
    }

    /// Removes all entries that match. Returns how many.
    pub fn remove_matching(&self, matches: impl Fn(&FdbEntry) -> bool) -> usize {
        self.sweep(|key, value| matches(&FdbEntry::unpack(key, value)), &mut |_| {})
    }

    /// Removes all entries of a port, static ones too, and its limit. The caller must have stopped learning on that
    /// port.
    pub fn remove_port(&self, port: PortId) {
        self.set_max_learned(port, None);
        self.remove_matching(|entry| entry.port == port);
    }

    /// Removes the entries that have aged by `now`, and calls `aged` for each, without the lock. Returns
    /// when to call it again, if anything can age: when the oldest entry ages, but at least a second later.
    pub fn age(&self, now: Tick, aged: &mut dyn FnMut(FdbEntry)) -> Option<Tick> {
        let ageing = self.ageing();
        self.sweep(|_, value| value.has_aged(now, ageing), aged);
        if ageing == 0 {
            return None;
        }
        let values = (0..self.table.used()).map(|at| self.table.value(at));
        let oldest = values.filter(|value| value.is_dynamic()).map(Value::seen).min().unwrap_or(now);
        let due = oldest.min(now).0.saturating_add(ageing);
        Some(Tick(due.max(now.0.saturating_add(Tick::PER_SECOND))))
    }

    /// A copy of all entries, in no particular order. Each entry existed at some time during the call.
    pub fn entries(&self) -> Vec<FdbEntry> {
        let entry = |at| self.table.entry(at).map(|(key, value)| FdbEntry::unpack(key, value));
        (0..self.table.used()).filter_map(entry).collect()
    }

    /// A copy of the entries in `count` slots from slot `start` on, without those that have aged by `now`, and
    /// the first slot of the next page if there is one. An entry keeps its slot, so one that exists during
    /// a whole dump appears exactly once.
    pub fn page(&self, now: Tick, start: u32, count: u32) -> (Vec<FdbEntry>, Option<u32>) {
        let used = self.table.used();
        let end = used.min(start.saturating_add(count));
        let entries = (start..end).filter_map(|at| self.table.entry(at));
        let entries = entries.map(|(key, value)| (key, self.current(now, FdbKey::unpack(key), value)));
        let current = entries.filter(|(_, value)| !value.has_aged(now, self.ageing()));
        let page = current.map(|(key, value)| FdbEntry::unpack(key, value)).collect();
        (page, (end < used).then_some(end))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// There are no entries.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Maximum number of entries.
    pub fn max(&self) -> usize {
        self.table.max()
    }

    #[inline]
    fn find(&self, key: u64) -> Option<SlotValue> {
        self.table.walk(key).unwrap_or_else(|_| self.find_again(key))
    }

    /// The chain changed during the first walk.
    #[cold]
    fn find_again(&self, key: u64) -> Option<SlotValue> {
        for _ in 1..TRIES {
            if let Ok(found) = self.table.walk(key) {
                return found;
            }
        }
        let _writer = self.lock();
        self.find_locked(key)
    }

    /// A lookup by the holder of the lock. The chains do not change meanwhile.
    fn find_locked(&self, key: u64) -> Option<SlotValue> {
        self.table.walk(key).ok().flatten()
    }

    /// Takes the lock. Poisoning is ignored: no change can panic half-way.
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Needs the lock: where a new entry of `port` goes; `None` if nothing can be evicted.
    fn room_for(&self, writer: &Writer, now: Tick, port: PortId) -> Option<Room> {
        if self.len() < self.max() { Some(Room::Free) } else { self.victim(writer, now, port).map(Room::Of) }
    }

    /// Needs the lock: adds an entry.
    fn insert(&self, writer: &mut Writer, key: FdbKey, value: Value, room: Room) {
        match room {
            Room::Of(victim) => self.evict(writer, value.seen(), &victim),
            Room::Free if writer.free == NIL => writer.free = self.table.fresh().unwrap_or(NIL),
            Room::Free => {}
        }
        self.unshare(key);
        let at = writer.free;
        writer.free = self.table.next_free(at);
        self.table.publish(at, key.pack(), value);
        if value.is_dynamic() {
            writer.learned.add_entry(value.port(), at);
        }
    }

    /// Needs the lock: selects the entry to evict for a new entry of port `ingress`: the oldest one of the port
    /// with most entries. Skips entries that were refreshed since they became the youngest ("second
    /// chance").
    fn victim(&self, writer: &Writer, now: Tick, ingress: PortId) -> Option<Victim> {
        let port = writer.learned.eviction_port(ingress)?;
        let mut passed = 0;
        for at in writer.learned.entries(port).take(SECOND_CHANCES) {
            if !self.current(now, self.table.key(at), self.table.value(at)).is_refreshed() {
                return Some(Victim { port, at, passed });
            }
            passed += 1;
        }
        // The next entry; if all of them were skipped, the first one.
        let at = writer.learned.entries(port).nth(passed).or_else(|| writer.learned.oldest(port))?;
        Some(Victim { port, at, passed })
    }

    /// Needs the lock: evicts an entry. The skipped entries become the youngest ones.
    fn evict(&self, writer: &mut Writer, now: Tick, victim: &Victim) {
        let &Victim { port, at, passed } = victim;
        for _ in 0..passed {
            let Some(oldest) = writer.learned.oldest(port) else { break };
            self.refresh_entry(now, oldest);
            self.table.clear_refreshed(oldest);
            writer.learned.make_youngest(port, oldest);
        }
        self.take_out(writer, at);
    }

    /// Needs the lock: removes the entry of a slot.
    fn take_out(&self, writer: &mut Writer, at: u32) -> FdbEntry {
        self.unshare(self.table.key(at));
        let value = self.table.replace(at, Value::FREE);
        self.free_slot(writer, at, value)
    }

    /// Needs the lock: unlinks a slot whose value was just replaced by [`Value::FREE`].
    fn free_slot(&self, writer: &mut Writer, at: u32, value: Value) -> FdbEntry {
        let key = self.table.withdraw(at, writer.free);
        writer.free = at;
        if value.is_dynamic() {
            writer.learned.remove_entry(value.port(), at);
        }
        FdbEntry::unpack(key, value)
    }

    /// Removes the entries that match `is_gone`. Returns how many. Searches without the lock, and takes it
    /// per chunk.
    fn sweep(&self, is_gone: impl Fn(u64, Value) -> bool, removed: &mut dyn FnMut(FdbEntry)) -> usize {
        let (mut count, mut batch) = (0, Vec::new());
        let used = self.table.used();
        for start in (0..used).step_by(CHUNK as usize) {
            let chunk = start..used.min(start + CHUNK);
            let candidate = |at: u32| {
                let (key, value) = self.table.entry(at)?;
                is_gone(key, value).then_some((at, value))
            };
            if !chunk.clone().any(|at| candidate(at).is_some()) {
                continue;
            }
            let mut writer = self.lock();
            for (at, value) in chunk.filter_map(candidate) {
                self.unshare(self.table.key(at));
                // The exchange fails if a frame refreshed the entry meanwhile. Then it stays, as if learned
                // afterwards.
                if self.table.exchange(at, value, Value::FREE) {
                    batch.push(self.free_slot(&mut writer, at, value));
                }
            }
            drop(writer);
            count += batch.len();
            batch.drain(..).for_each(&mut *removed);
        }
        count
    }
}
