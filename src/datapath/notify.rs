//! What workers tell control of stations: who is new, moved, back, gone or unknown.
//!
//! A port may tell so much in a second, and all ports of a worker so much; what is more, or finds the queue to
//! control full, is counted on its port and not told. So in a flood of addresses a frame costs a comparison and a
//! count more, control has a bounded amount to hear, and other ports are still heard.
//!
//! Control is woken when there is something to hear and it has heard all that there was before; and by the
//! first frame after it said that it sleeps ([`super::Datapath::wake_on_next_frame`]), since counters cannot call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::switch::fdb::{FdbKey, Learned};
use crate::switch::{Counters, Frame, LearnCounter, Observer, PortId, Ports, Step, Tick, Verdict};
use crate::wire::EthernetFrame;

/// FDB notifications on their way to control.
pub(super) const QUEUE_LENGTH: usize = 4096;
/// FDB notifications that a port may tell in a second, from each worker.
pub const NOTIFICATIONS_PER_PORT: u16 = 100;
/// FDB notifications that a worker may tell in a second.
pub const NOTIFICATIONS_PER_WORKER: u16 = 1000;
/// Stations of which it is remembered when they were told; a power of two.
const RECENT: usize = 256;

/// Something that a worker saw of a station.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbNotification {
    /// When.
    pub at: SystemTime,
    /// The ingress port of the frame.
    pub port: PortId,
    /// The station.
    pub key: FdbKey,
    /// What.
    pub event: FdbEvent,
}

/// What can be seen of a station.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdbEvent {
    /// A frame came from it, and changed more than a tick.
    Source(Learned),
    /// A frame for it was flooded, because nobody knows where it is. Told once a second of a port and station.
    UnknownDestination,
}

/// So much in a second for a port, and so much for all. The next second begins anew.
#[derive(Debug)]
pub struct RateLimiter {
    each: u16,
    all: u16,
    second: u32,
    spent: u16,
    /// The second in which a port last spent, and how much.
    ports: Box<[(u32, u16)]>,
}

impl RateLimiter {
    /// What may be told in a second of each port, and of all.
    pub fn new(each: u16, all: u16) -> RateLimiter {
        RateLimiter { each, all, second: 0, spent: 0, ports: vec![(0, 0); Ports::MAX].into() }
    }

    /// Whether one more may be told of a port.
    pub fn allow(&mut self, now: Tick, port: PortId) -> bool {
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

/// What workers and control share of the fdb_sender.
#[derive(Debug, Default)]
struct WakeFlags {
    /// Control has been woken to hear and has not begun to.
    wake_pending: AtomicBool,
    /// Control looks at the counters by itself.
    polling: AtomicBool,
}

/// The end of the queue that control has.
#[derive(Debug)]
pub(super) struct NotificationReceiver {
    notifications: Receiver<FdbNotification>,
    flags: Arc<WakeFlags>,
}

impl NotificationReceiver {
    /// What was told and nobody has heard yet.
    pub(super) fn fdb_notifications(&self) -> impl Iterator<Item = FdbNotification> + '_ {
        self.flags.wake_pending.store(false, Ordering::SeqCst);
        self.notifications.try_iter()
    }

    /// The next frame wakes control.
    pub(super) fn wake_on_next_frame(&self) {
        self.flags.polling.store(false, Ordering::Relaxed);
    }
}

/// The end of the queue that the workers have.
#[derive(Clone)]
pub(super) struct NotificationSender {
    notifications: Sender<FdbNotification>,
    flags: Arc<WakeFlags>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// A queue from workers to control, which `wake` wakes.
pub(super) fn queue(wake: Arc<dyn Fn() + Send + Sync>) -> (NotificationSender, NotificationReceiver) {
    let (sender, receiver) = bounded(QUEUE_LENGTH);
    let flags = Arc::<WakeFlags>::default();
    let fdb_sender = NotificationSender { notifications: sender, flags: Arc::clone(&flags), wake };
    (fdb_sender, NotificationReceiver { notifications: receiver, flags })
}

/// What one worker tells.
pub(super) struct FdbNotifier {
    fdb_sender: NotificationSender,
    limiter: RateLimiter,
    recent: Box<[Option<(PortId, FdbKey, u32)>; RECENT]>,
}

impl std::fmt::Debug for FdbNotifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FdbNotifier")
            .field("waiting", &self.fdb_sender.notifications.len())
            .finish_non_exhaustive()
    }
}

impl FdbNotifier {
    pub(super) fn new(fdb_sender: NotificationSender) -> FdbNotifier {
        FdbNotifier {
            fdb_sender,
            limiter: RateLimiter::new(NOTIFICATIONS_PER_PORT, NOTIFICATIONS_PER_WORKER),
            recent: Box::new([None; RECENT]),
        }
    }

    /// Frames came: control is to look at the counters from now on.
    #[inline]
    pub(super) fn wake_if_asleep(&self) {
        if !self.fdb_sender.flags.polling.load(Ordering::Relaxed) {
            self.wake_control();
        }
    }

    #[cold]
    fn wake_control(&self) {
        self.fdb_sender.flags.polling.store(true, Ordering::Relaxed);
        (self.fdb_sender.wake)();
    }

    /// Tells, if the port may; whether it might.
    fn notify(&mut self, now: Tick, port: PortId, key: FdbKey, event: FdbEvent) -> bool {
        let repeats = matches!(event, FdbEvent::UnknownDestination | FdbEvent::Source(Learned::Refused));
        if repeats && self.was_sent_this_second(now, port, key) {
            return true;
        }
        if !self.limiter.allow(now, port) {
            return false;
        }
        let notification = FdbNotification { at: SystemTime::now(), port, key, event };
        let NotificationSender { notifications, flags, wake } = &self.fdb_sender;
        let told = notifications.try_send(notification).is_ok();
        // Control clears this before it hears, so what is sent before the exchange is heard.
        if !flags.wake_pending.swap(true, Ordering::SeqCst) {
            wake();
        }
        told
    }

    /// Whether this was told in this second. Of two stations that share a place the later one is remembered.
    fn was_sent_this_second(&mut self, now: Tick, port: PortId, key: FdbKey) -> bool {
        let told = Some((port, key, now.0 / Tick::PER_SECOND));
        let [.., low] = key.mac.0;
        let place = &mut self.recent[(usize::from(low) ^ port.index()) % RECENT];
        std::mem::replace(place, told) == told
    }
}

/// Counts and tells what becomes of the stations of one frame. A frame between known stations costs nothing: what is
/// needed to tell is put together only where there is something to tell.
pub(super) struct FdbObserver<'a> {
    pub(super) counter: LearnCounter<'a>,
    pub(super) notifier: &'a mut FdbNotifier,
    pub(super) now: Tick,
    pub(super) frame: &'a Frame<'a>,
}

impl Observer for FdbObserver<'_> {
    #[inline(always)]
    fn note(&mut self, step: Step) {
        self.counter.note(step);
        let event = match step {
            Step::Learned(Learned::Known | Learned::Pinned | Learned::Off) => return,
            Step::Learned(learned) => FdbEvent::Source(learned),
            Step::Verdict(Verdict::Flood) => FdbEvent::UnknownDestination,
            _ => return,
        };
        let LearnCounter { counters, ingress } = self.counter;
        PendingNotification {
            notifier: self.notifier,
            counters,
            ingress,
            now: self.now,
            frame: self.frame.bytes,
        }
        .notify(event);
    }
}

/// What there is to tell of one frame.
struct PendingNotification<'a> {
    notifier: &'a mut FdbNotifier,
    counters: &'a Counters,
    ingress: PortId,
    now: Tick,
    frame: &'a [u8],
}

impl PendingNotification<'_> {
    #[cold]
    #[inline(never)]
    fn notify(self, event: FdbEvent) {
        let Some(frame) = EthernetFrame::new_checked(self.frame) else { return };
        let mac = match event {
            FdbEvent::Source(_) => frame.src(),
            // What is for all goes to all.
            FdbEvent::UnknownDestination if frame.dst().is_group() => return,
            FdbEvent::UnknownDestination => frame.dst(),
        };
        // All stations are in VLAN 0 before there is VLAN-aware bridging.
        if !self.notifier.notify(self.now, self.ingress, FdbKey { vlan: 0, mac }, event) {
            self.counters.port(self.ingress).suppressed.add(1);
        }
    }
}
