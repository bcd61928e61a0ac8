//! ARP for the gateway's addresses (RFC 826): replies to requests and probes.

use std::net::Ipv4Addr;

use super::{Gateway, SwitchReply};
use crate::wire::Mac;
use crate::wire::arp::Arp;

/// The reply to an ARP request for an address of the gateway. A probe has an unspecified sender address (RFC
/// 5227 §2.1.1), and the reply reports that the address is in use.
pub(super) fn answer(gateway: &Gateway, message: &[u8]) -> Option<SwitchReply> {
    let asked = Arp::parse(message).filter(|arp| arp.operation == Arp::REQUEST)?;
    gateway.ipv4.contains(&asked.target_ip).then_some(SwitchReply::Arp { address: asked.target_ip })
}

/// Overwrites a request with its reply.
pub(super) fn write(mac: Mac, address: Ipv4Addr, message: &mut [u8]) -> Option<()> {
    let asked = Arp::parse(message)?;
    let reply = Arp {
        operation: Arp::REPLY,
        sender_mac: mac,
        sender_ip: address,
        target_mac: asked.sender_mac,
        target_ip: asked.sender_ip,
    };
    *message.first_chunk_mut()? = reply.emit();
    Some(())
}
