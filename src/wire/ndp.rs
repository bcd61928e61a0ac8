//! Neighbour discovery for IPv6 (RFC 4861).

use std::net::Ipv6Addr;

use etherparse::{IpNumber, Ipv6Header};

use super::Mac;
use super::checksum::Sum;
use super::ip::{IPV6_HEADER, Ipv6, protocol};
use super::router_advertisement::ROUTER_ADVERTISEMENT;

/// Offsets of the fields in the ICMPv6 message.
mod field {
    use std::ops::Range;

    pub(super) const TYPE: usize = 0;
    pub(super) const CODE: usize = 1;
    pub(super) const CHECKSUM: Range<usize> = 2..4;
    pub(super) const FLAGS: usize = 4;
    pub(super) const TARGET: Range<usize> = 8..24;
    pub(super) const OPTIONS: usize = 24;
    pub(super) const ROUTER_SOLICITATION_OPTIONS: usize = 8;
    pub(super) const ROUTER_ADVERTISEMENT_OPTIONS: usize = 16;
    pub(super) const REDIRECT_OPTIONS: usize = 40;
    pub(super) const LINK_ADDRESS: Range<usize> = 26..32;
}

/// Message types.
const ROUTER_SOLICITATION: u8 = 133;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const REDIRECT: u8 = 137;
/// The hop limit of every message: it was not forwarded by a router (§3.1).
const HOP_LIMIT: u8 = 255;
/// Options: type, length in units of 8 bytes (§4.6).
pub(super) const SOURCE_LINK_ADDRESS: u8 = 1;
const TARGET_LINK_ADDRESS: u8 = 2;
pub(super) const UNIT: usize = 8;
/// Flags of an advertisement (§4.4).
const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// A neighbour discovery message, with the address that it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ndp {
    /// Router solicitation (§4.1). It may contain the link-layer address of its source.
    RouterSolicitation,
    /// Router advertisement (§4.2). It may contain the link-layer address of its source.
    RouterAdvertisement,
    /// Neighbour solicitation for the target (§4.3). It may contain the link-layer address of its source.
    Solicitation(Ipv6Addr),
    /// Neighbour advertisement of the target (§4.4).
    Advertisement(Ipv6Addr),
    /// Redirect (§4.5) to the target.
    Redirect(Ipv6Addr),
}

impl Ndp {
    /// Parses an ICMPv6 message; `None` if it has another type or is truncated. Does not validate it.
    pub fn parse(message: &[u8]) -> Option<Ndp> {
        let target = || {
            let octets: &[u8; 16] = message.get(field::TARGET)?.first_chunk()?;
            Some(Ipv6Addr::from(*octets))
        };
        match *message.get(field::TYPE)? {
            ROUTER_SOLICITATION => Some(Ndp::RouterSolicitation),
            ROUTER_ADVERTISEMENT => Some(Ndp::RouterAdvertisement),
            SOLICITATION => target().map(Ndp::Solicitation),
            ADVERTISEMENT => target().map(Ndp::Advertisement),
            REDIRECT => target().map(Ndp::Redirect),
            _ => None,
        }
    }
}

/// Whether an advertisement answers a solicitation (§4.4).
pub fn is_solicited(advertisement: &[u8]) -> bool {
    advertisement.get(field::FLAGS).is_some_and(|flags| flags & SOLICITED != 0)
}

/// Whether an ICMPv6 message has a type of neighbour discovery, whole or not.
pub fn is_ndp(message: &[u8]) -> bool {
    message.first().is_some_and(|kind| (ROUTER_SOLICITATION..=REDIRECT).contains(kind))
}

/// The link-layer addresses in the options of a message. `None` if an option is malformed: a receiver discards the
/// message (§6.1, §7.1), or ignores the address.
pub fn link_addresses(message: &[u8]) -> Option<impl Iterator<Item = Mac>> {
    let options = match Ndp::parse(message)? {
        Ndp::RouterSolicitation => field::ROUTER_SOLICITATION_OPTIONS,
        Ndp::RouterAdvertisement => field::ROUTER_ADVERTISEMENT_OPTIONS,
        Ndp::Solicitation(_) | Ndp::Advertisement(_) => field::OPTIONS,
        Ndp::Redirect(_) => field::REDIRECT_OPTIONS,
    };
    let mut bytes = message.get(options..)?;
    let mut addresses = [None; 2];
    while let [kind, units, ..] = *bytes {
        let (option, rest) = bytes.split_at_checked(usize::from(units) * UNIT).filter(|_| units > 0)?;
        if matches!(kind, SOURCE_LINK_ADDRESS | TARGET_LINK_ADDRESS) {
            let octets = option.get(2..).filter(|_| units == 1)?.first_chunk()?;
            // A third address is refused as malformed: there are two types, and each may occur once.
            *addresses.iter_mut().find(|free| free.is_none())? = Some(Mac(*octets));
        }
        bytes = rest;
    }
    bytes.is_empty().then(|| addresses.into_iter().flatten())
}

/// Where a message has the link-layer address of its source, or, if it is an advertisement or a redirect, of its
/// target: an offset. `None`: it has none, or an option before it is malformed or truncated.
pub fn link_address(message: &[u8]) -> Option<usize> {
    let (mut at, wanted) = match Ndp::parse(message)? {
        Ndp::RouterSolicitation => (field::ROUTER_SOLICITATION_OPTIONS, SOURCE_LINK_ADDRESS),
        Ndp::RouterAdvertisement => (field::ROUTER_ADVERTISEMENT_OPTIONS, SOURCE_LINK_ADDRESS),
        Ndp::Solicitation(_) => (field::OPTIONS, SOURCE_LINK_ADDRESS),
        Ndp::Advertisement(_) => (field::OPTIONS, TARGET_LINK_ADDRESS),
        Ndp::Redirect(_) => (field::REDIRECT_OPTIONS, TARGET_LINK_ADDRESS),
    };
    while let [kind, units, rest @ ..] = message.get(at..)? {
        match (*kind == wanted, *units) {
            (_, 0) => return None,
            (true, 1) => return (rest.len() >= 6).then_some(at + 2),
            (_, units) => at += usize::from(units) * UNIT,
        }
    }
    None
}

/// The target of a packet that is a valid solicitation by all rules of §7.1.1, and not fragmented (RFC 6980).
pub fn solicited(packet: &Ipv6<'_>) -> Option<Ipv6Addr> {
    let Some(Ndp::Solicitation(target)) = Ndp::parse(packet.payload) else { return None };
    let options = options_of_valid(packet, field::OPTIONS)?;
    // Duplicate address detection: sent to the solicited-node group, without a source link-layer address.
    let probe_is_right =
        options & (1 << SOURCE_LINK_ADDRESS) == 0 && packet.destination == solicited_node(target);
    (!target.is_multicast() && (!packet.source.is_unspecified() || probe_is_right)).then_some(target)
}

/// Whether a packet is a valid router solicitation by all rules of §6.1.1, and not fragmented (RFC 6980).
pub fn is_router_solicitation(packet: &Ipv6<'_>) -> bool {
    let options = match Ndp::parse(packet.payload) {
        Some(Ndp::RouterSolicitation) => options_of_valid(packet, field::ROUTER_SOLICITATION_OPTIONS),
        _ => None,
    };
    // A host without an address has no link-layer address that a router may know.
    let has_link_address = |options: u64| options & (1 << SOURCE_LINK_ADDRESS) != 0;
    options.is_some_and(|options| !(packet.source.is_unspecified() && has_link_address(options)))
}

/// The [options](options) at an offset of a message that no router has forwarded, whose checksum is right, and that is
/// not fragmented.
fn options_of_valid(packet: &Ipv6<'_>, at: usize) -> Option<u64> {
    let is_whole = packet.protocol == protocol::ICMPV6
        && !packet.fragment
        && packet.hop_limit == HOP_LIMIT
        && packet.payload.get(field::CODE) == Some(&0)
        && sum(packet) == 0;
    options(packet.payload.get(at..)?).filter(|_| is_whole)
}

/// The checksum over a message that contains its own: 0 if it is right.
fn sum(packet: &Ipv6<'_>) -> u16 {
    let Ok(length) = u32::try_from(packet.payload.len()) else { return u16::MAX };
    Sum::pseudo_ipv6(packet.source, packet.destination, protocol::ICMPV6, length).and(packet.payload).finish()
}

/// The options that are present, a bit for each type below 64; `None` if one has length 0 or is truncated.
fn options(mut bytes: &[u8]) -> Option<u64> {
    let mut found = 0;
    while let [kind, units, ..] = *bytes {
        bytes = bytes.get(usize::from(units) * UNIT..).filter(|_| units > 0)?;
        found |= 1u64.checked_shl(u32::from(kind)).unwrap_or(0);
    }
    bytes.is_empty().then_some(found)
}

/// The solicited-node multicast address of `address` (RFC 4291 §2.7.1).
fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// All nodes on the link (RFC 4291 §2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// The destination MAC of frames to [`ALL_NODES`] (RFC 2464 §7).
pub const ALL_NODES_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 1]);
/// The destination MAC of frames to all routers on the link, ff02::2.
pub const ALL_ROUTERS_MAC: Mac = Mac([0x33, 0x33, 0, 0, 0, 2]);

/// Bytes of an advertisement with one option.
const MESSAGE_LEN: u16 = 32;
/// Bytes of the packet that contains it.
pub const ADVERTISEMENT_LEN: usize = IPV6_HEADER + MESSAGE_LEN as usize;

/// The kind of node that advertises an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advertiser {
    /// A host.
    Host,
    /// A router. Hosts drop routes through a router that advertises itself as a host (§7.2.5).
    Router,
}

impl Advertiser {
    fn flags(self) -> u8 {
        match self {
            Advertiser::Host => OVERRIDE,
            Advertiser::Router => OVERRIDE | ROUTER,
        }
    }
}

/// A node's advertisement of its own address, in reply to a solicitation from `solicitor` (§7.2.4). Duplicate
/// address detection has no source address: the reply to it is unsolicited and goes to all nodes.
pub fn advertisement(
    target: Ipv6Addr,
    mac: Mac,
    solicitor: Ipv6Addr,
    from: Advertiser,
) -> [u8; ADVERTISEMENT_LEN] {
    let flags = from.flags();
    match solicitor.is_unspecified() {
        true => packet(target, mac, ALL_NODES, flags),
        false => packet(target, mac, solicitor, flags | SOLICITED),
    }
}

/// An unsolicited advertisement to all nodes: `target` is at `mac` now (§7.2.6).
pub fn unsolicited_advertisement(target: Ipv6Addr, mac: Mac, from: Advertiser) -> [u8; ADVERTISEMENT_LEN] {
    packet(target, mac, ALL_NODES, from.flags())
}

fn packet(target: Ipv6Addr, mac: Mac, destination: Ipv6Addr, flags: u8) -> [u8; ADVERTISEMENT_LEN] {
    let mut message = [0; MESSAGE_LEN as usize];
    message[field::TYPE] = ADVERTISEMENT;
    message[field::FLAGS] = flags;
    message[field::TARGET].copy_from_slice(&target.octets());
    message[field::OPTIONS..field::LINK_ADDRESS.start].copy_from_slice(&[TARGET_LINK_ADDRESS, 1]);
    message[field::LINK_ADDRESS].copy_from_slice(&mac.0);
    set_checksum(target, destination, &mut message);
    let mut packet = [0; ADVERTISEMENT_LEN];
    packet[..IPV6_HEADER].copy_from_slice(&header(target, destination, MESSAGE_LEN));
    packet[IPV6_HEADER..].copy_from_slice(&message);
    packet
}

/// Sets the checksum of a message, which is still zero.
pub(super) fn set_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &mut [u8]) {
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let sum = Sum::pseudo_ipv6(source, destination, protocol::ICMPV6, length).and(message).finish();
    message[field::CHECKSUM].copy_from_slice(&sum.to_be_bytes());
}

/// The IPv6 header of a message with this length.
pub(super) fn header(source: Ipv6Addr, destination: Ipv6Addr, length: u16) -> [u8; IPV6_HEADER] {
    let header = Ipv6Header {
        payload_length: length,
        next_header: IpNumber(protocol::ICMPV6),
        hop_limit: HOP_LIMIT,
        source: source.octets(),
        destination: destination.octets(),
        ..Default::default()
    };
    header.to_bytes()
}
