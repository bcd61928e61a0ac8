//! The counters balance to the last frame, for every outcome.

use proptest::prelude::*;

use super::worker_tests::{GATEWAY, H1, H2, OFFLOAD, WorkerFixture, ethernet, super_frame};
use crate::switch::{DropReason, MirrorDirection, Port, PortCounts, PortId, PortMirror, Side, Tick};
use crate::wire::{Mac, VnetHeader};

/// The MAC address of all uplinks, to which some frames are.
const UPLINK: Mac = Mac([2, 0, 0, 0, 0, 3]);

/// One step of a test run.
#[derive(Debug, Clone)]
enum Event {
    /// A frame arrives and waits for the worker.
    Frame {
        ingress: usize,
        vnet: VnetHeader,
        bytes: Vec<u8>,
    },
    /// The worker runs one turn.
    Turn,
    /// A port changes its state.
    Set(usize, Port),
    /// Ports are mirrored to another one, or not any more.
    Mirror(Box<PortMirror>),
    Unmirror(PortId),
    /// A port becomes an uplink with one MAC address, or a usual one.
    Uplink(PortId, bool),
    /// The egress queues together hold this many frames.
    Limit(usize),
}

fn port() -> impl Strategy<Value = Port> {
    let mtu = prop_oneof![Just(46), Just(576), Just(1500), Just(9000)];
    (prop::bool::weighted(0.8), any::<bool>(), mtu).prop_map(|(up, offload, mtu)| Port {
        up,
        offload,
        mtu,
        ..OFFLOAD
    })
}

fn address() -> impl Strategy<Value = [u8; 6]> {
    const RESERVED: [u8; 6] = [0x01, 0x80, 0xc2, 0, 0, 0x0e];
    prop_oneof![
        3 => Just(H1),
        3 => Just(H2),
        2 => Just([2, 0, 0, 0, 0, 3]),
        2 => Just([0xff; 6]),
        1 => Just(GATEWAY.0),
        1 => Just(RESERVED),
        1 => Just([0; 6]),
    ]
}

/// An ARP request that the gateway answers.
fn arp(source: [u8; 6]) -> Vec<u8> {
    let request = [&[0xff; 6][..], &source, &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]].concat();
    [&request[..], &source, &[192, 0, 2, 11], &[0; 6], &[192, 0, 2, 1]].concat()
}

/// A super-frame. `fault` selects an error in its virtio-net header, or none.
fn unfinished(destination: [u8; 6], source: [u8; 6], payload: usize, fault: u8) -> (VnetHeader, Vec<u8>) {
    let (mut vnet, mut frame) = super_frame(payload);
    frame[..6].copy_from_slice(&destination);
    frame[6..12].copy_from_slice(&source);
    match fault {
        0 => vnet.gso_type = 0x77,
        1 => vnet.gso_type = VnetHeader::GSO_UDP_L4,
        2 => vnet.gso_size = 1,
        3 => vnet.gso_type = VnetHeader::GSO_NONE,
        _ => {}
    }
    (vnet, frame)
}

fn frame() -> impl Strategy<Value = (VnetHeader, Vec<u8>)> {
    let complete = |frame| (VnetHeader::default(), frame);
    prop_oneof![
        4 => (address(), address()).prop_map(move |(to, from)| complete(ethernet(to, from))),
        2 => (address(), address(), 0..5000_usize, 0..12_u8)
            .prop_map(|(to, from, payload, fault)| unfinished(to, from, payload, fault)),
        1 => address().prop_map(move |from| complete(arp(from))),
        1 => prop::collection::vec(any::<u8>(), 0..64).prop_map(complete),
    ]
}

fn mirror() -> impl Strategy<Value = PortMirror> {
    let from = prop::option::of(prop::collection::vec(0..8_u16, 1..4));
    let direction =
        prop_oneof![Just(MirrorDirection::Rx), Just(MirrorDirection::Tx), Just(MirrorDirection::Both)];
    (0..8_u16, from, direction, prop::option::of(14..2000_u16)).prop_map(|(to, from, direction, snaplen)| {
        let from = from.map(|from| from.into_iter().map(PortId).collect());
        PortMirror { to: PortId(to), from, direction, vlans: Vec::new(), snaplen }
    })
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        8 => (0..8_usize, frame()).prop_map(|(ingress, (vnet, bytes))| Event::Frame { ingress, vnet, bytes }),
        4 => Just(Event::Turn),
        1 => (0..8_usize, port()).prop_map(|(at, port)| Event::Set(at, port)),
        1 => (0..20_usize).prop_map(Event::Limit),
        2 => mirror().prop_map(|mirror| Event::Mirror(Box::new(mirror))),
        1 => (0..8_u16).prop_map(|port| Event::Unmirror(PortId(port))),
        1 => (0..8_u16, any::<bool>()).prop_map(|(port, on)| Event::Uplink(PortId(port), on)),
    ]
}

/// Frames and bytes of each port.
type PortTotals = [[u64; 2]; 8];

/// Runs the events. Returns what was sent into each port, and received from it.
fn run_events(fixture: &mut WorkerFixture, ports: usize, events: Vec<Event>) -> (PortTotals, PortTotals) {
    let (mut sent, mut received) = (PortTotals::default(), PortTotals::default());
    for event in events.into_iter().chain([Event::Turn]) {
        match event {
            Event::Frame { ingress, vnet, bytes } => {
                let port = ingress % ports;
                fixture.net.send(PortId(u16::try_from(port).unwrap()), vnet, &bytes);
                sent[port] = [sent[port][0] + 1, sent[port][1] + bytes.len() as u64];
            }
            Event::Turn => {
                assert!(fixture.worker.turn_at(Tick(1)).unwrap().is_continue());
                for (port, _, bytes) in fixture.net.received() {
                    let seen = &mut received[port.index()];
                    *seen = [seen[0] + 1, seen[1] + bytes.len() as u64];
                }
            }
            Event::Set(at, port) => {
                fixture.switch.ports.set(PortId(u16::try_from(at % ports).unwrap()), port);
            }
            // Some conflict with others, or name ports that do not exist.
            Event::Mirror(mirror) => _ = fixture.switch.add_mirror(*mirror),
            Event::Uplink(port, true) => _ = fixture.switch.add_uplink(port, UPLINK, Vec::new()),
            Event::Uplink(port, false) => fixture.switch.remove_uplink(port),
            Event::Unmirror(port) => _ = fixture.switch.remove_mirror(port),
            Event::Limit(frames) => fixture.net.limit(frames),
        }
    }
    (sent, received)
}

proptest! {
    /// Every frame sent is counted as received, has one outcome, and each of its copies is delivered or dropped with a
    /// reason.
    #[test]
    fn counters_balance(
        ports in prop::collection::vec(port(), 1..8),
        events in prop::collection::vec(event(), 0..60),
    ) {
        let mut fixture = WorkerFixture::new(&ports);
        let (sent, received) = run_events(&mut fixture, ports.len(), events);
        let mut all = PortCounts::default();
        for (port, id) in PortId::all().take(ports.len()).enumerate() {
            let counts = fixture.counters.port(id).read();
            prop_assert_eq!([counts.rx_frames, counts.rx_bytes], sent[port]);
            prop_assert_eq!([counts.tx_frames, counts.tx_bytes], received[port]);
            prop_assert_eq!(counts.unaccounted(), 0, "port {}: {:?}", port, counts);
            all = all.plus(&counts);
        }
        prop_assert_eq!(all.in_flight(), 0, "{:?}", all);
    }
}

/// The header passes the ingress check, and only the segmentation finds that it is wrong.
#[test]
fn drops_unsegmentable_frame_at_egress() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, Port { offload: false, ..OFFLOAD }]);
    let (vnet, bytes) = unfinished([0xff; 6], H1, 2500, 1);
    fixture.net.send(PortId(0), vnet, &bytes);
    assert!(fixture.worker.turn_at(Tick(1)).unwrap().is_continue());
    let counts = fixture.counters.port(PortId(2)).read();
    assert_eq!(counts.drops[DropReason::Unsegmentable as usize], 1);
    assert_eq!((counts.dropped(Side::Egress), counts.segmented, counts.tx_frames), (1, 0, 0));
    assert_eq!(fixture.counters.port(PortId(1)).read().tx_frames, 1);
}
