//! Compares a frame with the identity of its port.
//!
//! A check sees at least what any receiver sees: lengths and checksums do not matter, and the headers are found behind
//! priority tags, SNAP, IPv4 options and IPv6 extension headers. Of a fragmented packet the first fragment decides;
//! receivers discard overlapping fragments (RFC 5722; Linux also for IPv4).
//!
//! Without an address a host may send: ARP probes (RFC 5227), DHCP requests and IGMP reports (RFC 3376 §4.2.13) from
//! 0.0.0.0; duplicate address detection for its own addresses, router solicitations and MLD reports (RFC 3590) from ::.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Bound;
use crate::switch::gateway::upper_layer;
use crate::switch::violation::Violation;
use crate::wire::arp::Arp;
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER, protocol, source4, source6};
use crate::wire::ndp::{Ndp, link_addresses};
use crate::wire::{EtherType, EthernetFrame, Mac};

/// UDP ports (RFC 2131, RFC 8415).
const DHCP_SERVER: u16 = 67;
const DHCP_CLIENT: u16 = 68;
const DHCPV6_CLIENT: u16 = 546;
const DHCPV6_SERVER: u16 = 547;
const IGMP: u8 = 2;
/// MLD reports and done (RFC 2710, RFC 3810).
const MLD_FROM_HOSTS: [u8; 3] = [131, 132, 143];

impl Bound<'_> {
    /// Checks that a frame uses only the addresses of this port.
    pub(in crate::switch) fn check(&self, frame: &EthernetFrame<'_>) -> Result<(), Violation> {
        if frame.src() != self.mac {
            return Err(Violation::SourceMac(frame.src()));
        }
        match frame.network().ok_or(Violation::TooManyHeaders)? {
            (EtherType::IPV4, packet) => self.ipv4(packet),
            (EtherType::IPV6, packet) => self.ipv6(packet),
            (EtherType::ARP, message) => self.arp(message),
            _ => Ok(()),
        }
    }

    fn arp(&self, message: &[u8]) -> Result<(), Violation> {
        let Some(arp) = Arp::parse(message) else { return Ok(()) };
        let is_probe = arp.sender_ip.is_unspecified() && arp.operation == Arp::REQUEST;
        if arp.sender_mac == self.mac && (is_probe || self.has4(arp.sender_ip)) {
            return Ok(());
        }
        Err(Violation::ArpSender { mac: arp.sender_mac, address: arp.sender_ip.into() })
    }

    fn ipv4(&self, packet: &[u8]) -> Result<(), Violation> {
        const PROTOCOL: usize = 9;
        // No receiver accepts a truncated header.
        let Some(source) = source4(packet) else { return Ok(()) };
        let ports = (packet[PROTOCOL] == protocol::UDP).then(|| udp_ports4(packet)).flatten();
        let is_allowed = self.has4(source) || (source.is_unspecified() && is_without_address4(packet, ports));
        if !is_allowed {
            return Err(Violation::SourceAddress(source.into()));
        }
        match ports {
            Some((DHCP_SERVER, _) | (_, DHCP_CLIENT)) => Err(Violation::DhcpServer),
            Some((_, DHCP_SERVER)) => match chaddr(packet) {
                Some(mac) if mac != self.mac => Err(Violation::DhcpClient(mac)),
                _ => Ok(()),
            },
            _ => Ok(()),
        }
    }

    fn ipv6(&self, packet: &[u8]) -> Result<(), Violation> {
        const NEXT_HEADER: usize = 6;
        let Some(source) = source6(packet) else { return Ok(()) };
        let is_own = self.has6(source);
        if is_own && packet[NEXT_HEADER] == protocol::TCP {
            return Ok(());
        }
        if !is_own && !source.is_unspecified() {
            return Err(Violation::SourceAddress(source.into()));
        }
        let Some(upper) = upper_layer(packet)? else {
            return if is_own { Ok(()) } else { Err(Violation::SourceAddress(source.into())) };
        };
        if upper.is_nd() {
            return self.nd(source, upper.message);
        }
        let is_report = upper.protocol == protocol::ICMPV6 && is_mld_report(upper.message);
        if !(is_own || is_report) {
            return Err(Violation::SourceAddress(source.into()));
        }
        match udp_ports(upper.message).filter(|_| upper.protocol == protocol::UDP) {
            Some((DHCPV6_SERVER, _) | (_, DHCPV6_CLIENT)) => Err(Violation::DhcpServer),
            _ => Ok(()),
        }
    }

    /// Neighbour discovery from `source`, which is the port's or unspecified.
    fn nd(&self, source: Ipv6Addr, message: &[u8]) -> Result<(), Violation> {
        let target = match Ndp::parse(message).ok_or(Violation::NdMalformed)? {
            Ndp::RouterAdvertisement => return Err(Violation::RouterAdvertisement),
            Ndp::Redirect(_) => return Err(Violation::NdRedirect),
            Ndp::RouterSolicitation => None,
            // A solicitation may ask for any address. Duplicate address detection (from ::) claims its target.
            Ndp::Solicitation(target) => source.is_unspecified().then_some(target),
            Ndp::Advertisement(target) => Some(target),
        };
        if let Some(target) = target
            && !self.has6(target)
        {
            return Err(Violation::NdTarget(target.into()));
        }
        let mut others = link_addresses(message).ok_or(Violation::NdMalformed)?;
        others.find(|mac| *mac != self.mac).map_or(Ok(()), |mac| Err(Violation::NdLinkAddress(mac)))
    }
}

/// Source and destination port at the start of a UDP datagram.
fn udp_ports(datagram: &[u8]) -> Option<(u16, u16)> {
    let &[a, b, c, d] = datagram.first_chunk()?;
    Some((u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])))
}

/// The MAC of a DHCP client (`chaddr`, RFC 2131 §2). Servers ignore a message that is too short for it.
fn chaddr(packet: &[u8]) -> Option<Mac> {
    const UDP_HEADER: usize = 8;
    const CHADDR: usize = 28;
    let message = packet.get(header_length4(packet) + UDP_HEADER..)?;
    Some(Mac(*message.get(CHADDR..)?.first_chunk()?))
}

/// Source and destination port of an IPv4 packet with UDP; `None` in later fragments.
fn udp_ports4(packet: &[u8]) -> Option<(u16, u16)> {
    const OFFSET: u16 = 0x1fff;
    let fragment = u16::from_be_bytes([packet[6], packet[7]]);
    if fragment & OFFSET != 0 { None } else { udp_ports(packet.get(header_length4(packet)..)?) }
}

fn header_length4(packet: &[u8]) -> usize {
    IPV4_HEADER.max(usize::from(packet[0] & 0xf) * 4)
}

/// Whether a host without an address may send this.
fn is_without_address4(packet: &[u8], ports: Option<(u16, u16)>) -> bool {
    const PROTOCOL: usize = 9;
    let destination = Ipv4Addr::new(packet[16], packet[17], packet[18], packet[19]);
    ports == Some((DHCP_CLIENT, DHCP_SERVER)) || (packet[PROTOCOL] == IGMP && destination.is_multicast())
}

fn is_mld_report(message: &[u8]) -> bool {
    message.first().is_some_and(|kind| MLD_FROM_HOSTS.contains(kind))
}

/// A header of either version is as long as the offsets above need.
const _: () = assert!(IPV4_HEADER == 20 && IPV6_HEADER == 40);
