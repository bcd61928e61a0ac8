//! The forwarding database: (VLAN, MAC) -> port (IEEE 802.1D-2004 §7.9).
//!
//! Readers take no lock (unless eight tries in a row met a change): [`Fdb::lookup`], and [`Fdb::learn`]
//! of a station that is where it was. They write nothing but the tick of a station not seen in this tick.
//! What changes the table (a new station, a move, an eviction, ageing, a person) takes one mutex, for a
//! bounded piece of work each time.
//!
//! - `table`: slots in chains by a keyed hash (`hash`), read under a sequence number each. No chain can
//!   be aimed at.
//! - `value`: port, kind and last-seen tick in one word, which a refresh exchanges.
//! - `shares`: each port's learned entries in order, and the ports by how many they hold.
//!
//! Limits. All memory is taken when the database is made: 34 bytes an entry (24 in its slot, 8 in its
//! port's list, 2 for the count that it could make), 4 a chain (twice as many chains as entries, rounded
//! up to a power of two) and 64 KiB for the ports: 0.4 MiB for 8192 entries, 41 MiB for a million. When
//! it is full, the port that holds most learned entries gives way; if none holds more than the newcomer's
//! own port, that one does. So a flood of addresses from one port takes from another only what that holds
//! above an equal share. Static and permanent entries count towards the limit and never give way.
//!
//! What gives way is the port's oldest entry: first in the order of coming. Exact least-recently-seen
//! order would need the lock for every refresh; so instead a refresh marks the entry, and an eviction that
//! meets a marked one puts it behind the youngest once more. At most four are passed over: every
//! eviction is constant work.
//!
//! A lookup does not see an entry that has aged, even before [`Fdb::age`] takes it out. A station that
//! speaks again before that is refreshed or moved as if it had not aged.

mod dry_run;
mod entry;
mod hash;
mod shares;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::sync::{Mutex, MutexGuard, PoisonError};

pub use self::dry_run::{Database, DryRun};
pub use self::entry::{FdbEntry, FdbError, FdbKey, FdbState, Learned};
use self::shares::Shares;
use self::table::{NIL, SlotValue, Table};
use self::value::Value;
use super::{PortId, Tick};

/// Entries looked at between two takings of the lock.
const CHUNK: u32 = 256;
/// Tries without the lock before a reader takes it.
const TRIES: usize = 8;
/// How many refreshed entries an eviction passes over before it takes one all the same.
const SECOND_CHANCES: usize = 4;

/// The database.
#[derive(Debug)]
pub struct Fdb {
    table: Table,
    writer: Mutex<Writer>,
    ageing: u32,
}

/// What only the holder of the lock sees.
#[derive(Debug)]
struct Writer {
    /// Slots that were used and are free, linked.
    free: u32,
    shares: Shares,
}

/// The entry that gives way in a full table.
struct Victim {
    port: PortId,
    at: u32,
    /// How many older ones of the port were refreshed and stay.
    passed: usize,
}

impl Fdb {
    /// Most entries that any database can have.
    pub const MAX: usize = 1 << 24;

    /// An empty database of at most `max` entries (and at most [`Fdb::MAX`]) that live `ageing` ticks.
    /// With an `ageing` of 0 nothing is learned, so all is flooded (as with the Linux bridge).
    pub fn new(max: usize, ageing: u32, seed: u64) -> Fdb {
        let max = max.min(Self::MAX);
        let writer = Writer { free: NIL, shares: Shares::new(max) };
        Fdb { table: Table::new(max, seed), writer: Mutex::new(writer), ageing }
    }

    /// Where `key` is. An entry that has aged is not there, whether [`Fdb::age`] has run or not.
    #[inline]
    pub fn lookup(&self, now: Tick, key: FdbKey) -> Option<PortId> {
        let value = self.find(key.pack())?.value;
        (!value.is_free() && !value.has_aged(now, self.ageing)).then(|| value.port())
    }

    /// The entry of `key`, whether it has aged or not.
    pub fn entry(&self, key: FdbKey) -> Option<FdbEntry> {
        let value = self.find(key.pack())?.value;
        (!value.is_free()).then(|| FdbEntry::unpack(key.pack(), value))
    }

    /// A frame from `key` came in on `port` (one of the port table's). Locks only when the table changes.
    #[inline]
    pub fn learn(&self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        if self.ageing == 0 {
            return Learned::Off;
        }
        for _ in 0..TRIES {
            let Some(SlotValue { at, value }) = self.find(key.pack()) else { break };
            if value.is_free() || value.port() != port {
                break;
            }
            if now <= value.seen() || !value.is_dynamic() {
                return Learned::Known;
            }
            if self.table.exchange(at, value, value.refreshed(now)) {
                return self.refreshed(now.since(value.seen()));
            }
        }
        self.learn_locked(now, key, port)
    }

    /// What a refresh means after so many ticks. (Where refreshes of two workers meet, none is told to be a return.)
    #[inline]
    fn refreshed(&self, after: u32) -> Learned {
        if after < self.ageing.div_ceil(3) { Learned::Known } else { Learned::Returned { after } }
    }

    #[cold]
    fn learn_locked(&self, now: Tick, key: FdbKey, port: PortId) -> Learned {
        let mut writer = self.lock();
        let Some(SlotValue { at, value }) = self.find_locked(key.pack()) else {
            return self.insert(&mut writer, key, Value::new(port, FdbState::Dynamic, now));
        };
        let learned = value.learn_outcome(port);
        match learned {
            Learned::Known if value.is_dynamic() && now > value.seen() => {
                self.table.replace(at, value.refreshed(now));
            }
            Learned::Moved { from } => {
                self.table.replace(at, Value::new(port, FdbState::Dynamic, now));
                writer.shares.remove_entry(from, at);
                writer.shares.add_entry(port, at);
            }
            _ => {}
        }
        learned
    }

    /// Adds or replaces an entry by hand. In a full database a learned one gives way, as when learning.
    pub fn add(&self, now: Tick, key: FdbKey, port: PortId, state: FdbState) -> Result<(), FdbError> {
        if key.mac.is_group() || key.mac.is_zero() {
            return Err(FdbError::NotUnicast(key.mac));
        }
        let mut writer = self.lock();
        let value = Value::new(port, state, now);
        let Some(SlotValue { at, value: old }) = self.find_locked(key.pack()) else {
            return match self.insert(&mut writer, key, value) {
                Learned::Refused => Err(FdbError::Full),
                _ => Ok(()),
            };
        };
        if old.is_permanent() && state != FdbState::Permanent {
            return Err(FdbError::Permanent(key.mac));
        }
        self.table.replace(at, value);
        if old.is_dynamic() {
            writer.shares.remove_entry(old.port(), at);
        }
        if value.is_dynamic() {
            writer.shares.add_entry(port, at);
        }
        Ok(())
    }

    /// Takes an entry out, if there is one.
    pub fn remove(&self, key: FdbKey) -> Result<Option<FdbEntry>, FdbError> {
        let mut writer = self.lock();
        match self.find_locked(key.pack()) {
            None => Ok(None),
            Some(found) if found.value.is_permanent() => Err(FdbError::Permanent(key.mac)),
            Some(found) => {
                let value = self.table.replace(found.at, Value::FREE);
                Ok(Some(self.free_slot(&mut writer, found.at, value)))
            }
        }
    }

    /// Takes all learned entries out, or those of one port; how many.
    pub fn flush(&self, port: Option<PortId>) -> usize {
        let of_port = |value: Value| port.is_none_or(|port| port == value.port());
        self.sweep(|value| value.is_dynamic() && of_port(value), &mut |_| {})
    }

    /// The port is going away: takes all its entries out, of every kind. The caller has made sure that
    /// nothing is learned there any more.
    pub fn remove_port(&self, port: PortId) {
        self.sweep(|value| value.port() == port, &mut |_| {});
    }

    /// Takes out what has aged by `now`, calling `aged` for each (without the lock); when to call again, if
    /// anything can age. That is when the oldest entry ages, but not within a second, however many there are.
    pub fn age(&self, now: Tick, aged: &mut dyn FnMut(FdbEntry)) -> Option<Tick> {
        self.sweep(|value| value.has_aged(now, self.ageing), aged);
        if self.ageing == 0 {
            return None;
        }
        let values = (0..self.table.used()).map(|at| self.table.value(at));
        let oldest = values.filter(|value| value.is_dynamic()).map(Value::seen).min().unwrap_or(now);
        let due = oldest.min(now).0.saturating_add(self.ageing);
        Some(Tick(due.max(now.0.saturating_add(Tick::PER_SECOND))))
    }

    /// A copy of all entries, in no order. Each was there at some time during the call.
    pub fn entries(&self) -> Vec<FdbEntry> {
        let entry = |at| self.table.entry(at).map(|(key, value)| FdbEntry::unpack(key, value));
        (0..self.table.used()).filter_map(entry).collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.table.len()
    }

    /// No entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many there may be.
    pub fn max(&self) -> usize {
        self.table.max()
    }

    #[inline]
    fn find(&self, key: u64) -> Option<SlotValue> {
        for _ in 0..TRIES {
            if let Ok(found) = self.table.walk(key) {
                return found;
            }
        }
        self.find_with_lock(key)
    }

    #[cold]
    fn find_with_lock(&self, key: u64) -> Option<SlotValue> {
        let _writer = self.lock();
        self.find_locked(key)
    }

    /// With the lock held nothing disturbs a walk.
    fn find_locked(&self, key: u64) -> Option<SlotValue> {
        self.table.walk(key).ok().flatten()
    }

    /// The lock. A poisoned one is taken as it is: nothing under it panics half-way through a change.
    fn lock(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lock: puts a new entry in a free slot, or in that of one that gives way.
    fn insert(&self, writer: &mut Writer, key: FdbKey, value: Value) -> Learned {
        let mut learned = Learned::New;
        if writer.free == NIL {
            writer.free = match self.table.fresh() {
                Some(at) => at,
                None => match self.evict(writer, value.port()) {
                    Some(entry) => {
                        learned = Learned::Evicted { from: entry.port, gone: entry.key };
                        writer.free
                    }
                    None => return Learned::Refused,
                },
            };
        }
        let at = writer.free;
        writer.free = self.table.next_free(at);
        self.table.publish(at, key.pack(), value);
        if value.is_dynamic() {
            writer.shares.add_entry(value.port(), at);
        }
        learned
    }

    /// Lock: what gives way for a new entry of `newcomer`: the oldest entry of the port that holds most. One that
    /// was refreshed since it became its port's youngest is passed over ("second chance").
    fn victim(&self, writer: &Writer, newcomer: PortId) -> Option<Victim> {
        let port = writer.shares.eviction_port(newcomer)?;
        let mut passed = 0;
        for at in writer.shares.entries(port).take(SECOND_CHANCES) {
            if !self.table.value(at).is_refreshed() {
                return Some(Victim { port, at, passed });
            }
            passed += 1;
        }
        // The next; and where all were passed over, the first again.
        let at = writer.shares.entries(port).nth(passed).or_else(|| writer.shares.oldest(port))?;
        Some(Victim { port, at, passed })
    }

    /// Lock: takes the victim out. Those that were passed over become the youngest again.
    fn evict(&self, writer: &mut Writer, newcomer: PortId) -> Option<FdbEntry> {
        let Victim { port, at, passed } = self.victim(writer, newcomer)?;
        for _ in 0..passed {
            let oldest = writer.shares.oldest(port)?;
            self.table.clear_refreshed(oldest);
            writer.shares.make_youngest(port, oldest);
        }
        let value = self.table.replace(at, Value::FREE);
        Some(self.free_slot(writer, at, value))
    }

    /// Lock: takes out the entry in a slot, whose value was just exchanged for [`Value::FREE`].
    fn free_slot(&self, writer: &mut Writer, at: u32, value: Value) -> FdbEntry {
        let key = self.table.withdraw(at, writer.free);
        writer.free = at;
        if value.is_dynamic() {
            writer.shares.remove_entry(value.port(), at);
        }
        FdbEntry::unpack(key, value)
    }

    /// Takes out what `is_gone`; how many. Looks without the lock, and takes it for one chunk at a time.
    fn sweep(&self, is_gone: impl Fn(Value) -> bool, removed: &mut dyn FnMut(FdbEntry)) -> usize {
        let (mut count, mut batch) = (0, Vec::new());
        let used = self.table.used();
        for start in (0..used).step_by(CHUNK as usize) {
            let chunk = start..used.min(start + CHUNK);
            let candidate = |at: u32| {
                let value = self.table.value(at);
                (!value.is_free() && is_gone(value)).then_some((at, value))
            };
            if !chunk.clone().any(|at| candidate(at).is_some()) {
                continue;
            }
            let mut writer = self.lock();
            for (at, value) in chunk.filter_map(candidate) {
                // Fails if a frame from the station came just now: then it stays, as if learned after the
                // sweep.
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
