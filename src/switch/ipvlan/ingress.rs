//! For whom a frame is that enters by the uplink.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::egress::{ARP_TARGET, mac, packet, put_mac};
use crate::wire::arp::Arp;
use crate::wire::ip::{IPV4_HEADER, IPV6_HEADER};
use crate::wire::{EtherType, EthernetFrame, Mac};

/// A frame that enters by the uplink.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// To a group: by the rules of the switch.
    Group,
    /// To a group, from an access point that sends each host a copy: to this group address.
    GroupAsUnicast(Mac),
    /// To the host that has this address.
    Host(IpAddr),
    /// Sent by the switch or by its host, and sent back by the network: to be dropped.
    Reflected,
    /// To another MAC address, or without an IP address: not to a host of the switch.
    Other,
}

impl Inbound {
    /// The kind of a frame, with `uplink` as the MAC address of the uplink.
    pub fn of(frame: &EthernetFrame<'_>, uplink: Mac) -> Inbound {
        if frame.src() == uplink {
            return Inbound::Reflected;
        }
        if frame.dst().is_group() {
            return Inbound::Group;
        }
        match destination(frame) {
            Some(address) if frame.dst() == uplink => {
                Mac::of_group(address).map_or(Inbound::Host(address), Inbound::GroupAsUnicast)
            }
            _ => Inbound::Other,
        }
    }
}

/// The address to which a packet goes, or about which an ARP message is.
fn destination(frame: &EthernetFrame<'_>) -> Option<IpAddr> {
    let (ethertype, packet) = packet(frame);
    match ethertype {
        EtherType::ARP => Arp::parse(packet).map(|arp| IpAddr::V4(arp.target_ip)),
        EtherType::IPV4 => {
            let header: &[u8; IPV4_HEADER] = packet.first_chunk()?;
            let octets: [u8; 4] = *header.last_chunk()?;
            Some(IpAddr::V4(Ipv4Addr::from(octets)))
        }
        EtherType::IPV6 => {
            let header: &[u8; IPV6_HEADER] = packet.first_chunk()?;
            let octets: [u8; 16] = *header.last_chunk()?;
            Some(IpAddr::V6(Ipv6Addr::from(octets)))
        }
        _ => None,
    }
}

/// Addresses a frame, whose first bytes are in `head`, to the MAC address `to`: that of a host, or of a group.
pub fn deliver(head: &mut [u8], uplink: Mac, to: Mac) {
    let Some(frame) = EthernetFrame::new_checked(head) else { return };
    let (ethertype, at) = frame.innermost();
    // In a reply to the host.
    if ethertype == EtherType::ARP && mac(head, at + ARP_TARGET) == Some(uplink) {
        put_mac(head, at + ARP_TARGET, to);
    }
    put_mac(head, 0, to);
}
