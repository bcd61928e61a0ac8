//! Rules one by one, and threads against each other.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread::ScopedJoinHandle;

use super::*;
use crate::wire::Mac;

const AGEING: u32 = 3000;
const P1: PortId = PortId(1);
const P2: PortId = PortId(2);
const P3: PortId = PortId(3);

fn host(n: u64) -> FdbKey {
    FdbKey { vlan: 0, mac: Mac::from_u64(0x0200_0000_0000 | n) }
}

fn learn_all(fdb: &Fdb, hosts: impl Iterator<Item = u64>, now: Tick, port: PortId) {
    for n in hosts {
        fdb.learn(now, host(n), port);
    }
}

fn fdb(max: usize) -> Fdb {
    Fdb::new(max, AGEING, 42)
}

impl Fdb {
    /// Panics unless chains, lists, counts and the free list are consistent. No other thread may use the database.
    fn check(&self) {
        let writer = self.lock();
        let mut slots = HashSet::new();
        let mut free = writer.free;
        while free != NIL {
            assert!(slots.insert(free) && self.table.entry(free).is_none());
            free = self.table.next_free(free);
        }
        let listed: Vec<(PortId, u32)> = (0..crate::switch::Ports::MAX as u16)
            .flat_map(|port| writer.learned.check(PortId(port)).into_iter().map(move |at| (PortId(port), at)))
            .collect();
        for &(port, at) in &listed {
            let (_, value) = self.table.entry(at).expect("a listed slot holds an entry");
            assert!(value.is_dynamic() && value.port() == port);
        }
        let entries: Vec<(u32, u64, Value)> = (0..self.table.used())
            .filter_map(|at| self.table.entry(at).map(|(key, value)| (at, key, value)))
            .collect();
        for &(at, key, value) in &entries {
            assert!(slots.insert(at), "slot {at} is free and in use");
            let found =
                self.table.walk(key).expect("no concurrent change").expect("an entry is in its chain");
            assert_eq!((found.at, found.value), (at, value));
        }
        assert_eq!(slots.len(), self.table.used() as usize, "a slot is lost");
        assert_eq!(entries.iter().filter(|entry| entry.2.is_dynamic()).count(), listed.len());
        assert_eq!(entries.len(), self.len());
        assert!(self.len() <= self.max());
    }
}

#[test]
fn learns_refreshes_and_moves() {
    let fdb = fdb(8);
    assert_eq!(fdb.lookup(Tick(0), host(1)), None);
    assert_eq!(fdb.learn(Tick(0), host(1), P1), Learned::New);
    assert_eq!(fdb.learn(Tick(0), host(1), P1), Learned::Known);
    assert_eq!(fdb.learn(Tick(9), host(1), P1), Learned::Known);
    assert_eq!(fdb.entries()[0].seen, Tick(9));
    assert_eq!(fdb.learn(Tick(8), host(1), P1), Learned::Known, "a clock behind");
    assert_eq!(fdb.entries()[0].seen, Tick(9));
    assert_eq!(fdb.lookup(Tick(9), host(1)), Some(P1));
    assert_eq!(fdb.learn(Tick(10), host(1), P2), Learned::Moved { from: P1, after: 1 });
    assert_eq!(fdb.lookup(Tick(10), host(1)), Some(P2));
    fdb.check();
}

#[test]
fn reports_return_after_a_third_of_the_ageing_time() {
    let fdb = fdb(8);
    fdb.learn(Tick(0), host(1), P1);
    assert_eq!(fdb.learn(Tick(AGEING / 3 - 1), host(1), P1), Learned::Known);
    let back = Tick(AGEING / 3 - 1 + AGEING / 3);
    assert_eq!(fdb.learn(back, host(1), P1), Learned::Returned { after: AGEING / 3 });
    assert_eq!(fdb.learn(back, host(1), P1), Learned::Known, "reported once");
    fdb.add(Tick(0), host(2), P1, FdbState::Static).unwrap();
    assert_eq!(fdb.learn(back, host(2), P1), Learned::Static, "it does not age");
}

#[test]
fn keeps_vlans_separate() {
    let fdb = fdb(8);
    let tagged = FdbKey { vlan: 4094, ..host(1) };
    fdb.learn(Tick(0), host(1), P1);
    assert_eq!(fdb.learn(Tick(0), tagged, P2), Learned::New);
    assert_eq!(fdb.lookup(Tick(0), host(1)), Some(P1));
    assert_eq!(fdb.lookup(Tick(0), tagged), Some(P2));
    assert!(fdb.entries().iter().any(|entry| entry.key == tagged));
}

#[test]
fn ages_out_at_the_ageing_time() {
    let fdb = fdb(8);
    fdb.learn(Tick(100), host(1), P1);
    fdb.learn(Tick(200), host(2), P1);
    assert_eq!(fdb.lookup(Tick(100 + AGEING - 1), host(1)), Some(P1));
    assert_eq!(fdb.lookup(Tick(100 + AGEING), host(1)), None, "aged, though not taken out");
    assert_eq!(fdb.len(), 2);
    let mut aged = Vec::new();
    let due = fdb.age(Tick(100 + AGEING), &mut |entry| aged.push(entry.key));
    assert_eq!((aged, due), (vec![host(1)], Some(Tick(200 + AGEING))));
    assert_eq!(fdb.age(Tick(199 + AGEING), &mut |_| panic!("too early")), Some(Tick(209 + AGEING)));
    fdb.check();
}

#[test]
fn next_ageing_run_is_due_for_the_next_entry() {
    let fdb = fdb(8);
    assert_eq!(fdb.age(Tick(5), &mut |_| {}), Some(Tick(5 + AGEING)));
}

#[test]
fn ageing_callback_may_use_the_database() {
    let fdb = fdb(8);
    fdb.learn(Tick(0), host(1), P1);
    fdb.age(Tick(AGEING), &mut |entry| {
        fdb.learn(Tick(AGEING), entry.key, P2);
    });
    assert_eq!(fdb.lookup(Tick(AGEING), host(1)), Some(P2));
}

#[test]
fn ageing_time_zero_disables_learning() {
    let fdb = Fdb::new(8, 0, 42);
    assert_eq!(fdb.learn(Tick(0), host(1), P1), Learned::Off);
    assert_eq!(fdb.lookup(Tick(0), host(1)), None);
    fdb.add(Tick(0), host(2), P2, FdbState::Static).unwrap();
    assert_eq!(fdb.age(Tick(9), &mut |_| {}), None);
    assert_eq!(fdb.lookup(Tick(9), host(2)), Some(P2));
}

/// As in the kernel (`br_fdb_update` in `net/bridge/br_fdb.c`).
#[test]
fn static_entry_moves_and_stays_static() {
    let fdb = fdb(8);
    fdb.add(Tick(0), host(1), P1, FdbState::Static).unwrap();
    assert_eq!(fdb.learn(Tick(7), host(1), P2), Learned::Moved { from: P1, after: 7 });
    assert_eq!(fdb.learn(Tick(9), host(1), P1), Learned::Moved { from: P2, after: 2 });
    assert_eq!(fdb.lookup(Tick(9 + AGEING), host(1)), Some(P1), "it does not age");
    assert_eq!(fdb.entries()[0].kind, FdbState::Static.into());
    fdb.check();
}

#[test]
fn sticky_learned_entry_ages_and_does_not_move() {
    let fdb = fdb(8);
    fdb.add(Tick(0), host(1), P1, FdbKind { state: FdbState::Dynamic, sticky: true }).unwrap();
    assert_eq!(fdb.learn(Tick(1), host(1), P2), Learned::Pinned { on: P1 });
    assert_eq!(fdb.learn(Tick(5), host(1), P1), Learned::Known);
    assert_eq!(fdb.lookup(Tick(4 + AGEING), host(1)), Some(P1), "a frame on its port refreshes it");
    assert_eq!(fdb.lookup(Tick(5 + AGEING), host(1)), None);
    assert!(fdb.entries()[0].kind.sticky);
    fdb.check();
}

#[test]
fn ageing_time_changes_for_known_entries() {
    let fdb = fdb(8);
    fdb.learn(Tick(0), host(1), P1);
    fdb.set_ageing(10);
    assert_eq!(fdb.lookup(Tick(9), host(1)), Some(P1));
    assert_eq!(fdb.lookup(Tick(10), host(1)), None);
    fdb.set_ageing(AGEING);
    assert_eq!(fdb.lookup(Tick(10), host(1)), Some(P1));
}

#[test]
fn learns_no_more_than_the_limit_of_a_port() {
    let fdb = fdb(8);
    fdb.set_max_learned(P1, Some(2));
    learn_all(&fdb, 1..=2, Tick(0), P1);
    assert_eq!(fdb.learn(Tick(0), host(3), P1), Learned::LimitReached);
    fdb.learn(Tick(0), host(4), P2);
    assert_eq!(fdb.learn(Tick(0), host(4), P1), Learned::LimitReached, "a move is one more");
    assert_eq!(fdb.lookup(Tick(0), host(4)), Some(P2));
    assert_eq!(fdb.learn(Tick(0), host(1), P1), Learned::Known);
    fdb.add(Tick(0), host(5), P1, FdbState::Static).unwrap();
    assert_eq!(fdb.learned_on(P1), 2, "static entries do not count");
    fdb.age(Tick(AGEING), &mut |_| {});
    assert_eq!(fdb.learn(Tick(AGEING), host(3), P1), Learned::New);
    fdb.set_max_learned(P1, None);
    learn_all(&fdb, 1..=4, Tick(AGEING), P1);
    assert_eq!(fdb.learned_on(P1), 4);
    fdb.set_max_learned(P1, Some(1));
    assert_eq!(fdb.learned_on(P1), 4, "what is learned stays");
    fdb.check();
    fdb.remove_port(P1);
    assert_eq!(fdb.learn(Tick(AGEING), host(1), P1), Learned::New);
    assert_eq!(fdb.learn(Tick(AGEING), host(2), P1), Learned::New, "the next port has no limit");
}

#[test]
fn keeps_sticky_and_permanent_entries() {
    let sticky = FdbKind { state: FdbState::Static, sticky: true };
    for kind in [sticky, FdbState::Permanent.into()] {
        let fdb = fdb(8);
        fdb.add(Tick(0), host(1), P1, kind).unwrap();
        assert_eq!(fdb.learn(Tick(1), host(1), P2), Learned::Pinned { on: P1 });
        assert_eq!(fdb.learn(Tick(1), host(1), P1), Learned::Static);
        fdb.age(Tick(u32::MAX), &mut |_| panic!("aged"));
        assert_eq!(fdb.flush(None), 0);
        assert_eq!(fdb.lookup(Tick(u32::MAX), host(1)), Some(P1));
        fdb.check();
    }
}

#[test]
fn adds_and_removes_static_entries() {
    let fdb = fdb(8);
    let group = FdbKey { vlan: 0, mac: Mac::BROADCAST };
    assert_eq!(fdb.add(Tick(0), group, P1, FdbState::Static), Err(FdbError::NotUnicast(Mac::BROADCAST)));
    let zero = FdbKey { vlan: 0, mac: Mac::ZERO };
    assert_eq!(fdb.add(Tick(0), zero, P1, FdbState::Static), Err(FdbError::NotUnicast(Mac::ZERO)));
    fdb.learn(Tick(0), host(1), P1);
    fdb.add(Tick(0), host(1), P2, FdbState::Static).unwrap();
    assert_eq!(fdb.lookup(Tick(AGEING), host(1)), Some(P2));
    fdb.add(Tick(0), host(1), P2, FdbState::Dynamic).unwrap();
    assert_eq!(fdb.lookup(Tick(AGEING), host(1)), None);
    fdb.check();
    assert_eq!(fdb.remove(host(1)).map(|gone| (gone.key, gone.port)), Some((host(1), P2)));
    assert_eq!(fdb.remove(host(1)), None);
    fdb.check();
}

#[test]
fn flushes_dynamic_entries_of_one_port_or_all() {
    let fdb = fdb(2000);
    for n in 0..1500 {
        fdb.learn(Tick(0), host(n), PortId((n % 3) as u16));
    }
    fdb.add(Tick(0), host(9999), P1, FdbState::Static).unwrap();
    assert_eq!(fdb.flush(Some(P1)), 500);
    fdb.check();
    assert_eq!(fdb.lookup(Tick(0), host(9999)), Some(P1));
    fdb.remove_port(P1);
    assert_eq!(fdb.lookup(Tick(0), host(9999)), None);
    assert_eq!((fdb.flush(None), fdb.len()), (1000, 0));
    fdb.check();
}

#[test]
fn evicts_oldest_entry_of_largest_port() {
    let fdb = fdb(4);
    for (n, port) in [(1, P1), (2, P1), (3, P1), (4, P2)] {
        fdb.learn(Tick(0), host(n), port);
    }
    assert_eq!(fdb.learn(Tick(0), host(5), P3), Learned::Evicted { from: P1, gone: host(1) });
    assert_eq!(fdb.learn(Tick(0), host(6), P3), Learned::Evicted { from: P1, gone: host(2) });
    assert_eq!(fdb.learn(Tick(0), host(7), P3), Learned::Evicted { from: P3, gone: host(5) }, "tied");
    assert_eq!(fdb.len(), 4);
    fdb.check();
}

#[test]
fn mac_flood_cannot_evict_below_equal_share() {
    let fdb = fdb(100);
    learn_all(&fdb, 0..30, Tick(0), P1);
    learn_all(&fdb, 30..100, Tick(0), P2);
    learn_all(&fdb, 1000..3000, Tick(0), P3);
    let held = |port| fdb.entries().iter().filter(|entry| entry.port == port).count();
    assert_eq!((held(P1), held(P2), held(P3)), (30, 35, 35));
    fdb.check();
}

#[test]
fn refreshed_entry_gets_a_second_chance() {
    let fdb = fdb(3);
    learn_all(&fdb, 1..=3, Tick(0), P1);
    fdb.learn(Tick(1), host(1), P1);
    assert_eq!(fdb.learn(Tick(1), host(4), P1), Learned::Evicted { from: P1, gone: host(2) });
    assert_eq!(fdb.learn(Tick(1), host(5), P1), Learned::Evicted { from: P1, gone: host(3) });
    assert_eq!(fdb.learn(Tick(1), host(6), P1), Learned::Evicted { from: P1, gone: host(1) });
    fdb.check();
}

#[test]
fn limits_second_chances() {
    let fdb = fdb(8);
    learn_all(&fdb, 1..=8, Tick(0), P1);
    learn_all(&fdb, 1..=8, Tick(1), P1);
    let passed = SECOND_CHANCES as u64;
    assert_eq!(fdb.learn(Tick(1), host(9), P1), Learned::Evicted { from: P1, gone: host(passed + 1) });
}

#[test]
fn refuses_entries_when_full_of_static_ones() {
    let fdb = fdb(2);
    fdb.add(Tick(0), host(1), P1, FdbState::Static).unwrap();
    fdb.learn(Tick(0), host(2), P1);
    fdb.add(Tick(0), host(3), P2, FdbState::Static).unwrap();
    assert_eq!(fdb.lookup(Tick(0), host(2)), None, "a learned entry was evicted");
    assert_eq!(fdb.add(Tick(0), host(4), P2, FdbState::Static), Err(FdbError::Full));
    assert_eq!(fdb.learn(Tick(0), host(4), P2), Learned::Refused);
    assert_eq!(Fdb::new(0, AGEING, 0).learn(Tick(0), host(4), P2), Learned::Refused);
    fdb.check();
}

/// Every thread works on all hosts, but a host is only ever learned on one of its own two ports.
fn home(n: u64) -> [PortId; 2] {
    [PortId((n % 7 * 2) as u16), PortId((n % 7 * 2 + 1) as u16)]
}

#[allow(clippy::too_many_lines, reason = "four threads that belong together")]
fn stress(fdb: &Fdb, hosts: u64, rounds: u64) {
    let (stop, pinned) = (AtomicBool::new(false), host(u64::from(u32::MAX)));
    fdb.add(Tick(0), pinned, P3, FdbKind { state: FdbState::Static, sticky: true }).unwrap();
    std::thread::scope(|scope| {
        let learners: Vec<_> = (0..2u64)
            .map(|worker| {
                scope.spawn(move || {
                    for round in 0..rounds {
                        let n = (round * 31 + worker * 17) % hosts;
                        let port = home(n)[(round / hosts + worker) as usize % 2];
                        let learned = fdb.learn(Tick(round as u32), host(n), port);
                        assert!(!matches!(learned, Learned::Refused | Learned::Pinned { .. } | Learned::Off));
                        assert!(fdb.len() <= fdb.max());
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            for n in (0..hosts).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                if let Some(port) = fdb.lookup(Tick(0), host(n)) {
                    assert!(home(n).contains(&port), "{n} was never on {port:?}");
                }
                assert_eq!(fdb.lookup(Tick(0), pinned), Some(P3), "an entry that is there was missed");
            }
        });
        scope.spawn(|| {
            for n in (0..hosts).cycle() {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                fdb.flush(Some(home(n)[0]));
                fdb.remove(host(n));
                fdb.age(Tick(0), &mut |_| panic!("nothing ages at the start of time"));
                for entry in fdb.entries().iter().filter(|entry| entry.key != pinned) {
                    assert!(home(entry.key.mac.as_u64() & 0xffff).contains(&entry.port));
                }
                std::thread::yield_now();
            }
        });
        let outcomes: Vec<_> = learners.into_iter().map(ScopedJoinHandle::join).collect();
        stop.store(true, Ordering::Relaxed);
        assert!(outcomes.iter().all(Result::is_ok));
    });
    fdb.check();
}

#[test]
fn concurrent_learning_with_free_slots() {
    stress(&fdb(512), 200, if cfg!(miri) { 300 } else { 200_000 });
}

#[test]
fn concurrent_learning_in_a_full_database() {
    stress(&fdb(48), 200, if cfg!(miri) { 300 } else { 200_000 });
}

#[test]
fn concurrent_learning_in_two_chains() {
    stress(&fdb(2), 9, if cfg!(miri) { 300 } else { 200_000 });
}

/// One thread churns the slots of two chains, so that those in front of the pinned entry come and go.
#[test]
fn lookup_never_misses_a_present_entry() {
    const CHURN: u64 = if cfg!(miri) { 200 } else { 1_000_000 };
    let (fdb, stop) = (fdb(3), AtomicBool::new(false));
    fdb.add(Tick(0), host(1), P3, FdbState::Static).unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 0..CHURN {
                fdb.learn(Tick(0), host(2 + n % 16), P1);
            }
            stop.store(true, Ordering::Relaxed);
        });
        while !stop.load(Ordering::Relaxed) {
            assert_eq!(fdb.lookup(Tick(0), host(1)), Some(P3));
        }
    });
    fdb.check();
}

/// A frame arrives while its entry ages out: the host is known afterwards, in either order.
#[test]
fn refresh_during_ageing_keeps_the_entry() {
    const ROUNDS: u32 = if cfg!(miri) { 20 } else { 100_000 };
    let (fdb, round, mut missed) = (fdb(3), AtomicU32::new(0), 0);
    let wait_for = |n| {
        while round.load(Ordering::Acquire) < n {
            std::hint::spin_loop();
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for n in 1..=ROUNDS {
                wait_for(2 * n - 1);
                fdb.age(Tick(n * AGEING), &mut |_| {});
                round.fetch_add(1, Ordering::AcqRel);
            }
        });
        for n in 1..=ROUNDS {
            round.fetch_add(1, Ordering::AcqRel);
            fdb.learn(Tick(n * AGEING), host(1), P1);
            wait_for(2 * n);
            missed += u32::from(fdb.lookup(Tick(n * AGEING), host(1)).is_none());
        }
    });
    assert_eq!(missed, 0);
    fdb.check();
}
