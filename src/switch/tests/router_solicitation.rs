//! Which router solicitations control gets.

use std::net::Ipv6Addr;

use pnet_packet::icmpv6::{Icmpv6Packet, checksum};

use super::*;
use crate::wire::ndp::ALL_ROUTERS_MAC;

const ALL_ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
const LINK_LOCAL: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0x5eff, 0xfe00, 0x530a);
/// The link-layer address of the source.
const SOURCE_OPTION: [u8; 8] = [1, 1, 2, 0, 0x5e, 0, 0x53, 0x0a];

/// A router solicitation from this address, with these options.
fn solicitation(source: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    let mut message = [&[133, 0, 0, 0, 0, 0, 0, 0], options].concat();
    let sum = checksum(&Icmpv6Packet::new(&message).unwrap(), &source, &ALL_ROUTERS);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let length = u8::try_from(message.len()).unwrap();
    let header = [&[0x60, 0, 0, 0, 0, length, 58, 255], &source.octets()[..], &ALL_ROUTERS.octets()].concat();
    [&ALL_ROUTERS_MAC.0[..], &A.0, &[0x86, 0xdd], &header, &message].concat()
}

fn punt(switch: &Switch, ingress: PortId, bytes: &[u8]) -> Option<Punt> {
    let mut outcome = Outcome::default();
    let frame = Frame { bytes, vnet: VnetHeader::default() };
    switch.process(T0, ingress, &frame, &mut outcome, &mut ());
    outcome.punt()
}

#[test]
fn hands_router_solicitations_to_control_if_it_answers_them() {
    let advertising = switch().with_router_advertisements();
    for bytes in [solicitation(LINK_LOCAL, &SOURCE_OPTION), solicitation(Ipv6Addr::UNSPECIFIED, &[])] {
        assert_eq!(punt(&advertising, P1, &bytes), Some(Punt::RouterSolicitation));
        assert_eq!(punt(&advertising, HOST, &bytes), None, "the host is a router itself");
        assert_eq!(punt(&switch(), P1, &bytes), None);
    }
    assert_eq!(punt(&advertising, P1, &frame(ALL_ROUTERS_MAC, A, 60)), None);
}

#[test]
fn hands_solicitations_over_where_snooping_drops_them() {
    let advertising = snooping(&[]).with_router_advertisements();
    let bytes = solicitation(LINK_LOCAL, &[]);
    assert_eq!(run(&advertising, P1, &bytes), Verdict::Drop(DropReason::NoMember));
    assert_eq!(punt(&advertising, P1, &bytes), Some(Punt::RouterSolicitation));
}

#[test]
fn ignores_invalid_router_solicitations() {
    let advertising = switch().with_router_advertisements();
    let valid = solicitation(LINK_LOCAL, &SOURCE_OPTION);
    for (what, at) in [("hop limit", 21), ("type", 54), ("code", 55), ("checksum", 56), ("option", 63)] {
        let mut changed = valid.clone();
        changed[at] ^= 1;
        assert_eq!(punt(&advertising, P1, &changed), None, "{what}");
    }
    for length in 14..valid.len() {
        assert_eq!(punt(&advertising, P1, &valid[..length]), None, "{length} bytes");
    }
    let malformed = [
        solicitation(Ipv6Addr::UNSPECIFIED, &SOURCE_OPTION),
        solicitation(LINK_LOCAL, &[1, 0, 0, 0, 0, 0, 0, 0]),
        solicitation(LINK_LOCAL, &[1]),
    ];
    assert!(malformed.iter().all(|bytes| punt(&advertising, P1, bytes).is_none()));
}
