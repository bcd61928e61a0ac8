//! The cost of a port without offload: the checksum, and the segmentation of a 64 KiB super-frame.

mod fixture;

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use fixture::{host, super_frame};
use uswitch::wire::checksum::checksum;
use uswitch::wire::{Segments, VnetHeader, wire_length};

fn checksums(c: &mut Criterion) {
    let bytes: Vec<u8> = (0..=255).cycle().take(65_536).collect();
    let mut group = c.benchmark_group("checksum");
    for length in [64, 1500, 65_536] {
        group.throughput(Throughput::Bytes(length as u64));
        group.bench_function(length.to_string(), |b| b.iter(|| checksum(black_box(&bytes[..length]))));
    }
    group.finish();
}

fn segmentation(c: &mut Criterion) {
    let (frame, vnet) = super_frame(host(1).mac, host(2).mac);
    let mut out = vec![0; 2048];
    let mut group = c.benchmark_group("segment");
    group.throughput(Throughput::Bytes(frame.len() as u64));
    group.bench_function("tcp4_64k_into_1500", |b| {
        b.iter(|| {
            let mut segments = Segments::new(black_box(&frame), &vnet).expect("the frame is right");
            while let Some(length) = segments.next_into(&mut out) {
                black_box(&out[..length]);
            }
        });
    });
    group.finish();
    c.bench_function("wire_length/super_frame", |b| b.iter(|| wire_length(black_box(&frame), &vnet)));
    c.bench_function("wire_length/plain", |b| {
        b.iter(|| wire_length(black_box(&frame[..60]), &VnetHeader::default()));
    });
}

criterion_group!(benches, checksums, segmentation);
criterion_main!(benches);
