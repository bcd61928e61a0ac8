//! What a guarded port may send, and what it may not, frame by frame.

use etherparse::PacketBuilder;

use super::*;
use crate::switch::fdb::FdbKey;
use crate::switch::{DropReason, Fault, Frame, Gateway, Outcome, Port, Switch, SwitchConfig, Tick, Verdict};
use crate::wire::arp::Arp;
use crate::wire::{EtherType, VnetHeader};

const GATEWAY: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x01]);
const OWN: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0a]);
const OTHER: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0b]);
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OWN4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const OWN6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 11);
const NODES6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const GUARDED: PortId = PortId(0);
const UNGUARDED: PortId = PortId(1);
const PORT: Port = Port { up: true, host: false, offload: true, mtu: 1500 };

fn identity() -> Identity {
    Identity { mac: OWN, addresses: vec![OWN4.into(), OWN6.into()], ..Identity::default() }
}

fn switch() -> Switch {
    let gateway = Gateway { mac: GATEWAY.into(), ipv4: vec![GATEWAY4], ipv6: Vec::new() };
    let switch = Switch::new(SwitchConfig { ageing: 3000, fdb_max: 64, seed: 7, gateway });
    for port in [GUARDED, UNGUARDED, PortId(2)] {
        assert_eq!(switch.ports.add(PORT), Some(port));
    }
    switch.set_guard(GUARDED, Some(&identity()));
    switch
}

fn process(switch: &Switch, ingress: PortId, bytes: &[u8]) -> Outcome {
    let mut outcome = Outcome::default();
    let frame = Frame { bytes, vnet: VnetHeader::default() };
    switch.process(Tick(0), ingress, &frame, &mut outcome, &mut ());
    outcome
}

/// The drop reason on the guarded port, which is that of the violation.
fn refused(bytes: &[u8]) -> Option<DropReason> {
    let outcome = process(&switch(), GUARDED, bytes);
    match outcome.verdict() {
        Verdict::Drop(reason) => {
            assert_eq!(outcome.fault().map(Fault::reason), Some(reason));
            Some(reason)
        }
        _ => None,
    }
}

/// Refused on the guarded port, and not on the other.
#[track_caller]
fn refuses(reason: DropReason, bytes: &[u8]) {
    assert_eq!(refused(bytes), Some(reason));
    let verdict = process(&switch(), UNGUARDED, bytes).verdict();
    assert!(!matches!(verdict, Verdict::Drop(_)), "without the guard: {verdict:?}");
}

#[track_caller]
fn accepts(bytes: &[u8]) {
    assert_eq!(refused(bytes), None);
}

fn ethernet(source: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    [&Mac::BROADCAST.0[..], &source.0, &ethertype.0.to_be_bytes(), payload].concat()
}

/// The frame with bytes after its addresses.
fn with(frame: &[u8], after_addresses: &[u8]) -> Vec<u8> {
    [&frame[..12], after_addresses, &frame[12..]].concat()
}

fn arp(operation: u16, sender: (Mac, Ipv4Addr)) -> Vec<u8> {
    let (sender_mac, sender_ip) = sender;
    let arp = Arp { operation, sender_mac, sender_ip, target_mac: Mac::ZERO, target_ip: OTHER4 };
    ethernet(OWN, EtherType::ARP, &arp.emit())
}

fn udp4(source: Ipv4Addr, ports: (u16, u16)) -> Vec<u8> {
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(OWN.0, Mac::BROADCAST.0)
        .ipv4(source.octets(), [255; 4], 64)
        .udp(ports.0, ports.1)
        .write_to_vec(&mut frame, b"data")
        .unwrap();
    frame
}

fn udp6(source: Ipv6Addr, ports: (u16, u16)) -> Vec<u8> {
    ipv6(source, 17, &[&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &[0, 8, 0, 0]].concat())
}

fn ipv6(source: Ipv6Addr, next: u8, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
    let fixed = [0x60, 0, 0, 0, length[0], length[1], next, 255];
    let packet = [&fixed[..], &source.octets(), &NODES6.octets(), payload].concat();
    ethernet(OWN, EtherType::IPV6, &packet)
}

/// Neighbour discovery of this type about a target.
fn nd(source: Ipv6Addr, kind: u8, target: Ipv6Addr, options: &[u8]) -> Vec<u8> {
    ipv6(source, 58, &[&[kind, 0, 0, 0, 0, 0, 0, 0], &target.octets()[..], options].concat())
}

/// An option with a link-layer address.
fn link(kind: u8, mac: Mac) -> Vec<u8> {
    [&[kind, 1][..], &mac.0].concat()
}

#[test]
fn accepts_the_ports_own_addresses() {
    accepts(&udp4(OWN4, (5000, 53)));
    accepts(&udp6(OWN6, (5000, 53)));
    accepts(&udp6(link_local(OWN), (5000, 53)));
    accepts(&arp(Arp::REQUEST, (OWN, OWN4)));
    accepts(&arp(Arp::REPLY, (OWN, OWN4)));
    accepts(&nd(OWN6, 135, OTHER6, &link(1, OWN)));
    accepts(&nd(OWN6, 136, OWN6, &link(2, OWN)));
    accepts(&nd(link_local(OWN), 136, link_local(OWN), &link(2, OWN)));
    accepts(&ethernet(OWN, EtherType(0x88b5), b"anything else"));
}

#[test]
fn link_local_address_is_that_of_the_mac() {
    assert_eq!(
        link_local(Mac([0x02, 0x5e, 0x10, 0, 0, 1])),
        "fe80::5e:10ff:fe00:1".parse::<Ipv6Addr>().unwrap()
    );
}

#[test]
fn accepts_hosts_without_an_address() {
    let unspecified = Ipv6Addr::UNSPECIFIED;
    accepts(&arp(Arp::REQUEST, (OWN, Ipv4Addr::UNSPECIFIED)));
    accepts(&udp4(Ipv4Addr::UNSPECIFIED, (68, 67)));
    let mut igmp = udp4(Ipv4Addr::UNSPECIFIED, (0, 0));
    igmp[14 + 9] = 2;
    igmp[14 + 16..14 + 20].copy_from_slice(&[224, 0, 0, 22]);
    accepts(&igmp);
    accepts(&nd(unspecified, 135, OWN6, &[]));
    accepts(&nd(unspecified, 135, link_local(OWN), &[]));
    accepts(&ipv6(unspecified, 58, &[133, 0, 0, 0, 0, 0, 0, 0]));
    let router_alert = [58, 0, 5, 2, 0, 0, 1, 0];
    accepts(&ipv6(unspecified, 0, &[&router_alert[..], &[143, 0, 0, 0, 0, 0, 0, 0]].concat()));
}

#[test]
fn rejects_other_macs() {
    refuses(DropReason::SpoofedMac, &ethernet(OTHER, EtherType(0x88b5), b"not mine"));
    let tagged = with(&ethernet(OTHER, EtherType(0x88b5), b"not mine"), &[0x81, 0, 0, 5]);
    refuses(DropReason::SpoofedMac, &tagged);
}

#[test]
fn rejects_other_source_addresses() {
    for source in [OTHER4, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, Ipv4Addr::new(8, 8, 8, 8)] {
        refuses(DropReason::SpoofedIp, &udp4(source, (5000, 53)));
    }
    for source in [OTHER6, Ipv6Addr::LOCALHOST, link_local(OTHER), NODES6] {
        refuses(DropReason::SpoofedIp, &udp6(source, (5000, 53)));
        refuses(DropReason::SpoofedIp, &ipv6(source, 6, &[0; 20]));
        refuses(DropReason::SpoofedIp, &nd(source, 135, OWN6, &link(1, OWN)));
    }
    refuses(DropReason::SpoofedIp, &udp4(Ipv4Addr::UNSPECIFIED, (5000, 53)));
    refuses(DropReason::SpoofedIp, &udp6(Ipv6Addr::UNSPECIFIED, (5000, 53)));
    refuses(DropReason::SpoofedIp, &ipv6(Ipv6Addr::UNSPECIFIED, 58, &[128, 0, 0, 0, 0, 0, 0, 0]));
    assert_eq!(refused(&udp4(GATEWAY4, (53, 5000))), Some(DropReason::SpoofedGateway));
}

#[test]
fn checks_packets_with_wrong_length_options_or_checksum() {
    let good = udp4(OTHER4, (5000, 53));
    for (what, at, value) in [("total length 0", 17, 0), ("options", 14, 0x47), ("bad checksum", 24, 1)] {
        let mut frame = good.clone();
        frame[at] = value;
        assert_eq!(refused(&frame), Some(DropReason::SpoofedIp), "{what}");
    }
    let mut fragment = good.clone();
    fragment[20..22].copy_from_slice(&[0, 1]);
    assert_eq!(refused(&fragment), Some(DropReason::SpoofedIp));
}

#[test]
fn rejects_arp_for_others() {
    for operation in [Arp::REQUEST, Arp::REPLY, 3, 9] {
        refuses(DropReason::SpoofedArp, &arp(operation, (OWN, OTHER4)));
        refuses(DropReason::SpoofedArp, &arp(operation, (OTHER, OWN4)));
    }
    refuses(DropReason::SpoofedArp, &arp(Arp::REPLY, (OWN, Ipv4Addr::UNSPECIFIED)));
    assert_eq!(refused(&arp(Arp::REPLY, (OWN, GATEWAY4))), Some(DropReason::SpoofedGateway));
}

#[test]
fn finds_arp_behind_priority_tags_and_snap() {
    let spoofed = arp(Arp::REPLY, (OWN, OTHER4));
    refuses(DropReason::SpoofedArp, &with(&spoofed, &[0x81, 0, 0xe0, 0]));
    refuses(DropReason::SpoofedArp, &with(&spoofed, &[0x88, 0xa8, 0, 0, 0x81, 0, 0, 0]));
    refuses(DropReason::SpoofedArp, &with(&spoofed, &[0, 36, 0xaa, 0xaa, 3, 0, 0, 0]));
    refuses(DropReason::SpoofedArp, &with(&spoofed, &[0x81, 0, 0, 0, 0, 36, 0xaa, 0xaa, 3, 0, 0, 0]));
    accepts(&with(&spoofed, &[0x81, 0, 0, 5]));
}

#[test]
fn limits_skipped_tags_and_headers() {
    let tags = |count| with(&arp(Arp::REPLY, (OWN, OTHER4)), &[0x81, 0, 0, 0].repeat(count));
    refuses(DropReason::SpoofedArp, &tags(8));
    assert_eq!(refused(&tags(9)), Some(DropReason::TooManyHeaders));
    assert_eq!(refused(&tags(16_000)), Some(DropReason::TooManyHeaders));
    let chain = |count: usize| {
        let mut options = [60, 0, 1, 4, 0, 0, 0, 0].repeat(count);
        options[8 * (count - 1)] = 17;
        ipv6(OWN6, 60, &[&options[..], &[0x13, 0x88, 0, 53, 0, 8, 0, 0]].concat())
    };
    accepts(&chain(16));
    assert_eq!(refused(&chain(17)), Some(DropReason::TooManyHeaders));
}

#[test]
fn rejects_nd_for_others() {
    let cases = [
        ("advertises another's address", nd(OWN6, 136, OTHER6, &link(2, OWN))),
        ("advertises another's link-local address", nd(OWN6, 136, link_local(OTHER), &link(2, OWN))),
        ("advertises another MAC", nd(OWN6, 136, OWN6, &link(2, OTHER))),
        ("solicits for another MAC", nd(OWN6, 135, OTHER6, &link(1, OTHER))),
        ("a second option", nd(OWN6, 136, OWN6, &[link(2, OWN), link(2, OTHER)].concat())),
        (
            "an unknown option first",
            nd(OWN6, 136, OWN6, &[vec![14, 1, 0, 0, 0, 0, 0, 0], link(2, OTHER)].concat()),
        ),
        ("a long option", nd(OWN6, 136, OWN6, &[&[2, 2][..], &OWN.0, &[0; 8]].concat())),
        ("an option of length 0", nd(OWN6, 136, OWN6, &[2, 0, 0, 0, 0, 0, 0, 0])),
        ("a truncated option", nd(OWN6, 136, OWN6, &[2, 1, 0, 0])),
        ("a truncated message", ipv6(OWN6, 58, &[136, 0, 0, 0, 0, 0, 0, 0])),
        ("prevents another's duplicate address detection", nd(Ipv6Addr::UNSPECIFIED, 135, OTHER6, &[])),
        ("a redirect", nd(OWN6, 137, OWN6, &[0; 16])),
        (
            "a router solicitation",
            ipv6(OWN6, 58, &[&[133, 0, 0, 0, 0, 0, 0, 0][..], &link(1, OTHER)].concat()),
        ),
    ];
    for (what, frame) in cases {
        assert_eq!(refused(&frame), Some(DropReason::SpoofedNd), "{what}");
    }
}

#[test]
fn finds_nd_behind_extension_headers() {
    let message = [&[136, 0, 0, 0, 0, 0, 0, 0][..], &OTHER6.octets()].concat();
    let padding = [58, 0, 1, 4, 0, 0, 0, 0];
    refuses(DropReason::SpoofedNd, &ipv6(OWN6, 60, &[&padding[..], &message].concat()));
    let mut jumbo = ipv6(OWN6, 0, &[&padding[..], &message].concat());
    jumbo[18..20].fill(0);
    refuses(DropReason::SpoofedNd, &jumbo);
    let atomic = [58, 0, 0, 0, 0, 0, 0, 7];
    assert_eq!(refused(&ipv6(OWN6, 44, &[&atomic[..], &message].concat())), Some(DropReason::FragmentedNd));
}

#[test]
fn ignores_padding_after_nd() {
    let frame = nd(OWN6, 136, OWN6, &link(2, OWN));
    accepts(&[&frame[..], &[0; 4]].concat());
}

#[test]
fn rejects_routers_and_dhcp_servers() {
    let advertisement = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    refuses(DropReason::RogueRa, &ipv6(link_local(OWN), 58, &advertisement));
    let padding = [58, 0, 1, 4, 0, 0, 0, 0];
    refuses(DropReason::RogueRa, &ipv6(OWN6, 60, &[&padding[..], &advertisement].concat()));
    for ports in [(67, 68), (5000, 68), (67, 67)] {
        refuses(DropReason::RogueDhcp, &udp4(OWN4, ports));
        refuses(DropReason::RogueDhcp, &with(&udp4(OWN4, ports), &[0x81, 0, 0, 0]));
    }
    for ports in [(547, 546), (5000, 546), (547, 547)] {
        refuses(DropReason::RogueDhcp, &udp6(OWN6, ports));
    }
    let mut with_options = with(&udp4(OWN4, (67, 68)), &[]);
    with_options[14] = 0x46;
    with_options.splice(34..34, [1; 4]);
    refuses(DropReason::RogueDhcp, &with_options);
    let mut first = udp4(OWN4, (67, 68));
    first[20] = 0x20;
    refuses(DropReason::RogueDhcp, &first);
    accepts(&udp4(OWN4, (68, 67)));
    accepts(&udp6(OWN6, (546, 547)));
}

/// So a container cannot end or take the lease of another.
#[test]
fn rejects_dhcp_client_with_another_mac() {
    let request = |mac: Mac, length| {
        let mut frame = udp4(Ipv4Addr::UNSPECIFIED, (68, 67));
        frame.resize(42 + 28, 0);
        frame.extend(mac.0);
        frame.truncate(length);
        frame
    };
    let whole = 42 + 28 + 6;
    accepts(&request(OWN, whole));
    refuses(DropReason::SpoofedMac, &request(OTHER, whole));
    accepts(&request(OTHER, whole - 1));
}

#[test]
fn compares_all_addresses_up_to_the_limit() {
    let switch = switch();
    let addresses = (0..40u8).map(|n| IpAddr::V4(Ipv4Addr::new(198, 51, 100, n)));
    let identity = Identity { addresses: addresses.collect(), ..identity() };
    switch.set_guard(GUARDED, Some(&identity));
    let verdict = |n: u8| {
        let bytes = udp4(Ipv4Addr::new(198, 51, 100, n), (5000, 53));
        process(&switch, GUARDED, &bytes).verdict()
    };
    for n in 0..16 {
        assert_eq!(verdict(n), Verdict::Flood, "address {n}");
    }
    assert_eq!(verdict(16), Verdict::Drop(DropReason::SpoofedIp));
}

/// The address that the kernel makes of an advertised prefix, also after a change of the MAC. Others, such as temporary
/// addresses (RFC 8981), are not accepted.
#[test]
fn accepts_the_address_of_the_mac_in_advertised_prefixes() {
    let [prefix, other] = ["2001:db8:5::", "2001:db8:6::"].map(|prefix| prefix.parse::<Ipv6Addr>().unwrap());
    let switch = switch();
    let identity = Identity { prefixes: vec![prefix], earlier_mac: Some(OTHER), ..identity() };
    switch.set_guard(GUARDED, Some(&identity));
    let verdict = |address: Ipv6Addr| process(&switch, GUARDED, &udp6(address, (5000, 53))).verdict();
    assert_eq!(verdict("2001:db8:5:0:0:5eff:fe00:530a".parse().unwrap()), Verdict::Flood);
    assert_eq!(verdict(autoconfigured(prefix, OTHER)), Verdict::Flood, "made of the earlier MAC");
    for address in [autoconfigured(other, OWN), "2001:db8:5::1".parse().unwrap()] {
        assert_eq!(verdict(address), Verdict::Drop(DropReason::SpoofedIp), "{address}");
    }
}

#[test]
fn follows_changes() {
    let switch = switch();
    let verdict = |source, mac: Mac| {
        let mut bytes = udp4(source, (5000, 53));
        bytes[6..12].copy_from_slice(&mac.0);
        process(&switch, GUARDED, &bytes).verdict()
    };
    switch.set_guard(GUARDED, None);
    assert_eq!(switch.guards.mac(GUARDED), None);
    assert_eq!(verdict(OTHER4, OTHER), Verdict::Flood);
    let addresses = vec![OTHER4.into()];
    let other = Identity { mac: OTHER, addresses, earlier_mac: Some(OWN), ..Identity::default() };
    switch.set_guard(GUARDED, Some(&other));
    assert_eq!(verdict(OTHER4, OTHER), Verdict::Flood);
    assert_eq!(verdict(OWN4, OTHER), Verdict::Drop(DropReason::SpoofedIp));
    assert_eq!(verdict(OWN4, OWN), Verdict::Drop(DropReason::SpoofedMac));
}

#[test]
fn mac_of_a_guarded_port_is_not_learned_elsewhere() {
    let switch = switch();
    let frame = |ingress| {
        let bytes = ethernet(OWN, EtherType(0x88b5), b"I am here");
        process(&switch, ingress, &bytes);
    };
    let key = FdbKey { vlan: 0, mac: OWN };
    frame(UNGUARDED);
    assert_eq!(switch.fdb.lookup(Tick(0), key), None, "before the first frame of its owner");
    frame(GUARDED);
    frame(UNGUARDED);
    assert_eq!(switch.fdb.lookup(Tick(0), key), Some(GUARDED));
    switch.set_guard(GUARDED, None);
    frame(UNGUARDED);
    assert_eq!(switch.fdb.lookup(Tick(0), key), Some(UNGUARDED));
    switch.set_guard(GUARDED, Some(&identity()));
    assert_eq!(switch.fdb.lookup(Tick(0), key), None, "its owner takes it back");
}
