//! Requests are built and replies are parsed with `pnet_packet`, an independent implementation.

mod arp;
mod icmp_echo;
mod ndp;
mod source_address;

use pnet_packet::Packet;
use pnet_packet::arp::{ArpHardwareTypes, ArpOperations, ArpPacket};
use pnet_packet::ethernet::EthernetPacket;
use pnet_packet::icmp::IcmpPacket;
use pnet_packet::icmpv6::Icmpv6Packet;
use pnet_packet::icmpv6::ndp::{NdpOptionTypes, NeighborAdvertPacket};
use pnet_packet::ipv4::{self, Ipv4Packet, MutableIpv4Packet};
use pnet_packet::ipv6::Ipv6Packet;

use super::*;
use crate::wire::arp::Arp;

const GATEWAY: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x01]);
const HOST: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0a]);
const OTHER: Mac = Mac([0x02, 0, 0x5e, 0, 0x53, 0x0b]);
const GATEWAY4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const HOST4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
const OTHER4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0x12, 0x3456);
const HOST6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 10);
const OTHER6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 11);
/// The solicited-node group of [`GATEWAY6`].
const GROUP6: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff12, 0x3456);

fn gateway() -> Gateway {
    Gateway {
        mac: GATEWAY.into(),
        ipv4: vec![OTHER4.octets().map(|_| 9).into(), GATEWAY4],
        ipv6: vec![GATEWAY6],
    }
}

fn ethernet(to: Mac, ethertype: EtherType, payload: &[u8]) -> Vec<u8> {
    [&to.0[..], &HOST.0, &ethertype.0.to_be_bytes(), payload].concat()
}

/// With a tag after the addresses.
fn tagged(frame: &[u8], tpid: EtherType, vid: u8) -> Vec<u8> {
    [&frame[..12], &tpid.0.to_be_bytes(), &[0xe0, vid], &frame[12..]].concat()
}

fn arp(operation: u16, sender: (Mac, Ipv4Addr), target_ip: Ipv4Addr) -> Vec<u8> {
    let message =
        Arp { operation, sender_mac: sender.0, sender_ip: sender.1, target_mac: Mac::ZERO, target_ip };
    ethernet(Mac::BROADCAST, EtherType::ARP, &message.emit())
}

fn violation(frame: &[u8]) -> Option<Violation> {
    gateway().check(&EthernetFrame::new_checked(frame).unwrap()).err()
}

fn claim(frame: &[u8]) -> Option<Claim> {
    match violation(frame) {
        Some(Violation::Gateway(claim)) => Some(claim),
        None => None,
        Some(other) => panic!("{other:?}"),
    }
}

fn answer(frame: &[u8]) -> Option<SwitchReply> {
    gateway().answer(&EthernetFrame::new_checked(frame).unwrap())
}

/// The bytes of the reply to `request`, which must have one.
fn emitted(request: &[u8]) -> Vec<u8> {
    let mut frame = [request, &[0xee; SwitchReply::GROWTH]].concat();
    let length = answer(request).expect("a reply").emit(&gateway(), &mut frame, request.len());
    frame.truncate(length);
    let ethernet = EthernetPacket::new(&frame).unwrap();
    assert_eq!(ethernet.get_source().octets(), GATEWAY.0);
    frame
}

#[test]
fn emits_nothing_for_a_frame_that_is_not_the_request() {
    let answers = [
        SwitchReply::Arp { address: GATEWAY4 },
        SwitchReply::Neighbour { address: GATEWAY6 },
        SwitchReply::Echo,
        SwitchReply::Echo6,
    ];
    for answer in answers {
        for length in 0..80 {
            let mut frame = [0x45; 80];
            assert_eq!(answer.emit(&gateway(), &mut frame, length), 0);
            assert_eq!(frame, [0x45; 80]);
        }
        assert_eq!(answer.emit(&gateway(), &mut [0; 20], 30), 0, "a length beyond the buffer");
    }
}
