//! Tests of both engines on pairs of datagram sockets instead of TAP queues, which would need root.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::{Engine, EngineEvent, Forms, PollEngine, Reads, UringEngine, Wait};
use crate::switch::{Counters, Edit, Egress, PortId};
use crate::sys::queue::{Access, Framing, Queue};
use crate::wire::{EtherType, VnetHeader};

struct EngineFixture<E: Engine> {
    engine: E,
    counters: Arc<Counters>,
    wake: Arc<EventFd>,
    hosts: Vec<UnixDatagram>,
}

fn on_each_engine(
    poll: impl FnOnce(EngineFixture<PollEngine>),
    uring: impl FnOnce(EngineFixture<UringEngine>),
) {
    let parts = || {
        let wake = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK).unwrap();
        (Arc::new(Counters::default()), Arc::new(wake))
    };
    let (counters, wake) = parts();
    let engine = PollEngine::new(Arc::clone(&counters), Arc::clone(&wake)).unwrap();
    poll(EngineFixture { engine, counters, wake, hosts: Vec::new() });
    // Without io_uring there is only the poll engine; `start` reports why.
    if crate::sys::uring::probe().is_ok() {
        let (counters, wake) = parts();
        let engine = UringEngine::new(Arc::clone(&counters), Arc::clone(&wake)).unwrap();
        uring(EngineFixture { engine, counters, wake, hosts: Vec::new() });
    }
}

impl<E: Engine> EngineFixture<E> {
    fn attach_ports(&mut self, ports: u16) {
        for port in 0..ports {
            self.attach(port, Framing::Plain);
        }
    }

    fn attach(&mut self, port: u16, framing: Framing) {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        theirs.set_nonblocking(true).unwrap();
        let queue = Queue { fd: ours.into(), framing, access: Access::ReadWrite };
        self.engine.attach(PortId(port), queue).unwrap();
        self.hosts.push(theirs);
    }

    /// Runs turns until there is an event.
    fn turn(&mut self) -> Vec<EngineEvent<E::Buffer>> {
        let mut events = Vec::new();
        while events.is_empty() {
            self.engine.turn(Wait::Sleep, &mut events).unwrap();
        }
        events
    }

    /// Writes the queued frames.
    fn flush(&mut self) {
        let mut events = Vec::new();
        for _ in 0..2 {
            self.engine.turn(Wait::Poll, &mut events).unwrap();
        }
        assert!(events.is_empty(), "{events:?}");
    }

    fn one_buffer_is_written_to_many_ports(mut self) {
        self.attach_ports(3);
        self.hosts[0].send(b"to all").unwrap();
        let Some(EngineEvent::Frame(arrival)) = self.turn().pop() else { panic!("no frame") };
        assert_eq!(arrival.frame(self.engine.bytes(&arrival.buffer)).bytes, b"to all");
        self.engine
            .send(arrival.buffer, &arrival.extent.into(), &[PortId(1).into(), PortId(2).into()])
            .unwrap();
        self.flush();
        for port in [1, 2] {
            let mut bytes = [0; 16];
            let length = self.hosts[usize::from(port)].recv(&mut bytes).unwrap();
            assert_eq!(&bytes[..length], b"to all");
            assert_eq!(self.counters.port(PortId(port)).tx_bytes.value(), 6);
        }
    }

    /// Untagged, tagged, and each with and without a virtio-net header.
    fn one_buffer_is_written_in_two_forms(mut self) {
        self.attach_ports(3);
        for port in 3..5 {
            self.attach(port, Framing::Vnet);
        }
        let (addresses, rest) = (&b"destinsource"[..], &b"\x08\0payload"[..]);
        let tagged = [addresses, b"\x81\0\xb0\x0a", rest].concat();
        let untagged = [addresses, rest].concat();
        let header = VnetHeader::default().emit();
        self.hosts[0].send(&tagged).unwrap();
        let Some(EngineEvent::Frame(mut arrival)) = self.turn().pop() else { panic!("no frame") };
        let egress = [(1, Edit::Pop), (2, Edit::None), (3, Edit::None), (4, Edit::Pop)]
            .map(|(port, edit)| Egress { port: PortId(port), edit });
        let bytes = self.engine.bytes_mut(&mut arrival.buffer);
        bytes[arrival.extent.start - VnetHeader::LEN..arrival.extent.start].fill(0);
        let forms = Forms::of(bytes, arrival.extent, &egress, EtherType::C_TAG);
        let free = self.engine.load().free_buffers;
        self.engine.send_now(&arrival.buffer, &forms, egress[3]).unwrap();
        self.engine.send(arrival.buffer, &forms, &egress).unwrap();
        self.flush();
        let [with_tag, without_tag] = [&tagged, &untagged].map(|frame| [&header[..], frame].concat());
        for (port, expected) in
            [(1, &untagged), (2, &tagged), (3, &with_tag), (4, &without_tag), (4, &without_tag)]
        {
            let mut bytes = [0; 64];
            let length = self.hosts[port].recv(&mut bytes).unwrap();
            assert_eq!(bytes[..length], expected[..], "{port}");
        }
        let tx_bytes = [1, 2, 3, 4].map(|port| self.counters.port(PortId(port)).tx_bytes.value());
        let expected = [untagged.len(), tagged.len(), tagged.len(), 2 * untagged.len()];
        assert_eq!(tx_bytes, expected.map(|length| length as u64));
        assert_eq!(self.engine.load().free_buffers, free + 1);
    }

    fn buffers_are_reused(mut self) {
        self.attach_ports(2);
        for n in 0..1000u32 {
            self.hosts[0].send(&n.to_ne_bytes()).unwrap();
            let Some(EngineEvent::Frame(arrival)) = self.turn().pop() else { panic!("no frame") };
            assert_eq!(arrival.frame(self.engine.bytes(&arrival.buffer)).bytes, n.to_ne_bytes());
            if n % 2 == 0 {
                self.engine.discard(arrival.buffer);
            } else {
                self.engine.send(arrival.buffer, &arrival.extent.into(), &[PortId(1).into()]).unwrap();
                self.flush();
                self.hosts[1].recv(&mut [0; 16]).unwrap();
            }
        }
    }

    /// More failures at once than the completion queue has room for.
    fn counts_failed_writes_as_drops(mut self) {
        const PORTS: u16 = 320;
        const FRAMES: u64 = 16;
        const ALIVE: u16 = 7;
        self.attach_ports(PORTS);
        for _ in 0..FRAMES {
            self.hosts[0].send(b"to all").unwrap();
        }
        let free = self.engine.load().free_buffers;
        let mut arrivals = Vec::new();
        while arrivals.len() < 16 {
            arrivals.extend(self.turn());
        }
        let alive = self.hosts.swap_remove(usize::from(ALIVE));
        self.hosts.clear();
        let egress: Vec<_> = (0..PORTS).map(|port| PortId(port).into()).collect();
        for event in arrivals {
            let EngineEvent::Frame(arrival) = event else { panic!("{event:?}") };
            self.engine.send(arrival.buffer, &arrival.extent.into(), &egress).unwrap();
        }
        // The kernel reports failures in several batches.
        for _ in 0..1000 {
            self.engine.turn(Wait::Poll, &mut Vec::new()).unwrap();
        }
        for port in 0..PORTS {
            let counts = self.counters.port(PortId(port)).read();
            let (sent, failed) = if port == ALIVE { (FRAMES, 0) } else { (0, FRAMES) };
            assert_eq!((counts.tx_frames, counts.drops.iter().sum()), (sent, failed), "{port}");
        }
        assert_eq!(self.engine.load().free_buffers, free);
        assert_eq!((0..).take_while(|_| alive.recv(&mut [0; 16]).is_ok()).count() as u64, FRAMES);
    }

    /// Each port always has more frames than there are buffers.
    fn reads_every_busy_port(mut self) {
        const PORTS: u16 = 8;
        self.attach_ports(PORTS);
        let mut served = [0; PORTS as usize];
        for _ in 0..40 {
            for host in &self.hosts {
                while host.send(b"frame").is_ok() {}
            }
            for event in self.turn() {
                let EngineEvent::Frame(arrival) = event else { panic!("{event:?}") };
                served[arrival.port.index()] += 1;
                self.engine.discard(arrival.buffer);
            }
        }
        assert!(served.iter().all(|&frames| frames > 0), "{served:?}");
    }

    /// More ports than a busy-polling worker reads every turn.
    fn busy_poll_reads_many_ports(mut self) {
        const PORTS: u16 = 40;
        self.attach_ports(PORTS);
        self.flush();
        for round in 0..3 {
            self.hosts.iter().for_each(|host| assert_eq!(host.send(&[round]).unwrap(), 1));
            let (mut events, mut ports_read) = (Vec::new(), Vec::new());
            for _ in 0..PORTS * 4 {
                self.engine.turn(Wait::Poll, &mut events).unwrap();
                for event in events.drain(..) {
                    let EngineEvent::Frame(arrival) = event else { panic!("{event:?}") };
                    ports_read.push(arrival.port.0);
                    self.engine.discard(arrival.buffer);
                }
            }
            ports_read.sort_unstable();
            assert_eq!(ports_read, Vec::from_iter(0..PORTS));
        }
    }

    fn reads_are_limited_and_paused(mut self) {
        self.attach_ports(2);
        self.engine.set_reads(PortId(0), Reads::AtMost(3));
        for _ in 0..8 {
            self.hosts[0].send(b"frame").unwrap();
        }
        let mut frames = 0;
        while frames < 6 {
            let events = self.turn();
            assert!(events.len() <= 3, "{events:?}");
            frames += events.len();
            self.discard_all(events);
        }
        self.engine.set_reads(PortId(0), Reads::Paused);
        self.hosts[1].send(b"of another").unwrap();
        for _ in 0..4 {
            let mut events = Vec::new();
            self.engine.turn(Wait::Poll, &mut events).unwrap();
            assert!(
                events.iter().all(|event| !matches!(event, EngineEvent::Frame(a) if a.port == PortId(0)))
            );
            self.discard_all(events);
        }
        self.engine.set_reads(PortId(0), Reads::default());
        while frames < 8 {
            let events = self.turn();
            frames += events.len();
            self.discard_all(events);
        }
    }

    /// A paused port has frames all the time, and they must not end the wait.
    fn sleeps_while_a_port_is_paused(mut self) {
        self.attach_ports(2);
        self.flush();
        self.engine.set_reads(PortId(0), Reads::Paused);
        for _ in 0..8 {
            self.hosts[0].send(b"frame").unwrap();
        }
        let before = self.engine.load().system_calls;
        let started = Instant::now();
        let mut events = Vec::new();
        while started.elapsed() < Duration::from_millis(50) {
            self.engine.turn(Wait::SleepAtMost(Duration::from_millis(50)), &mut events).unwrap();
        }
        assert!(events.is_empty(), "{events:?}");
        let calls = self.engine.load().system_calls - before;
        assert!(calls < 10, "{calls} system calls instead of one wait");
        self.hosts[1].send(b"of another").unwrap();
        let events = self.turn();
        assert!(matches!(events[..], [EngineEvent::Frame(ref arrival)] if arrival.port == PortId(1)));
        self.discard_all(events);
        self.engine.set_reads(PortId(0), Reads::AtMost(1));
        let events = self.turn();
        assert!(matches!(events[..], [EngineEvent::Frame(ref arrival)] if arrival.port == PortId(0)));
        self.discard_all(events);
    }

    fn discard_all(&mut self, events: Vec<EngineEvent<E::Buffer>>) {
        for event in events {
            let EngineEvent::Frame(arrival) = event else { panic!("{event:?}") };
            self.engine.discard(arrival.buffer);
        }
    }

    fn detach_releases_the_queue(mut self) {
        self.attach_ports(2);
        self.engine.detach(PortId(0)).unwrap();
        let Some(EngineEvent::Detached { port: PortId(0), queue: Some(queue) }) = self.turn().pop() else {
            panic!("no queue")
        };
        drop(queue);
        // The queue is closed: neither the engine nor io_uring holds it.
        let error = self.hosts[0].send(b"too late").unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ECONNREFUSED));
        self.hosts[1].send(b"still here").unwrap();
        assert!(matches!(self.turn()[..], [EngineEvent::Frame(ref arrival)] if arrival.port == PortId(1)));
    }

    fn wake_up_is_reported_once(mut self) {
        for _ in 0..3 {
            self.wake.write(1).unwrap();
            assert!(matches!(self.turn()[..], [EngineEvent::Woken]));
            self.flush();
        }
    }
}

#[test]
fn one_buffer_is_written_to_many_ports() {
    on_each_engine(
        EngineFixture::one_buffer_is_written_to_many_ports,
        EngineFixture::one_buffer_is_written_to_many_ports,
    );
}

#[test]
fn one_buffer_is_written_in_two_forms() {
    on_each_engine(
        EngineFixture::one_buffer_is_written_in_two_forms,
        EngineFixture::one_buffer_is_written_in_two_forms,
    );
}

#[test]
fn buffers_are_reused() {
    on_each_engine(EngineFixture::buffers_are_reused, EngineFixture::buffers_are_reused);
}

#[test]
fn counts_failed_writes_as_drops() {
    on_each_engine(
        EngineFixture::counts_failed_writes_as_drops,
        EngineFixture::counts_failed_writes_as_drops,
    );
}

#[test]
fn reads_every_busy_port() {
    on_each_engine(EngineFixture::reads_every_busy_port, EngineFixture::reads_every_busy_port);
}

#[test]
fn busy_poll_reads_many_ports() {
    on_each_engine(EngineFixture::busy_poll_reads_many_ports, EngineFixture::busy_poll_reads_many_ports);
}

#[test]
fn detach_releases_the_queue() {
    on_each_engine(EngineFixture::detach_releases_the_queue, EngineFixture::detach_releases_the_queue);
}

#[test]
fn reads_are_limited_and_paused() {
    on_each_engine(EngineFixture::reads_are_limited_and_paused, EngineFixture::reads_are_limited_and_paused);
}

#[test]
fn sleeps_while_a_port_is_paused() {
    on_each_engine(
        EngineFixture::sleeps_while_a_port_is_paused,
        EngineFixture::sleeps_while_a_port_is_paused,
    );
}

#[test]
fn wake_up_is_reported_once() {
    on_each_engine(EngineFixture::wake_up_is_reported_once, EngineFixture::wake_up_is_reported_once);
}
