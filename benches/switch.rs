//! Nanoseconds per decision, and the forwarding database compared with `dashmap` in the same run.

#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod fixture;

use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use dashmap::DashMap;
use fixture::{AGEING, GATEWAY, SEED, frame, host, shuffled, switch};
use uswitch::switch::fdb::FdbKey;
use uswitch::switch::{Fdb, Frame, Outcome, PortId, Switch, Tick};
use uswitch::wire::VnetHeader;

const SIZES: [u64; 4] = [10, 1_000, 100_000, 1_000_000];

fn port(n: u64) -> PortId {
    PortId((n % 64) as u16)
}

/// The obvious alternative: a concurrent map from (VLAN, MAC) to port and last-seen tick in an atomic word,
/// so that a refresh needs only the shard's read lock. The hash is keyed, and cheaper than the default: the
/// tables are compared, not the hashes.
type Map = DashMap<u64, AtomicU64, Keyed>;

#[derive(Clone, Default)]
struct Keyed(u64);

impl BuildHasher for Keyed {
    type Hasher = Keyed;
    fn build_hasher(&self) -> Keyed {
        Keyed(black_box(SEED))
    }
}

impl Hasher for Keyed {
    fn finish(&self) -> u64 {
        self.0
    }
    fn write(&mut self, _: &[u8]) {
        unreachable!("keys are words");
    }
    fn write_u64(&mut self, word: u64) {
        let product = u128::from(word ^ self.0) * 0x9e37_79b9_7f4a_7c15;
        self.0 = (product >> 64) as u64 ^ product as u64;
    }
}

fn packed(key: FdbKey) -> u64 {
    u64::from(key.vlan) << 48 | key.mac.as_u64()
}

fn value(port: PortId, seen: Tick) -> u64 {
    u64::from(seen.0) << 32 | u64::from(port.0)
}

fn map_lookup(map: &Map, now: Tick, key: FdbKey) -> Option<PortId> {
    let value = map.get(&packed(key))?.load(Ordering::Relaxed);
    (now.since(Tick((value >> 32) as u32)) < AGEING).then_some(PortId(value as u16))
}

fn map_learn(map: &Map, now: Tick, key: FdbKey, port: PortId) {
    let new = value(port, now);
    match map.get(&packed(key)) {
        Some(entry) if entry.load(Ordering::Relaxed) == new => return,
        Some(entry) => return entry.store(new, Ordering::Relaxed),
        None => {}
    }
    map.insert(packed(key), AtomicU64::new(new));
}

#[allow(clippy::too_many_lines, reason = "one measurement after the other")]
fn fdb(criterion: &mut Criterion) {
    for size in SIZES {
        let (fdb, map) = (
            Fdb::new(size as usize, AGEING, SEED),
            Map::with_capacity_and_hasher(size as usize, Keyed::default()),
        );
        for n in 0..size {
            fdb.learn(Tick(0), host(n), port(n));
            map_learn(&map, Tick(0), host(n), port(n));
        }
        let mut group = criterion.benchmark_group("lookup");
        let mut next = shuffled(size);
        group.bench_function(BenchmarkId::new("fdb", size), |bencher| {
            bencher.iter(|| black_box(fdb.lookup(Tick(0), host(next()))));
        });
        group.bench_function(BenchmarkId::new("dashmap", size), |bencher| {
            bencher.iter(|| black_box(map_lookup(&map, Tick(0), host(next()))));
        });
        group.finish();
        let mut group = criterion.benchmark_group("learn, same tick");
        group.bench_function(BenchmarkId::new("fdb", size), |bencher| {
            bencher.iter(|| {
                let n = next();
                black_box(fdb.learn(Tick(0), host(n), port(n)))
            });
        });
        group.bench_function(BenchmarkId::new("dashmap", size), |bencher| {
            bencher.iter(|| {
                let n = next();
                map_learn(&map, Tick(0), host(n), port(n));
            });
        });
        group.finish();
        let mut group = criterion.benchmark_group("learn, each in a new tick");
        let mut tick = 0;
        group.bench_function(BenchmarkId::new("fdb", size), |bencher| {
            bencher.iter(|| {
                let n = next();
                tick += 1;
                black_box(fdb.learn(Tick(tick), host(n), port(n)))
            });
        });
        group.bench_function(BenchmarkId::new("dashmap", size), |bencher| {
            bencher.iter(|| {
                let n = next();
                tick += 1;
                map_learn(&map, Tick(tick), host(n), port(n));
            });
        });
        group.finish();
    }
}

/// Lookups while another thread does the same: the cost of sharing.
fn shared(criterion: &mut Criterion) {
    const SIZE: u64 = 1_000;
    let (fdb, map) = (Fdb::new(8192, AGEING, SEED), Map::default());
    for n in 0..SIZE {
        fdb.learn(Tick(0), host(n), port(n));
        map_learn(&map, Tick(0), host(n), port(n));
    }
    let mut group = criterion.benchmark_group("lookup beside another thread");
    let mut next = shuffled(SIZE);
    beside(
        |n| fdb.lookup(Tick(0), host(n)),
        || {
            group.bench_function("fdb", |bencher| {
                bencher.iter(|| black_box(fdb.lookup(Tick(0), host(next()))));
            });
        },
    );
    beside(
        |n| map_lookup(&map, Tick(0), host(n)),
        || {
            group.bench_function("dashmap", |bencher| {
                bencher.iter(|| black_box(map_lookup(&map, Tick(0), host(next()))));
            });
        },
    );
    group.finish();
}

/// Runs `measured` while another thread does `work`.
fn beside(work: impl Fn(u64) -> Option<PortId> + Sync, measured: impl FnOnce()) {
    let stop = AtomicU64::new(0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = shuffled(1_000);
            while stop.load(Ordering::Relaxed) == 0 {
                black_box(work(next()));
            }
        });
        measured();
        stop.store(1, Ordering::Relaxed);
    });
}

/// One frame through [`Switch::process`].
fn process(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("process");
    let mut outcome = Outcome::default();
    let mut bench = |name: &str, switch: &Switch, next: &mut dyn FnMut(&mut Vec<u8>)| {
        let mut bytes = frame(host(999).mac, host(1).mac);
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                next(&mut bytes);
                let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
                switch.process(Tick(0), PortId(1), &frame, &mut outcome, &mut ());
                black_box(outcome.verdict())
            });
        });
    };
    let known = switch(64, 8192);
    for n in 1..1000 {
        known.fdb.learn(Tick(0), host(n), PortId(if n < 500 { 1 } else { 2 }));
    }
    let write = |bytes: &mut Vec<u8>, at: usize, n: u64| bytes[at..at + 6].copy_from_slice(&host(n).mac.0);
    bench("known unicast, two hosts", &known, &mut |_| {});
    let (mut sources, mut destinations) = (shuffled(498), shuffled(498));
    bench("known unicast, 1000 hosts", &known, &mut |bytes| {
        write(bytes, 6, 1 + sources());
        write(bytes, 0, 500 + destinations());
    });
    bench("unknown unicast", &known, &mut |bytes| write(bytes, 0, 9_999));
    bench("broadcast", &known, &mut |bytes| bytes[..6].fill(0xff));
    bench("to the host port", &known, &mut |bytes| bytes[..6].copy_from_slice(&GATEWAY.0));
    let roomy = switch(64, Fdb::MAX);
    let mut fresh = 10_000;
    bench("new source", &roomy, &mut |bytes| {
        fresh += 1;
        write(bytes, 6, fresh);
    });
    let full = switch(64, 8192);
    bench("new source, full table", &full, &mut |bytes| {
        fresh += 1;
        write(bytes, 6, fresh);
    });
    group.finish();
}

criterion_group!(benches, fdb, shared, process);
criterion_main!(benches);
