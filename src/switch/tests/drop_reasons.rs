//! Each drop reason, with a frame that produces it.

use super::*;

/// How a drop reason comes about.
enum Producer {
    /// By this decision.
    Decision(fn() -> Verdict),
    /// By this flood, at P2.
    Flood(fn() -> Outcome),
    /// When the datapath carries a verdict out: `tests/arch.rs` lists the tests.
    Datapath,
}

/// The frame from the guarded port P1 of A, with the address 192.0.2.10.
fn guarded(bytes: &[u8]) -> Verdict {
    let switch = switch();
    let addresses = vec![[192, 0, 2, 10].into()];
    switch.set_guard(P1, Some(&Identity { mac: A, addresses, ..Identity::default() }));
    run(&switch, P1, bytes)
}

/// A UDP datagram over IPv4 from 192.0.2.`host`.
fn udp(host: u8, ports: [u8; 4]) -> Vec<u8> {
    let header = [0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, host, 192, 0, 2, 11];
    [&B.0[..], &A.0, &EtherType::IPV4.0.to_be_bytes(), &header, &ports, &[0, 8, 0, 0]].concat()
}

/// P2, behind which B is known, is down.
fn with_p2_down() -> Switch {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    switch.ports.set(P2, Port { up: false, ..PORT });
    switch
}

/// P2, behind which B is known, is blocked.
fn with_p2_blocked() -> Switch {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    switch.ports.block(P2);
    switch
}

/// A super-frame to P2, which takes no offload. In large segments it is not TCP, as its header says.
fn to_port_without_offload(gso_size: u16) -> Verdict {
    let switch = switch();
    run(&switch, P2, &frame(A, B, 60));
    switch.ports.set(P2, Port { offload: false, ..PORT });
    let mut bytes = frame(B, A, 40_000);
    let is_tcp = gso_size < 1000;
    bytes[14..24].copy_from_slice(&[0x45, 0, 0x9c, 0x32, 0, 0, 0, 0, 64, 6 * u8::from(is_tcp)]);
    bytes[46] = 5 << 4;
    run_with(&switch, P1, &bytes, super_frame_header(gso_size)).0
}

/// A new reason does not compile until it is here.
#[allow(clippy::too_many_lines, reason = "a line or two for each reason")]
fn producer(reason: DropReason) -> Producer {
    use Producer::{Datapath, Decision, Flood};
    match reason {
        DropReason::Runt => Decision(|| run(&switch(), P1, &frame(B, A, 13))),
        DropReason::BadSource => Decision(|| run(&switch(), P1, &frame(B, Mac([3, 0, 0, 0, 0, 1]), 60))),
        DropReason::ReservedAddress => {
            Decision(|| run(&switch(), P1, &frame(Mac([1, 0x80, 0xc2, 0, 0, 0xe]), A, 60)))
        }
        DropReason::Bpdu => Decision(|| run(&with_spanning_tree(), P1, &frame(Bpdu::GROUP, A, 60))),
        DropReason::Filtered => Decision(|| run(&switch(), P1, &frame(A, A, 60))),
        DropReason::IngressDown => Decision(|| run(&with_p2_down(), P2, &frame(A, B, 60))),
        DropReason::IngressBlocked => Decision(|| run(&with_p2_blocked(), P2, &frame(A, B, 60))),
        DropReason::SpoofedGateway => Decision(|| run(&switch(), P1, &frame(B, GATEWAY, 60))),
        DropReason::SpoofedMac => Decision(|| guarded(&frame(B, C, 60))),
        DropReason::SpoofedIp => Decision(|| guarded(&udp(12, [0x13, 0x88, 0, 53]))),
        DropReason::SpoofedArp => Decision(|| guarded(&arp(B, [192, 0, 2, 12], [192, 0, 2, 11]))),
        DropReason::SpoofedNd => Decision(|| guarded(&ipv6(58, &[&[136][..], &[0; 23]].concat()))),
        DropReason::FragmentedNd => {
            Decision(|| guarded(&ipv6(44, &[&[58, 0, 0, 1, 0, 0, 0, 7, 136][..], &[0; 23]].concat())))
        }
        DropReason::RogueDhcp => Decision(|| guarded(&udp(10, [0, 67, 0, 68]))),
        DropReason::RogueRa => Decision(|| guarded(&ipv6(58, &[&[134][..], &[0; 15]].concat()))),
        DropReason::TooManyHeaders => {
            Decision(|| run(&switch(), P1, &ipv6(60, &[60, 0, 1, 4, 0, 0, 0, 0].repeat(17))))
        }
        DropReason::NoHostPort => Decision(|| run(&without_host_port(), P1, &frame(GATEWAY, A, 60))),
        DropReason::VlanNotMember => Decision(|| {
            run(&switch_with_vlans(), P1, &[&frame(B, A, 12)[..12], &[0x81, 0, 0, 20, 8, 0]].concat())
        }),
        DropReason::NoPvid => Decision(|| run(&switch_with_vlans(), P3, &frame(B, A, 60))),
        DropReason::BadOffload => Decision(|| {
            let vnet = VnetHeader { gso_type: 1, ..VnetHeader::default() };
            run_with(&switch(), P1, &frame(B, A, 60), vnet).0
        }),
        DropReason::IngressVlanState => Decision(|| {
            let switch = switch_with_vlans();
            switch.vlans.set_state(P1, Vid::new(10).unwrap(), PortState::Blocking);
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::EgressVlanState => Decision(|| {
            let switch = switch_with_vlans();
            switch.vlans.add(P2, Vid::new(10).unwrap(), crate::switch::vlan::Member::TAGGED);
            switch.vlans.set_state(P2, Vid::new(10).unwrap(), PortState::Learning);
            switch.fdb.add(T0, FdbKey { vlan: 10, mac: B }, P2, FdbState::Static).unwrap();
            run(&switch, P1, &frame(B, A, 60))
        }),
        // A static entry.
        DropReason::EgressVlan => Decision(|| {
            let switch = switch_with_vlans();
            switch.fdb.add(T0, FdbKey { vlan: 10, mac: B }, P2, FdbState::Static).unwrap();
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::IngressMirror => Decision(|| {
            let switch = switch();
            switch.add_mirror(mirror(P1, P2)).unwrap();
            run(&switch, P2, &frame(A, B, 60))
        }),
        DropReason::UplinkReflected => Decision(|| run(&with_uplink(), P2, &frame(A, UPLINK, 60))),
        DropReason::UplinkOther => Decision(|| run(&with_uplink(), P2, &from_network([192, 0, 2, 99]))),
        DropReason::UplinkTooLong => Decision(|| run(&with_uplink(), P1, &long_advertisement())),
        // A static entry: the learned ones are forgotten.
        DropReason::EgressMirror => Decision(|| {
            let switch = switch();
            switch.fdb.add(T0, key(B), P2, FdbState::Static).unwrap();
            switch.add_mirror(mirror(P3, P2)).unwrap();
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::EgressDown => Decision(|| run(&with_p2_down(), P1, &frame(B, A, 60))),
        DropReason::EgressBlocked => Decision(|| run(&with_p2_blocked(), P1, &frame(B, A, 60))),
        DropReason::Oversize => Decision(|| {
            let switch = switch();
            run(&switch, P2, &frame(A, B, 60));
            run(&switch, P1, &frame(B, A, 1519))
        }),
        DropReason::Locked => Decision(|| run(&with_flag(P1, PortFlag::Locked, true), P1, &frame(B, A, 60))),
        DropReason::Isolated => Decision(|| {
            let switch = with_flag(P1, PortFlag::Isolated, true);
            run(&switch, P2, &frame(A, B, 60));
            set_flag(&switch, P2, PortFlag::Isolated, true);
            run(&switch, P1, &frame(B, A, 60))
        }),
        DropReason::NeighSuppress => Flood(|| {
            let bytes = arp(Mac::BROADCAST, [192, 0, 2, 10], [192, 0, 2, 10]);
            let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
            decide(&with_flag(P2, PortFlag::NeighSuppress, true), P1, &frame).0
        }),
        DropReason::Martian => Decision(|| {
            let switch = switch();
            switch.ports.set(P2, Port { host: true, ..PORT });
            run(&switch, P2, &frame(A, B, 60));
            run(&switch, P1, &packet(B, [[192, 0, 2, 10], [127, 0, 0, 1]]))
        }),
        DropReason::FloodOff => Flood(|| {
            let bytes = frame(C, A, 60);
            let frame = Frame { bytes: &bytes, vnet: VnetHeader::default() };
            decide(&with_flag(P2, PortFlag::Flood, false), P1, &frame).0
        }),
        DropReason::StormBroadcast => Decision(|| limited(P1, LimitKind::StormBroadcast, Mac::BROADCAST)),
        DropReason::StormUnknownUnicast => Decision(|| limited(P1, LimitKind::StormUnknownUnicast, C)),
        DropReason::StormMulticast => {
            Decision(|| limited(P1, LimitKind::StormMulticast, Mac([1, 0, 0x5e, 0, 0, 1])))
        }
        DropReason::IngressRate => Decision(|| limited(P1, LimitKind::IngressRate, B)),
        DropReason::EgressRate => Decision(|| limited(P2, LimitKind::EgressRate, B)),
        DropReason::NoEgress => Decision(|| {
            let switch = without_host_port();
            for port in [P2, P3] {
                switch.ports.set(port, Port { up: false, ..PORT });
            }
            run(&switch, P1, &frame(Mac::BROADCAST, A, 60))
        }),
        DropReason::NoMember => Decision(|| run(&snooping(&[]), P1, &to_group(&join_of(GROUP_2)))),
        DropReason::TooManySegments => Decision(|| to_port_without_offload(8)),
        DropReason::Unsegmentable => Decision(|| to_port_without_offload(1460)),
        DropReason::EgressQueueFull
        | DropReason::EgressRefused
        | DropReason::EgressThrottled
        | DropReason::IngressLoss
        | DropReason::IngressDelayFull
        | DropReason::EgressLoss
        | DropReason::EgressDelayFull => Datapath,
    }
}

#[test]
fn produces_every_drop_reason() {
    for &reason in DropReason::ALL {
        let decide = match producer(reason) {
            Producer::Decision(decide) => decide,
            Producer::Flood(decide) => {
                assert_eq!(decide().refused(), [(P2, reason)]);
                continue;
            }
            Producer::Datapath => continue,
        };
        let expected = match reason.side() {
            Side::Ingress => Verdict::Drop(reason),
            Side::Egress => Verdict::Refused { egress: P2, reason },
        };
        assert_eq!(decide(), expected);
    }
}

#[test]
fn drops_more_variants_of_the_same_reasons() {
    assert_eq!(run(&switch(), PortId(9), &frame(B, A, 60)), Verdict::Drop(DropReason::IngressDown));
    assert_eq!(run(&switch(), PortId(u16::MAX), &[]), Verdict::Drop(DropReason::IngressDown));
    assert_eq!(run(&switch(), P1, &[]), Verdict::Drop(DropReason::Runt));
    assert_eq!(run(&switch(), P1, &frame(B, Mac::ZERO, 60)), Verdict::Drop(DropReason::BadSource));
    let claim = arp(Mac::BROADCAST, [192, 0, 2, 1], [192, 0, 2, 11]);
    let violation = Violation::Gateway(Claim::ArpAddress([192, 0, 2, 1].into()));
    assert_eq!(violation.reason(), DropReason::SpoofedGateway);
    assert_eq!(fault(&switch(), &claim, VnetHeader::default()), Some(Fault::Violation(violation)));
}
