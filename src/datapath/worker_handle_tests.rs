//! Tests of workers that have ended or do not respond.

use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{bounded, unbounded};

use super::worker::WorkerCommand;
use super::*;
use crate::switch::{Gateway, SwitchConfig};
use crate::sys::queue::{Access, Framing};

/// A datapath with two workers and no ports.
fn two_workers() -> Datapath {
    let settings = SwitchConfig { ageing: 1, fdb_max: 16, seed: 0, gateway: Gateway::default() };
    let workers = DatapathSettings {
        workers: 2,
        engine: EngineKind::Poll,
        busy_poll: BusyPoll::default(),
        placement: Placement::default(),
        on_notice: Arc::new(|| ()),
    };
    Datapath::start(&Arc::new(Switch::new(settings)), &workers).unwrap()
}

/// A queue for each of two workers, and the other ends.
fn two_queues() -> (Vec<Queue>, [UnixDatagram; 2]) {
    let [(a, peer_a), (b, peer_b)] = [(); 2].map(|()| UnixDatagram::pair().unwrap());
    for socket in [&a, &b] {
        socket.set_nonblocking(true).unwrap();
    }
    let queues =
        [a, b].map(|socket| Queue { fd: socket.into(), framing: Framing::Plain, access: Access::ReadWrite });
    (queues.into(), [peer_a, peer_b])
}

/// Whether the switch has closed its end.
fn is_closed(peer: &UnixDatagram) -> bool {
    peer.send(b"frame").is_err()
}

fn assert_unresponsive<T: std::fmt::Debug>(outcome: &Result<T, DatapathError>) {
    assert!(matches!(outcome, Err(DatapathError::WorkerUnresponsive(1))), "{outcome:?}");
}

/// Pings and waits until worker 1 is in this state.
fn wait_until_stalled(datapath: &mut Datapath, stalled: bool) {
    let limit = Instant::now() + Duration::from_secs(30);
    while datapath.stalled_workers().contains(&1) != stalled {
        assert!(Instant::now() < limit, "worker 1 is not stalled: {stalled}");
        datapath.ping_workers();
        datapath.await_pings();
        std::thread::yield_now();
    }
}

fn wait_until_detached(datapath: &Datapath, port: PortId) {
    let limit = Instant::now() + Duration::from_secs(30);
    while datapath.is_detaching(port) {
        assert!(Instant::now() < limit, "{port:?} is not detached");
        std::thread::yield_now();
    }
}

#[test]
fn control_does_not_wait_for_an_ended_worker() {
    let datapath = two_workers();
    datapath.workers[1].channel.send(WorkerCommand::Stop).unwrap();
    while !datapath.workers[1].thread.is_finished() {
        std::thread::yield_now();
    }
    assert!(matches!(datapath.detach(PortId(0)), Err(DatapathError::WorkerStopped)));
    assert!(matches!(datapath.attach(PortId(0), two_queues().0), Err(DatapathError::WorkerStopped)));
    assert!(!datapath.is_detaching(PortId(0)));
    assert!(datapath.stop().is_empty());
}

#[test]
fn unread_commands_are_dropped_with_the_worker() {
    let (commands, inbox) = unbounded();
    let (done, queues) = bounded::<Option<Queue>>(1);
    commands.send(WorkerCommand::Detach { port: PortId(0), done }).unwrap();
    drop(inbox);
    assert!(queues.recv().is_err());
}

#[test]
fn refuses_port_if_a_worker_does_not_respond() {
    let mut datapath = two_workers();
    let blocker = datapath.block_worker(1);
    let (queues, peers) = two_queues();
    assert_unresponsive(&datapath.attach(PortId(0), queues));
    assert!(peers.iter().all(is_closed), "both workers' queues are closed");
    assert_eq!(datapath.worker_changes(), [WorkerChange { worker: 1, stalled: true }]);

    // Control does not wait again.
    let (queues, peers) = two_queues();
    assert_unresponsive(&datapath.attach(PortId(1), queues));
    assert!(peers.iter().all(is_closed));
    assert!(datapath.is_detaching(PortId(0)) && !datapath.is_detaching(PortId(1)));

    drop(blocker);
    wait_until_stalled(&mut datapath, false);
    assert_eq!(datapath.worker_changes(), [WorkerChange { worker: 1, stalled: false }]);
    wait_until_detached(&datapath, PortId(0));
    datapath.attach(PortId(0), two_queues().0).unwrap();
    datapath.detach(PortId(0)).unwrap();
    assert!(datapath.stop().is_empty());
}

#[test]
fn stalled_worker_detaches_port_when_it_responds_again() {
    let mut datapath = two_workers();
    let (queues, [peer0, peer1]) = two_queues();
    datapath.attach(PortId(0), queues).unwrap();
    let blocker = datapath.block_worker(1);
    assert_unresponsive(&datapath.detach(PortId(0)));
    assert!(is_closed(&peer0) && !is_closed(&peer1), "only the stalled worker has its queue");
    assert!(datapath.is_detaching(PortId(0)));

    drop(blocker);
    wait_until_stalled(&mut datapath, false);
    wait_until_detached(&datapath, PortId(0));
    assert!(is_closed(&peer1));
}

#[test]
fn ping_finds_a_worker_that_does_not_respond() {
    let mut datapath = two_workers();
    datapath.ping_workers();
    datapath.await_pings();
    assert!(datapath.stalled_workers().is_empty() && !datapath.awaits_pings());
    let _blocker = datapath.block_worker(1);
    datapath.ping_workers();
    datapath.await_pings();
    assert_eq!(datapath.stalled_workers(), [1]);
    assert!(datapath.awaits_pings());
    assert_unresponsive(&datapath.mirror(MirrorSpec::default(), Arc::new(|| ())));
}

#[test]
fn stop_does_not_wait_for_a_stalled_worker() {
    let datapath = two_workers();
    let blocker = datapath.block_worker(1);
    assert_eq!(datapath.stop(), [1]);
    drop(blocker);
}
