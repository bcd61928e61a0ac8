//! The longest frames, and what a virtio-net header may ask for.

use super::*;

/// Of TCP over IPv4 without options and without a tag.
pub(super) fn super_frame_header(gso_size: u16) -> VnetHeader {
    VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: VnetHeader::GSO_TCPV4,
        gso_size,
        csum_start: 34,
        csum_offset: 16,
        hdr_len: 54,
    }
}

#[test]
fn checks_mtu_against_segment_length() {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    let mut bytes = frame(B, A, 40_000);
    bytes[46] = 5 << 4;
    assert_eq!(run_with(&switch, P1, &bytes, super_frame_header(1464)).0, Verdict::Forward(P2));
    let refused = Verdict::Refused { egress: P2, reason: DropReason::Oversize };
    assert_eq!(run_with(&switch, P1, &bytes, super_frame_header(1465)).0, refused);
    assert_eq!(run_with(&switch, P1, &bytes[..1519], VnetHeader::default()).0, refused);
    assert_eq!(run_with(&switch, P1, &bytes[..1518], VnetHeader::default()).0, Verdict::Forward(P2));
}

/// As a Linux bridge: one tag is not counted (the kernel takes it off), and one more tag fits.
#[test]
fn frames_with_two_tags_may_be_full_size() {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    let verdict = |tags: &[u8], payload: usize| {
        let mut bytes = [&B.0[..], &A.0, tags, &EtherType::IPV4.0.to_be_bytes()].concat();
        bytes.resize(bytes.len() + payload, 0);
        run(&switch, P1, &bytes)
    };
    let refused = Verdict::Refused { egress: P2, reason: DropReason::Oversize };
    let (customer, service, other) = ([0x81, 0, 0, 5], [0x88, 0xa8, 0, 5], [0x91, 0, 0, 5]);
    for tags in [[service, customer].concat(), [customer, customer].concat(), other.to_vec()] {
        assert_eq!(verdict(&tags, 1500), Verdict::Forward(P2), "{tags:?}");
        assert_eq!(verdict(&tags, 1501), refused, "{tags:?}");
    }
    assert_eq!(verdict(&customer, 1504), Verdict::Forward(P2));
    assert_eq!(verdict(&customer, 1505), refused);
    assert_eq!(verdict(&[customer; 3].concat(), 1500), refused);
}

#[test]
fn rejects_arp_request_with_unfinished_checksum() {
    let switch = switch();
    let vnet = VnetHeader { flags: VnetHeader::NEEDS_CSUM, csum_start: 14, ..VnetHeader::default() };
    let request = arp(GATEWAY, [192, 0, 2, 10], [192, 0, 2, 1]);
    assert_eq!(run_with(&switch, P1, &request, vnet).0, Verdict::Drop(DropReason::BadOffload));
}

#[test]
fn rejects_impossible_virtio_net_headers() {
    let fault = |length, vnet| match fault(&switch(), &frame(B, A, length), vnet)? {
        Fault::Offload(fault) => Some(fault),
        other => panic!("{other:?}"),
    };
    let sum = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        csum_start: 34,
        csum_offset: 16,
        ..VnetHeader::default()
    };
    assert_eq!(fault(52, sum), None);
    assert_eq!(fault(51, sum), Some(OffloadFault::ChecksumOutside));
    assert_eq!(fault(60, VnetHeader { csum_start: 13, ..sum }), Some(OffloadFault::ChecksumOutside));
    let far = VnetHeader { csum_start: u16::MAX, csum_offset: u16::MAX, ..sum };
    assert_eq!(fault(60, far), Some(OffloadFault::ChecksumOutside));
    assert_eq!(fault(60, VnetHeader { flags: VnetHeader::DATA_VALID, ..far }), None, "nothing to sum");
    for gso_type in [1, 4, 5, 0x81, 0x84] {
        let vnet = VnetHeader { gso_type, gso_size: 1, ..sum };
        assert_eq!(fault(60, vnet), None);
        assert_eq!(fault(60, VnetHeader { gso_size: 0, ..vnet }), Some(OffloadFault::NoSegmentSize));
        assert_eq!(fault(60, VnetHeader { flags: 0, ..vnet }), Some(OffloadFault::NoChecksum));
    }
    for gso_type in [2, 3, 6, 0x80, 0x85] {
        let vnet = VnetHeader { gso_type, gso_size: 1, ..sum };
        assert_eq!(fault(60, vnet), Some(OffloadFault::UnknownType), "{gso_type}");
    }
}

#[test]
fn rejects_checksum_offload_inside_checked_headers() {
    let overwrites = |packet: &[u8], tags: &[u8], at: u16| {
        let bytes = [&B.0[..], &A.0, tags, packet, &[0; 80]].concat();
        let csum_start = if tags.is_empty() { 14 } else { at.min(18) };
        let vnet = VnetHeader {
            flags: VnetHeader::NEEDS_CSUM,
            csum_start,
            csum_offset: at - csum_start,
            ..VnetHeader::default()
        };
        fault(&switch(), &bytes, vnet) == Some(Fault::Offload(OffloadFault::ChecksumInHeaders))
    };
    let ipv4 = |words: u8, protocol: u8| [0x08, 0, 0x40 | words, 0, 0, 40, 0, 0, 0, 0, 64, protocol];
    let ipv6 = |next: u8| [0x86, 0xdd, 0x60, 0, 0, 0, 0, 40, next, 64];
    let behind_options = [&ipv6(60)[..], &[0; 32], &[17, 0, 1, 4, 0, 0, 0, 0]].concat();
    for (what, packet, first) in [
        ("UDP", &ipv4(5, 17)[..], 34),
        ("TCP and options", &ipv4(6, 6), 38),
        ("an impossible header", &ipv4(0, 6), 34),
        ("TCP, IPv6", &ipv6(6), 54),
        ("UDP behind options", &behind_options, 62),
        ("another EtherType", &[0x88, 0xb5], 14),
    ] {
        assert!(first == 14 || overwrites(packet, &[], first - 1), "{what}");
        assert!(!overwrites(packet, &[], first), "{what}");
        let tag = [0x81, 0, 0, 5];
        assert!(overwrites(packet, &tag, first + 3), "{what}, tagged");
        assert!(!overwrites(packet, &tag, first + 4), "{what}, tagged");
    }
    for (what, packet) in
        [("ARP", &[0x08, 0x06][..]), ("ICMP", &ipv4(5, 1)), ("ICMPv6", &ipv6(58)), ("endless", &ipv6(0))]
    {
        assert!([14, 28, 54, 70].iter().all(|&at| overwrites(packet, &[], at)), "{what}");
    }
}
