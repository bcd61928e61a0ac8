//! Writes one segment: the headers of the super-frame, adapted to a range of its payload.

use std::ops::Range;

use super::field::{ipv4, ipv6, tcp, udp, word};
use super::layout::{IpVersion, SegmentLayout, Transport};
use crate::wire::checksum::{self, Sum};

/// A range of a super-frame's payload, for one segment.
#[derive(Debug)]
pub(super) struct SegmentRange {
    /// The index of the segment.
    pub(super) number: usize,
    /// It is the last segment.
    pub(super) last: bool,
    /// Its offsets in the super-frame.
    pub(super) payload: Range<usize>,
}

impl SegmentLayout {
    /// Writes the segment of `frame` for `piece` to `out`, which has the length of the segment. The
    /// transport checksum field then contains the folded pseudo-header.
    pub(super) fn write_segment(&self, frame: &[u8], piece: &SegmentRange, out: &mut [u8]) {
        let (headers, payload) = out.split_at_mut(self.payload);
        headers.copy_from_slice(&frame[..self.payload]);
        payload.copy_from_slice(&frame[piece.payload.clone()]);
        let length = out.len();
        let (link_and_network, segment) = out.split_at_mut(self.l4);
        let packet = &mut link_and_network[self.l3..];
        match self.version {
            IpVersion::V4 => fix_ipv4(packet, length - self.l3, piece),
            IpVersion::V6 => put_word(packet, ipv6::PAYLOAD_LENGTH, length - self.l3 - ipv6::LEN),
        }
        match self.transport {
            Transport::Tcp => fix_tcp(segment, piece.payload.start - self.payload, piece),
            Transport::Udp => put_word(segment, udp::LENGTH, length - self.l4),
        }
        self.update_pseudo_header(segment);
    }

    /// Replaces the super-frame's length by the segment's in the folded pseudo-header.
    fn update_pseudo_header(&self, segment: &mut [u8]) {
        let field = self.transport.checksum_offset();
        let field = field..field + 2;
        let whole = Sum::ZERO.and_word(word(segment, field.clone()));
        let seed = whole.without_word(word16(self.end - self.l4)).and_word(word16(segment.len()));
        segment[field].copy_from_slice(&seed.fold().to_be_bytes());
    }
}

fn fix_ipv4(header: &mut [u8], length: usize, piece: &SegmentRange) {
    let identification = usize::from(word(header, ipv4::IDENTIFICATION)) + piece.number;
    put_word(header, ipv4::IDENTIFICATION, identification & 0xffff);
    put_word(header, ipv4::TOTAL_LENGTH, length);
    put_word(header, ipv4::CHECKSUM, 0);
    let checksum = checksum::checksum(header);
    header[ipv4::CHECKSUM].copy_from_slice(&checksum.to_be_bytes());
}

/// `before` is the amount of payload in earlier segments.
#[allow(clippy::cast_possible_truncation, reason = "an IP packet is shorter than 64 KiB")]
fn fix_tcp(header: &mut [u8], before: usize, piece: &SegmentRange) {
    let mut sequence = [0; 4];
    sequence.copy_from_slice(&header[tcp::SEQUENCE]);
    let sequence = u32::from_be_bytes(sequence).wrapping_add(before as u32);
    header[tcp::SEQUENCE].copy_from_slice(&sequence.to_be_bytes());
    if !piece.last {
        header[tcp::FLAGS] &= !(tcp::FIN | tcp::PSH);
    }
    if piece.number != 0 {
        header[tcp::FLAGS] &= !tcp::CWR;
    }
}

fn put_word(header: &mut [u8], field: Range<usize>, value: usize) {
    header[field].copy_from_slice(&word16(value).to_be_bytes());
}

/// A length in an IP packet, which always fits in 16 bits: the super-frame's does, and a segment is not
/// longer.
#[allow(clippy::cast_possible_truncation, reason = "see above")]
const fn word16(length: usize) -> u16 {
    length as u16
}
