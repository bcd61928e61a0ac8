//! Notifications from the workers to control: FDB entries learned, moved, returned, evicted or refused, and frames
//! flooded because their destination is unknown.
//!
//! The channel is rate limited, per ingress port and per worker. A notification over the limit, or one that finds
//! the queue full, is counted at its port as `suppressed`. A flood of addresses therefore costs a worker one
//! comparison and one count per frame, and the notifications of other ports still arrive.
//!
//! A worker wakes control when it sends a notification and control has read all earlier ones. It also wakes control
//! with the first frame after [`super::Datapath::wake_on_next_frame`], because counters alone do not wake it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::switch::fdb::{FdbKey, Learned};
use crate::switch::{Counters, Destination, Fault, Frame, Outcome, PortId, Ports, Switch, Tick};
use crate::wire::{EthernetFrame, Mac};

/// Length of the queue to control.
pub(super) const QUEUE_LENGTH: usize = 4096;
/// Notifications per second about one port, from each worker.
pub const NOTIFICATIONS_PER_PORT: u16 = 100;
/// Notifications per second from one worker.
pub const NOTIFICATIONS_PER_WORKER: u16 = 1000;
/// Size of the table of recently sent notifications; a power of two.
const RECENT: usize = 256;

/// An FDB event, as a worker saw it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FdbNotification {
    /// Time of the frame.
    pub at: SystemTime,
    /// The ingress port of the frame.
    pub port: PortId,
    /// The VLAN and MAC address.
    pub key: FdbKey,
    /// What happened.
    pub event: FdbEvent,
}

/// What happened to an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FdbEvent {
    /// It was the source of a frame, and its FDB entry changed in more than its age.
    Source(Learned),
    /// It was the destination of a frame and has no FDB entry: the frame was flooded. Sent at most once per second
    /// for a port and address.
    UnknownDestination,
}

/// Limits events per second, for each port and for all ports together.
#[derive(Debug)]
pub struct RateLimiter {
    each: u16,
    all: u16,
    second: u32,
    spent: u16,
    /// For each port: the second of its last event, and its events in that second.
    ports: Box<[(u32, u16)]>,
}

impl RateLimiter {
    /// Allows `each` events per second for a port and `all` for all ports.
    pub fn new(each: u16, all: u16) -> RateLimiter {
        RateLimiter { each, all, second: 0, spent: 0, ports: vec![(0, 0); Ports::MAX].into() }
    }

    /// Counts one event of a port; false if a limit is reached.
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

/// What workers and control share to wake control.
#[derive(Debug, Default)]
struct WakeFlags {
    /// Control was woken and has not started to read.
    wake_pending: AtomicBool,
    /// Control polls the counters: no need to wake it for a frame.
    polling: AtomicBool,
}

/// Control's end of the queue.
#[derive(Debug)]
pub(super) struct NotificationReceiver {
    notifications: Receiver<FdbNotification>,
    flags: Arc<WakeFlags>,
}

impl NotificationReceiver {
    /// Takes the notifications that are waiting.
    pub(super) fn fdb_notifications(&self) -> impl Iterator<Item = FdbNotification> + '_ {
        self.flags.wake_pending.store(false, Ordering::SeqCst);
        self.notifications.try_iter()
    }

    /// Makes the next frame wake control.
    pub(super) fn wake_on_next_frame(&self) {
        self.flags.polling.store(false, Ordering::Relaxed);
    }
}

/// The workers' end of the queue.
#[derive(Clone)]
pub(super) struct NotificationSender {
    notifications: Sender<FdbNotification>,
    flags: Arc<WakeFlags>,
    wake: Arc<dyn Fn() + Send + Sync>,
}

/// Makes the queue from the workers to control. `wake` wakes control.
pub(super) fn queue(wake: Arc<dyn Fn() + Send + Sync>) -> (NotificationSender, NotificationReceiver) {
    let (sender, receiver) = bounded(QUEUE_LENGTH);
    let flags = Arc::<WakeFlags>::default();
    let fdb_sender = NotificationSender { notifications: sender, flags: Arc::clone(&flags), wake };
    (fdb_sender, NotificationReceiver { notifications: receiver, flags })
}

/// Sends the notifications of one worker.
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

    /// Wakes control because a port was blocked.
    fn wake_for_loop(&self) {
        (self.fdb_sender.wake)();
    }

    /// Wakes control because frames have arrived, unless it polls the counters already.
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

    /// Sends a notification unless a limit forbids it; false if it was suppressed.
    fn notify(&mut self, now: Tick, port: PortId, key: FdbKey, event: FdbEvent) -> bool {
        let repeats = matches!(
            event,
            FdbEvent::UnknownDestination | FdbEvent::Source(Learned::Refused | Learned::LimitReached)
        );
        if repeats && self.was_sent_this_second(now, port, key) {
            return true;
        }
        if !self.limiter.allow(now, port) {
            return false;
        }
        let notification = FdbNotification { at: SystemTime::now(), port, key, event };
        let NotificationSender { notifications, flags, wake } = &self.fdb_sender;
        let sent = notifications.try_send(notification).is_ok();
        // Control clears this flag before it reads the queue, so it reads what was sent before the exchange.
        if !flags.wake_pending.swap(true, Ordering::SeqCst) {
            wake();
        }
        sent
    }

    /// Whether this address was reported in this second. Of two addresses with the same index the table keeps the
    /// later one.
    fn was_sent_this_second(&mut self, now: Tick, port: PortId, key: FdbKey) -> bool {
        let sent = Some((port, key, now.0 / Tick::PER_SECOND));
        let [.., low] = key.mac.0;
        let place = &mut self.recent[(usize::from(low) ^ port.index()) % RECENT];
        std::mem::replace(place, sent) == sent
    }
}

/// Counts and reports what is notable in one frame's outcome ([`Outcome::is_notable`]), and has signs of a loop
/// checked.
pub(super) struct NotableFrame<'a> {
    pub(super) switch: &'a Switch,
    pub(super) counters: &'a Counters,
    pub(super) notifier: &'a mut FdbNotifier,
    pub(super) now: Tick,
    pub(super) frame: &'a Frame<'a>,
    pub(super) outcome: &'a Outcome,
}

impl NotableFrame<'_> {
    #[cold]
    #[inline(never)]
    pub(super) fn report(mut self) {
        let Some(frame) = EthernetFrame::new_checked(self.frame.bytes) else { return };
        self.counters.count_learned(self.outcome);
        self.check_loop(frame.src());
        if self.has_source_of_other_port() {
            let vlan = self.outcome.class().vid();
            self.switch.unshare_flood(FdbKey { vlan, mac: frame.dst() });
        }
        if let Some(learned) = self.outcome.learned()
            && learned.is_notable()
        {
            self.notify(frame.src(), FdbEvent::Source(learned));
        }
        if self.outcome.class().destination == Destination::UnknownUnicast {
            self.notify(frame.dst(), FdbEvent::UnknownDestination);
        }
    }

    /// Whether the source is known on another port, or not allowed on this one.
    fn has_source_of_other_port(&self) -> bool {
        let moved = matches!(self.outcome.learned(), Some(Learned::Moved { .. } | Learned::Reserved { .. }));
        moved || matches!(self.outcome.fault(), Some(Fault::Violation(_)))
    }

    /// Counts and reports that a port was blocked, if one was.
    fn check_loop(&self, source: Mac) {
        if let Some(blocked) = self.switch.check_loop(self.now, source, self.outcome) {
            self.counters.port(blocked).loops.add(1);
            self.notifier.wake_for_loop();
        }
    }

    fn notify(&mut self, mac: Mac, event: FdbEvent) {
        let ingress = self.outcome.ingress();
        let vlan = self.outcome.class().vid();
        if !self.notifier.notify(self.now, ingress, FdbKey { vlan, mac }, event) {
            self.counters.port(ingress).suppressed.add(1);
        }
    }
}
