//! Neighbour solicitations for the gateway's addresses (RFC 4861 §7.2): answered by an advertisement.

use std::net::Ipv6Addr;

use super::{Gateway, GatewayReply};
use crate::wire::Mac;
use crate::wire::ip::Ipv6;
use crate::wire::ndp::{ADVERTISEMENT_LEN, ALL_NODES_MAC, advertisement, solicited};

/// The answer to an IPv6 packet: an advertisement, if it is a valid solicitation for a gateway's address.
pub(super) fn answer(gateway: &Gateway, packet: &[u8]) -> Option<GatewayReply> {
    let target = solicited(&Ipv6::parse(packet)?)?;
    gateway.ipv6.contains(&target).then_some(GatewayReply::Neighbour { address: target })
}

/// Turns a solicitation into its advertisement: the group that it goes to, if not to the asker, and its length.
pub(super) fn write(gateway: &Gateway, target: Ipv6Addr, packet: &mut [u8]) -> Option<(Option<Mac>, usize)> {
    let asker = Ipv6::parse(packet)?.source;
    let group = asker.is_unspecified().then_some(ALL_NODES_MAC);
    *packet.first_chunk_mut()? = advertisement(target, gateway.mac, asker);
    Some((group, ADVERTISEMENT_LEN))
}
