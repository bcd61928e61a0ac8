//! Pings that the gateway answers.

use super::*;

fn echo(change: impl Fn(&mut MutableIpv4Packet<'_>)) -> Vec<u8> {
    let mut message = [8, 0, 0, 0, 0x12, 0x34, 0, 1, b'o', b'd', b'd'];
    let sum = pnet_packet::icmp::checksum(&IcmpPacket::new(&message).unwrap());
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut bytes = [&[0; 20][..], &message].concat();
    let mut packet = MutableIpv4Packet::new(&mut bytes).unwrap();
    packet.set_version(4);
    packet.set_header_length(5);
    packet.set_total_length(31);
    packet.set_ttl(255);
    packet.set_next_level_protocol(pnet_packet::ip::IpNextHeaderProtocols::Icmp);
    packet.set_source(HOST4);
    packet.set_destination(GATEWAY4);
    change(&mut packet);
    packet.set_checksum(ipv4::checksum(&packet.to_immutable()));
    ethernet(GATEWAY, EtherType::IPV4, &[&bytes[..], &[0; 15]].concat())
}

#[test]
fn answers_icmp_echo() {
    for ttl in [1, 64, 255] {
        let reply = emitted(&echo(|packet| packet.set_ttl(ttl)));
        assert_eq!((reply.len(), &reply[..6]), (60, &HOST.0[..]));
        let packet = Ipv4Packet::new(&reply[14..]).unwrap();
        assert_eq!((packet.get_source(), packet.get_destination()), (GATEWAY4, HOST4));
        assert_eq!((packet.get_ttl(), packet.get_checksum()), (64, ipv4::checksum(&packet)));
        let icmp = IcmpPacket::new(packet.payload()).unwrap();
        assert_eq!((icmp.get_icmp_type().0, icmp.get_icmp_code().0), (0, 0));
        assert_eq!(icmp.get_checksum(), pnet_packet::icmp::checksum(&icmp));
        assert_eq!(icmp.payload(), b"\x12\x34\0\x01odd");
    }
}

#[test]
fn leaves_unusual_icmp_echo_to_the_host() {
    type Change = fn(&mut MutableIpv4Packet<'_>);
    let cases: [(&str, Change); 10] = [
        ("first fragment", |packet| packet.set_flags(1)),
        ("last fragment", |packet| packet.set_fragment_offset(1)),
        ("longer than the frame", |packet| packet.set_total_length(47)),
        ("shorter than its header", |packet| packet.set_total_length(27)),
        ("to another address", |packet| packet.set_destination(OTHER4)),
        ("from the gateway", |packet| packet.set_source(GATEWAY4)),
        ("from the unspecified address", |packet| packet.set_source(Ipv4Addr::UNSPECIFIED)),
        ("from the broadcast address", |packet| packet.set_source(Ipv4Addr::BROADCAST)),
        ("from a group", |packet| packet.set_source(Ipv4Addr::new(224, 0, 0, 1))),
        ("from a loopback address", |packet| packet.set_source(Ipv4Addr::LOCALHOST)),
    ];
    for (what, change) in cases {
        assert_eq!(answer(&echo(change)), None, "{what}");
    }
    let good = echo(|_| {});
    assert_eq!(answer(&good), Some(SwitchReply::Echo));
    let mut options = [&good[..34], &[1; 4], &good[34..]].concat();
    let mut packet = MutableIpv4Packet::new(&mut options[14..]).unwrap();
    packet.set_header_length(6);
    packet.set_total_length(35);
    packet.set_checksum(ipv4::checksum(&packet.to_immutable()));
    assert_eq!(answer(&options), None, "options");
    for (what, at) in [("to a group", 5), ("bad header checksum", 24), ("not a request", 34)] {
        let mut bad = good.clone();
        bad[at] ^= 1;
        assert_eq!(answer(&bad), None, "{what}");
    }
}
