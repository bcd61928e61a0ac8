//! How the cost of a decision grows with the number of hosts in the forwarding database, and of ports in a
//! flood.
#![allow(clippy::cast_possible_truncation, reason = "small numbers")]
#![allow(missing_docs, reason = "criterion's macros make public functions")]

mod fixture;

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use fixture::{SEED, frame, host, shuffled, switch};
use uswitch::switch::{Fdb, Frame, Outcome, PortId, Switch, Tick, Verdict};
use uswitch::wire::{Mac, VnetHeader};

const HOSTS: [u64; 4] = [10, 1_000, 100_000, 1_000_000];
const PORTS: [u16; 4] = [3, 10, 100, 1000];
const INGRESS: PortId = PortId(1);

/// A switch whose database is full of `hosts`: even ones on port 1, odd ones on port 2. They never age.
fn full(hosts: u64) -> Switch {
    let mut switch = switch(3, 16);
    switch.fdb = Fdb::new(hosts as usize, u32::MAX, SEED);
    for n in 0..hosts {
        switch.fdb.learn(Tick(0), host(n), PortId(1 + (n % 2) as u16));
    }
    switch
}

fn process(switch: &Switch, now: Tick, bytes: &[u8], outcome: &mut Outcome) -> Verdict {
    let frame = Frame { bytes, vnet: VnetHeader::default() };
    switch.process(now, INGRESS, &frame, outcome, &mut ());
    outcome.verdict()
}

/// Known unicast between hosts in random order: one source is learned, one destination looked up.
fn hosts(criterion: &mut Criterion) {
    for size in HOSTS {
        let (switch, mut outcome) = (full(size), Outcome::default());
        let (mut sources, mut destinations) = (shuffled(size / 2), shuffled(size / 2));
        let mut bytes = frame(host(1).mac, host(0).mac);
        let mut next = |bytes: &mut Vec<u8>| {
            bytes[6..12].copy_from_slice(&host(2 * sources()).mac.0);
            bytes[..6].copy_from_slice(&host(2 * destinations() + 1).mac.0);
        };
        let mut group = criterion.benchmark_group("known unicast");
        group.bench_function(BenchmarkId::new("same tick", size), |bencher| {
            bencher.iter(|| {
                next(&mut bytes);
                black_box(process(&switch, Tick(0), &bytes, &mut outcome))
            });
        });
        let mut now = Tick(0);
        group.bench_function(BenchmarkId::new("each in a new tick", size), |bencher| {
            bencher.iter(|| {
                next(&mut bytes);
                now.0 += 1;
                black_box(process(&switch, now, &bytes, &mut outcome))
            });
        });
        group.finish();
    }
}

/// A broadcast: the decision with its egress ports.
fn flood(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("flood");
    for ports in PORTS {
        let switch = switch(ports + 1, 16);
        let bytes = frame(Mac::BROADCAST, host(0).mac);
        let mut outcome = Outcome::default();
        group.bench_function(BenchmarkId::from_parameter(ports), |bencher| {
            bencher.iter(|| {
                assert_eq!(process(&switch, Tick(0), &bytes, &mut outcome), Verdict::Flood);
                black_box(outcome.egress());
            });
        });
    }
    group.finish();
}

criterion_group!(benches, hosts, flood);
criterion_main!(benches);
