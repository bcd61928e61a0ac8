//! Notifications of a worker: which it sends, and their limits.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::bounded;

use super::notify::{self, NotificationReceiver, QUEUE_LENGTH};
use super::worker::{Mailbox, Worker};
use super::{
    FdbEvent, MemoryEngine, MemoryNet, NOTIFICATIONS_PER_PORT, NOTIFICATIONS_PER_WORKER, NoticeSender,
};
use crate::switch::fdb::{FdbKey, Learned};
use crate::switch::{Counters, Gateway, Port, PortId, Switch, SwitchConfig, Tick};
use crate::wire::{Mac, VnetHeader};

const H1: Mac = Mac([2, 0, 0, 0, 0, 1]);
const H2: Mac = Mac([2, 0, 0, 0, 0, 2]);
const AGEING: u32 = 3000;
/// A time, and one in the next second.
const NOW: Tick = Tick(100);
const LATER: Tick = Tick(110);

/// A switch with three ports on one worker, driven turn by turn.
struct NotifyFixture {
    net: MemoryNet,
    counters: Arc<Counters>,
    worker: Worker<MemoryEngine>,
    fdb_receiver: NotificationReceiver,
    /// How often control was woken.
    woken: Arc<AtomicUsize>,
}

impl NotifyFixture {
    fn new(fdb_max: usize) -> NotifyFixture {
        let gateway = Gateway { mac: Mac([2, 0, 0, 0, 0, 0xfe]).into(), ..Gateway::default() };
        let switch = Arc::new(Switch::new(SwitchConfig { ageing: AGEING, fdb_max, seed: 7, gateway }));
        for _ in 0..3 {
            switch.ports.add(Port { up: true, host: false, offload: true, mtu: 1500 }).unwrap();
        }
        let (net, counters) = (MemoryNet::default(), Arc::new(Counters::default()));
        let engine = MemoryEngine::new(net.clone(), Arc::clone(&counters));
        let woken = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&woken);
        let (fdb_sender, fdb_receiver) =
            notify::queue(Arc::new(move || _ = count.fetch_add(1, Ordering::Relaxed)));
        let (channel, _) = bounded(1);
        let notices = NoticeSender {
            channel,
            lost: Arc::default(),
            on_notice: Arc::new(|| ()),
            fdb_sender,
            punts: super::punt::queue().0,
        };
        let (_, commands) = bounded(1);
        let mailbox = Mailbox { commands, notices };
        let worker = Worker::new(switch, engine, Arc::clone(&counters), mailbox);
        NotifyFixture { net, counters, worker, fdb_receiver, woken }
    }

    /// A frame arrives.
    fn frame(&mut self, now: Tick, port: u16, source: Mac, destination: Mac) {
        let frame = [&destination.0[..], &source.0, &[0x88, 0xb5], &[0; 46]].concat();
        self.net.send(PortId(port), VnetHeader::default(), &frame);
        assert!(self.worker.turn_at(now).unwrap().is_continue());
        self.net.received();
    }

    /// A broadcast from each of `count` new addresses.
    fn new_hosts(&mut self, now: Tick, port: u16, count: u32) {
        for n in 0..count {
            let ([.., a, b], [.., c, d]) = (now.0.to_be_bytes(), n.to_be_bytes());
            let [_, page] = port.to_be_bytes();
            self.frame(now, port, Mac([6, page, a, b, c, d]), Mac::BROADCAST);
        }
    }

    /// The notifications since the last call.
    fn received(&self) -> Vec<(u16, Mac, FdbEvent)> {
        self.fdb_receiver
            .fdb_notifications()
            .map(|received| (received.port.0, received.key.mac, received.event))
            .collect()
    }

    fn suppressed(&self, port: u16) -> u64 {
        self.counters.port(PortId(port)).suppressed.value()
    }

    fn woken(&self) -> usize {
        self.woken.load(Ordering::Relaxed)
    }
}

fn source(learned: Learned) -> FdbEvent {
    FdbEvent::Source(learned)
}

#[test]
fn notifies_of_changes_but_not_of_known_addresses() {
    let mut fixture = NotifyFixture::new(64);
    fixture.frame(NOW, 0, H1, Mac::BROADCAST);
    assert_eq!(fixture.received(), [(0, H1, source(Learned::New))]);
    fixture.frame(LATER, 0, H1, Mac::BROADCAST);
    fixture.frame(LATER, 1, H2, H1);
    assert_eq!(fixture.received(), [(1, H2, source(Learned::New))]);
    fixture.frame(LATER, 0, H1, H2);
    assert_eq!(fixture.received(), []);
    fixture.frame(LATER, 2, H1, H2);
    assert_eq!(fixture.received(), [(2, H1, source(Learned::Moved { from: PortId(0), after: 0 }))]);
    fixture.frame(Tick(LATER.0 + AGEING / 3), 2, H1, H2);
    assert_eq!(fixture.received(), [(2, H1, source(Learned::Returned { after: AGEING / 3 }))]);
}

#[test]
fn notifies_of_evictions() {
    let mut fixture = NotifyFixture::new(1);
    fixture.frame(NOW, 0, H1, Mac::BROADCAST);
    fixture.frame(NOW, 1, H2, Mac::BROADCAST);
    let evicted = Learned::Evicted { from: PortId(0), gone: FdbKey { vlan: 0, mac: H1 } };
    assert_eq!(fixture.received()[1..], [(1, H2, source(evicted))]);
}

#[test]
fn notifies_once_a_second_of_repeated_events() {
    let mut fixture = NotifyFixture::new(0);
    for now in [NOW, NOW, LATER, LATER] {
        fixture.frame(now, 0, H1, H2);
        fixture.frame(now, 0, H1, Mac::BROADCAST);
    }
    let received = [(0, H1, source(Learned::Refused)), (0, H2, FdbEvent::UnknownDestination)];
    assert_eq!(fixture.received(), [received, received].concat());
    assert_eq!(fixture.suppressed(0), 0);
}

#[test]
fn address_flood_is_limited_per_port() {
    let each = u32::from(NOTIFICATIONS_PER_PORT);
    let mut fixture = NotifyFixture::new(100_000);
    fixture.new_hosts(NOW, 0, each + 7);
    fixture.frame(NOW, 1, H2, Mac::BROADCAST);
    let received = fixture.received();
    assert_eq!(received.len(), usize::from(NOTIFICATIONS_PER_PORT) + 1);
    assert_eq!(received.last(), Some(&(1, H2, source(Learned::New))));
    assert_eq!((fixture.suppressed(0), fixture.suppressed(1)), (7, 0));
    fixture.new_hosts(LATER, 0, 1);
    assert_eq!(fixture.received().len(), 1, "the limit is per second");
}

#[test]
fn rate_limiter_limits_all_ports_together() {
    let mut limiter = notify::RateLimiter::new(NOTIFICATIONS_PER_PORT, NOTIFICATIONS_PER_WORKER);
    let mut spend = |now| {
        let ports = (0..1000).map(PortId);
        ports.flat_map(|port| [port; 2]).filter(|port| limiter.allow(now, *port)).count()
    };
    assert_eq!(spend(NOW), usize::from(NOTIFICATIONS_PER_WORKER));
    assert_eq!(spend(NOW), 0);
    assert_eq!(spend(LATER), usize::from(NOTIFICATIONS_PER_WORKER));
}

/// Control does not read for many seconds: the queue fills up, and further notifications are counted.
#[test]
fn full_notification_queue_counts_suppressed() {
    let mut fixture = NotifyFixture::new(100_000);
    let each = u32::from(NOTIFICATIONS_PER_PORT);
    let seconds = u32::try_from(QUEUE_LENGTH).unwrap() / each + 1;
    for second in 0..seconds {
        fixture.new_hosts(Tick(second * Tick::PER_SECOND), 0, each);
    }
    let received = fixture.received().len();
    assert_eq!(received, QUEUE_LENGTH);
    assert_eq!(fixture.suppressed(0), u64::from(seconds * each) - received as u64);
}

#[test]
fn wakes_control_once_until_it_reads() {
    let mut fixture = NotifyFixture::new(64);
    fixture.frame(NOW, 0, H1, Mac::BROADCAST);
    assert_eq!(fixture.woken(), 2, "for the notification, and for the counters");
    fixture.frame(NOW, 1, H2, H1);
    assert_eq!(fixture.woken(), 2);
    assert_eq!(fixture.received().len(), 2);
    fixture.frame(NOW, 2, H1, H2);
    assert_eq!(fixture.woken(), 3);
    fixture.fdb_receiver.wake_on_next_frame();
    fixture.frame(NOW, 2, H1, H2);
    fixture.frame(NOW, 2, H1, H2);
    assert_eq!(fixture.woken(), 4);
}
