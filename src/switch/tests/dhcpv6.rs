//! Which messages of DHCPv6 control gets.

use etherparse::PacketBuilder;

use super::*;
use crate::wire::dhcpv6::{ALL_SERVERS, ALL_SERVERS_MAC};

/// A message of A to the servers of the link, to this port.
fn message(port: u16) -> Vec<u8> {
    let source = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xff, 0xfe, 0, 0x53, 0x0a];
    let builder =
        PacketBuilder::ethernet2(A.0, ALL_SERVERS_MAC.0).ipv6(source, ALL_SERVERS.octets(), 1).udp(546, port);
    let mut frame = Vec::new();
    builder.write_to_vec(&mut frame, &[1, 0, 0, 0]).unwrap();
    frame
}

/// Also with a checksum that the container leaves to the switch.
#[test]
fn hands_messages_to_dhcpv6_servers_to_control_if_it_serves() {
    let serving = switch().with_dhcpv6();
    let complete = VnetHeader::default();
    let partial = VnetHeader { flags: VnetHeader::NEEDS_CSUM, csum_start: 54, csum_offset: 6, ..complete };
    let punt = |switch: &Switch, ingress, port, vnet| {
        decide(switch, ingress, &Frame { bytes: &message(port), vnet }).0.punt()
    };
    assert_eq!(punt(&serving, P1, 547, complete), Some(Punt::Dhcpv6));
    assert_eq!(punt(&serving, P1, 547, partial), Some(Punt::Dhcpv6));
    assert_eq!(punt(&serving, HOST, 547, complete), None);
    assert_eq!(punt(&serving, P1, 53, complete), None);
    assert_eq!(punt(&switch(), P1, 547, complete), None);
}
