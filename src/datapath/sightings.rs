//! What workers tell control of stations: who is new, moved, back, gone or unknown.
//!
//! A port may tell so much in a second, and all ports of a worker so much; what is more, or finds the queue to
//! control full, is counted on its port and not told. So in a flood of addresses a frame costs a comparison and a
//! count more, control has a bounded amount to hear, and other ports are still heard.
//!
//! Control is woken when there is something to hear and it has heard all that there was before; and by the
//! first frame after it said that it sleeps ([`super::Datapath::doze`]), since counters cannot call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::switch::fdb::{FdbKey, Learned};
use crate::switch::{Counters, Frame, LearnCounter, Observer, PortId, Ports, Step, Tick, Verdict};
use crate::wire::EthernetFrame;

/// Sightings on their way to control.
pub(super) const WAITING: usize = 4096;
/// Sightings that a port may tell in a second, from each worker.
pub const PER_PORT: u16 = 100;
/// Sightings that a worker may tell in a second.
pub const PER_WORKER: u16 = 1000;
/// Stations of which it is remembered when they were told; a power of two.
const REMEMBERED: usize = 256;

/// Something that a worker saw of a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sighting {
    /// When.
    pub at: SystemTime,
    /// The ingress port of the frame.
    pub port: PortId,
    /// The station.
    pub key: FdbKey,
    /// What.
    pub sight: Sight,
}

/// What can be seen of a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sight {
    /// A frame came from it, and changed more than a tick.
    Source(Learned),
    /// A frame for it was flooded, because nobody knows where it is. Told once a second of a port and station.
    Unknown,
}

/// So much in a second for a port, and so much for all. The next second begins anew.
#[derive(Debug)]
pub struct Budget {
    each: u16,
    all: u16,
    second: u32,
    spent: u16,
    /// The second in which a port last spent, and how much.
    ports: Box<[(u32, u16)]>,
}

impl Budget {
    /// What may be told in a second of each port, and of all.
    pub fn new(each: u16, all: u16) -> Budget {
        Budget { each, all, second: 0, spent: 0, ports: vec![(0, 0); Ports::MAX].into() }
    }

    /// Whether one more may be told of a port.
    pub fn spend(&mut self, now: Tick, port: PortId) -> bool {
        let second = now.0 / Tick::PER_SECOND;
        if self.second != second {
            (self.second, self.spent) = (second, 0);
        }
        let of_port = &mut self.ports[port.index()];
        if of_port.0 != second {
            *of_port = (second, 0);
        }
        if self.spent == self.all || of_port.1 == self.each {
            return false;
        }
        self.spent += 1;
        of_port.1 += 1;
        true
    }
}

/// What workers and control share of the telling.
#[derive(Debug, Default)]
struct Flags {
    /// Control has been woken to hear and has not begun to.
    called: AtomicBool,
    /// Control looks at the counters by itself.
    awake: AtomicBool,
}

/// The end of the queue that control has.
#[derive(Debug)]
pub(super) struct Hearing {
    sightings: Receiver<Sighting>,
    flags: Arc<Flags>,
}

impl Hearing {
    /// What was told and nobody has heard yet.
    pub(super) fn sightings(&self) -> impl Iterator<Item = Sighting> + '_ {
        self.flags.called.store(false, Ordering::SeqCst);
        self.sightings.try_iter()
    }

    /// The next frame wakes control.
    pub(super) fn doze(&self) {
        self.flags.awake.store(false, Ordering::Relaxed);
    }
}

/// The end of the queue that the workers have.
#[derive(Clone)]
pub(super) struct Telling {
    sightings: Sender<Sighting>,
    flags: Arc<Flags>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// A queue from workers to control, which `wake` wakes.
pub(super) fn queue(wake: Arc<dyn Fn() + Send + Sync>) -> (Telling, Hearing) {
    let (sender, receiver) = bounded(WAITING);
    let flags = Arc::<Flags>::default();
    let telling = Telling { sightings: sender, flags: Arc::clone(&flags), wake };
    (telling, Hearing { sightings: receiver, flags })
}

/// What one worker tells.
pub(super) struct Witness {
    telling: Telling,
    budget: Budget,
    told: Box<[Option<(PortId, FdbKey, u32)>; REMEMBERED]>,
}

impl std::fmt::Debug for Witness {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Witness").field("waiting", &self.telling.sightings.len()).finish_non_exhaustive()
    }
}

impl Witness {
    pub(super) fn new(telling: Telling) -> Witness {
        Witness { telling, budget: Budget::new(PER_PORT, PER_WORKER), told: Box::new([None; REMEMBERED]) }
    }

    /// Frames came: control is to look at the counters from now on.
    #[inline]
    pub(super) fn stir(&self) {
        if !self.telling.flags.awake.load(Ordering::Relaxed) {
            self.rouse();
        }
    }

    #[cold]
    fn rouse(&self) {
        self.telling.flags.awake.store(true, Ordering::Relaxed);
        (self.telling.wake)();
    }

    /// Tells, if the port may; whether it might.
    fn tell(&mut self, now: Tick, port: PortId, key: FdbKey, sight: Sight) -> bool {
        let repeats = matches!(sight, Sight::Unknown | Sight::Source(Learned::Refused));
        if repeats && self.was_told(now, port, key) {
            return true;
        }
        if !self.budget.spend(now, port) {
            return false;
        }
        let sighting = Sighting { at: SystemTime::now(), port, key, sight };
        let Telling { sightings, flags, wake } = &self.telling;
        let told = sightings.try_send(sighting).is_ok();
        // Control clears this before it hears, so what is sent before the exchange is heard.
        if !flags.called.swap(true, Ordering::SeqCst) {
            wake();
        }
        told
    }

    /// Whether this was told in this second. Of two stations that share a place the later one is remembered.
    fn was_told(&mut self, now: Tick, port: PortId, key: FdbKey) -> bool {
        let told = Some((port, key, now.0 / Tick::PER_SECOND));
        let [.., low] = key.mac.0;
        let place = &mut self.told[(usize::from(low) ^ port.index()) % REMEMBERED];
        std::mem::replace(place, told) == told
    }
}

/// Counts and tells what becomes of the stations of one frame. A frame between known stations costs nothing: what is
/// needed to tell is put together only where there is something to tell.
pub(super) struct Watch<'a> {
    pub(super) counter: LearnCounter<'a>,
    pub(super) witness: &'a mut Witness,
    pub(super) now: Tick,
    pub(super) frame: &'a Frame<'a>,
}

impl Observer for Watch<'_> {
    #[inline(always)]
    fn note(&mut self, step: Step) {
        self.counter.note(step);
        let sight = match step {
            Step::Learned(Learned::Known | Learned::Pinned | Learned::Off) => return,
            Step::Learned(learned) => Sight::Source(learned),
            Step::Verdict(Verdict::Flood) => Sight::Unknown,
            _ => return,
        };
        let LearnCounter { counters, ingress } = self.counter;
        Tale { witness: self.witness, counters, ingress, now: self.now, frame: self.frame.bytes }.tell(sight);
    }
}

/// What there is to tell of one frame.
struct Tale<'a> {
    witness: &'a mut Witness,
    counters: &'a Counters,
    ingress: PortId,
    now: Tick,
    frame: &'a [u8],
}

impl Tale<'_> {
    #[cold]
    #[inline(never)]
    fn tell(self, sight: Sight) {
        let Some(frame) = EthernetFrame::new_checked(self.frame) else { return };
        let mac = match sight {
            Sight::Source(_) => frame.src(),
            // What is for all goes to all.
            Sight::Unknown if frame.dst().is_group() => return,
            Sight::Unknown => frame.dst(),
        };
        // All stations are in VLAN 0 before there is VLAN-aware bridging.
        if !self.witness.tell(self.now, self.ingress, FdbKey { vlan: 0, mac }, sight) {
            self.counters.port(self.ingress).suppressed.add(1);
        }
    }
}
