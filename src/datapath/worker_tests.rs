//! The worker on the memory engine: what it writes to which port, and what it counts.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use super::background::BackgroundWriter;
use super::punt::{self, PuntReceiver};
use super::worker::{Mailbox, Worker, WorkerCommand};
use super::{MemoryEngine, MemoryNet, NoticeSender, allowed_cpus, notify};
use crate::switch::Side;
use crate::switch::fdb::{FdbKey, FdbState};
use crate::switch::{Counters, DropReason, Gateway, Port, PortId, Switch, SwitchConfig, Tick};
use crate::sys::queue::{Access, Framing, Queue};
use crate::wire::{Mac, VnetHeader};
use crossbeam_channel::{Sender, bounded, unbounded};
use nix::errno::Errno;

pub(super) const H1: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub(super) const H2: [u8; 6] = [2, 0, 0, 0, 0, 2];
pub(super) const GATEWAY: Mac = Mac([2, 0, 0, 0, 0, 0xfe]);
pub(super) const OFFLOAD: Port = Port { up: true, host: false, offload: true, mtu: 1500 };
const PLAIN: Port = Port { offload: false, ..OFFLOAD };

/// A switch on one worker, driven turn by turn.
pub(super) struct WorkerFixture {
    pub(super) switch: Arc<Switch>,
    pub(super) net: MemoryNet,
    pub(super) counters: Arc<Counters>,
    pub(super) worker: Worker<MemoryEngine>,
    commands: Sender<WorkerCommand>,
    pub(super) punts: PuntReceiver,
}

impl WorkerFixture {
    pub(super) fn new(ports: &[Port]) -> WorkerFixture {
        WorkerFixture::with_switch(ports, |switch| switch)
    }

    /// Of a switch with other settings.
    pub(super) fn with_switch(ports: &[Port], change: impl FnOnce(Switch) -> Switch) -> WorkerFixture {
        let gateway = Gateway { mac: GATEWAY.into(), ipv4: vec![[192, 0, 2, 1].into()], ipv6: Vec::new() };
        let settings = SwitchConfig { ageing: 3000, fdb_max: 64, seed: 7, gateway };
        let switch = Arc::new(change(Switch::new(settings)));
        for port in ports {
            switch.ports.add(*port).unwrap();
        }
        let (net, counters) = (MemoryNet::default(), Arc::new(Counters::default()));
        let engine = MemoryEngine::new(net.clone(), Arc::clone(&counters));
        let (commands, inbox) = unbounded();
        let (channel, _) = bounded(1);
        let (fdb_sender, _) = notify::queue(Arc::new(|| ()));
        let (punt_queue, punts) = punt::queue();
        let notices = NoticeSender {
            channel,
            lost: Arc::default(),
            on_notice: Arc::new(|| ()),
            fdb_sender,
            punts: punt_queue,
        };
        let mailbox = Mailbox { commands: inbox, notices };
        let worker = Worker::new(Arc::clone(&switch), engine, Arc::clone(&counters), mailbox);
        WorkerFixture { switch, net, counters, worker, commands, punts }
    }

    /// Executes a command.
    pub(super) fn run_command(&mut self, command: WorkerCommand) {
        self.commands.send(command).unwrap();
        assert!(self.worker.run_commands().unwrap().is_continue());
    }

    /// Sends a frame into a port and returns the frames that left the switch.
    pub(super) fn send(
        &mut self,
        port: u16,
        vnet: VnetHeader,
        frame: &[u8],
    ) -> Vec<(u16, VnetHeader, Vec<u8>)> {
        self.send_at(Tick(1), port, vnet, frame)
    }

    pub(super) fn send_at(
        &mut self,
        now: Tick,
        port: u16,
        vnet: VnetHeader,
        frame: &[u8],
    ) -> Vec<(u16, VnetHeader, Vec<u8>)> {
        self.net.send(PortId(port), vnet, frame);
        assert!(self.worker.turn_at(now).unwrap().is_continue());
        self.net.received().into_iter().map(|(port, vnet, frame)| (port.0, vnet, frame)).collect()
    }

    fn drops(&self, port: u16, reason: DropReason) -> u64 {
        self.counters.port(PortId(port)).drops[reason as usize].value()
    }
}

fn complete(frame: &[u8]) -> (VnetHeader, Vec<u8>) {
    (VnetHeader::default(), frame.to_vec())
}

pub(super) fn ethernet(dst: [u8; 6], src: [u8; 6]) -> Vec<u8> {
    [&dst[..], &src, &[0x88, 0xb5], &[0x5a; 50]].concat()
}

/// An ARP request for the gateway's address.
pub(super) fn who_has_the_gateway() -> Vec<u8> {
    [&[0xff; 6][..], &H1, &[8, 6], &[0, 1, 8, 0, 6, 4, 0, 1], &H1, &[192, 0, 2, 11], &[0; 6], &[192, 0, 2, 1]]
        .concat()
}

/// A TCP super-frame of `payload` bytes in segments of 1000, its checksums left to do.
pub(super) fn super_frame(payload: usize) -> (VnetHeader, Vec<u8>) {
    let length = u16::try_from(20 + 20 + payload).unwrap().to_be_bytes();
    let ip =
        [&[0x45, 0][..], &length, &[0, 1, 0x40, 0, 64, 6, 0, 0], &[192, 0, 2, 11], &[192, 0, 2, 12]].concat();
    let tcp = [&[3, 0xe8, 7, 0xd0, 0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0, 100][..], &[0; 4]].concat();
    let frame = [&H1[..], &H2, &[8, 0], &ip, &tcp, &vec![0xab; payload]].concat();
    let vnet = VnetHeader {
        flags: VnetHeader::NEEDS_CSUM,
        gso_type: VnetHeader::GSO_TCPV4,
        hdr_len: 54,
        gso_size: 1000,
        csum_start: 34,
        csum_offset: 16,
    };
    (vnet, frame)
}

#[test]
fn flood_reaches_all_ports_except_ingress() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, OFFLOAD]);
    let frame = ethernet([0xff; 6], H1);
    let out = fixture.send(0, VnetHeader::default(), &frame);
    let (vnet, bytes) = complete(&frame);
    assert_eq!(out, [(1, vnet, bytes.clone()), (2, vnet, bytes)]);
    let (one, two) = (fixture.counters.port(PortId(0)), fixture.counters.port(PortId(1)));
    assert_eq!((one.rx_frames.value(), one.rx_bytes.value(), one.flooded.value()), (1, 64, 1));
    assert_eq!((two.tx_frames.value(), two.tx_bytes.value()), (1, 64));
}

#[test]
fn forwards_known_unicast_to_one_port() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, OFFLOAD]);
    fixture.send(2, VnetHeader::default(), &ethernet([0xff; 6], H2));
    let frame = ethernet(H2, H1);
    let out = fixture.send(0, VnetHeader::default(), &frame);
    assert_eq!(out, [(2, VnetHeader::default(), frame)]);
    assert_eq!(fixture.counters.port(PortId(0)).flooded.value(), 0);
}

#[test]
fn forwards_super_frame_whole_between_offload_ports() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD]);
    let (vnet, frame) = super_frame(5000);
    assert_eq!(fixture.send(0, vnet, &frame), [(1, vnet, frame)]);
}

#[test]
fn segments_only_for_ports_without_offload() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, PLAIN]);
    let (vnet, frame) = super_frame(2500);
    let out = fixture.send(0, vnet, &frame);
    let lengths: Vec<_> =
        out.iter().map(|(port, vnet, frame)| (*port, vnet.is_complete(), frame.len())).collect();
    assert_eq!(lengths, [(2, true, 1054), (2, true, 1054), (2, true, 554), (1, false, 2554)]);
    assert_eq!(fixture.counters.port(PortId(2)).tx_frames.value(), 3);
}

#[test]
fn flood_without_egress_is_dropped_on_ingress() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD]);
    fixture.switch.ports.set(PortId(1), Port { up: false, ..OFFLOAD });
    assert!(fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1)).is_empty());
    assert_eq!(fixture.drops(0, DropReason::NoEgress), 1);
}

/// Counted at the port that cannot take it, not at the ingress port too.
#[test]
fn refused_flood_is_counted_once() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, Port { mtu: 45, ..OFFLOAD }]);
    assert!(fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1)).is_empty());
    assert_eq!((fixture.drops(1, DropReason::Oversize), fixture.drops(0, DropReason::NoEgress)), (1, 0));
}

#[test]
fn full_egress_queue_is_counted_at_egress() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, OFFLOAD]);
    fixture.net.limit(1);
    let out = fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1));
    assert_eq!(out.len(), 1);
    assert_eq!(fixture.drops(2, DropReason::EgressQueueFull), 1);
    assert_eq!(fixture.counters.port(PortId(2)).tx_frames.value(), 0);
}

#[test]
fn flood_over_one_ports_mtu_is_dropped_at_that_port() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, Port { mtu: 40, ..OFFLOAD }]);
    let out = fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1));
    assert_eq!(out.len(), 1);
    assert_eq!(fixture.drops(2, DropReason::Oversize), 1);
}

#[test]
fn gateway_answers_on_the_ingress_port() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD]);
    let request = who_has_the_gateway();
    let out = fixture.send(0, VnetHeader::default(), &request);
    let reply = [
        &H1[..],
        &GATEWAY.0,
        &[8, 6],
        &[0, 1, 8, 0, 6, 4, 0, 2],
        &GATEWAY.0,
        &[192, 0, 2, 1],
        &H1,
        &[192, 0, 2, 11],
    ]
    .concat();
    assert_eq!(out, [(0, VnetHeader::default(), reply)]);
    assert_eq!(fixture.counters.port(PortId(0)).answered.value(), 1);
}

#[test]
fn counts_evictions_at_the_evicted_port() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD]);
    fixture.send(1, VnetHeader::default(), &ethernet([0xff; 6], H2));
    for last in 0..100 {
        fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], [2, 0, 0, 0, 1, last]));
    }
    // 64 places: the flood's own 63, and one of another port that nothing takes.
    assert_eq!(fixture.counters.port(PortId(0)).fdb_evictions.value(), 100 - 63);
    assert_eq!(fixture.counters.port(PortId(1)).fdb_evictions.value(), 0);
}

#[test]
fn counts_addresses_refused_by_a_full_fdb() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD]);
    for last in 0..64 {
        let key = FdbKey { vlan: 0, mac: Mac([2, 0, 0, 0, 2, last]) };
        fixture.switch.fdb.add(Tick(0), key, PortId(1), FdbState::Static).unwrap();
    }
    assert_eq!(fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1)).len(), 1);
    assert_eq!(fixture.counters.port(PortId(0)).fdb_refused.value(), 1);
}

#[test]
fn maps_every_write_error_to_a_drop_reason() {
    let counters = Counters::default();
    let port = counters.port(PortId(0));
    for (errno, reason) in [
        (Errno::EIO, DropReason::EgressDown),
        (Errno::EBADFD, DropReason::EgressDown),
        (Errno::EAGAIN, DropReason::EgressQueueFull),
        (Errno::ENOMEM, DropReason::EgressQueueFull),
        (Errno::EINVAL, DropReason::EgressRefused),
    ] {
        let before = port.drops[reason as usize].value();
        super::engine::account_write(port, Err(errno), 0);
        assert_eq!(port.drops[reason as usize].value(), before + 1, "errno {errno}");
    }
    super::engine::account_write(port, Ok(76), VnetHeader::LEN);
    assert_eq!((port.tx_frames.value(), port.tx_bytes.value()), (1, 64));
}

/// 64 KiB in segments of 100 bytes would be 600 writes in one turn.
#[test]
fn drops_super_frame_with_too_many_segments_at_ports_without_offload() {
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD, PLAIN]);
    let (vnet, frame) = super_frame(60_000);
    let out = fixture.send(0, VnetHeader { gso_size: 100, ..vnet }, &frame);
    assert_eq!(out.len(), 1, "the port with offload");
    assert_eq!(fixture.drops(2, DropReason::TooManySegments), 1);
    let counts = fixture.counters.port(PortId(2)).read();
    assert_eq!((counts.segmented, counts.tx_frames), (0, 0));
    let out = fixture.send(0, VnetHeader { gso_size: 500, ..vnet }, &frame);
    assert_eq!(out.len(), 120 + 1);
}

/// The port's queue is a full socket that is not read, so writes to it wait.
#[test]
fn drops_frames_for_a_slow_port_that_has_too_many_waiting() {
    const FRAMES: u64 = 2000;
    let mut fixture = WorkerFixture::new(&[OFFLOAD, OFFLOAD]);
    let counters = Arc::<Counters>::default();
    let mut background = BackgroundWriter::start(Arc::clone(&counters), allowed_cpus()).unwrap();
    let (ours, host) = UnixDatagram::pair().unwrap();
    // Full from the start: after some fast writes the port would no longer be slow.
    ours.set_nonblocking(true).unwrap();
    while ours.send(b"full").is_ok() {}
    ours.set_nonblocking(false).unwrap();
    background
        .attach(PortId(1), &Queue { fd: ours.into(), framing: Framing::Plain, access: Access::ReadWrite });
    fixture.worker.background = Some(background);
    fixture.worker.detour = true;
    for _ in 0..FRAMES {
        fixture.worker.detour = true;
        assert!(fixture.send(0, VnetHeader::default(), &ethernet([0xff; 6], H1)).is_empty());
    }
    let dropped = fixture.drops(1, DropReason::EgressThrottled);
    assert!(dropped > 0);
    drop((host, fixture.worker));
    let counts = counters.port(PortId(1)).read();
    assert_eq!(counts.tx_frames + counts.dropped(Side::Egress) + dropped, FRAMES);
}
