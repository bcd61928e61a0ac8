//! The offsets of the headers of a super-frame, checked against its virtio-net header.

use super::SegmentError;
use super::field::{ipv4, ipv6, tcp, udp, word};
use crate::wire::ip::protocol;
use crate::wire::{EtherType, EthernetFrame, VnetHeader};

/// The IP version of a super-frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum IpVersion {
    V4,
    V6,
}

/// The transport protocol of a super-frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    Tcp,
    Udp,
}

impl Transport {
    /// The offset of the checksum in its header.
    pub(super) const fn checksum_offset(self) -> usize {
        match self {
            Transport::Tcp => tcp::CHECKSUM,
            Transport::Udp => udp::CHECKSUM,
        }
    }

    /// Length of the header at the start of `segment`; `None` if it is truncated or its length field is below
    /// the minimum.
    pub(super) fn header_length(self, segment: &[u8]) -> Option<usize> {
        let length = match self {
            Transport::Tcp => usize::from(segment.get(tcp::DATA_OFFSET)? >> 4) * 4,
            Transport::Udp => udp::LEN,
        };
        let least = match self {
            Transport::Tcp => tcp::LEN,
            Transport::Udp => udp::LEN,
        };
        (length >= least && length <= segment.len()).then_some(length)
    }
}

/// The meaning of a GSO type: the transport, and the IP version if it is for one only. `None` of a type that the
/// switch does not offer to the kernel, among them `VIRTIO_NET_HDR_GSO_UDP` (3), which makes IP fragments.
pub(super) const fn gso_protocols(gso_type: u8) -> Option<(Transport, Option<IpVersion>)> {
    const TCPV4_ECN: u8 = VnetHeader::GSO_TCPV4 | VnetHeader::GSO_ECN;
    const TCPV6_ECN: u8 = VnetHeader::GSO_TCPV6 | VnetHeader::GSO_ECN;
    match gso_type {
        VnetHeader::GSO_TCPV4 | TCPV4_ECN => Some((Transport::Tcp, Some(IpVersion::V4))),
        VnetHeader::GSO_TCPV6 | TCPV6_ECN => Some((Transport::Tcp, Some(IpVersion::V6))),
        VnetHeader::GSO_UDP_L4 => Some((Transport::Udp, None)),
        _ => None,
    }
}

/// The inverse of [`gso_protocols`].
pub(super) const fn gso_type(transport: Transport, version: IpVersion) -> u8 {
    match (transport, version) {
        (Transport::Tcp, IpVersion::V4) => VnetHeader::GSO_TCPV4,
        (Transport::Tcp, IpVersion::V6) => VnetHeader::GSO_TCPV6,
        (Transport::Udp, _) => VnetHeader::GSO_UDP_L4,
    }
}

/// The headers of a super-frame, as offsets in it: `l3 < l4 < payload <= end <= ` its length.
#[derive(Debug, Clone, Copy)]
pub(super) struct SegmentLayout {
    pub(super) version: IpVersion,
    pub(super) transport: Transport,
    /// The IP header.
    pub(super) l3: usize,
    /// The transport header.
    pub(super) l4: usize,
    /// The payload, which is segmented.
    pub(super) payload: usize,
    /// Where the IP packet ends; padding may follow.
    pub(super) end: usize,
}

impl SegmentLayout {
    /// Reads the headers of `frame`, a super-frame by `vnet`.
    pub(super) fn parse(frame: &[u8], vnet: &VnetHeader) -> Result<SegmentLayout, SegmentError> {
        let (transport, version) =
            gso_protocols(vnet.gso_type).ok_or(SegmentError::GsoType(vnet.gso_type))?;
        let layout = SegmentLayout::read(frame)?;
        if layout.transport != transport || version.is_some_and(|version| version != layout.version) {
            return Err(SegmentError::OtherProtocol(vnet.gso_type));
        }
        let found = (layout.l4, transport.checksum_offset());
        if (usize::from(vnet.csum_start), usize::from(vnet.csum_offset)) != found {
            return Err(SegmentError::ChecksumElsewhere { start: vnet.csum_start, offset: vnet.csum_offset });
        }
        Ok(layout)
    }

    /// Reads the headers of `frame`, without its virtio-net header.
    pub(super) fn read(frame: &[u8]) -> Result<SegmentLayout, SegmentError> {
        let view = EthernetFrame::new_checked(frame).ok_or(SegmentError::Truncated)?;
        let (ethertype, l3) = view.innermost();
        let packet = match ethertype {
            EtherType::IPV4 => PacketHeaders::ipv4(&frame[l3..])?,
            EtherType::IPV6 => PacketHeaders::ipv6(&frame[l3..])?,
            other => return Err(SegmentError::NotIp(other)),
        };
        let (l4, end) = (l3 + packet.header, l3 + packet.length);
        let segment = frame.get(l4..end).ok_or(SegmentError::Truncated)?;
        let header = packet.transport.header_length(segment).ok_or(SegmentError::Truncated)?;
        Ok(SegmentLayout {
            version: packet.version,
            transport: packet.transport,
            l3,
            l4,
            payload: l4 + header,
            end,
        })
    }
}

/// The lengths and protocols in an IP packet's headers. The caller checks that the packet is complete.
struct PacketHeaders {
    version: IpVersion,
    transport: Transport,
    /// Bytes before the transport header.
    header: usize,
    /// Bytes of the packet.
    length: usize,
}

impl PacketHeaders {
    /// RFC 791 §3.1.
    fn ipv4(bytes: &[u8]) -> Result<PacketHeaders, SegmentError> {
        let fixed: &[u8; ipv4::LEN] = bytes.first_chunk().ok_or(SegmentError::Truncated)?;
        let header = usize::from(fixed[ipv4::VERSION_IHL] & 0xf) * 4;
        let length = usize::from(word(fixed, ipv4::TOTAL_LENGTH));
        if fixed[ipv4::VERSION_IHL] >> 4 != 4 || header < ipv4::LEN {
            return Err(SegmentError::NotIp(EtherType::IPV4));
        }
        if word(fixed, ipv4::FRAGMENT) & ipv4::IS_FRAGMENT != 0 {
            return Err(SegmentError::Fragment);
        }
        let transport = transport(fixed[ipv4::PROTOCOL])?;
        Ok(PacketHeaders { version: IpVersion::V4, transport, header, length })
    }

    /// RFC 8200 §3, with the extension headers of §4 that may stand before a transport header. A jumbogram
    /// (RFC 2675) has length zero, and is refused.
    fn ipv6(bytes: &[u8]) -> Result<PacketHeaders, SegmentError> {
        let fixed: &[u8; ipv6::LEN] = bytes.first_chunk().ok_or(SegmentError::Truncated)?;
        if fixed[ipv6::VERSION] >> 4 != 6 {
            return Err(SegmentError::NotIp(EtherType::IPV6));
        }
        let length = ipv6::LEN + usize::from(word(fixed, ipv6::PAYLOAD_LENGTH));
        let packet = bytes.get(..length).ok_or(SegmentError::Truncated)?;
        let (mut next, mut header) = (fixed[ipv6::NEXT_HEADER], ipv6::LEN);
        while is_extension(next) {
            // Each is at least 8 octets, so the packet's length bounds the walk.
            let extension = packet.get(header..).and_then(<[u8]>::first_chunk);
            let &[following, units] = extension.ok_or(SegmentError::Truncated)?;
            next = following;
            header += (usize::from(units) + 1) * 8;
        }
        Ok(PacketHeaders { version: IpVersion::V6, transport: transport(next)?, header, length })
    }
}

/// An IPv6 extension header that is the same in every segment, in the format of RFC 8200 §4.2.
const fn is_extension(next: u8) -> bool {
    matches!(next, protocol::HOP_BY_HOP | protocol::ROUTING | protocol::DESTINATION_OPTIONS)
}

fn transport(number: u8) -> Result<Transport, SegmentError> {
    match number {
        protocol::TCP => Ok(Transport::Tcp),
        protocol::UDP => Ok(Transport::Udp),
        protocol::FRAGMENT => Err(SegmentError::Fragment),
        other => Err(SegmentError::Protocol(other)),
    }
}
