//! IPv4 packets from a host that uses the address of the gateway.

use super::*;

const HEADER_SUM: std::ops::Range<usize> = 10..12;

/// A redirect from `source` to another gateway, about a packet to TEST-NET-2; `change` is made before the
/// header's sum.
fn redirect(source: Ipv4Addr, change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    let fixed = [0x45, 0, 0, 56, 0, 0, 0, 0, 64, 1, 0, 0];
    let about = [&[0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 11, 198, 51, 100, 1][..], &[0; 8]];
    let message = [&[5, 1, 0, 0][..], &HOST4.octets(), &about.concat()].concat();
    let mut packet = [&fixed[..], &source.octets(), &OTHER4.octets(), &message].concat();
    change(&mut packet);
    let sum = ipv4::checksum(&Ipv4Packet::new(&packet).unwrap());
    packet[HEADER_SUM].copy_from_slice(&sum.to_be_bytes());
    ethernet(OTHER, EtherType::IPV4, &packet)
}

#[test]
fn rejects_redirects_from_the_gateway_address() {
    type Change = fn(&mut Vec<u8>);
    let cases: [(&str, Change); 6] = [
        ("plain", |_| {}),
        ("for the network", |packet| packet[21] = 0),
        ("the first fragment", |packet| packet[6] = 0x20),
        ("with options", |packet| {
            packet[0] = 0x46;
            packet[3] += 4;
            packet.splice(20..20, [1; 4]);
        }),
        ("of total length 0", |packet| packet[3] = 0),
        ("padded", |packet| packet.extend([0; 4])),
    ];
    for (what, change) in cases {
        let frame = redirect(GATEWAY4, change);
        assert_eq!(claim(&frame), Some(Claim::SourceAddress(GATEWAY4.into())), "{what}");
        let tagged = tagged(&frame, EtherType::C_TAG, 0);
        assert_eq!(claim(&tagged), Some(Claim::SourceAddress(GATEWAY4.into())), "{what}, tagged");
    }
}

#[test]
fn rejects_any_packet_from_the_gateway_address() {
    for kind in [0, 3, 8, 11] {
        let frame = redirect(GATEWAY4, |packet| packet[20] = kind);
        assert_eq!(claim(&frame), Some(Claim::SourceAddress(GATEWAY4.into())), "ICMP type {kind}");
    }
    for protocol in [6, 17] {
        let frame = redirect(GATEWAY4, |packet| packet[9] = protocol);
        assert_eq!(claim(&frame), Some(Claim::SourceAddress(GATEWAY4.into())), "protocol {protocol}");
    }
    assert_eq!(claim(&redirect(OTHER4, |_| {})), None);
    for length in 14..34 {
        assert_eq!(claim(&redirect(GATEWAY4, |_| {})[..length]), None, "cut at {length}");
    }
}
