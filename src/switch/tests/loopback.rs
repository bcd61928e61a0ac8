//! Packets from and to 127.0.0.0/8.

use super::vlan::tagged;
use super::*;

/// An IPv4 packet from A, with these source and destination addresses.
pub(super) fn packet(destination: Mac, addresses: [[u8; 4]; 2]) -> Vec<u8> {
    let header = [&[0x45, 0, 0, 46, 0, 0, 0, 0, 64, 17, 0, 0][..], &addresses.concat(), &[0; 26]].concat();
    [&destination.0[..], &A.0, &EtherType::IPV4.0.to_be_bytes(), &header].concat()
}

/// 127.0.0.1 of the host is open to its own programs only, whatever its kernel does with such packets.
#[test]
fn host_gets_no_packet_from_or_to_loopback_addresses() {
    const OWN: [u8; 4] = [192, 0, 2, 10];
    const LOOPBACK: [u8; 4] = [127, 255, 0, 9];
    let switch = switch();
    let martian = Verdict::Refused { egress: HOST, reason: DropReason::Martian };
    for addresses in [[OWN, LOOPBACK], [LOOPBACK, OWN]] {
        let bytes = packet(GATEWAY, addresses);
        let priority_tagged = [&bytes[..12], &[0x81, 0, 0, 0], &bytes[12..]].concat();
        assert_eq!([&bytes, &priority_tagged].map(|bytes| run(&switch, P1, bytes)), [martian; 2]);
        for destination in [Mac::BROADCAST, B] {
            let flooded = packet(destination, addresses);
            let (outcome, _) = decide(&switch, P1, &Frame { bytes: &flooded, vnet: VnetHeader::default() });
            assert_eq!(outcome.refused(), [(HOST, DropReason::Martian)]);
            assert!(outcome.egress_ports().eq([P2, P3]), "containers get it, as from a bridge");
        }
    }
    assert_eq!(run(&switch, P1, &packet(GATEWAY, [OWN, [128, 0, 0, 1]])), Verdict::Forward(HOST));
}

#[test]
fn tag_of_the_vlan_hides_no_loopback_address() {
    let bytes = packet(GATEWAY, [[192, 0, 2, 10], [127, 0, 0, 1]]);
    let martian = Verdict::Refused { egress: HOST, reason: DropReason::Martian };
    for bytes in [tagged(&bytes, 10), bytes] {
        assert_eq!(run(&switch_with_vlans(), P1, &bytes), martian);
    }
}
