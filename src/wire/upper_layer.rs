//! Finds the upper-layer header of an IPv6 packet behind its extension headers (RFC 8200 §4), in bounded work.
//!
//! This is for checks, which must see at least what any receiver sees. So it does not use the packet's payload
//! length, which receivers interpret differently (RFC 2675), and it returns what it found also in packets that
//! a receiver would discard.

use super::ip::{IPV6_HEADER, protocol};

/// Extension headers of one packet. RFC 8504 §5.3 lets hosts limit them; no sender needs as many.
pub const MAX_EXTENSION_HEADERS: usize = 16;

/// Authentication header (RFC 4302), whose length is in units of 4 bytes.
const AUTHENTICATION: u8 = 51;
/// Mobility, HIP and Shim6 headers (RFC 6275, RFC 7401, RFC 5533).
const MOBILITY: u8 = 135;
const HIP: u8 = 139;
const SHIM6: u8 = 140;

/// What a fragment header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// There is none.
    None,
    /// The first fragment, or the only one (RFC 6946).
    First,
    /// A later one: what follows is not a header.
    Later,
}

/// The upper-layer header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpperLayer {
    /// Its protocol number.
    pub protocol: u8,
    /// Its offset in the packet.
    pub offset: usize,
    /// Whether the packet is a fragment.
    pub fragment: Fragment,
}

/// The extension headers cannot be parsed to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderChainError {
    /// More than [`MAX_EXTENSION_HEADERS`].
    #[error("more than {MAX_EXTENSION_HEADERS} IPv6 extension headers")]
    TooMany,
    /// The packet ends before its headers do.
    #[error("truncated IPv6 extension headers")]
    Truncated(Fragment),
}

impl UpperLayer {
    /// Parses the headers of `packet`.
    pub fn parse(packet: &[u8]) -> Result<UpperLayer, HeaderChainError> {
        const NEXT_HEADER: usize = 6;
        let truncated = HeaderChainError::Truncated;
        let first = packet.get(NEXT_HEADER).ok_or(truncated(Fragment::None))?;
        let mut found = UpperLayer { protocol: *first, offset: IPV6_HEADER, fragment: Fragment::None };
        for _ in 0..=MAX_EXTENSION_HEADERS {
            if !is_extension(found.protocol) || found.fragment == Fragment::Later {
                return Ok(found);
            }
            let header = packet.get(found.offset..).and_then(<[u8]>::first_chunk::<8>);
            found = found.after(header.ok_or(truncated(found.fragment))?);
        }
        Err(HeaderChainError::TooMany)
    }

    /// What follows after an extension header that begins with these bytes.
    fn after(self, header: &[u8; 8]) -> UpperLayer {
        let [next, length, high, low, ..] = *header;
        let units = usize::from(length);
        let (bytes, fragment) = match self.protocol {
            protocol::FRAGMENT if u16::from_be_bytes([high, low]) & 0xfff8 == 0 => (8, Fragment::First),
            protocol::FRAGMENT => (8, Fragment::Later),
            AUTHENTICATION => ((units + 2) * 4, self.fragment),
            _ => ((units + 1) * 8, self.fragment),
        };
        UpperLayer { protocol: next, offset: self.offset + bytes, fragment }
    }
}

const fn is_extension(number: u8) -> bool {
    matches!(
        number,
        protocol::HOP_BY_HOP
            | protocol::ROUTING
            | protocol::FRAGMENT
            | AUTHENTICATION
            | protocol::DESTINATION_OPTIONS
            | MOBILITY
            | HIP
            | SHIM6
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A packet with these bytes after the header.
    fn packet(next: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 0, next, 255];
        bytes.resize(IPV6_HEADER, 0);
        [&bytes[..], rest].concat()
    }

    fn parse(next: u8, rest: &[u8]) -> Result<UpperLayer, HeaderChainError> {
        UpperLayer::parse(&packet(next, rest))
    }

    #[test]
    fn finds_the_upper_layer_behind_each_extension_header() {
        let plain = UpperLayer { protocol: 58, offset: 40, fragment: Fragment::None };
        assert_eq!(parse(58, &[]), Ok(plain));
        for number in [0, 43, 60, 135, 139, 140] {
            assert_eq!(parse(number, &[58, 0, 0, 0, 0, 0, 0, 0]), Ok(UpperLayer { offset: 48, ..plain }));
            let long = [&[58, 2][..], &[0; 22]].concat();
            assert_eq!(parse(number, &long), Ok(UpperLayer { offset: 64, ..plain }));
        }
        assert_eq!(parse(51, &[58, 1, 0, 0, 0, 0, 0, 0]), Ok(UpperLayer { offset: 52, ..plain }));
    }

    #[test]
    fn reports_fragments() {
        let fragment = |high, low| parse(44, &[60, 0, high, low, 0, 0, 0, 7, 58, 0, 0, 0, 0, 0, 0, 0]);
        let first = UpperLayer { protocol: 58, offset: 56, fragment: Fragment::First };
        assert_eq!(fragment(0, 1), Ok(first));
        assert_eq!(fragment(0, 0), Ok(first), "an atomic fragment");
        let later = UpperLayer { protocol: 60, offset: 48, fragment: Fragment::Later };
        assert_eq!(fragment(0, 9), Ok(later));
    }

    #[test]
    fn limits_the_number_of_headers() {
        let chain = |count: usize| {
            let mut rest = [60, 0, 0, 0, 0, 0, 0, 0].repeat(count);
            rest[8 * (count - 1)] = 58;
            parse(60, &rest)
        };
        let last = UpperLayer { protocol: 58, offset: 40 + 8 * 16, fragment: Fragment::None };
        assert_eq!(chain(MAX_EXTENSION_HEADERS), Ok(last));
        assert_eq!(chain(MAX_EXTENSION_HEADERS + 1), Err(HeaderChainError::TooMany));
    }

    #[test]
    fn rejects_truncated_chains() {
        assert_eq!(UpperLayer::parse(&[0x60; 6]), Err(HeaderChainError::Truncated(Fragment::None)));
        assert_eq!(parse(60, &[58, 0, 0]), Err(HeaderChainError::Truncated(Fragment::None)));
        let cut = parse(44, &[60, 0, 0, 1, 0, 0, 0, 7, 58]);
        assert_eq!(cut, Err(HeaderChainError::Truncated(Fragment::First)));
    }
}
