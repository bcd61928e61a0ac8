//! Lets no container claim what is the gateway's.
//!
//! Neighbours believe: any ARP message about its sender (RFC 826: "merge"), whatever the operation, so
//! also announcements (RFC 5227) and unicast replies to one victim; an advertisement or redirect about
//! its target; a solicitation or router message about its source (RFC 4861 §6.1, §7.2.3, §7.2.5, §8.3).
//! Each of these that names one of the gateway's addresses is a claim. To ask for the address is none,
//! not even by duplicate address detection: that is answered.
//!
//! An ICMP redirect tells a host to go another way, and is believed if its source is the gateway in use
//! (RFC 1122 §3.2.2.2; Linux `__ip_do_redirect` asks for no more). So one in the name of one of the gateway's
//! addresses is a claim, and so is what may be a piece of one. ICMPv6's redirects are neighbour discovery.
//!
//! Behind IPv6 extension headers the message is found where a receiver finds it, also if the packet's length
//! is one that no sender should write. A fragment is taken for the first: receivers ignore fragmented
//! neighbour discovery (RFC 6980), so nothing that has a use is lost. The inside of a tunnel is not looked
//! at: it is of another link, on a receiver that set one up.
//! Router advertisements that do not name a gateway's address are let through; to filter those (RFC 6105) is
//! a policy of its own.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::Gateway;
use crate::wire::arp::Arp;
use crate::wire::icmp::is_redirect;
use crate::wire::ip::{Ipv4, Ipv6, protocol};
use crate::wire::ndp::Ndp;

/// What of the gateway's a container claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Its MAC, as the source of a frame.
    SourceMac,
    /// Its MAC, as the sender's in ARP.
    ArpMac,
    /// This address, as the sender's in ARP.
    ArpAddress(Ipv4Addr),
    /// This address, as the source of an ICMP redirect.
    RedirectSource(Ipv4Addr),
    /// This address, as the source of a neighbour discovery message.
    NeighbourSource(Ipv6Addr),
    /// This address, as the target of an advertisement or redirect.
    NeighbourTarget(Ipv6Addr),
}

/// What an ARP message claims.
pub(super) fn arp(gateway: &Gateway, message: &[u8]) -> Option<Claim> {
    let arp = Arp::parse(message)?;
    if gateway.ipv4.contains(&arp.sender_ip) {
        return Some(Claim::ArpAddress(arp.sender_ip));
    }
    (arp.sender_mac == gateway.mac.get()).then_some(Claim::ArpMac)
}

/// What an ICMP redirect in an IPv4 packet claims.
pub(super) fn redirect(gateway: &Gateway, packet: &[u8]) -> Option<Claim> {
    let packet = Ipv4::parse_lenient(packet).filter(|packet| gateway.ipv4.contains(&packet.source))?;
    is_redirect(packet.payload).then_some(Claim::RedirectSource(packet.source))
}

/// What neighbour discovery in an IPv6 packet claims.
pub(super) fn ndp(gateway: &Gateway, packet: &[u8]) -> Option<Claim> {
    let packet = Ipv6::parse_lenient(packet).filter(|packet| packet.protocol == protocol::ICMPV6)?;
    let message = Ndp::parse(packet.payload)?;
    if gateway.ipv6.contains(&packet.source) {
        return Some(Claim::NeighbourSource(packet.source));
    }
    match message {
        Ndp::Advertisement(target) | Ndp::Redirect(target) if gateway.ipv6.contains(&target) => {
            Some(Claim::NeighbourTarget(target))
        }
        _ => None,
    }
}
