//! Offsets of the fields in their headers.

/// IPv4 (RFC 791 §3.1).
pub(super) mod ipv4 {
    use std::ops::Range;

    pub(crate) const LEN: usize = 20;
    pub(crate) const VERSION_IHL: usize = 0;
    pub(crate) const TOTAL_LENGTH: Range<usize> = 2..4;
    pub(crate) const IDENTIFICATION: Range<usize> = 4..6;
    pub(crate) const FRAGMENT: Range<usize> = 6..8;
    pub(crate) const PROTOCOL: usize = 9;
    pub(crate) const CHECKSUM: Range<usize> = 10..12;

    /// In [`FRAGMENT`]: more fragments follow, or this one's offset is not zero.
    pub(crate) const IS_FRAGMENT: u16 = 0x3fff;
}

/// IPv6 (RFC 8200 §3).
pub(super) mod ipv6 {
    use std::ops::Range;

    pub(crate) const LEN: usize = 40;
    pub(crate) const VERSION: usize = 0;
    pub(crate) const PAYLOAD_LENGTH: Range<usize> = 4..6;
    pub(crate) const NEXT_HEADER: usize = 6;
}

/// TCP (RFC 9293 §3.1).
pub(super) mod tcp {
    use std::ops::Range;

    pub(crate) const LEN: usize = 20;
    pub(crate) const SEQUENCE: Range<usize> = 4..8;
    pub(crate) const DATA_OFFSET: usize = 12;
    pub(crate) const FLAGS: usize = 13;
    pub(crate) const CHECKSUM: usize = 16;

    pub(crate) const FIN: u8 = 0x01;
    pub(crate) const PSH: u8 = 0x08;
    pub(crate) const CWR: u8 = 0x80;
}

/// UDP (RFC 768).
pub(super) mod udp {
    use std::ops::Range;

    pub(crate) const LEN: usize = 8;
    pub(crate) const LENGTH: Range<usize> = 4..6;
    pub(crate) const CHECKSUM: usize = 6;
}

/// The 16-bit word at `range` of `header`, which is long enough.
pub(super) fn word(header: &[u8], range: std::ops::Range<usize>) -> u16 {
    header[range].iter().fold(0, |word, octet| word << 8 | u16::from(*octet))
}
