//! PIM (RFC 7761), as far as a switch must know it to find multicast routers.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::EtherType;
use super::ip::{Ipv4, Ipv6, protocol};

/// All PIM routers (RFC 7761 §4.3.1): the destination of hellos.
const ALL_ROUTERS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(224, 0, 0, 13)), IpAddr::V6(Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 0xd))];
/// Version 2, type 0 (§4.9).
const HELLO: u8 = 0x20;

/// Whether a packet is a hello, with which a router makes itself known to its neighbours. Checks as much as Linux
/// (`br_multicast_pim`): not the checksum.
pub fn is_hello(ethertype: EtherType, packet: &[u8]) -> bool {
    let parsed = match ethertype {
        EtherType::IPV4 => {
            Ipv4::parse(packet).map(|ip| (ip.destination.into(), ip.protocol, ip.fragment, ip.payload))
        }
        EtherType::IPV6 => {
            Ipv6::parse(packet).map(|ip| (ip.destination.into(), ip.protocol, ip.fragment, ip.payload))
        }
        _ => None,
    };
    parsed.is_some_and(|(destination, number, fragment, message)| {
        number == protocol::PIM
            && ALL_ROUTERS.contains(&destination)
            && !fragment
            && message.first() == Some(&HELLO)
    })
}
