//! What a port without offload costs: the checksum, and cutting a 64 KiB super-frame.

use std::hint::black_box;
use std::net::Ipv4Addr;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use uswitch::wire::checksum::{Sum, checksum};
use uswitch::wire::{Segments, VnetHeader, wire_length};

const SOURCE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const DESTINATION: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);

/// A TCP super-frame of 64 KiB less the headers, to be cut for an MTU of 1500.
fn super_frame() -> (Vec<u8>, VnetHeader) {
    let payload = vec![0xa5; 65_000];
    let mut frame = Vec::new();
    PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2])
        .ipv4(SOURCE.octets(), DESTINATION.octets(), 64)
        .tcp(40000, 80, 1, 502)
        .write_to_vec(&mut frame, &payload)
        .expect("the frame fits");
    let seed = Sum::pseudo_ipv4(SOURCE, DESTINATION, 6, 65_020).fold();
    frame[50..52].copy_from_slice(&seed.to_be_bytes());
    let vnet = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: VnetHeader::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1460,
        csum_start: 34,
        csum_offset: 16,
    };
    (frame, vnet)
}

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
    let (frame, vnet) = super_frame();
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
