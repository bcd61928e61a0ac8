//! The virtio-net header before each frame on a TAP opened with `IFF_VNET_HDR` (Linux
//! `include/uapi/linux/virtio_net.h`, `struct virtio_net_hdr_v1`), in native byte order: `TUNSETVNETLE` is
//! not used.

/// The offloads that a frame still needs: checksum and segmentation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct VnetHeader {
    /// `VIRTIO_NET_HDR_F_*`.
    pub flags: u8,
    /// `VIRTIO_NET_HDR_GSO_*`.
    pub gso_type: u8,
    /// A hint: bytes of the frame in the kernel's linear buffer. Not the length of the headers.
    pub hdr_len: u16,
    /// Payload bytes of each segment, if `gso_type` is not none.
    pub gso_size: u16,
    /// Where the checksum starts in the frame, with [`VnetHeader::NEEDS_CSUM`].
    pub csum_start: u16,
    /// Where the checksum is stored, relative to `csum_start`.
    pub csum_offset: u16,
}

impl VnetHeader {
    /// Bytes before the frame, as set with `TUNSETVNETHDRSZ` (the v1 header, with `num_buffers`).
    pub const LEN: usize = 12;

    /// `csum_start` and `csum_offset` are valid, and the checksum must be completed.
    pub const NEEDS_CSUM: u8 = 1;
    /// The checksum was verified.
    pub const DATA_VALID: u8 = 2;
    /// No segmentation needed.
    pub const GSO_NONE: u8 = 0;
    /// TCP over IPv4.
    pub const GSO_TCPV4: u8 = 1;
    /// TCP over IPv6.
    pub const GSO_TCPV6: u8 = 4;
    /// UDP, segmented at the transport layer (`UDP_SEGMENT`), for both IP versions.
    pub const GSO_UDP_L4: u8 = 5;
    /// Flag on a TCP type: the flow uses ECN.
    pub const GSO_ECN: u8 = 0x80;

    /// The header at the start of `bytes`; `None` if they are fewer than [`VnetHeader::LEN`].
    pub fn parse(bytes: &[u8]) -> Option<VnetHeader> {
        let bytes: &[u8; Self::LEN] = bytes.first_chunk()?;
        let word = |at: usize| u16::from_ne_bytes([bytes[at], bytes[at + 1]]);
        Some(VnetHeader {
            flags: bytes[0],
            gso_type: bytes[1],
            hdr_len: word(2),
            gso_size: word(4),
            csum_start: word(6),
            csum_offset: word(8),
        })
    }

    /// The bytes of this header, with `num_buffers` zero.
    pub fn emit(&self) -> [u8; Self::LEN] {
        let mut bytes = [0; Self::LEN];
        bytes[0] = self.flags;
        bytes[1] = self.gso_type;
        bytes[2..4].copy_from_slice(&self.hdr_len.to_ne_bytes());
        bytes[4..6].copy_from_slice(&self.gso_size.to_ne_bytes());
        bytes[6..8].copy_from_slice(&self.csum_start.to_ne_bytes());
        bytes[8..10].copy_from_slice(&self.csum_offset.to_ne_bytes());
        bytes
    }

    /// The header of the same frame when a tag was inserted (`by` bytes) or removed (negative) before its payload.
    #[must_use]
    pub const fn moved(self, by: i16) -> VnetHeader {
        // Zero is not a hint.
        let hdr_len = if self.hdr_len == 0 { 0 } else { self.hdr_len.saturating_add_signed(by) };
        let has_start = self.flags & Self::NEEDS_CSUM != 0;
        let csum_start = if has_start { self.csum_start.saturating_add_signed(by) } else { self.csum_start };
        VnetHeader { hdr_len, csum_start, ..self }
    }

    /// The frame is a super-frame (GSO packet): it must be segmented.
    pub const fn is_super_frame(&self) -> bool {
        self.gso_type != Self::GSO_NONE
    }

    /// The frame needs no checksum and no segmentation.
    pub const fn is_complete(&self) -> bool {
        self.gso_type == Self::GSO_NONE && self.flags & Self::NEEDS_CSUM == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As the kernel writes it for a TCP super-frame over IPv4 (little-endian).
    #[cfg(target_endian = "little")]
    const TCP_BYTES: [u8; 12] = [1, 1, 66, 0, 0xa8, 0x05, 34, 0, 16, 0, 0, 0];
    const TCP: VnetHeader = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: VnetHeader::GSO_TCPV4,
        hdr_len: 66,
        gso_size: 1448,
        csum_start: 34,
        csum_offset: 16,
    };

    #[test]
    #[cfg(target_endian = "little")]
    fn matches_kernel_layout() {
        assert_eq!(VnetHeader::parse(&TCP_BYTES), Some(TCP));
        assert_eq!(TCP.emit(), TCP_BYTES);
    }

    #[test]
    fn follows_a_payload_that_moves() {
        let moved = TCP.moved(4);
        assert_eq!((moved.hdr_len, moved.csum_start, moved.csum_offset), (70, 38, 16));
        assert_eq!(moved.moved(-4), TCP);
        assert_eq!(VnetHeader::default().moved(4), VnetHeader::default());
        let hint = VnetHeader { hdr_len: 2, ..VnetHeader::default() };
        assert_eq!(hint.moved(-4).hdr_len, 0);
    }

    #[test]
    fn rejects_truncated_header() {
        let bytes = TCP.emit();
        for length in 0..VnetHeader::LEN {
            assert_eq!(VnetHeader::parse(&bytes[..length]), None);
        }
        assert_eq!(VnetHeader::parse(&[&bytes[..], &[0xff; 60]].concat()), Some(TCP));
    }

    #[test]
    fn reports_pending_offloads() {
        let none = VnetHeader::default();
        assert!(none.is_complete() && !none.is_super_frame());
        assert!(VnetHeader { flags: VnetHeader::DATA_VALID, ..none }.is_complete());
        assert!(!VnetHeader { flags: VnetHeader::NEEDS_CSUM, ..none }.is_complete());
        assert!(!TCP.is_complete() && TCP.is_super_frame());
        let ecn = VnetHeader { gso_type: VnetHeader::GSO_TCPV4 | VnetHeader::GSO_ECN, ..TCP };
        assert!(ecn.is_super_frame() && !ecn.is_complete());
    }
}
