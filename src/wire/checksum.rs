//! The Internet checksum (RFC 1071): the one's complement of the one's complement sum of 16-bit words.
//!
//! A [`Sum`] is in native byte order and swapped once at the end (RFC 1071 §2 (B)), in 64 bits whose
//! carries are folded late (§2 (C)). The inner loop adds 64-bit words to two wrapping accumulators, one of
//! whole words and one of their upper halves; the difference is the sum of the lower halves. That is one
//! operation less per word than to split each word, and it vectorises on every target.

use std::net::{Ipv4Addr, Ipv6Addr};

/// An incomplete one's complement sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum(u64);

impl Sum {
    /// The sum of no bytes.
    pub const ZERO: Sum = Sum(0);

    /// The sum of `bytes`. An odd last byte is padded with zero.
    #[inline]
    pub fn of(bytes: &[u8]) -> Sum {
        Sum(sum_words(bytes))
    }

    /// Adds `bytes`. The number of bytes before them must be even.
    #[inline]
    #[must_use]
    pub fn and(self, bytes: &[u8]) -> Sum {
        Sum(halve(self.0) + halve(sum_words(bytes)))
    }

    /// Adds one word.
    #[inline]
    #[must_use]
    pub const fn and_word(self, word: u16) -> Sum {
        Sum(halve(self.0) + word.to_be() as u64)
    }

    /// Removes a word: the complement is the negative (RFC 1624 §2).
    #[inline]
    #[must_use]
    pub const fn without_word(self, word: u16) -> Sum {
        self.and_word(!word)
    }

    /// The pseudo-header of TCP and UDP over IPv4 (RFC 9293 §3.1). `length` is the length of the transport
    /// header and its data, in bytes.
    #[inline]
    pub fn pseudo_ipv4(source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, length: u16) -> Sum {
        let addresses = Sum::of(&source.octets()).and(&destination.octets());
        addresses.and_word(u16::from(protocol)).and_word(length)
    }

    /// The pseudo-header of TCP, UDP and ICMPv6 over IPv6 (RFC 8200 §8.1). `destination` is the final
    /// destination, and `length` the length of the upper-layer header and its data, in bytes.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "the two halves of the length")]
    pub fn pseudo_ipv6(source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, length: u32) -> Sum {
        let addresses = Sum::of(&source.octets()).and(&destination.octets());
        addresses.and_word(u16::from(protocol)).and_word((length >> 16) as u16).and_word(length as u16)
    }

    /// The sum in 16 bits, not complemented: the seed that a sender stores in the checksum field for checksum
    /// offload.
    #[inline]
    #[allow(clippy::cast_possible_truncation, reason = "folded to 16 bits")]
    pub const fn fold(self) -> u16 {
        let mut sum = halve(halve(self.0));
        sum = (sum >> 16) + (sum & 0xffff);
        sum = (sum >> 16) + (sum & 0xffff);
        u16::from_be(sum as u16)
    }

    /// The checksum.
    #[inline]
    pub const fn finish(self) -> u16 {
        !self.fold()
    }
}

/// The checksum of `bytes`; zero if they contain their own right checksum.
#[inline]
pub fn checksum(bytes: &[u8]) -> u16 {
    Sum::of(bytes).finish()
}

/// The checksum after one 16-bit word of what it covers changed from `old` to `new` (RFC 1624, equation 3).
#[inline]
pub const fn update(checksum: u16, old: u16, new: u16) -> u16 {
    Sum::ZERO.and_word(!checksum).without_word(old).and_word(new).finish()
}

/// The checksum field is outside the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the checksum field {offset} bytes after byte {start} is not inside the frame of {length} bytes")]
pub struct ChecksumOutside {
    /// Where the checksum starts.
    pub start: usize,
    /// Where it is stored, relative to `start`.
    pub offset: usize,
    /// Length of the frame.
    pub length: usize,
}

/// Completes the checksum as [`super::VnetHeader::NEEDS_CSUM`] asks: sums from `start` to the end of the
/// frame, with the field at `start + offset` (it contains the folded pseudo-header), and stores the result
/// there. A zero is stored as 0xffff: in UDP, zero means "no checksum" (RFC 768), and TCP receivers accept
/// both. On an error the frame is unchanged.
#[inline]
pub fn complete(frame: &mut [u8], start: usize, offset: usize) -> Result<(), ChecksumOutside> {
    let outside = ChecksumOutside { start, offset, length: frame.len() };
    let covered = frame.get_mut(start..).ok_or(outside)?;
    let checksum = match checksum(covered) {
        0 => 0xffff,
        other => other,
    };
    let field = covered.get_mut(offset..).and_then(<[u8]>::first_chunk_mut).ok_or(outside)?;
    *field = checksum.to_be_bytes();
    Ok(())
}

/// Adds the two 32-bit halves: the same sum, in at most 33 bits.
#[inline]
const fn halve(sum: u64) -> u64 {
    (sum >> 32) + (sum & 0xffff_ffff)
}

/// The sum of the 16-bit words of `bytes` in native order, in 64 bits: exact up to 16 GiB.
#[inline]
fn sum_words(bytes: &[u8]) -> u64 {
    let (blocks, rest) = bytes.as_chunks();
    let sum = if blocks.is_empty() { 0 } else { sum_blocks(blocks) };
    sum + sum_rest(rest)
}

/// Independent sums in the inner loop, as many as a vector unit can add in parallel.
const LANES: usize = 4;

fn sum_blocks(blocks: &[[u8; 64]]) -> u64 {
    let mut whole = [0u64; LANES];
    let mut upper = [0u64; LANES];
    for block in blocks {
        let (words, _) = block.as_chunks();
        for (n, word) in words.iter().enumerate() {
            let word = u64::from_ne_bytes(*word);
            whole[n % LANES] = whole[n % LANES].wrapping_add(word);
            upper[n % LANES] += word >> 32;
        }
    }
    // whole = upper * 2^32 + lower (mod 2^64), and lower is far below 2^64.
    let lane = |n: usize| upper[n] + whole[n].wrapping_sub(upper[n] << 32);
    (0..LANES).map(lane).sum()
}

#[inline]
fn sum_rest(rest: &[u8]) -> u64 {
    let (words, tail) = rest.as_chunks();
    let tail = match *tail {
        [] => 0,
        [a] => u64::from(u16::from_ne_bytes([a, 0])),
        [a, b] => u64::from(u16::from_ne_bytes([a, b])),
        [a, b, c, ..] => u64::from(u32::from_ne_bytes([a, b, c, 0])),
    };
    words.iter().map(|&word| u64::from(u32::from_ne_bytes(word))).sum::<u64>() + tail
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 1071 §3.
    const RFC1071: [u8; 8] = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];

    /// An IPv4 header with its checksum b861 (the well-known worked example).
    const IPV4: [u8; 20] = [
        0x45, 0x00, 0x00, 0x73, 0x00, 0x00, 0x40, 0x00, 0x40, 0x11, 0xb8, 0x61, 0xc0, 0xa8, 0x00, 0x01, 0xc0,
        0xa8, 0x00, 0xc7,
    ];

    /// RFC 1071 §4.1, word for word.
    fn slow(bytes: &[u8]) -> u16 {
        let mut sum = 0u32;
        for pair in bytes.chunks(2) {
            sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    #[test]
    fn known_vectors() {
        assert_eq!(Sum::of(&RFC1071).fold(), 0xddf2);
        assert_eq!(checksum(&RFC1071), !0xddf2);
        assert_eq!(checksum(&IPV4), 0);
        let mut without = IPV4;
        without[10..12].fill(0);
        assert_eq!(checksum(&without), 0xb861);
        assert_eq!(checksum(&[]), 0xffff);
        assert_eq!(checksum(&[0xab]), !0xab00, "an odd last byte is the upper one");
    }

    #[test]
    fn every_length_and_all_ones() {
        let ones = vec![0xff; 70_000];
        let mixed: Vec<u8> = (0..70_000u32).map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[1]).collect();
        for length in (0..400).chain([1499, 1500, 65_534, 65_535, 65_536, 70_000]) {
            assert_eq!(checksum(&ones[..length]), slow(&ones[..length]), "{length} ones");
            assert_eq!(checksum(&mixed[..length]), slow(&mixed[..length]), "{length}");
        }
    }

    #[test]
    fn sums_pieces() {
        let bytes: Vec<u8> = (0..=254).collect();
        for cut in (0..255).step_by(2) {
            assert_eq!(Sum::of(&bytes[..cut]).and(&bytes[cut..]).finish(), slow(&bytes));
        }
    }

    #[test]
    fn update_is_rfc1624() {
        // RFC 1624 §4: the case in which RFC 1141 gives ffff.
        assert_eq!(update(0xdd2f, 0x5555, 0x3285), 0x0000);
        let mut header = IPV4;
        header[4..6].copy_from_slice(&0xbeef_u16.to_be_bytes());
        header[10..12].copy_from_slice(&update(0xb861, 0, 0xbeef).to_be_bytes());
        assert_eq!(checksum(&header), 0);
    }

    #[test]
    fn pseudo_headers_match_the_rfcs() {
        let (a, b) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(198, 51, 100, 255));
        let bytes = [&a.octets()[..], &b.octets(), &[0, 17], &1234u16.to_be_bytes()].concat();
        assert_eq!(Sum::pseudo_ipv4(a, b, 17, 1234).finish(), slow(&bytes));
        let (a, b): (Ipv6Addr, Ipv6Addr) =
            ("2001:db8::1".parse().unwrap(), "2001:db8:ffff::2".parse().unwrap());
        let bytes = [&a.octets()[..], &b.octets(), &70_000u32.to_be_bytes(), &[0, 0, 0, 58]].concat();
        assert_eq!(Sum::pseudo_ipv6(a, b, 58, 70_000).finish(), slow(&bytes));
    }

    #[test]
    fn complete_includes_the_seed() {
        let mut frame = [9, 9, 0x12, 0x34, 0x00, 0x07, 0x56];
        complete(&mut frame, 2, 2).unwrap();
        assert_eq!(frame[..2], [9, 9]);
        assert_eq!(u16::from_be_bytes([frame[4], frame[5]]), !(0x1234 + 0x0007 + 0x5600));
    }

    #[test]
    fn complete_never_writes_zero() {
        let mut frame = [0xff, 0xff, 0, 0];
        complete(&mut frame, 0, 2).unwrap();
        assert_eq!(frame, [0xff; 4]);
    }

    #[test]
    fn rejects_checksum_field_outside_the_frame() {
        for (start, offset) in [(9, 0), (8, 0), (7, 0), (0, 7), (4, 3), (usize::MAX, 2), (2, usize::MAX)] {
            let mut frame = [1; 8];
            assert_eq!(
                complete(&mut frame, start, offset),
                Err(ChecksumOutside { start, offset, length: 8 })
            );
            assert_eq!(frame, [1; 8]);
        }
    }
}
