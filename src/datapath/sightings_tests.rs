//! What a worker tells of stations, and how much.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crossbeam_channel::bounded;

use super::sightings::{self, Hearing, WAITING};
use super::worker::{Mailbox, Worker};
use super::{MemoryEngine, MemoryNet, Notices, PER_PORT, PER_WORKER, Sight};
use crate::switch::fdb::{FdbKey, Learned};
use crate::switch::{Counters, Gateway, Port, PortId, Switch, SwitchConfig, Tick};
use crate::wire::{Mac, VnetHeader};

const H1: Mac = Mac([2, 0, 0, 0, 0, 1]);
const H2: Mac = Mac([2, 0, 0, 0, 0, 2]);
const AGEING: u32 = 3000;
/// A moment, and one in the next second.
const NOW: Tick = Tick(100);
const LATER: Tick = Tick(110);

/// A switch with three ports on one worker, driven a turn at a time.
struct Rig {
    net: MemoryNet,
    counters: Arc<Counters>,
    worker: Worker<MemoryEngine>,
    hearing: Hearing,
    /// How often control was woken.
    woken: Arc<AtomicUsize>,
}

impl Rig {
    fn new(fdb_max: usize) -> Rig {
        let gateway = Gateway { mac: Mac([2, 0, 0, 0, 0, 0xfe]), ..Gateway::default() };
        let switch = Arc::new(Switch::new(SwitchConfig { ageing: AGEING, fdb_max, seed: 7, gateway }));
        for _ in 0..3 {
            switch.ports.add(Port { up: true, host: false, offload: true, mtu: 1500 }).unwrap();
        }
        let (net, counters) = (MemoryNet::default(), Arc::new(Counters::default()));
        let engine = MemoryEngine::new(net.clone(), Arc::clone(&counters));
        let woken = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&woken);
        let (telling, hearing) =
            sightings::queue(Arc::new(move || _ = count.fetch_add(1, Ordering::Relaxed)));
        let (channel, _) = bounded(1);
        let notices = Notices { channel, lost: Arc::default(), on_notice: Arc::new(|| ()), telling };
        let (_, commands) = bounded(1);
        let mailbox = Mailbox { commands, notices };
        let worker = Worker::new(switch, engine, Arc::clone(&counters), mailbox);
        Rig { net, counters, worker, hearing, woken }
    }

    /// A frame comes in.
    fn frame(&mut self, now: Tick, port: u16, source: Mac, destination: Mac) {
        let frame = [&destination.0[..], &source.0, &[0x88, 0xb5], &[0; 46]].concat();
        self.net.send(PortId(port), VnetHeader::default(), &frame);
        assert!(self.worker.turn_at(now).unwrap().is_continue());
        self.net.received();
    }

    /// A broadcast from each of so many new stations.
    fn stations(&mut self, now: Tick, port: u16, count: u32) {
        for n in 0..count {
            let ([.., a, b], [.., c, d]) = (now.0.to_be_bytes(), n.to_be_bytes());
            let [_, page] = port.to_be_bytes();
            self.frame(now, port, Mac([6, page, a, b, c, d]), Mac::BROADCAST);
        }
    }

    /// What was told since the last call.
    fn told(&self) -> Vec<(u16, Mac, Sight)> {
        self.hearing.sightings().map(|told| (told.port.0, told.key.mac, told.sight)).collect()
    }

    fn suppressed(&self, port: u16) -> u64 {
        self.counters.port(PortId(port)).suppressed.value()
    }

    fn woken(&self) -> usize {
        self.woken.load(Ordering::Relaxed)
    }
}

fn source(learned: Learned) -> Sight {
    Sight::Source(learned)
}

#[test]
fn what_changes_is_told_and_a_known_station_is_not() {
    let mut rig = Rig::new(64);
    rig.frame(NOW, 0, H1, Mac::BROADCAST);
    assert_eq!(rig.told(), [(0, H1, source(Learned::New))]);
    rig.frame(LATER, 0, H1, Mac::BROADCAST);
    rig.frame(LATER, 1, H2, H1);
    assert_eq!(rig.told(), [(1, H2, source(Learned::New))]);
    rig.frame(LATER, 0, H1, H2);
    assert_eq!(rig.told(), []);
    rig.frame(LATER, 2, H1, H2);
    assert_eq!(rig.told(), [(2, H1, source(Learned::Moved { from: PortId(0) }))]);
    rig.frame(Tick(LATER.0 + AGEING / 3), 2, H1, H2);
    assert_eq!(rig.told(), [(2, H1, source(Learned::Returned { after: AGEING / 3 }))]);
}

#[test]
fn who_gives_way_is_told() {
    let mut rig = Rig::new(1);
    rig.frame(NOW, 0, H1, Mac::BROADCAST);
    rig.frame(NOW, 1, H2, Mac::BROADCAST);
    let evicted = Learned::Evicted { from: PortId(0), gone: FdbKey { vlan: 0, mac: H1 } };
    assert_eq!(rig.told()[1..], [(1, H2, source(evicted))]);
}

#[test]
fn what_repeats_is_told_once_a_second() {
    let mut rig = Rig::new(0);
    for now in [NOW, NOW, LATER, LATER] {
        rig.frame(now, 0, H1, H2);
        rig.frame(now, 0, H1, Mac::BROADCAST);
    }
    let told = [(0, H1, source(Learned::Refused)), (0, H2, Sight::Unknown)];
    assert_eq!(rig.told(), [told, told].concat());
    assert_eq!(rig.suppressed(0), 0);
}

#[test]
fn a_flood_of_addresses_is_told_within_the_budget_of_its_port_and_the_others_are_heard() {
    let each = u32::from(PER_PORT);
    let mut rig = Rig::new(100_000);
    rig.stations(NOW, 0, each + 7);
    rig.frame(NOW, 1, H2, Mac::BROADCAST);
    let told = rig.told();
    assert_eq!(told.len(), usize::from(PER_PORT) + 1);
    assert_eq!(told.last(), Some(&(1, H2, source(Learned::New))));
    assert_eq!((rig.suppressed(0), rig.suppressed(1)), (7, 0));
    rig.stations(LATER, 0, 1);
    assert_eq!(rig.told().len(), 1, "in the next second it may tell again");
}

#[test]
fn a_budget_has_an_end_for_all_ports_together() {
    let mut budget = sightings::Budget::new(PER_PORT, PER_WORKER);
    let mut spend = |now| {
        let ports = (0..1000).map(PortId);
        ports.flat_map(|port| [port; 2]).filter(|port| budget.spend(now, *port)).count()
    };
    assert_eq!(spend(NOW), usize::from(PER_WORKER));
    assert_eq!(spend(NOW), 0);
    assert_eq!(spend(LATER), usize::from(PER_WORKER));
}

/// Nobody hears for many seconds: the queue fills, and what finds no place is counted.
#[test]
fn a_full_queue_is_counted() {
    let mut rig = Rig::new(100_000);
    let each = u32::from(PER_PORT);
    let seconds = u32::try_from(WAITING).unwrap() / each + 1;
    for second in 0..seconds {
        rig.stations(Tick(second * Tick::PER_SECOND), 0, each);
    }
    let told = rig.told().len();
    assert_eq!(told, WAITING);
    assert_eq!(rig.suppressed(0), u64::from(seconds * each) - told as u64);
}

#[test]
fn control_is_woken_once_until_it_hears_and_by_the_first_frame_after_it_dozed() {
    let mut rig = Rig::new(64);
    rig.frame(NOW, 0, H1, Mac::BROADCAST);
    assert_eq!(rig.woken(), 2, "for the station, and for the counters");
    rig.frame(NOW, 1, H2, H1);
    assert_eq!(rig.woken(), 2);
    assert_eq!(rig.told().len(), 2);
    rig.frame(NOW, 2, H1, H2);
    assert_eq!(rig.woken(), 3);
    rig.hearing.doze();
    rig.frame(NOW, 2, H1, H2);
    rig.frame(NOW, 2, H1, H2);
    assert_eq!(rig.woken(), 4);
}
