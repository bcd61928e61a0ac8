//! Router advertisements: the message (RFC 4861 §4.2), and its options for prefixes, the MTU and DNS (RFC 8106).

use std::net::Ipv6Addr;

use super::ndp::{ALL_NODES, ALL_NODES_MAC, SOURCE_LINK_ADDRESS, UNIT, header, set_checksum};
use super::{EtherType, Mac};

/// The message type.
pub(super) const ROUTER_ADVERTISEMENT: u8 = 134;
/// Option types (RFC 4861 §4.6, RFC 8106 §5).
const PREFIX_INFORMATION: u8 = 3;
const MTU: u8 = 5;
const RECURSIVE_DNS_SERVER: u8 = 25;
const DNS_SEARCH_LIST: u8 = 31;
/// Flags of the message: addresses and other settings are available by DHCPv6 (RFC 4861 §4.2).
const MANAGED: u8 = 0x80;
const OTHER: u8 = 0x40;
/// Flags of a prefix: its addresses are on the link, and hosts make theirs of it (RFC 4861 §4.6.2).
const ON_LINK: u8 = 0x80;
const AUTONOMOUS: u8 = 0x40;
/// The hop limit that hosts use.
const HOP_LIMIT: u8 = 64;
/// The length of a prefix of which hosts make addresses: their interface identifiers have the other 64 bits (RFC 4291
/// §2.5.1).
pub const AUTONOMOUS_PREFIX: u8 = 64;

/// A prefix of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdvertisedPrefix {
    /// The prefix. Hosts make addresses of one with [`AUTONOMOUS_PREFIX`] bits.
    pub prefix: Ipv6Addr,
    /// Its length.
    pub length: u8,
    /// How long an address made of it is valid, in seconds.
    pub valid: u32,
    /// How long an address made of it is used for new connections, in seconds.
    pub preferred: u32,
}

/// What a router advertises.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// How long it is a default router, in seconds; 0: it is none, or not any more.
    pub lifetime: u16,
    /// Addresses and other settings are available by DHCPv6.
    pub dhcp: bool,
    /// The MTU of the link, in bytes.
    pub mtu: u32,
    /// The prefixes of the link.
    pub prefixes: Vec<AdvertisedPrefix>,
    /// DNS servers.
    pub dns_servers: Vec<Ipv6Addr>,
    /// The domain in which hosts look up names.
    pub domain: Option<String>,
    /// How long DNS servers and the domain may be used, in seconds.
    pub dns_lifetime: u32,
}

impl RouterAdvertisement {
    /// The frame to all hosts of the link, from a router with this MAC and this link-local address.
    pub fn frame(&self, mac: Mac, source: Ipv6Addr) -> Vec<u8> {
        let mut message = self.message(mac);
        set_checksum(source, ALL_NODES, &mut message);
        let header = header(source, ALL_NODES, u16::try_from(message.len()).unwrap_or(u16::MAX));
        let ethertype = EtherType::IPV6.0.to_be_bytes();
        [&ALL_NODES_MAC.0[..], &mac.0, &ethertype, &header, &message].concat()
    }

    /// The message, whose checksum is zero.
    fn message(&self, mac: Mac) -> Vec<u8> {
        let flags = if self.dhcp { MANAGED | OTHER } else { 0 };
        let mut message = vec![ROUTER_ADVERTISEMENT, 0, 0, 0, HOP_LIMIT, flags];
        message.extend_from_slice(&self.lifetime.to_be_bytes());
        // Reachable time and retransmission timer: unspecified.
        message.extend_from_slice(&[0; 8]);
        push_option(&mut message, SOURCE_LINK_ADDRESS, &mac.0);
        push_option(&mut message, MTU, &[&[0, 0][..], &self.mtu.to_be_bytes()].concat());
        for prefix in &self.prefixes {
            push_option(&mut message, PREFIX_INFORMATION, &prefix.option());
        }
        let lifetime = [&[0, 0][..], &self.dns_lifetime.to_be_bytes()].concat();
        if !self.dns_servers.is_empty() {
            let servers = self.dns_servers.iter().flat_map(Ipv6Addr::octets);
            push_option(
                &mut message,
                RECURSIVE_DNS_SERVER,
                &lifetime.iter().copied().chain(servers).collect::<Vec<_>>(),
            );
        }
        if let Some(domain) = &self.domain {
            push_option(&mut message, DNS_SEARCH_LIST, &[lifetime, domain_name(domain)].concat());
        }
        message
    }
}

impl AdvertisedPrefix {
    /// The option without type and length.
    fn option(&self) -> Vec<u8> {
        let autonomous = if self.length == AUTONOMOUS_PREFIX { AUTONOMOUS } else { 0 };
        let mut option = vec![self.length, ON_LINK | autonomous];
        option.extend_from_slice(&self.valid.to_be_bytes());
        option.extend_from_slice(&self.preferred.to_be_bytes());
        option.extend_from_slice(&[0; 4]);
        option.extend_from_slice(&self.prefix.octets());
        option
    }
}

/// Adds an option, padded to a multiple of 8 bytes.
fn push_option(message: &mut Vec<u8>, kind: u8, value: &[u8]) {
    const TYPE_AND_LENGTH: usize = 2;
    let units = (TYPE_AND_LENGTH + value.len()).div_ceil(UNIT);
    let end = message.len() + units * UNIT;
    message.extend_from_slice(&[kind, u8::try_from(units).unwrap_or(u8::MAX)]);
    message.extend_from_slice(value);
    message.resize(end, 0);
}

/// A domain name as DNS encodes it (RFC 1035 §3.1). Its labels are not longer than 63 bytes.
fn domain_name(domain: &str) -> Vec<u8> {
    let label = |label: &str| {
        let length = u8::try_from(label.len()).unwrap_or(0);
        std::iter::once(length).chain(label.bytes()).collect::<Vec<u8>>()
    };
    domain.split('.').flat_map(label).chain([0]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use crate::wire::ip::{Ipv6, protocol};
    use crate::wire::{ETHERNET_HEADER, EthernetFrame};

    const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);

    fn source() -> Ipv6Addr {
        "fe80::ff:fe00:1".parse().unwrap()
    }

    fn advertisement() -> RouterAdvertisement {
        let prefix = |prefix: &str, length| AdvertisedPrefix {
            prefix: prefix.parse().unwrap(),
            length,
            valid: 86_400,
            preferred: 14_400,
        };
        RouterAdvertisement {
            lifetime: 1800,
            dhcp: true,
            mtu: 1400,
            prefixes: vec![prefix("2001:db8:1::", 64), prefix("2001:db8:2::", 112)],
            dns_servers: vec!["2001:db8:1::1".parse().unwrap()],
            domain: Some("lab.test".to_owned()),
            dns_lifetime: 1800,
        }
    }

    /// The options of a frame, each with its type.
    fn options(frame: &[u8]) -> Vec<(u8, Vec<u8>)> {
        let mut rest = &frame[ETHERNET_HEADER + 40 + 16..];
        let mut options = Vec::new();
        while let [kind, units, ..] = *rest {
            let (option, after) = rest.split_at(usize::from(units) * UNIT);
            options.push((kind, option[2..].to_vec()));
            rest = after;
        }
        options
    }

    #[test]
    fn frame_is_valid_to_hosts() {
        let frame = advertisement().frame(ROUTER, source());
        let ethernet = EthernetFrame::new_checked(&frame).unwrap();
        assert_eq!(
            (ethernet.dst(), ethernet.src(), ethernet.ethertype()),
            (ALL_NODES_MAC, ROUTER, EtherType::IPV6)
        );
        let packet = Ipv6::parse(ethernet.payload()).unwrap();
        assert_eq!((packet.source, packet.destination), (source(), ALL_NODES));
        assert_eq!((packet.protocol, packet.hop_limit), (protocol::ICMPV6, 255));
        let length = u32::try_from(packet.payload.len()).unwrap();
        let sum = Sum::pseudo_ipv6(packet.source, packet.destination, protocol::ICMPV6, length);
        assert_eq!(sum.and(packet.payload).finish(), 0);
        // Type, code, and after the checksum: hop limit, M and O, lifetime.
        assert_eq!((&packet.payload[..2], &packet.payload[4..8]), (&[134, 0][..], &[64, 0xc0, 7, 8][..]));
    }

    #[test]
    fn options_describe_the_link() {
        let options = options(&advertisement().frame(ROUTER, source()));
        let kinds: Vec<u8> = options.iter().map(|(kind, _)| *kind).collect();
        assert_eq!(kinds, [1, 5, 3, 3, 25, 31]);
        assert_eq!((&options[0].1, &options[1].1), (&ROUTER.0.to_vec(), &vec![0, 0, 0, 0, 5, 120]));
        assert_eq!(options[2].1[..10], [64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40]);
        assert_eq!(options[3].1[..2], [112, 0x80], "hosts cannot make addresses of it");
        assert_eq!(options[5].1[6..16], *b"\x03lab\x04test\0");
        assert_eq!(options[5].1.len() % UNIT, UNIT - 2);
    }

    #[test]
    fn leaves_out_options_without_a_value() {
        let last = RouterAdvertisement { mtu: 1500, ..RouterAdvertisement::default() };
        let frame = last.frame(ROUTER, source());
        assert_eq!(options(&frame).len(), 2);
        assert_eq!(frame[ETHERNET_HEADER + 40 + 5..][..3], [0, 0, 0], "no flags, lifetime 0");
    }
}
