//! What one container can do to the others: nothing.

use etherparse::{ArpHardwareId, ArpOperation, ArpPacket, EtherType};
use uswitch::wire::Mac;

use crate::harness::{
    Frame, GATEWAY_V4, LinuxBridge, Netns, Shell, Subject, Uswitch, ethernet, frame, mac, seen, tagged, v4,
};

const GATEWAY: [u8; 4] = [172, 16, 0, 1];

/// Who everybody thinks the gateway is.
fn gateway_of(h: &Netns) -> Mac {
    h.run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
    let neighbour = h.run(&format!("ip neigh show {GATEWAY_V4} dev eth0")).ok();
    let mut words = neighbour.split(' ').skip_while(|&word| word != "lladdr");
    words.nth(1).and_then(|mac| mac.parse().ok()).unwrap_or_else(|| panic!("no MAC in '{neighbour}'"))
}

/// An ARP packet that says "`address` is at `mac`" (RFC 826), to everybody.
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

/// Sends what claims the gateway's address, and tells whom h2 then takes for the gateway.
fn after_claims<S: Subject>(s: &S) -> (Mac, Mac) {
    let [h1, h2, _] = s.containers();
    let genuine = gateway_of(&h2);
    let impostor = h1.mac();
    let claims = [ArpOperation::REQUEST, ArpOperation::REPLY].map(|op| arp_claim(op, impostor, GATEWAY));
    let priority_tagged = claims.clone().map(|claim| tagged(&claim, 0));
    seen(&h1, &[claims, priority_tagged].concat(), [&h2]);
    let neighbour = h2.run(&format!("ip neigh show {GATEWAY_V4} dev eth0")).ok();
    assert!(neighbour.contains("lladdr"), "{neighbour}");
    let believed = neighbour.split(' ').skip_while(|&word| word != "lladdr").nth(1);
    (genuine, believed.and_then(|mac| mac.parse().ok()).expect("a MAC"))
}

#[test]
fn gateway_address_claimed() {
    let s = Uswitch::start();
    let (genuine, believed) = after_claims(&s);
    assert_eq!(believed, genuine);
    assert!(s.drops("container1", "spoofed_gateway") >= 4);
}

/// Control: through the kernel's bridge the claims arrive and are believed, so they are well made.
#[test]
fn gateway_address_claimed_on_the_linux_bridge() {
    let s = LinuxBridge::start();
    let (genuine, believed) = after_claims(&s);
    assert_ne!(believed, genuine);
}

/// A program that others wrote tries the same.
#[test]
fn gateway_address_announced_by_arping() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let genuine = gateway_of(&h2);
    h1.run(&format!("ip addr add {GATEWAY_V4}/32 dev eth0")).ok();
    h1.run(&format!("arping -U -c 3 -w 4 -I eth0 {GATEWAY_V4}"));
    h1.run(&format!("arping -A -c 3 -w 4 -I eth0 {GATEWAY_V4}"));
    assert_eq!(gateway_of(&h2), genuine);
    assert!(s.drops("container1", "spoofed_gateway") >= 2);
}

/// The gateway's MAC as a source: neither learned nor forwarded, tagged or not.
#[test]
fn gateway_mac_as_source() {
    let s = Uswitch::start();
    let [h1, h2, h3] = s.containers();
    let gateway = gateway_of(&h2);
    let spoof = frame(Mac::BROADCAST, gateway, "I am the gateway");
    let none: [Frame; 0] = [];
    assert_eq!(seen(&h1, &[spoof.clone(), tagged(&spoof, 0)], [&h2, &h3]), [none.clone(), none]);
    assert_ne!(s.port_of(gateway).as_deref(), Some("container1"));
    assert_eq!(s.drops("container1", "spoofed_gateway"), 2);
    h2.run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
}

/// A flood of made-up sources cannot push out another port's address, nor grow the table.
#[test]
fn mac_flood() {
    const FDB_MAX: usize = 512;
    let s = Uswitch::with(&format!("--ports 3 --fdb-max {FDB_MAX}"));
    let [h1, h2, h3] = s.containers();
    h2.run(&format!("ping -n -c 1 -W 5 {}", v4(3))).ok();
    let made_up = (0..20_000u64).map(|n| frame(mac(0xd), Mac::from_u64(0x0200_5e00_0000 + n), "flood"));
    let flood: Vec<Frame> = made_up.collect();
    for part in flood.chunks(200) {
        h1.send(part);
    }
    let to_h3 = [frame(h3.mac(), h2.mac(), "to a known station")];
    assert_eq!(seen(&h2, &to_h3, [&h1, &h3]), [vec![], to_h3.to_vec()]);
    assert!(s.fdb().len() <= FDB_MAX, "{} entries", s.fdb().len());
    assert_eq!(s.port_of(h2.mac()).as_deref(), Some("container2"));
    assert_eq!(s.port_of(h3.mac()).as_deref(), Some("container3"));
    assert!(s.count("container1", "fdb_evictions") > 1000);
    assert_eq!(s.count("container2", "fdb_evictions"), 0);
}
