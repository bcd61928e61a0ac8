//! DHCPv6 (RFC 8415), as far as the switch has to know it: which packets are for a server of the link, and frames of a
//! server.

use std::net::Ipv6Addr;

use etherparse::PacketBuilder;

use super::Mac;
use super::ip::{DEFAULT_HOPS, Ipv6, protocol};

/// All relay agents and servers of the link (§7.1).
pub const ALL_SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
/// The destination MAC of frames to [`ALL_SERVERS`].
pub const ALL_SERVERS_MAC: Mac = Mac([0x33, 0x33, 0, 1, 0, 2]);
/// UDP ports (§7.2).
const CLIENT_PORT: u16 = 546;
const SERVER_PORT: u16 = 547;

/// The message of a packet to the servers of the link. Its checksum is not read: a container leaves it to the switch.
pub fn message_to_servers<'a>(packet: &Ipv6<'a>) -> Option<&'a [u8]> {
    const HEADER: usize = 8;
    let is_datagram =
        packet.protocol == protocol::UDP && !packet.fragment && packet.destination == ALL_SERVERS;
    let (&[_, _, a, b, c, d, _, _], _) =
        packet.payload.split_first_chunk::<HEADER>().filter(|_| is_datagram)?;
    let [port, length] = [[a, b], [c, d]].map(u16::from_be_bytes);
    packet.payload.get(HEADER..length.into()).filter(|_| port == SERVER_PORT)
}

/// The frame of a message from a server to a client, each with its MAC and its link-local address. `None` if the
/// message is too long.
pub fn frame_to_client(server: (Mac, Ipv6Addr), client: (Mac, Ipv6Addr), message: &[u8]) -> Option<Vec<u8>> {
    let builder = PacketBuilder::ethernet2(server.0.0, client.0.0)
        .ipv6(server.1.octets(), client.1.octets(), DEFAULT_HOPS)
        .udp(SERVER_PORT, CLIENT_PORT);
    let mut frame = Vec::with_capacity(builder.size(message.len()));
    builder.write_to_vec(&mut frame, message).ok()?;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::checksum::Sum;
    use crate::wire::{EtherType, EthernetFrame};

    const SERVER: (Mac, Ipv6Addr) = (Mac([2, 0, 0, 0, 0, 1]), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1));
    const CLIENT: (Mac, Ipv6Addr) = (Mac([2, 0, 0, 0, 0, 2]), Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2));

    /// A packet with a message from a client, between these ports.
    fn packet(destination: Ipv6Addr, ports: (u16, u16)) -> Vec<u8> {
        let builder = PacketBuilder::ipv6(CLIENT.1.octets(), destination.octets(), 1).udp(ports.0, ports.1);
        let mut packet = Vec::new();
        builder.write_to_vec(&mut packet, b"message").unwrap();
        packet
    }

    fn message(packet: &[u8]) -> Option<&[u8]> {
        message_to_servers(&Ipv6::parse(packet)?)
    }

    #[test]
    fn finds_messages_to_servers() {
        let valid = packet(ALL_SERVERS, (CLIENT_PORT, SERVER_PORT));
        assert_eq!(message(&valid), Some(&b"message"[..]));
        assert_eq!(message(&packet(ALL_SERVERS, (SERVER_PORT, SERVER_PORT))), Some(&b"message"[..]));
        assert_eq!(message(&packet(ALL_SERVERS, (CLIENT_PORT, 53))), None);
        assert_eq!(
            message(&packet(SERVER.1, (CLIENT_PORT, SERVER_PORT))),
            None,
            "the server has no address for it"
        );
        for (length, expected) in [(7u8, None), (8, Some(&b""[..])), (16, None), (255, None)] {
            let mut changed = valid.clone();
            changed[45] = length;
            assert_eq!(message(&changed), expected, "length {length}");
        }
    }

    #[test]
    fn frame_to_client_has_a_checksum() {
        let frame = frame_to_client(SERVER, CLIENT, b"reply").unwrap();
        let ethernet = EthernetFrame::new_checked(&frame).unwrap();
        assert_eq!(
            (ethernet.dst(), ethernet.src(), ethernet.ethertype()),
            (CLIENT.0, SERVER.0, EtherType::IPV6)
        );
        let packet = Ipv6::parse(ethernet.payload()).unwrap();
        assert_eq!((packet.source, packet.destination), (SERVER.1, CLIENT.1));
        assert_eq!(packet.payload[..4], [2, 0x23, 2, 0x22]);
        let length = u32::try_from(packet.payload.len()).unwrap();
        let sum = Sum::pseudo_ipv6(packet.source, packet.destination, protocol::UDP, length);
        assert_eq!(sum.and(packet.payload).finish(), 0);
        assert!(frame_to_client(SERVER, CLIENT, &[0; 70_000]).is_none());
    }
}
