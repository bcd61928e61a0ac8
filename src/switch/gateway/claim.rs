//! Detects frames in which a container uses an address of the gateway as its own.
//!
//! Receivers update their neighbour cache with the sender of any ARP message (RFC 826: "merge"), also of
//! announcements (RFC 5227) and unicast replies, and with the target of a neighbour advertisement or redirect. They
//! also trust the source address of a packet: replies of a resolver, ICMP errors (a forged "packet too big" sets a
//! path MTU), redirects (RFC 1122 §3.2.2.2). So frames with the gateway's addresses in these places are dropped.
//! Requests for the gateway's address are allowed, also in duplicate address detection, and are answered.
//!
//! Neighbour discovery is found behind IPv6 extension headers. Fragmented neighbour discovery is refused as a whole,
//! because it cannot be checked, and receivers ignore it (RFC 6980). The inside of a tunnel is not checked: it belongs
//! to another link.

use std::net::{IpAddr, Ipv6Addr};

use super::Gateway;
use crate::switch::violation::Violation;
use crate::wire::arp::Arp;
use crate::wire::ip::{IPV6_HEADER, is_plain_transport6, protocol, source4, source6};
use crate::wire::ndp::{Ndp, is_ndp};
use crate::wire::upper_layer::{Fragment, HeaderChainError, UpperLayer};

/// The gateway's identity that a frame uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Its MAC, as the source of a frame.
    SourceMac,
    /// Its MAC, as the sender's in ARP.
    ArpMac,
    /// This address, as the sender's in ARP.
    ArpAddress(std::net::Ipv4Addr),
    /// This address, as the source of a packet.
    SourceAddress(IpAddr),
    /// This address, as the target of a neighbour advertisement or redirect.
    NeighbourTarget(Ipv6Addr),
}

/// Checks an ARP message.
pub(super) fn arp(gateway: &Gateway, message: &[u8]) -> Result<(), Violation> {
    let Some(arp) = Arp::parse(message) else { return Ok(()) };
    if gateway.ipv4.contains(&arp.sender_ip) {
        return Err(Violation::Gateway(Claim::ArpAddress(arp.sender_ip)));
    }
    if arp.sender_mac == gateway.mac.get() { Err(Violation::Gateway(Claim::ArpMac)) } else { Ok(()) }
}

/// Checks an IPv4 packet.
#[inline]
pub(super) fn ipv4(gateway: &Gateway, packet: &[u8]) -> Result<(), Violation> {
    match source4(packet) {
        Some(source) if gateway.ipv4.contains(&source) => {
            Err(Violation::Gateway(Claim::SourceAddress(source.into())))
        }
        _ => Ok(()),
    }
}

/// Checks an IPv6 packet.
#[inline]
pub(super) fn ipv6(gateway: &Gateway, packet: &[u8]) -> Result<(), Violation> {
    if let Some(source) = source6(packet)
        && gateway.ipv6.contains(&source)
    {
        return Err(Violation::Gateway(Claim::SourceAddress(source.into())));
    }
    if is_plain_transport6(packet) {
        return Ok(());
    }
    let Some(upper) = upper_layer(packet)? else { return Ok(()) };
    match upper.is_nd().then(|| Ndp::parse(upper.message)).flatten() {
        Some(Ndp::Advertisement(target) | Ndp::Redirect(target)) if gateway.ipv6.contains(&target) => {
            Err(Violation::Gateway(Claim::NeighbourTarget(target)))
        }
        _ => Ok(()),
    }
}

/// The upper-layer message of an IPv6 packet.
#[derive(Debug, Clone, Copy)]
pub(in crate::switch) struct UpperLayerMessage<'a> {
    pub(in crate::switch) protocol: u8,
    /// Without padding.
    pub(in crate::switch) message: &'a [u8],
}

impl UpperLayerMessage<'_> {
    /// The packet is neighbour discovery.
    pub(in crate::switch) fn is_nd(&self) -> bool {
        self.protocol == protocol::ICMPV6 && is_ndp(self.message)
    }
}

/// The message in an IPv6 packet; `None` in a later fragment, and in what no receiver accepts. Refuses what cannot be
/// checked for neighbour discovery.
pub(in crate::switch) fn upper_layer(packet: &[u8]) -> Result<Option<UpperLayerMessage<'_>>, Violation> {
    let upper = match UpperLayer::parse(packet) {
        Ok(upper) => upper,
        Err(HeaderChainError::TooMany) => return Err(Violation::TooManyHeaders),
        Err(HeaderChainError::Truncated(Fragment::First)) => return Err(Violation::FragmentedNd),
        Err(HeaderChainError::Truncated(_)) => return Ok(None),
    };
    if upper.fragment == Fragment::Later {
        return Ok(None);
    }
    let bytes = without_padding(packet).get(upper.offset..).unwrap_or_default();
    let message = UpperLayerMessage { protocol: upper.protocol, message: bytes };
    let is_unknown = upper.protocol == protocol::ICMPV6 && bytes.is_empty();
    if upper.fragment == Fragment::First && (is_unknown || message.is_nd()) {
        return Err(Violation::FragmentedNd);
    }
    Ok(Some(message))
}

/// A packet as long as its header says. A payload length of 0 stands for all bytes: Linux accepts that before a
/// hop-by-hop header, even without a jumbo payload option (RFC 2675; `ip6_rcv_core`).
fn without_padding(packet: &[u8]) -> &[u8] {
    let length = packet.get(4..6).map_or(0, |word| usize::from(u16::from_be_bytes([word[0], word[1]])));
    if length == 0 { packet } else { &packet[..packet.len().min(IPV6_HEADER + length)] }
}
