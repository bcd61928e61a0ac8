//! Segmentation in software, for an egress port that does not accept super-frames (GSO packets) or partial
//! checksums.
//!
//! A device with offload hands over up to 64 KiB of one flow as one frame. Its [`VnetHeader`] says how to
//! segment it (`VIRTIO_NET_HDR_GSO_*`, virtio 1.2 §5.1.6). Each of the [`Segments`] has the headers of the
//! super-frame, with the changes that a sender without offload would make:
//!
//! - IPv4: total length, identification (counts up, which is all that RFC 6864 asks for), header checksum.
//! - IPv6: payload length. Extension headers are copied to every segment.
//! - TCP: sequence number; FIN and PSH on the last segment only (RFC 9293 §3.7.1), CWR on the first only
//!   (RFC 3168 §6.1.2: one for each window).
//! - UDP: length. One datagram becomes several: that is what the sender asked for (`UDP_SEGMENT`).
//! - The checksum. The sender left the folded pseudo-header in its field, as for any frame with
//!   [`VnetHeader::NEEDS_CSUM`]; only the length in it changes. So the addresses are not needed, and a final
//!   destination in a routing header is right too.
//!
//! Header and frame come from a container, and may be inconsistent. They are checked once, before the first
//! segment (`layout`). At most [`MAX_SEGMENTS`] segments are made of one frame.

mod field;
mod layout;
mod write;

use self::layout::SegmentLayout;
use self::write::SegmentRange;
use super::checksum::{self, ChecksumOutside};
use super::{ETHERNET_HEADER, EtherType, EthernetFrame, VnetHeader};

/// Most segments of one frame. A sender makes 1365 at most: 64 KiB at the smallest segment size that
/// Linux uses (48 bytes, `TCP_MIN_SND_MSS`). The limit bounds the work that one frame can cause.
pub const MAX_SEGMENTS: usize = 2048;

/// The header before a frame contradicts the frame, or asks for what the switch does not offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SegmentError {
    /// Not a GSO type that the switch offers.
    #[error("GSO type {0:#04x} is not one that the switch offers")]
    GsoType(u8),
    /// A super-frame with segment size zero.
    #[error("the segment size of a super-frame is zero")]
    NoSize,
    /// More than [`MAX_SEGMENTS`].
    #[error("{0} segments are more than one frame may become ({MAX_SEGMENTS})")]
    TooMany(usize),
    /// A super-frame without a partial checksum (virtio 1.2 §5.1.6.2 forbids it).
    #[error("a super-frame has to leave its checksum to be done")]
    NoChecksum,
    /// The checksum field of a super-frame is not where its header says.
    #[error("checksum at {start}+{offset} is not that of the transport header")]
    ChecksumElsewhere {
        /** `csum_start`. */
        start: u16,
        /** `csum_offset`. */
        offset: u16,
    },
    /// The checksum field is outside the frame.
    #[error(transparent)]
    ChecksumOutside(#[from] ChecksumOutside),
    /// The frame ends before its headers do, or an IP length is zero or exceeds the frame.
    #[error("the frame is shorter than its headers say")]
    Truncated,
    /// A super-frame that is not IP, by its EtherType or by its IP header.
    #[error("a super-frame has to be IPv4 or IPv6, not {0}")]
    NotIp(EtherType),
    /// A super-frame of an IP protocol that cannot be segmented.
    #[error("IP protocol {0} cannot be segmented")]
    Protocol(u8),
    /// A super-frame that is not of the protocol that its GSO type names.
    #[error("the packet is not what GSO type {0:#04x} says")]
    OtherProtocol(u8),
    /// A super-frame that is a fragment already.
    #[error("an IP fragment cannot be segmented")]
    Fragment,
}

/// The header that stands before a super-frame, from the frame alone and the payload bytes of each segment
/// (`gso_size`).
///
/// # Errors
/// The frame cannot be segmented.
pub fn super_frame_header(frame: &[u8], gso_size: u16) -> Result<VnetHeader, SegmentError> {
    let SegmentLayout { version, transport, l4, .. } = SegmentLayout::read(frame)?;
    let offset = |at: usize| u16::try_from(at).map_err(|_| SegmentError::Truncated);
    Ok(VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: layout::gso_type(transport, version),
        hdr_len: 0,
        gso_size,
        csum_start: offset(l4)?,
        csum_offset: offset(transport.checksum_offset())?,
    })
}

/// The complete frames that a frame becomes, in order: one if it is not a super-frame.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    frame: &'a [u8],
    /// How to segment; `None` if the frame stays whole.
    layout: Option<SegmentLayout>,
    /// Payload bytes of each segment but the last.
    size: usize,
    /// `csum_start` and `csum_offset` of the checksum to complete.
    checksum: Option<(usize, usize)>,
    /// The next segment's number.
    next: usize,
    count: usize,
}

impl<'a> Segments<'a> {
    /// The segments of `frame` with the virtio-net header `vnet`. All checks are here.
    pub fn new(frame: &'a [u8], vnet: &VnetHeader) -> Result<Segments<'a>, SegmentError> {
        let checksum = unfinished_checksum(frame, vnet)?;
        let whole = Segments { frame, layout: None, size: 0, checksum, next: 0, count: 1 };
        if !vnet.is_super_frame() {
            return Ok(whole);
        }
        let layout = SegmentLayout::parse(frame, vnet)?;
        if checksum.is_none() {
            return Err(SegmentError::NoChecksum);
        }
        let size = usize::from(vnet.gso_size);
        if size == 0 {
            return Err(SegmentError::NoSize);
        }
        match (layout.end - layout.payload).div_ceil(size).max(1) {
            count if count > MAX_SEGMENTS => Err(SegmentError::TooMany(count)),
            count => Ok(Segments { layout: Some(layout), size, count, ..whole }),
        }
    }

    /// Length of the longest segment, in bytes from the destination address on, tags included.
    pub fn longest(&self) -> usize {
        match &self.layout {
            Some(layout) => layout.end.min(layout.payload + self.size),
            None => self.frame.len(),
        }
    }

    /// The number of segments that are not written yet.
    pub const fn remaining(&self) -> usize {
        self.count - self.next
    }

    /// Writes the next segment at the start of `out` and returns its length. Its checksums are complete.
    /// `None` after the last one, or if `out` is shorter than [`Segments::longest`].
    pub fn next_into(&mut self, out: &mut [u8]) -> Option<usize> {
        if self.remaining() == 0 || out.len() < self.longest() {
            return None;
        }
        let segment = match &self.layout {
            Some(layout) => {
                let from = layout.payload + self.next * self.size;
                let payload = from..layout.end.min(from + self.size);
                let segment = &mut out[..layout.payload + payload.len()];
                let piece = SegmentRange { number: self.next, last: self.remaining() == 1, payload };
                layout.write_segment(self.frame, &piece, segment);
                segment
            }
            None => {
                let segment = &mut out[..self.frame.len()];
                segment.copy_from_slice(self.frame);
                segment
            }
        };
        if let Some((start, offset)) = self.checksum {
            checksum::complete(segment, start, offset).ok()?;
        }
        self.next += 1;
        Some(segment.len())
    }
}

/// The offsets where the checksum starts and where it is stored, if it is partial.
fn unfinished_checksum(frame: &[u8], vnet: &VnetHeader) -> Result<Option<(usize, usize)>, ChecksumOutside> {
    if vnet.flags & VnetHeader::NEEDS_CSUM == 0 {
        return Ok(None);
    }
    let (start, offset) = (usize::from(vnet.csum_start), usize::from(vnet.csum_offset));
    if start + offset + 2 > frame.len() {
        return Err(ChecksumOutside { start, offset, length: frame.len() });
    }
    Ok(Some((start, offset)))
}

/// Length of the longest frame that `frame` becomes on a wire, in bytes, Ethernet header included, without
/// the outermost VLAN tag: the length that is compared with an MTU. For a super-frame, the length of one
/// segment; if its [`VnetHeader`] is inconsistent, its whole length. This runs for every frame, so it
/// checks only what it needs: [`Segments::new`] finds out whether a super-frame can be segmented.
#[inline]
pub fn wire_length(frame: &[u8], vnet: &VnetHeader) -> usize {
    let Some(view) = EthernetFrame::new_checked(frame) else { return frame.len() };
    let untagged = view.untagged_length();
    if !vnet.is_super_frame() {
        return untagged;
    }
    match headers_length(frame, vnet) {
        Some(headers) => {
            let tag = frame.len() - untagged;
            untagged.min(headers + usize::from(vnet.gso_size) - tag)
        }
        None => untagged,
    }
}

/// Length of the headers of a super-frame; `None` if its virtio-net header is inconsistent.
fn headers_length(frame: &[u8], vnet: &VnetHeader) -> Option<usize> {
    const LEAST: usize = ETHERNET_HEADER + field::ipv4::LEN;
    let (transport, _) = layout::gso_protocols(vnet.gso_type)?;
    let l4 = usize::from(vnet.csum_start);
    if vnet.flags & VnetHeader::NEEDS_CSUM == 0 || vnet.gso_size == 0 || l4 < LEAST {
        return None;
    }
    Some(l4 + transport.header_length(frame.get(l4..)?)?)
}

#[cfg(test)]
mod tests;
