//! A container cannot harm other containers.

use std::net::{Ipv4Addr, Ipv6Addr};

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, Icmpv4Type, Icmpv6Type, IpNumber, Ipv4Header,
    Ipv6Header,
};
use uswitch::wire::Mac;

use crate::harness::{
    Frame, GATEWAY_V4, GATEWAY_V6, LinuxBridge, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch,
    end_marker, ethernet, frame, frames_seen, mac, tagged, v4, v6, wait_until,
};

const GATEWAY: [u8; 4] = [172, 16, 0, 1];

/// The MAC address that `h` has for the gateway.
fn gateway_of(h: &TestNetns) -> Mac {
    asked(h, GATEWAY_V4)
}

/// The MAC address that `h` has for an address, after a ping.
fn asked(h: &TestNetns, address: &str) -> Mac {
    h.run(&format!("ping -n -c 1 -W 5 {address}")).ok();
    neighbour_mac(h, address)
}

/// The MAC address that `h` has for an address.
fn neighbour_mac(h: &TestNetns, address: &str) -> Mac {
    let neighbour = h.run(&format!("ip neigh show {address} dev eth0")).ok();
    let mut words = neighbour.split(' ').skip_while(|&word| word != "lladdr");
    words.nth(1).and_then(|mac| mac.parse().ok()).unwrap_or_else(|| panic!("no MAC in '{neighbour}'"))
}

/// A broadcast ARP packet: "`address` is at `mac`" (RFC 826).
fn arp_claim(operation: ArpOperation, mac: Mac, address: [u8; 4]) -> Frame {
    let packet = ArpPacket::new(
        ArpHardwareId::ETHERNET,
        EtherType::IPV4,
        operation,
        &mac.0,
        &address,
        &Mac::BROADCAST.0,
        &address,
    )
    .expect("addresses of the right length");
    ethernet(Mac::BROADCAST, mac, EtherType::ARP.0, &packet.to_bytes())
}

/// Sends ARP packets that claim the gateway's address. Returns the gateway's MAC address that h2 had before
/// and has afterwards.
fn after_claims<S: TestSwitch>(s: &S) -> (Mac, Mac) {
    let [h1, h2, _] = s.containers();
    let before = gateway_of(&h2);
    let attacker = h1.mac();
    let claims = [ArpOperation::REQUEST, ArpOperation::REPLY].map(|op| arp_claim(op, attacker, GATEWAY));
    let priority_tagged = claims.clone().map(|claim| tagged(&claim, 0));
    frames_seen(&h1, &[claims, priority_tagged].concat(), [&h2]);
    (before, neighbour_mac(&h2, GATEWAY_V4))
}

#[test]
fn rejects_gateway_address_in_arp() {
    let s = Uswitch::start();
    let (before, neighbour_mac) = after_claims(&s);
    assert_eq!(neighbour_mac, before);
    assert!(s.drops("container1", "spoofed_gateway") >= 4);
}

/// Control: a Linux bridge forwards these packets, and the receiver accepts them. So they are well-formed.
#[test]
fn linux_bridge_forwards_gateway_address_in_arp() {
    let s = LinuxBridge::start();
    let (before, neighbour_mac) = after_claims(&s);
    assert_ne!(neighbour_mac, before);
}

/// The same attack with arping.
#[test]
fn rejects_gateway_address_announced_by_arping() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let before = gateway_of(&h2);
    h1.run(&format!("ip addr add {GATEWAY_V4}/32 dev eth0")).ok();
    h1.run(&format!("arping -U -c 3 -w 4 -I eth0 {GATEWAY_V4}"));
    h1.run(&format!("arping -A -c 3 -w 4 -I eth0 {GATEWAY_V4}"));
    assert_eq!(gateway_of(&h2), before);
    assert!(s.drops("container1", "spoofed_gateway") >= 2);
}

/// Which of the frames that h1 sent arrived at h2 and h3.
fn seen_of<S: TestSwitch>(s: &S, claims: &[Frame]) -> [Vec<Frame>; 2] {
    let [h1, h2, h3] = s.containers();
    let captures = [h2, h3].map(|h| h.capture("eth0", "ip6 or icmp or ether proto 0x88b5 or vlan"));
    let last = end_marker();
    h1.send(&[claims, std::slice::from_ref(&last)].concat());
    captures.map(|capture| {
        let seen = capture.until(&last).into_iter();
        seen.filter(|frame| claims.contains(frame)).collect()
    })
}

/// A neighbour advertisement (RFC 4861 §4.4) by container 1 to all nodes: "the gateway is at `mac`", with
/// the router and override flags.
fn advertisement(mac: Mac) -> (Ipv6Header, Vec<u8>) {
    advertisement_of(mac, GATEWAY_V6.parse().expect("an address"))
}

/// The same of another target.
fn advertisement_of(mac: Mac, target: Ipv6Addr) -> (Ipv6Header, Vec<u8>) {
    const ROUTER_AND_OVERRIDE: u8 = 0xa0;
    let ip = Ipv6Header {
        next_header: IpNumber::IPV6_ICMP,
        hop_limit: 255,
        source: v6(1).parse::<Ipv6Addr>().expect("an address").octets(),
        destination: Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).octets(),
        ..Default::default()
    };
    let rest = [&target.octets()[..], &[2, 1], &mac.0].concat();
    let kind = Icmpv6Type::Unknown { type_u8: 136, code_u8: 0, bytes5to8: [ROUTER_AND_OVERRIDE, 0, 0, 0] };
    let header = kind.to_header(ip.source, ip.destination, &rest).expect("a short message");
    (ip, [&header.to_bytes()[..], &rest].concat())
}

/// The packet as a frame to all nodes, with `payload_length` in its header.
fn ipv6_frame(ip: &Ipv6Header, payload_length: usize, payload: &[u8]) -> Frame {
    let payload_length = u16::try_from(payload_length).expect("a short packet");
    let header = Ipv6Header { payload_length, ..ip.clone() }.to_bytes();
    ethernet(Mac([0x33, 0x33, 0, 0, 0, 1]), mac(1), EtherType::IPV6.0, &[&header[..], payload].concat())
}

/// Advertisements of the gateway's address at each of these MACs: plain, behind a hop-by-hop header with
/// payload length 0, and both with a priority tag.
fn neighbour_claims(macs: [Mac; 4]) -> [Frame; 4] {
    let plain = |mac| {
        let (ip, message) = advertisement(mac);
        ipv6_frame(&ip, message.len(), &message)
    };
    let behind_options = |mac| {
        let (ip, message) = advertisement(mac);
        let padding = [IpNumber::IPV6_ICMP.0, 0, 1, 4, 0, 0, 0, 0];
        let ip = Ipv6Header { next_header: IpNumber::IPV6_HEADER_HOP_BY_HOP, ..ip };
        ipv6_frame(&ip, 0, &[&padding[..], &message].concat())
    };
    let [a, b, c, d] = macs;
    [plain(a), behind_options(b), tagged(&plain(c), 0), tagged(&behind_options(d), 0)]
}

#[test]
fn rejects_gateway_address_in_neighbour_advertisement() {
    let s = Uswitch::start();
    let [_, h2, _] = s.containers();
    let before = asked(&h2, GATEWAY_V6);
    let none: [Frame; 0] = [];
    assert_eq!(seen_of(&s, &neighbour_claims([mac(1); 4])), [none.clone(), none]);
    assert_eq!(neighbour_mac(&h2, GATEWAY_V6), before);
    assert_eq!(s.drops("container1", "spoofed_gateway"), 4);
}

/// Disables what makes a Linux bridge drop IPv6 packets with payload length 0: multicast snooping and, if
/// loaded, the netfilter hook (`ipv6_mc_check_mld`, `br_validate_ipv6`).
const LOOK_AT_NO_IPV6: &str = "
ip link set br0 type bridge mcast_snooping 0
hook=/proc/sys/net/bridge/bridge-nf-call-ip6tables
! test -e $hook || echo 0 > $hook";

/// Control: a Linux bridge forwards each of these, and the receiver accepts it. So they are well-formed.
#[test]
fn linux_bridge_forwards_gateway_address_in_neighbour_advertisement() {
    let s = LinuxBridge::start();
    s.host().sh(LOOK_AT_NO_IPV6).ok();
    let [_, h2, _] = s.containers();
    asked(&h2, GATEWAY_V6);
    let macs = [0x11, 0x12, 0x13, 0x14].map(mac);
    for (claim, mac) in neighbour_claims(macs).into_iter().zip(macs) {
        assert_eq!(seen_of(&s, std::slice::from_ref(&claim)), [[claim.clone()], [claim]]);
        assert_eq!(neighbour_mac(&h2, GATEWAY_V6), mac);
    }
}

/// Destinations that h2 reaches by the gateway, until it is redirected.
const DISTANT: [[u8; 4]; 2] = [[198, 51, 100, 1], [198, 51, 100, 2]];

/// An ICMP redirect (RFC 792) in the gateway's name to h2: "reach `distant` through container 1".
fn redirect(h2: &TestNetns, distant: [u8; 4]) -> Frame {
    let address = |container| v4(container).parse::<Ipv4Addr>().expect("an address").octets();
    let header = |length, source, destination| {
        let mut ip =
            Ipv4Header::new(length, 64, IpNumber::ICMP, source, destination).expect("a short packet");
        ip.header_checksum = ip.calc_header_checksum();
        ip.to_bytes()
    };
    let echo_reply = [0; 8];
    let about = [&header(8, address(2), distant)[..], &echo_reply].concat();
    let kind = Icmpv4Type::Unknown { type_u8: 5, code_u8: 1, bytes5to8: address(1) };
    let icmp = etherparse::Icmpv4Header::with_checksum(kind, &about).to_bytes();
    let length = u16::try_from(icmp.len() + about.len()).expect("a short packet");
    let packet = [&header(length, GATEWAY, address(2))[..], &icmp, &about].concat();
    ethernet(h2.mac(), mac(1), EtherType::IPV4.0, &packet)
}

/// Sends redirects, tagged and untagged. Returns what h2 and h3 received, and the routes that h2 uses
/// afterwards.
fn after_redirects<S: TestSwitch>(s: &S) -> ([Vec<Frame>; 2], Vec<String>) {
    let [_, h2, _] = s.containers();
    h2.sh("echo 1 > /proc/sys/net/ipv4/conf/eth0/accept_redirects").ok();
    asked(&h2, &v4(1));
    let [a, b] = DISTANT.map(|distant| redirect(&h2, distant));
    let seen = seen_of(s, &[a, tagged(&b, 0)]);
    let way = |distant| h2.run(&format!("ip route get {}", Ipv4Addr::from(distant))).ok();
    (seen, DISTANT.map(way).to_vec())
}

#[test]
fn rejects_icmp_redirect_from_gateway_address() {
    let s = Uswitch::start();
    let (seen, ways) = after_redirects(&s);
    let none: [Frame; 0] = [];
    assert_eq!(seen, [none.clone(), none]);
    assert!(ways.iter().all(|way| way.contains(&format!("via {GATEWAY_V4} "))), "{ways:?}");
    assert_eq!(s.drops("container1", "spoofed_gateway"), 2);
}

/// Control: a Linux bridge forwards the redirects, and h2 accepts them. So they are well-formed.
#[test]
fn linux_bridge_forwards_icmp_redirect_from_gateway_address() {
    let s = LinuxBridge::start();
    let (seen, ways) = after_redirects(&s);
    assert_eq!(seen.map(|seen| seen.len()), [2, 0], "to h2's MAC");
    assert!(ways.iter().all(|way| way.contains(&format!("via {} ", v4(1)))), "{ways:?}");
}

/// The gateway's MAC as a source is neither learned nor forwarded, tagged or not.
#[test]
fn rejects_gateway_mac_as_source() {
    let s = Uswitch::start();
    let [h1, h2, h3] = s.containers();
    let gateway = gateway_of(&h2);
    let spoof = frame(Mac::BROADCAST, gateway, "I am the gateway");
    let none: [Frame; 0] = [];
    assert_eq!(frames_seen(&h1, &[spoof.clone(), tagged(&spoof, 0)], [&h2, &h3]), [none.clone(), none]);
    assert_ne!(s.port_of(gateway).as_deref(), Some("container1"));
    assert_eq!(s.drops("container1", "spoofed_gateway"), 2);
    h2.run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
}

/// A flood of random sources cannot evict another port's address, nor exceed the size of the table.
#[test]
fn mac_flood_does_not_evict_other_ports() {
    const FDB_MAX: usize = 512;
    let s = Uswitch::with(&format!("--ports 3 --guard off --fdb-max {FDB_MAX}"));
    let [h1, h2, h3] = s.containers();
    h2.run(&format!("ping -n -c 1 -W 5 {}", v4(3))).ok();
    let made_up = (0..20_000u64).map(|n| frame(mac(0xd), Mac::from_u64(0x0200_5e00_0000 + n), "flood"));
    let flood: Vec<Frame> = made_up.collect();
    for part in flood.chunks(200) {
        h1.send(part);
    }
    let to_h3 = [frame(h3.mac(), h2.mac(), "to a known host")];
    assert_eq!(frames_seen(&h2, &to_h3, [&h1, &h3]), [vec![], to_h3.to_vec()]);
    assert!(s.fdb().len() <= FDB_MAX, "{} entries", s.fdb().len());
    assert_eq!(s.port_of(h2.mac()).as_deref(), Some("container2"));
    assert_eq!(s.port_of(h3.mac()).as_deref(), Some("container3"));
    assert!(s.count("container1", "fdb_evictions") > 1000);
    assert_eq!(s.count("container2", "fdb_evictions"), 0);
}

/// The reasons that only a guarded port drops for.
const GUARD_REASONS: [&str; 6] =
    ["spoofed_mac", "spoofed_ip", "spoofed_arp", "spoofed_nd", "rogue_dhcp", "rogue_ra"];

#[test]
fn guarded_containers_stay_usable() {
    let s = guarded();
    let [h1, ..] = s.containers();
    // Links that come up again do duplicate address detection, and send MLD reports and router solicitations.
    h1.sh(
        "ip link set eth0 down; sysctl -q net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.accept_ra=1; \
         ip link set eth0 up",
    )
    .ok();
    h1.run(&format!("ip addr replace {}/64 dev eth0", v6(1))).ok();
    wait_until("the addresses are usable", || {
        let shown = h1.run("ip -6 -o addr show dev eth0").ok();
        shown.contains("fe80::") && !shown.contains("tentative")
    });
    for address in [&v4(2)[..], &v6(2), GATEWAY_V4] {
        h1.run(&format!("ping -n -c 2 -i 0.2 -W 5 {address}")).ok();
    }
    h1.run("ping -n -c 2 -i 0.2 -W 5 ff02::1%eth0").ok();
    h1.run(&format!("arping -D -c 1 -w 3 -I eth0 {}", v4(9))).ok();
    h1.send(&[dhcp(68, 67, Ipv4Addr::UNSPECIFIED)]);
    wait_until("the DHCP request was forwarded", || s.count("container1", "flooded") > 0);
    for reason in GUARD_REASONS {
        assert_eq!(s.drops("container1", reason), 0, "{reason}");
    }
}

/// A UDP datagram from container 1 to all, from this address and between these ports, with its MAC where DHCP has it.
fn dhcp(source_port: u16, destination_port: u16, source: Ipv4Addr) -> Frame {
    const CHADDR: usize = 28;
    let (mut frame, mut message) = (Vec::new(), [2; 240]);
    message[CHADDR..CHADDR + 6].copy_from_slice(&own_mac().0);
    etherparse::PacketBuilder::ethernet2(own_mac().0, Mac::BROADCAST.0)
        .ipv4(source.octets(), [255; 4], 64)
        .udp(source_port, destination_port)
        .write_to_vec(&mut frame, &message)
        .expect("a short packet");
    frame
}

/// A switch with the guard, whose MAC addresses the tests know.
fn guarded() -> Uswitch {
    Uswitch::with("--ports 3 --mac-prefix 02:00:5e:10")
}

/// The MAC of container 1 of that switch.
fn own_mac() -> Mac {
    Mac([0x02, 0x00, 0x5e, 0x10, 0, 1])
}

#[test]
fn guard_rejects_stolen_mac() {
    let s = guarded();
    let [h1, h2, h3] = s.containers();
    h3.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let stolen = frame(Mac::BROADCAST, h2.mac(), "I am container 2");
    let none: [Frame; 0] = [];
    assert_eq!(
        seen_guarded(&h1, &[stolen.clone(), tagged(&stolen, 0), tagged(&stolen, 5)], [&h2, &h3]),
        [none.clone(), none]
    );
    assert_eq!(s.port_of(h2.mac()).as_deref(), Some("container2"));
    assert_eq!(s.drops("container1", "spoofed_mac"), 3);
    // The same with the device's own address: frames of container1's kernel are dropped too.
    h1.run(&format!("ip link set eth0 address {}", h2.mac())).ok();
    h1.run(&format!("ping -n -c 1 -W 1 {}", v4(3))).fails();
    h3.run(&format!("ping -n -c 3 -i 0.2 -W 5 {}", v4(2))).ok();
    assert_eq!(s.port_of(h2.mac()).as_deref(), Some("container2"));
}

/// As [`frames_seen`], whose last frame has a made-up source MAC: here it has that of container 1, and a made-up group
/// as its destination.
fn seen_guarded<const N: usize>(from: &TestNetns, frames: &[Frame], at: [&TestNetns; N]) -> [Vec<Frame>; N] {
    let captures = at.map(|h| h.capture("eth0", TEST_FRAMES));
    from.send(frames);
    let mut end = end_marker();
    end.copy_within(6..12, 0);
    end[0] |= 1;
    end[6..12].copy_from_slice(&own_mac().0);
    from.send(&[end.clone()]);
    captures.map(|capture| capture.until(&end))
}

#[test]
fn guard_rejects_spoofed_ip_addresses() {
    let s = guarded();
    let [h1, h2, h3] = s.containers();
    let [before4, before6] = [&v4(2)[..], &v6(2)].map(|address| asked(&h3, address));
    h1.sh(&format!("ip addr add {}/32 dev eth0; ip addr add {}/128 dev eth0 nodad", v4(2), v6(2))).ok();
    h1.run(&format!("arping -U -c 3 -w 4 -I eth0 {}", v4(2)));
    assert!(s.drops("container1", "spoofed_arp") >= 3);
    h1.run(&format!("ping -n -c 1 -W 1 -I {} {}", v4(2), v4(3))).fails();
    h1.run(&format!("ping -n -c 1 -W 1 -I {} {}", v6(2), v6(3))).fails();
    assert!(s.drops("container1", "spoofed_ip") > 0);
    let claims = [neighbour_claim_by(own_mac(), &v6(2)), neighbour_claim_by(mac(1), &v6(1))];
    h1.send(&claims);
    wait_until("the advertisements were dropped", || s.drops("container1", "spoofed_nd") >= 2);
    assert_eq!([neighbour_mac(&h3, &v4(2)), neighbour_mac(&h3, &v6(2))], [before4, before6]);
    assert_eq!([before4, before6], [h2.mac(); 2]);
}

/// An unsolicited advertisement by container 1: "`target` is at `mac`".
fn neighbour_claim_by(mac: Mac, target: &str) -> Frame {
    let (ip, message) = advertisement_of(mac, target.parse().expect("an address"));
    let mut frame = ipv6_frame(&ip, message.len(), &message);
    frame[6..12].copy_from_slice(&own_mac().0);
    frame
}

#[test]
fn guard_rejects_routers_and_dhcp_servers() {
    const ROUTER_ADVERTISEMENT: [u8; 16] = [134, 0, 0, 0, 64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let s = guarded();
    let [h1, ..] = s.containers();
    let (ip, _) = advertisement(mac(1));
    let mut router = ipv6_frame(&ip, 16, &ROUTER_ADVERTISEMENT);
    router[6..12].copy_from_slice(&own_mac().0);
    let server = dhcp(67, 68, v4(1).parse().expect("an address"));
    h1.send(&[router.clone(), tagged(&router, 0), server.clone(), tagged(&server, 0)]);
    wait_until("all were dropped", || {
        [s.drops("container1", "rogue_ra"), s.drops("container1", "rogue_dhcp")] == [2, 2]
    });
}

/// The same with and without the guard.
#[test]
fn rejects_packets_from_gateway_address() {
    let s = guarded();
    let [h1, ..] = s.containers();
    for (guard, count) in [("on", 1), ("off", 2)] {
        s.host().run(&format!("uswitch port set container1 --guard {guard}")).ok();
        h1.send(&[dhcp(53, 5353, GATEWAY.into())]);
        wait_until("it was dropped", || s.drops("container1", "spoofed_gateway") == count);
    }
}

#[test]
fn port_set_changes_the_guard() {
    let s = guarded();
    let [h1, h2, h3] = s.containers();
    assert_eq!(s.row("port show", "container1")["source_guard"], true);
    let frames = [frame(Mac::BROADCAST, mac(9), "a made-up source")];
    assert_eq!(seen_guarded(&h1, &frames, [&h2, &h3]), [vec![], vec![] as Vec<Frame>]);
    s.host().run("uswitch port set container1 --guard off").ok();
    assert_eq!(s.row("port show", "container1")["source_guard"], false);
    assert_eq!(seen_guarded(&h1, &frames, [&h2, &h3]), [frames.to_vec(), frames.to_vec()]);
    s.host().run("uswitch port set container1 --guard on").ok();
    assert_eq!(seen_guarded(&h1, &frames, [&h2, &h3]), [vec![], vec![] as Vec<Frame>]);
    assert_eq!(s.drops("container1", "spoofed_mac"), 2);
    s.host().run("uswitch port set container2 --guard off").ok();
    let status = s.host().run("uswitch status").ok();
    assert!(status.lines().any(|line| line.trim() == "guard      on, off at container2"), "{status}");
    let said = s.host().run("uswitch port set host --guard off").fails();
    assert!(said.contains("the host port has no guard"), "{said}");
    let said =
        s.host().run(&format!("uswitch trace --in container1 --arp-for {} --src {}", v4(3), mac(9))).ok();
    assert!(said.contains("guard"), "{said}");
}

#[test]
fn guard_is_off_in_existing_namespaces() {
    let s = Uswitch::with("--ports 1");
    s.host().run("ip netns add mine").ok();
    let said = s.host().sh("uswitch port add mine --netns mine 2>&1 >/dev/null").ok();
    assert!(said.contains("the guard is off on this port"), "{said}");
    assert_eq!(s.row("port show", "mine")["source_guard"], false);
    s.host().run("ip netns add yours").ok();
    let said = s.host().sh("uswitch port add yours --netns yours --guard=on 2>&1 >/dev/null").ok();
    assert_eq!(said, "");
    assert_eq!(s.row("port show", "yours")["source_guard"], true);
}
