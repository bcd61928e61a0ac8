//! A frame in one line, as `tcpdump -n -e` prints it, for traces, logs and tests.

use std::fmt;
use std::net::IpAddr;

use etherparse::icmpv6::Icmpv6PayloadSlice;
use etherparse::{
    ArpOperation, ArpPacketSlice, Icmpv4Slice, Icmpv4Type, Icmpv6Slice, Icmpv6Type, LaxIpPayloadSlice,
    LaxLinkExtSlice, LaxNetSlice, LaxSlicedPacket, TcpSlice, TransportSlice,
};

use super::{Bpdu, ETHERNET_HEADER, EtherType, EthernetFrame, Mac};

/// Displays a frame, starting with the destination address, in one line.
#[derive(Debug, Clone, Copy)]
pub struct Pretty<'a>(pub &'a [u8]);

impl fmt::Display for Pretty<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let length = self.0.len();
        let Some(frame) = EthernetFrame::new_checked(self.0) else {
            return write!(f, "runt, length {length}");
        };
        write!(f, "{} > {}, ", frame.src(), frame.dst())?;
        if let Ok(bpdu) = Bpdu::parse(self.0) {
            return bpdu.fmt(f);
        }
        let Ok(packet) = LaxSlicedPacket::from_ethernet(self.0) else {
            return write!(f, "length {length}");
        };
        write_tags(f, &packet)?;
        match &packet.net {
            Some(LaxNetSlice::Arp(arp)) => write_arp(f, arp)?,
            Some(LaxNetSlice::Ipv4(ip)) => {
                let header = ip.header();
                f.write_str("IP ")?;
                let ends = AddressPair(header.source_addr().into(), header.destination_addr().into());
                write_packet(f, &ends, &packet, ip.payload())?;
            }
            Some(LaxNetSlice::Ipv6(ip)) => {
                let header = ip.header();
                f.write_str("IP6 ")?;
                let ends = AddressPair(header.source_addr().into(), header.destination_addr().into());
                write_packet(f, &ends, &packet, ip.payload())?;
            }
            None => write_unknown(f, &frame, &packet)?,
        }
        match &packet.stop_err {
            Some((_, layer)) => write!(f, " [bad {layer}]"),
            None => Ok(()),
        }
    }
}

/// Source and destination.
struct AddressPair(IpAddr, IpAddr);

impl AddressPair {
    fn write_with_ports(&self, f: &mut fmt::Formatter<'_>, ports: (u16, u16)) -> fmt::Result {
        write!(f, "{}.{} > {}.{}", self.0, ports.0, self.1, ports.1)
    }
}

impl fmt::Display for AddressPair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {}", self.0, self.1)
    }
}

fn write_tags(f: &mut fmt::Formatter<'_>, packet: &LaxSlicedPacket<'_>) -> fmt::Result {
    for extension in &packet.link_exts {
        match extension {
            LaxLinkExtSlice::Vlan(tag) => {
                write!(
                    f,
                    "vlan {}, p {}, ",
                    tag.vlan_identifier().value(),
                    tag.priority_code_point().value()
                )?;
            }
            LaxLinkExtSlice::Macsec(_) => f.write_str("MACsec, ")?,
        }
    }
    Ok(())
}

fn write_arp(f: &mut fmt::Formatter<'_>, arp: &ArpPacketSlice<'_>) -> fmt::Result {
    let packet = arp.to_packet();
    let Ok(arp) = packet.try_eth_ipv4() else {
        return write!(f, "ARP, not Ethernet and IPv4, operation {}", packet.operation.0);
    };
    match arp.operation {
        ArpOperation::REQUEST => {
            write!(f, "ARP, who-has {} tell {}", arp.target_ipv4_addr(), arp.sender_ipv4_addr())
        }
        ArpOperation::REPLY => write!(f, "ARP, {} is-at {}", arp.sender_ipv4_addr(), Mac(arp.sender_mac)),
        ArpOperation(other) => write!(f, "ARP, operation {other}"),
    }
}

fn write_packet(
    f: &mut fmt::Formatter<'_>,
    ends: &AddressPair,
    packet: &LaxSlicedPacket<'_>,
    payload: &LaxIpPayloadSlice<'_>,
) -> fmt::Result {
    let length = payload.payload.len();
    match &packet.transport {
        Some(TransportSlice::Tcp(tcp)) => write_tcp(f, ends, tcp),
        Some(TransportSlice::Udp(udp)) => {
            ends.write_with_ports(f, (udp.source_port(), udp.destination_port()))?;
            write!(f, ": UDP, length {}", udp.payload().len())
        }
        Some(TransportSlice::Icmpv4(icmp)) => {
            write!(f, "{ends}: ICMP ")?;
            write_icmp(f, icmp)?;
            write!(f, ", length {length}")
        }
        Some(TransportSlice::Icmpv6(icmp)) => {
            write!(f, "{ends}: ICMP6, ")?;
            write_icmp6(f, icmp)?;
            write!(f, ", length {length}")
        }
        Some(TransportSlice::Igmp(_)) => write!(f, "{ends}: IGMP, length {length}"),
        None => {
            let fragment = if payload.fragmented { "fragment of " } else { "" };
            match payload.ip_number.keyword_str() {
                Some(name) => write!(f, "{ends}: {fragment}{name}, length {length}"),
                None => write!(f, "{ends}: {fragment}protocol {}, length {length}", payload.ip_number.0),
            }
        }
    }
}

fn write_tcp(f: &mut fmt::Formatter<'_>, ends: &AddressPair, tcp: &TcpSlice<'_>) -> fmt::Result {
    ends.write_with_ports(f, (tcp.source_port(), tcp.destination_port()))?;
    f.write_str(": Flags [")?;
    let flags = [
        (tcp.fin(), "F"),
        (tcp.syn(), "S"),
        (tcp.rst(), "R"),
        (tcp.psh(), "P"),
        (tcp.ack(), "."),
        (tcp.urg(), "U"),
        (tcp.ece(), "E"),
        (tcp.cwr(), "W"),
    ];
    for (_, letter) in flags.iter().filter(|(set, _)| *set) {
        f.write_str(letter)?;
    }
    write!(f, "], seq {}", tcp.sequence_number())?;
    if tcp.ack() {
        write!(f, ", ack {}", tcp.acknowledgment_number())?;
    }
    write!(f, ", win {}, length {}", tcp.window_size(), tcp.payload().len())
}

fn write_icmp(f: &mut fmt::Formatter<'_>, icmp: &Icmpv4Slice<'_>) -> fmt::Result {
    match icmp.icmp_type() {
        Icmpv4Type::EchoRequest(echo) => write!(f, "echo request, id {}, seq {}", echo.id, echo.seq),
        Icmpv4Type::EchoReply(echo) => write!(f, "echo reply, id {}, seq {}", echo.id, echo.seq),
        _ => write!(f, "type {} code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn write_icmp6(f: &mut fmt::Formatter<'_>, icmp: &Icmpv6Slice<'_>) -> fmt::Result {
    match (icmp.icmp_type(), icmp.payload_slice()) {
        (Icmpv6Type::EchoRequest(echo), _) => write!(f, "echo request, id {}, seq {}", echo.id, echo.seq),
        (Icmpv6Type::EchoReply(echo), _) => write!(f, "echo reply, id {}, seq {}", echo.id, echo.seq),
        (_, Ok(Icmpv6PayloadSlice::NeighborSolicitation(nd))) => {
            write!(f, "neighbor solicitation, who has {}", nd.target_address())
        }
        (_, Ok(Icmpv6PayloadSlice::NeighborAdvertisement(nd))) => {
            write!(f, "neighbor advertisement, tgt is {}", nd.target_address())
        }
        (Icmpv6Type::RouterSolicitation, _) => f.write_str("router solicitation"),
        (Icmpv6Type::RouterAdvertisement(_), _) => f.write_str("router advertisement"),
        _ => write!(f, "type {} code {}", icmp.type_u8(), icmp.code_u8()),
    }
}

fn write_unknown(
    f: &mut fmt::Formatter<'_>,
    frame: &EthernetFrame<'_>,
    packet: &LaxSlicedPacket<'_>,
) -> fmt::Result {
    let length = ETHERNET_HEADER + frame.payload().len();
    let ethertype = packet.ether_payload().map_or(frame.ethertype(), |inner| EtherType(inner.ether_type.0));
    if ethertype.0 < EtherType::FIRST {
        write!(f, "802.3, length {length}")
    } else {
        write!(f, "ethertype {ethertype}, length {length}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use etherparse::{ArpEthIpv4Packet, ArpPacket, PacketBuilder, VlanId};

    const A: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const B: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const V4: ([u8; 4], [u8; 4]) = ([192, 0, 2, 1], [192, 0, 2, 2]);

    fn v6(last: u8) -> [u8; 16] {
        [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]
    }

    /// The line of `frame` without the addresses.
    fn line(frame: &[u8]) -> String {
        let line = Pretty(frame).to_string();
        line.strip_prefix("02:00:00:00:00:01 > 02:00:00:00:00:02, ").unwrap_or(&line).to_owned()
    }

    fn arp(operation: ArpOperation) -> ArpPacket {
        let (sender_ipv4, target_ipv4) = V4;
        ArpEthIpv4Packet { operation, sender_mac: A, sender_ipv4, target_mac: B, target_ipv4 }.into()
    }

    #[test]
    fn arp_lines() {
        let frame = |operation| {
            let mut bytes = Vec::new();
            PacketBuilder::ethernet2(A, B).arp(arp(operation)).write_to_vec(&mut bytes).unwrap();
            bytes
        };
        assert_eq!(
            Pretty(&frame(ArpOperation::REQUEST)).to_string(),
            "02:00:00:00:00:01 > 02:00:00:00:00:02, ARP, who-has 192.0.2.2 tell 192.0.2.1"
        );
        assert_eq!(line(&frame(ArpOperation::REPLY)), "ARP, 192.0.2.1 is-at 02:00:00:00:00:01");
        assert_eq!(line(&frame(ArpOperation(9))), "ARP, operation 9");
    }

    #[test]
    fn transport_lines() {
        let mut tcp = Vec::new();
        let header = PacketBuilder::ethernet2(A, B).ipv4(V4.0, V4.1, 64).tcp(40000, 80, 7, 502).psh().ack(9);
        header.write_to_vec(&mut tcp, b"hello").unwrap();
        assert_eq!(
            line(&tcp),
            "IP 192.0.2.1.40000 > 192.0.2.2.80: Flags [P.], seq 7, ack 9, win 502, length 5"
        );
        let mut udp = Vec::new();
        let tagged = PacketBuilder::ethernet2(A, B).single_vlan(VlanId::try_new(100).unwrap());
        tagged.ipv6(v6(1), v6(2), 64).udp(5000, 53).write_to_vec(&mut udp, b"abc").unwrap();
        assert_eq!(line(&udp), "vlan 100, p 0, IP6 2001:db8::1.5000 > 2001:db8::2.53: UDP, length 3");
    }

    #[test]
    fn icmp_lines() {
        let mut bytes = Vec::new();
        let v4 = PacketBuilder::ethernet2(A, B).ipv4(V4.0, V4.1, 64);
        v4.icmpv4_echo_request(3, 4).write_to_vec(&mut bytes, &[0; 56]).unwrap();
        assert_eq!(line(&bytes), "IP 192.0.2.1 > 192.0.2.2: ICMP echo request, id 3, seq 4, length 64");
        bytes.clear();
        let v6_ends = || PacketBuilder::ethernet2(A, B).ipv6(v6(1), v6(2), 255);
        v6_ends().icmpv6_echo_reply(3, 4).write_to_vec(&mut bytes, &[]).unwrap();
        assert_eq!(line(&bytes), "IP6 2001:db8::1 > 2001:db8::2: ICMP6, echo reply, id 3, seq 4, length 8");
        bytes.clear();
        v6_ends().icmpv6(Icmpv6Type::NeighborSolicitation).write_to_vec(&mut bytes, &v6(9)).unwrap();
        assert_eq!(
            line(&bytes),
            "IP6 2001:db8::1 > 2001:db8::2: ICMP6, neighbor solicitation, who has 2001:db8::9, length 24"
        );
    }

    #[test]
    fn describes_unknown_frames() {
        assert_eq!(line(&[]), "runt, length 0");
        assert_eq!(line(&[0xff; 13]), "runt, length 13");
        let frame = |rest: &[u8]| [&B[..], &A, rest].concat();
        assert_eq!(line(&frame(&[0x88, 0xcc, 1, 2])), "ethertype 0x88cc, length 16");
        assert_eq!(line(&frame(&[0x00, 0x03, 0x42, 0x42, 0x03])), "802.3, length 17");
        assert_eq!(line(&frame(&[0x08, 0x00, 0x45])), "ethertype IPv4, length 15 [bad IP header]");
    }
}
