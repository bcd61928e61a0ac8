//! Known frames, and each inconsistency that a header can have. The property tests with random frames are in
//! `tests/props_wire.rs`.

use etherparse::{PacketBuilder, VlanId};

use super::*;
use crate::wire::checksum::{Sum, checksum};

const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
const SRC: [u8; 4] = [192, 0, 2, 1];
const DST: [u8; 4] = [192, 0, 2, 2];
const L3: usize = 14;
const L4: usize = 34;
const PAYLOAD: usize = 54;

/// A TCP super-frame over IPv4 of 250 payload bytes with all flags that matter, and its header: the seed in
/// the checksum field as the kernel leaves it.
fn super_frame() -> (Vec<u8>, VnetHeader) {
    let data: Vec<u8> = (0..250).collect();
    let mut frame = Vec::new();
    let header = PacketBuilder::ethernet2(A, B).ipv4(SRC, DST, 64).tcp(40000, 80, 0xffff_ff00, 502);
    header.psh().fin().cwr().ack(9).write_to_vec(&mut frame, &data).unwrap();
    frame[L3 + 4..L3 + 6].copy_from_slice(&[0xff, 0xff]);
    let seed = Sum::pseudo_ipv4(SRC.into(), DST.into(), 6, 270).fold();
    frame[L4 + 16..L4 + 18].copy_from_slice(&seed.to_be_bytes());
    (frame, TCP4)
}

const TCP4: VnetHeader = VnetHeader {
    flags: VnetHeader::NEEDS_CSUM,
    gso_type: VnetHeader::GSO_TCPV4,
    hdr_len: 54,
    gso_size: 100,
    csum_start: 34,
    csum_offset: 16,
};

fn segments(frame: &[u8], vnet: &VnetHeader) -> Vec<Vec<u8>> {
    let mut segments = Segments::new(frame, vnet).unwrap();
    let mut out = vec![0xee; segments.longest()];
    let mut all = Vec::new();
    while let Some(length) = segments.next_into(&mut out) {
        all.push(out[..length].to_vec());
    }
    assert_eq!(segments.remaining(), 0);
    all
}

fn refused(frame: &[u8], vnet: &VnetHeader) -> SegmentError {
    Segments::new(frame, vnet).map(|segments| segments.remaining()).unwrap_err()
}

#[test]
fn tcp_over_ipv4() {
    let (frame, vnet) = super_frame();
    let all = segments(&frame, &vnet);
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [154, 154, 104]);
    for (n, segment) in all.iter().enumerate() {
        assert_eq!(segment[..L3], frame[..L3]);
        assert_eq!(usize::from(field::word(segment, 16..18)), segment.len() - L3, "total length");
        assert_eq!(checksum(&segment[L3..L4]), 0, "header checksum");
        let length = u16::try_from(segment.len() - L4).unwrap();
        let pseudo = Sum::pseudo_ipv4(SRC.into(), DST.into(), 6, length);
        assert_eq!(pseudo.and(&segment[L4..]).finish(), 0, "TCP checksum of segment {n}");
    }
    let sequence = |n: usize| all[n][L4 + 4..L4 + 8].to_vec();
    assert_eq!(sequence(0), [0xff, 0xff, 0xff, 0x00]);
    assert_eq!(sequence(1), [0xff, 0xff, 0xff, 0x64]);
    assert_eq!(sequence(2), [0xff, 0xff, 0xff, 0xc8]);
    let identification = |n: usize| field::word(&all[n], L3 + 4..L3 + 6);
    assert_eq!([0, 1, 2].map(identification), [0xffff, 0, 1]);
    let flags = |n: usize| all[n][L4 + 13];
    assert_eq!([0, 1, 2].map(flags), [0x90, 0x10, 0x19], "CWR first, FIN and PSH last");
    let payload: Vec<u8> = all.iter().flat_map(|segment| &segment[PAYLOAD..]).copied().collect();
    assert_eq!(payload, frame[PAYLOAD..]);
}

#[test]
fn ecn_flag_changes_no_other_field() {
    let (frame, vnet) = super_frame();
    let ecn = VnetHeader { gso_type: vnet.gso_type | VnetHeader::GSO_ECN, ..vnet };
    assert_eq!(segments(&frame, &ecn), segments(&frame, &vnet));
}

#[test]
fn ignores_ethernet_padding() {
    let (mut frame, vnet) = super_frame();
    let exact = segments(&frame, &vnet);
    frame.extend([0xaa; 7]);
    assert_eq!(segments(&frame, &vnet), exact);
}

#[test]
fn makes_one_segment_of_a_short_payload() {
    let (frame, vnet) = super_frame();
    let all = segments(&frame, &VnetHeader { gso_size: 250, ..vnet });
    assert_eq!(all.len(), 1);
    assert_eq!(all[0][L4 + 13], 0x99, "first and last");
    let mut empty = frame[..PAYLOAD].to_vec();
    empty[L3 + 2..L3 + 4].copy_from_slice(&[0, 40]);
    assert_eq!(segments(&empty, &vnet).len(), 1);
}

#[test]
fn copies_complete_frames() {
    let (frame, _) = super_frame();
    for bytes in [&frame[..], &frame[..20], &[]] {
        assert_eq!(segments(bytes, &VnetHeader::default()), [bytes]);
    }
}

#[test]
fn completes_checksum() {
    let (frame, vnet) = super_frame();
    let all = segments(&frame, &VnetHeader { gso_type: VnetHeader::GSO_NONE, gso_size: 0, ..vnet });
    assert_eq!(all.len(), 1);
    assert_eq!(Sum::pseudo_ipv4(SRC.into(), DST.into(), 6, 270).and(&all[0][L4..]).finish(), 0);
    assert_eq!((&all[0][..L4 + 16], &all[0][L4 + 18..]), (&frame[..L4 + 16], &frame[L4 + 18..]));
}

#[test]
fn rejects_short_buffer_without_skipping_a_segment() {
    let (frame, vnet) = super_frame();
    let mut segments = Segments::new(&frame, &vnet).unwrap();
    assert_eq!((segments.longest(), segments.remaining()), (154, 3));
    let mut short = [0xee; 153];
    assert_eq!(segments.next_into(&mut short), None);
    assert_eq!((short, segments.remaining()), ([0xee; 153], 3));
    assert_eq!(segments.next_into(&mut [0; 154]), Some(154));
    assert_eq!(segments.remaining(), 2);
}

#[test]
fn rejects_unsupported_gso_types() {
    let (frame, vnet) = super_frame();
    for gso_type in [2, 3, 6, 0x20, 0x40, 0x80, 0x83, 0x85, 0xff] {
        assert_eq!(refused(&frame, &VnetHeader { gso_type, ..vnet }), SegmentError::GsoType(gso_type));
    }
    for gso_type in [VnetHeader::GSO_TCPV6, VnetHeader::GSO_UDP_L4] {
        assert_eq!(refused(&frame, &VnetHeader { gso_type, ..vnet }), SegmentError::OtherProtocol(gso_type));
    }
}

#[test]
fn rejects_impossible_segment_sizes() {
    let (frame, vnet) = super_frame();
    assert_eq!(refused(&frame, &VnetHeader { gso_size: 0, ..vnet }), SegmentError::NoSize);
    let mut large = Vec::new();
    let header = PacketBuilder::ethernet2(A, B).ipv4(SRC, DST, 64).tcp(1, 2, 3, 4);
    header.write_to_vec(&mut large, &[7; MAX_SEGMENTS * 10 + 1]).unwrap();
    let small = VnetHeader { gso_size: 10, ..vnet };
    assert_eq!(refused(&large, &small), SegmentError::TooMany(MAX_SEGMENTS + 1));
    assert_eq!(
        segments(&large, &VnetHeader { gso_size: 11, ..vnet }).len(),
        (MAX_SEGMENTS * 10 + 1).div_ceil(11)
    );
}

#[test]
fn rejects_misplaced_checksum_fields() {
    let (frame, vnet) = super_frame();
    assert_eq!(refused(&frame, &VnetHeader { flags: 0, ..vnet }), SegmentError::NoChecksum);
    for (start, offset) in [(33, 16), (34, 6), (0, 0), (38, 16), (14, 10)] {
        let wrong = VnetHeader { csum_start: start, csum_offset: offset, ..vnet };
        assert_eq!(refused(&frame, &wrong), SegmentError::ChecksumElsewhere { start, offset });
    }
    for gso_type in [VnetHeader::GSO_NONE, VnetHeader::GSO_TCPV4] {
        for (csum_start, csum_offset) in [(303, 0), (304, 0), (0, 303), (u16::MAX, u16::MAX)] {
            let wrong = VnetHeader { gso_type, csum_start, csum_offset, ..vnet };
            assert!(matches!(refused(&frame, &wrong), SegmentError::ChecksumOutside(_)), "{wrong:?}");
        }
    }
}

#[test]
fn rejects_truncated_headers() {
    let (frame, vnet) = super_frame();
    for length in L4 + 18..frame.len() {
        assert_eq!(refused(&frame[..length], &vnet), SegmentError::Truncated, "{length}");
    }
    let changed = |at: usize, value: u8| {
        let mut frame = frame.clone();
        frame[at] = value;
        refused(&frame, &vnet)
    };
    assert_eq!(changed(L3, 0x65), SegmentError::NotIp(EtherType::IPV4), "version");
    assert_eq!(changed(L3, 0x44), SegmentError::NotIp(EtherType::IPV4), "IHL");
    assert_eq!(changed(L3 + 2, 0xff), SegmentError::Truncated, "total length too long");
    assert_eq!(changed(L3 + 9, 132), SegmentError::Protocol(132));
    assert_eq!(changed(L3 + 6, 0x20), SegmentError::Fragment, "more fragments");
    assert_eq!(changed(L3 + 7, 0x01), SegmentError::Fragment, "offset");
    assert_eq!(changed(L4 + 12, 0x40), SegmentError::Truncated, "data offset too short");
    assert_eq!(changed(13, 0x06), SegmentError::NotIp(EtherType::ARP));
    let mut whole = frame.clone();
    whole[L3 + 2..L3 + 4].copy_from_slice(&[0, 0]);
    assert_eq!(refused(&whole, &vnet), SegmentError::Truncated, "a length that does not fit in 16 bits");
    whole[L3 + 2..L3 + 4].copy_from_slice(&[0, 50]);
    whole[L4 + 12] = 0xf0;
    assert_eq!(refused(&whole, &vnet), SegmentError::Truncated, "TCP options behind the packet's end");
}

#[test]
fn rejects_inconsistent_ipv6_headers() {
    let mut frame = Vec::new();
    let header = PacketBuilder::ethernet2(A, B).ipv6([1; 16], [2; 16], 64).tcp(1, 2, 3, 4);
    header.write_to_vec(&mut frame, &[5; 300]).unwrap();
    let vnet = VnetHeader { gso_type: VnetHeader::GSO_TCPV6, csum_start: 54, ..TCP4 };
    assert_eq!(segments(&frame, &vnet).len(), 3);
    let changed = |at: usize, value: [u8; 2]| {
        let mut frame = frame.clone();
        frame[at..at + 2].copy_from_slice(&value);
        refused(&frame, &vnet)
    };
    assert_eq!(changed(18, [0, 0]), SegmentError::Truncated, "jumbogram");
    assert_eq!(changed(14, [0x40, 0]), SegmentError::NotIp(EtherType::IPV6));
    assert_eq!(changed(20, [44, 64]), SegmentError::Fragment);
    assert_eq!(changed(20, [59, 64]), SegmentError::Protocol(59));
    frame[54..56].copy_from_slice(&[0, 0xff]);
    frame[20] = 60;
    assert_eq!(refused(&frame, &vnet), SegmentError::Truncated, "an extension header longer than the packet");
}

/// RFC 8200 §4.4 and §8.1: the pseudo-header has the final destination, which is in the routing header.
#[test]
fn copies_extension_headers_to_every_segment() {
    let mut plain = Vec::new();
    let header = PacketBuilder::ethernet2(A, B).ipv6([1; 16], [2; 16], 64).udp(1, 2);
    header.write_to_vec(&mut plain, &[5; 25]).unwrap();
    let last: [u8; 16] = [9; 16];
    let routing = [&[60, 2, 0, 1, 0, 0, 0, 0][..], &last, &[17, 0, 1, 4, 0, 0, 0, 0]].concat();
    let mut frame = [&plain[..54], &routing, &plain[54..]].concat();
    frame[20] = 43;
    frame[18..20].copy_from_slice(&[0, 65]);
    let seed = Sum::pseudo_ipv6([1; 16].into(), last.into(), 17, 33).fold();
    frame[92..94].copy_from_slice(&seed.to_be_bytes());
    let vnet =
        VnetHeader { gso_type: VnetHeader::GSO_UDP_L4, gso_size: 10, csum_start: 86, csum_offset: 6, ..TCP4 };
    let all = segments(&frame, &vnet);
    assert_eq!(all.iter().map(Vec::len).collect::<Vec<_>>(), [104, 104, 99]);
    for segment in &all {
        assert_eq!(segment[54..86], routing);
        assert_eq!(usize::from(field::word(segment, 18..20)), segment.len() - 54, "payload length");
        assert_eq!(usize::from(field::word(segment, 90..92)), segment.len() - 86, "UDP length");
        let length = u32::try_from(segment.len() - 86).unwrap();
        let pseudo = Sum::pseudo_ipv6([1; 16].into(), last.into(), 17, length);
        assert_eq!(pseudo.and(&segment[86..]).finish(), 0);
    }
}

#[test]
fn wire_length_excludes_the_tag() {
    let (frame, vnet) = super_frame();
    let none = VnetHeader::default();
    assert_eq!(wire_length(&frame, &none), 304);
    assert_eq!(wire_length(&frame, &vnet), 154);
    assert_eq!(wire_length(&frame, &VnetHeader { gso_size: 1448, ..vnet }), 304, "never more than there is");
    let mut tagged = Vec::new();
    let header = PacketBuilder::ethernet2(A, B).single_vlan(VlanId::try_new(7).unwrap());
    header.ipv4(SRC, DST, 64).udp(1, 2).write_to_vec(&mut tagged, &[1; 100]).unwrap();
    let udp =
        VnetHeader { gso_type: VnetHeader::GSO_UDP_L4, gso_size: 30, csum_start: 38, csum_offset: 6, ..vnet };
    assert_eq!(wire_length(&tagged, &none), 142);
    assert_eq!(wire_length(&tagged, &udp), 14 + 20 + 8 + 30);
    assert_eq!(segments(&tagged, &udp)[0].len(), 14 + 4 + 20 + 8 + 30);
    assert_eq!(super_frame_header(&tagged, 30), Ok(VnetHeader { hdr_len: 0, ..udp }));
    assert_eq!(wire_length(&[0; 13], &none), 13);
}

#[test]
fn wire_length_of_inconsistent_header_is_the_frame_length() {
    let (frame, vnet) = super_frame();
    let inconsistent = [
        VnetHeader { flags: 0, ..vnet },
        VnetHeader { gso_size: 0, ..vnet },
        VnetHeader { gso_type: 3, ..vnet },
        VnetHeader { csum_start: 0, ..vnet },
        VnetHeader { csum_start: 33, ..vnet },
        VnetHeader { csum_start: 303, ..vnet },
        VnetHeader { csum_start: u16::MAX, ..vnet },
    ];
    for wrong in inconsistent {
        assert_eq!(wire_length(&frame, &wrong), frame.len(), "{wrong:?}");
    }
}
