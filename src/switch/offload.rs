//! The virtio-net header of a received frame: which checksum and segmentation the receiver must complete (virtio 1.3
//! §5.1.6).

use super::Frame;
use crate::wire::ip::{transport4, transport6};
use crate::wire::{ETHERNET_HEADER, EtherType, EthernetFrame, VnetHeader};

/// Why a virtio-net header is invalid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffloadFault {
    /// The partial checksum starts or is stored outside the payload.
    ChecksumOutside,
    /// The partial checksum would be stored in headers that were checked before.
    ChecksumInHeaders,
    /// An unknown GSO type, or ECN on one that is not TCP.
    UnknownType,
    /// A super-frame with segment size 0.
    NoSegmentSize,
    /// A super-frame without a partial checksum (virtio 1.3 §5.1.6.2).
    NoChecksum,
}

/// Checks that the virtio-net header is consistent with the frame.
#[inline]
pub(super) fn check_offload(frame: &Frame<'_>, ethernet: &EthernetFrame<'_>) -> Result<(), OffloadFault> {
    if frame.vnet.is_complete() { Ok(()) } else { check_unfinished(frame, ethernet) }
}

fn check_unfinished(frame: &Frame<'_>, ethernet: &EthernetFrame<'_>) -> Result<(), OffloadFault> {
    let vnet = &frame.vnet;
    if vnet.flags & VnetHeader::NEEDS_CSUM == 0 {
        return Err(OffloadFault::NoChecksum);
    }
    let sum = vnet.csum_start as usize + vnet.csum_offset as usize;
    if (vnet.csum_start as usize) < ETHERNET_HEADER || sum + 2 > frame.bytes.len() {
        return Err(OffloadFault::ChecksumOutside);
    }
    // A tag may be removed, and another one inserted.
    if (vnet.csum_start as usize) < ethernet.innermost().1 || is_in_headers(ethernet, sum) {
        return Err(OffloadFault::ChecksumInHeaders);
    }
    match vnet.gso_type {
        VnetHeader::GSO_NONE => return Ok(()),
        VnetHeader::GSO_UDP_L4 => {}
        other if matches!(other & !VnetHeader::GSO_ECN, VnetHeader::GSO_TCPV4 | VnetHeader::GSO_TCPV6) => {}
        _ => return Err(OffloadFault::UnknownType),
    }
    if vnet.gso_size == 0 { Err(OffloadFault::NoSegmentSize) } else { Ok(()) }
}

/// Whether a checksum at `at` would overwrite headers that are checked before it is completed: tags, ARP, IP headers,
/// an ICMP message. Linux never offloads their checksums.
#[inline]
fn is_in_headers(ethernet: &EthernetFrame<'_>, at: usize) -> bool {
    let (ethertype, l3) = ethernet.innermost();
    let packet = ethernet.payload().get(l3 - ETHERNET_HEADER..).unwrap_or_default();
    let headers = match ethertype {
        EtherType::ARP => None,
        EtherType::IPV4 => transport4(packet),
        EtherType::IPV6 => transport6(packet),
        _ => Some(0),
    };
    headers.is_none_or(|headers| at < l3 + headers)
}
