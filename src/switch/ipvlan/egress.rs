//! What changes in a frame that leaves by the uplink.

use std::net::IpAddr;
use std::ops::Range;

use crate::wire::arp::Arp;
use crate::wire::checksum::update;
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER, protocol, source4, source6};
use crate::wire::ndp::{self, Ndp};
use crate::wire::upper_layer::{Fragment, UpperLayer};
use crate::wire::{ETHERNET_HEADER, EtherType, EthernetFrame, Mac, VnetHeader};

/// Offset of the source address.
const SOURCE: usize = 6;
/// Offsets in an ARP message.
const ARP_SENDER: usize = 8;
pub(super) const ARP_TARGET: usize = 18;
/// Offsets in an ICMPv6 message and in a UDP datagram.
const ICMPV6_CHECKSUM: usize = 2;
const UDP_CHECKSUM: usize = 6;
const UDP_HEADER: usize = 8;
/// Ports of DHCP (RFC 2131).
const DHCP_CLIENT: u16 = 68;
const DHCP_SERVER: u16 = 67;

/// What was rewritten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rewritten {
    /// The source address of the frame.
    Source,
    /// And the addresses in an ARP message.
    Arp,
    /// And the link-layer addresses in a message of neighbour discovery.
    Neighbour,
    /// And the flags of a DHCP request.
    Dhcp,
}

/// A message of neighbour discovery is longer than the bytes that may be changed, and what follows may contain the MAC
/// address of the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a message of neighbour discovery is too long to be rewritten")]
pub struct Unrewritable;

/// The IP address that a frame proves its sender to have; `None`: none.
pub fn sender(frame: &EthernetFrame<'_>) -> Option<IpAddr> {
    let (ethertype, packet) = packet(frame);
    match ethertype {
        EtherType::ARP => Arp::parse(packet).map(|arp| IpAddr::V4(arp.sender_ip)),
        EtherType::IPV4 => source4(packet).map(IpAddr::V4),
        EtherType::IPV6 => source6(packet).map(IpAddr::V6),
        _ => None,
    }
}

/// The packet behind all tags.
pub(super) fn packet<'a>(frame: &EthernetFrame<'a>) -> (EtherType, &'a [u8]) {
    let (ethertype, at) = frame.innermost();
    (ethertype, frame.payload().get(at - ETHERNET_HEADER..).unwrap_or_default())
}

/// Makes a frame one of the uplink. `head` has its first bytes, at least [`super::HEAD`] of a longer frame; `vnet` are
/// its offloads.
///
/// # Errors
/// It cannot, and must not be sent. It is unchanged.
pub fn rewrite(head: &mut [u8], vnet: &VnetHeader, uplink: Mac) -> Result<Rewritten, Unrewritable> {
    let Some(frame) = EthernetFrame::new_checked(head) else { return Ok(Rewritten::Source) };
    let (ethertype, at) = frame.innermost();
    let host = frame.src();
    let rewritten = match ethertype {
        EtherType::ARP => arp(head, at, host, uplink),
        EtherType::IPV4 => dhcp(head, at, vnet),
        EtherType::IPV6 => neighbour(head, at, vnet, (host, uplink))?,
        _ => Rewritten::Source,
    };
    put_mac(head, SOURCE, uplink);
    Ok(rewritten)
}

fn arp(head: &mut [u8], at: usize, host: Mac, uplink: Mac) -> Rewritten {
    let Some(arp) = head.get(at..).and_then(Arp::parse) else { return Rewritten::Source };
    put_mac(head, at + ARP_SENDER, uplink);
    // An announcement may name its sender here, too (RFC 5227 §3).
    if arp.target_mac == host {
        put_mac(head, at + ARP_TARGET, uplink);
    }
    Rewritten::Arp
}

/// Asks a DHCP server for a broadcast (RFC 2131 §4.1). A client that has an address gets its replies there, and a relay
/// agent gets them at its own address.
fn dhcp(head: &mut [u8], at: usize, vnet: &VnetHeader) -> Rewritten {
    const FLAGS: usize = UDP_HEADER + 10;
    const CIADDR: Range<usize> = UDP_HEADER + 12..UDP_HEADER + 16;
    const GIADDR: Range<usize> = UDP_HEADER + 24..UDP_HEADER + 28;
    const BROADCAST: u16 = 0x8000;
    let Some(udp) = udp4(head, at) else { return Rewritten::Source };
    let message = head.get(udp..).unwrap_or_default();
    let is_zero = |field: Range<usize>| message.get(field).is_some_and(|field| field == [0; 4]);
    let is_request = word(message, 0) == Some(DHCP_CLIENT)
        && word(message, 2) == Some(DHCP_SERVER)
        && message.get(UDP_HEADER) == Some(&1)
        && is_zero(CIADDR)
        && is_zero(GIADDR);
    let (Some(flags), true) = (word(message, FLAGS), is_request) else { return Rewritten::Source };
    if flags & BROADCAST != 0 {
        return Rewritten::Source;
    }
    let checksum = word(message, UDP_CHECKSUM).unwrap_or(0);
    put_word(head, udp + FLAGS, flags | BROADCAST);
    // 0: the datagram has none (RFC 768).
    if checksum != 0 && !is_partial(vnet, udp, UDP_CHECKSUM) {
        let updated = match update(checksum, flags, flags | BROADCAST) {
            0 => 0xffff,
            other => other,
        };
        put_word(head, udp + UDP_CHECKSUM, updated);
    }
    Rewritten::Dhcp
}

/// Offset of the UDP header in an IPv4 packet. `None` in a later fragment.
fn udp4(head: &[u8], at: usize) -> Option<usize> {
    const FRAGMENT_OFFSET: u16 = 0x1fff;
    let packet = head.get(at..)?;
    let header = IPV4_HEADER.max(usize::from(packet.first()? & 0xf) * 4);
    let is_udp = packet.get(9) == Some(&protocol::UDP) && word(packet, 6)? & FRAGMENT_OFFSET == 0;
    is_udp.then_some(at + header)
}

/// Rewrites the link-layer addresses that say where the sender is: the source's, and that of an advertised target. A
/// fragmented message is ignored by receivers (RFC 6980).
fn neighbour(
    head: &mut [u8],
    at: usize,
    vnet: &VnetHeader,
    (host, uplink): (Mac, Mac),
) -> Result<Rewritten, Unrewritable> {
    let packet = head.get(at..).unwrap_or_default();
    let Ok(upper) = UpperLayer::parse(packet) else { return Ok(Rewritten::Source) };
    if upper.protocol != protocol::ICMPV6 || upper.fragment != Fragment::None {
        return Ok(Rewritten::Source);
    }
    // A jumbogram has length 0 (RFC 2675), and neighbour discovery is none.
    let end = IPV6_HEADER + usize::from(word(packet, 4).unwrap_or(0));
    let visible = packet.get(upper.offset..end.min(packet.len())).unwrap_or_default();
    if !ndp::is_ndp(visible) || Ndp::parse(visible).is_none() {
        return Ok(Rewritten::Source);
    }
    let found = match ndp::link_address(visible) {
        Some(found) => found,
        None if end > packet.len() => return Err(Unrewritable),
        None => return Ok(Rewritten::Source),
    };
    let message = at + upper.offset;
    let address = message + found;
    // A redirect gives the address of another host, as a rule.
    if matches!(Ndp::parse(visible), Some(Ndp::Redirect(_))) && mac(head, address) != Some(host) {
        return Ok(Rewritten::Source);
    }
    let words = |head: &[u8]| [0, 2, 4].map(|n| word(head, address + n).unwrap_or(0));
    let before = words(head);
    put_mac(head, address, uplink);
    if !is_partial(vnet, message, ICMPV6_CHECKSUM) {
        let field = message + ICMPV6_CHECKSUM;
        let changes = before.into_iter().zip(words(head));
        let checksum = word(head, field).unwrap_or(0);
        put_word(head, field, changes.fold(checksum, |checksum, (old, new)| update(checksum, old, new)));
    }
    Ok(Rewritten::Neighbour)
}

/// The checksum at `start + offset` is completed later, from the bytes that are then there.
fn is_partial(vnet: &VnetHeader, start: usize, offset: usize) -> bool {
    vnet.flags & VnetHeader::NEEDS_CSUM != 0
        && usize::from(vnet.csum_start) == start
        && usize::from(vnet.csum_offset) == offset
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().copied().map(u16::from_be_bytes)
}

fn put_word(bytes: &mut [u8], at: usize, word: u16) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = word.to_be_bytes();
    }
}

pub(super) fn mac(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..)?.first_chunk().copied().map(Mac)
}

pub(super) fn put_mac(bytes: &mut [u8], at: usize, mac: Mac) {
    if let Some(field) = bytes.get_mut(at..).and_then(<[u8]>::first_chunk_mut) {
        *field = mac.0;
    }
}
