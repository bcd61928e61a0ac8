//! Memory of a switch's tables, counted in the allocator.
#![allow(clippy::unwrap_used, reason = "a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use uswitch::switch::fdb::FdbKey;
use uswitch::switch::{Counters, Fdb, PortId, Ports, Tick};
use uswitch::wire::Mac;

/// The system allocator, counting per thread.
struct Counting;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code, reason = "an allocator is unsafe by nature; this one passes every call on")]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        BYTES.set(BYTES.get().wrapping_add(layout.size()));
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        BYTES.set(BYTES.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `make` and returns its result and the bytes allocated for it. A thread's count may wrap: it also frees what
/// other threads allocated.
fn allocated_bytes<T>(make: impl FnOnce() -> T) -> (T, usize) {
    let before = BYTES.get();
    let made = make();
    (made, BYTES.get().wrapping_sub(before))
}

fn fdb_key(n: u64) -> FdbKey {
    FdbKey { vlan: 0, mac: Mac::from_u64(0x0600_0000_0000 | n) }
}

/// 34 bytes per entry, 4 per chain, and 80 KiB for the lists and limits of the ports.
#[test]
fn fdb_allocates_the_documented_size() {
    for max in [8192, 1_000_000] {
        let (_, bytes) = allocated_bytes(|| Fdb::new(max, 3000, 7));
        let chains = 2 * max.next_power_of_two();
        let lists = (16 + 4) * Ports::MAX;
        assert_eq!(bytes, 34 * max + 2 + 4 * chains + lists, "{max} entries");
    }
}

/// The largest table: every address is present, and learning allocates nothing.
#[test]
fn learns_a_million_addresses_without_allocating() {
    const MAX: u64 = 1_000_000;
    let fdb = Fdb::new(1_000_000, 3000, 7);
    let calls = CALLS.get();
    for n in 0..MAX {
        fdb.learn(Tick(0), fdb_key(n), PortId(1));
    }
    assert_eq!(CALLS.get(), calls);
    assert_eq!(fdb.len(), 1_000_000);
    assert!((0..MAX).all(|n| fdb.lookup(Tick(0), fdb_key(n)) == Some(PortId(1))));
    assert_eq!(fdb.lookup(Tick(0), fdb_key(MAX)), None);
}

/// A worker has counters for every possible port, so that none is allocated later.
#[test]
fn port_table_and_counters_have_the_documented_size() {
    let (_, table) = allocated_bytes(Ports::new);
    // A word, and the group forward mask.
    assert_eq!(table, (8 + 2) * Ports::MAX);
    let (_, counters) = allocated_bytes(Counters::default);
    assert_eq!(counters, 640 * Ports::MAX);
}
