//! Neighbour solicitations for the gateway's addresses (RFC 4861 §7.2): replies with an advertisement.

use std::net::Ipv6Addr;

use super::{Gateway, SwitchReply};
use crate::wire::Mac;
use crate::wire::ip::Ipv6;
use crate::wire::ndp::{ADVERTISEMENT_LEN, ALL_NODES_MAC, Advertiser, advertisement, solicited};

/// The advertisement that answers a valid solicitation for an address of the gateway.
pub(super) fn answer(gateway: &Gateway, packet: &[u8]) -> Option<SwitchReply> {
    let target = solicited(&Ipv6::parse(packet)?)?;
    gateway.ipv6.contains(&target).then_some(SwitchReply::Neighbour { address: target })
}

/// Overwrites a solicitation with its advertisement. Returns the destination MAC if it is a group, and the
/// length.
pub(super) fn write(
    mac: Mac,
    from: Advertiser,
    target: Ipv6Addr,
    packet: &mut [u8],
) -> Option<(Option<Mac>, usize)> {
    let asker = Ipv6::parse(packet)?.source;
    let group = asker.is_unspecified().then_some(ALL_NODES_MAC);
    *packet.first_chunk_mut()? = advertisement(target, mac, asker, from);
    Some((group, ADVERTISEMENT_LEN))
}
