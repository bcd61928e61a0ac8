//! ARP for the gateway's addresses (RFC 826): requests and probes are answered, by a reply to whoever asked.

use std::net::Ipv4Addr;

use super::{Gateway, GatewayReply};
use crate::wire::arp::Arp;

/// The answer to an ARP message: a reply, if it asks for a gateway's address. A probe asks with an unspecified
/// sender (RFC 5227 §2.1.1) and is told that the address is taken.
pub(super) fn answer(gateway: &Gateway, message: &[u8]) -> Option<GatewayReply> {
    let asked = Arp::parse(message).filter(|arp| arp.operation == Arp::REQUEST)?;
    gateway.ipv4.contains(&asked.target_ip).then_some(GatewayReply::Arp { address: asked.target_ip })
}

/// Turns a request into its reply.
pub(super) fn write(gateway: &Gateway, address: Ipv4Addr, message: &mut [u8]) -> Option<()> {
    let asked = Arp::parse(message)?;
    let reply = Arp {
        operation: Arp::REPLY,
        sender_mac: gateway.mac,
        sender_ip: address,
        target_mac: asked.sender_mac,
        target_ip: asked.sender_ip,
    };
    *message.first_chunk_mut()? = reply.emit();
    Some(())
}
