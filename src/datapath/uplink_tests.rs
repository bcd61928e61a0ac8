//! Frames that a worker writes to an uplink with one MAC address for all hosts, and to others.

use super::worker_tests::{H1, H2, OFFLOAD, WorkerFixture, ethernet, super_frame};
use crate::switch::{Port, PortCounts, PortId, Tick};
use crate::wire::{Mac, VnetHeader};

const UPLINK: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
/// A host in the network behind the uplink.
const PEER: [u8; 6] = [2, 0, 0, 0, 0, 0x99];

/// H2 is behind port 0, port 1 is the uplink.
fn fixture(uplink: Port) -> WorkerFixture {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, uplink, OFFLOAD]);
    assert!(fixture.switch.add_uplink(PortId(1), Mac(UPLINK), Vec::new()));
    for (port, host) in [(0, H2), (1, H1), (1, PEER)] {
        fixture.send(port, VnetHeader::default(), &ethernet([0xff; 6], host));
    }
    fixture
}

fn assert_balanced(fixture: &WorkerFixture) {
    let counts = |port| fixture.counters.port(PortId(port)).read();
    let all = (0..3).map(counts).fold(PortCounts::default(), |sum, port| sum.plus(&port));
    assert_eq!((all.in_flight(), all.unaccounted()), (0, 0), "{all:?}");
}

fn with(frame: &[u8], at: usize, mac: [u8; 6]) -> Vec<u8> {
    [&frame[..at], &mac, &frame[at + 6..]].concat()
}

/// A super-frame leaves and enters as it is, except for the addresses.
#[test]
fn super_frames_keep_their_offloads() {
    let mut fixture = fixture(OFFLOAD);
    // From H2 to H1.
    let (vnet, bytes) = super_frame(2500);
    assert_eq!(fixture.send(0, vnet, &bytes), [(1, vnet, with(&bytes, 6, UPLINK))]);
    // Its sender has 192.0.2.11 now.
    let mut back = with(&with(&bytes, 0, UPLINK), 6, PEER);
    back[26..34].copy_from_slice(&[192, 0, 2, 12, 192, 0, 2, 11]);
    assert_eq!(fixture.send(1, vnet, &back), [(0, vnet, with(&back, 0, H2))]);
    assert_balanced(&fixture);
}

#[test]
fn segments_have_the_mac_of_the_uplink() {
    let mut fixture = fixture(Port { offload: false, ..OFFLOAD });
    let (vnet, bytes) = super_frame(2500);
    let sent = fixture.send(0, vnet, &bytes);
    assert_eq!(sent.len(), 3);
    assert!(
        sent.iter().all(|(port, vnet, frame)| *port == 1 && vnet.is_complete() && frame[6..12] == UPLINK)
    );
    assert_balanced(&fixture);
}

/// Other ports get the frame with the addresses of its sender.
#[test]
fn floods_leave_in_both_forms() {
    let mut fixture = fixture(OFFLOAD);
    let arp = [
        &[0xff; 6][..],
        &H2,
        &[8, 6, 0, 1, 8, 0, 6, 4, 0, 1],
        &H2,
        &[192, 0, 2, 11],
        &[0; 6],
        &[192, 0, 2, 9],
    ];
    let arp = arp.concat();
    let mut sent = fixture.send(0, VnetHeader::default(), &arp);
    sent.sort_by_key(|(port, ..)| *port);
    let rewritten = with(&with(&arp, 6, UPLINK), 22, UPLINK);
    assert_eq!(sent, [(1, VnetHeader::default(), rewritten), (2, VnetHeader::default(), arp)]);
    // To an unknown address.
    let (vnet, bytes) = super_frame(2500);
    let unknown = with(&bytes, 0, [2, 0, 0, 0, 0, 0x55]);
    let sent = fixture.send(0, vnet, &unknown);
    let by_uplink: Vec<_> = sent.iter().filter(|(port, ..)| *port == 1).collect();
    assert_eq!(by_uplink.len(), 3);
    assert!(by_uplink.iter().all(|(_, _, frame)| frame[6..12] == UPLINK));
    assert!(sent.contains(&(2, vnet, unknown)));
    assert_balanced(&fixture);
    assert!(fixture.worker.turn_at(Tick(2)).unwrap().is_continue());
}
