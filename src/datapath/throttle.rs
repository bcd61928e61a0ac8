//! Measures the time that each port takes from a worker, and throttles ports that take too much.
//! [`super::budget`] has the rules.
//!
//! Time is measured for the batch of one ingress port: two clock reads per batch, and on io_uring one more system call,
//! which executes the writes of the batch. Turns with few small frames are measured only now and then
//! ([`SAMPLE_TURNS`]), because they cost little; after excess, every turn is measured for a while.
//!
//! The clock includes the time in which the worker was preempted, so the first batch with excess only raises an alert.
//! The next batch of the port is measured by the thread's CPU time too, and each of its writes separately: that finds
//! the egress ports that are slow.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use super::budget::{Allowances, IngressBudget, SlowWrites, TurnCost};
use super::cpu_speed::slowdown;
use super::engine::{EngineEvent, Reads};
use super::poll_policy::BatchKind;
use crate::switch::{PortId, Ports};

/// Of turns with few small frames, one in this many is measured.
const SAMPLE_TURNS: u32 = 8;
/// Every turn is measured for this long after excess.
const ALERT: Duration = Duration::from_secs(1);
/// A port needs the worker for this long after a frame.
const ACTIVE: Duration = Duration::from_millis(2);
/// A port may need it again, and must not wait for an expensive frame, for this long.
const RECENTLY_ACTIVE: Duration = Duration::from_millis(20);
/// Ports of which the last activity is known.
const KNOWN: usize = 8;

/// The throttle of one worker.
#[derive(Debug)]
pub(super) struct Throttle {
    epoch: Instant,
    allowances: Allowances,
    ingress: Box<[Ingress]>,
    egress: Box<[SlowWrites]>,
    alert_until: Duration,
    /// `alert_until` had not passed when the last batch ended.
    alert: bool,
    /// Until then some port counts as over its budget.
    over_budget_until: Duration,
    over_budget: bool,
    turns: u32,
    /// The ports that sent frames last, and when.
    active: [(PortId, Duration); KNOWN],
    paused: Vec<Pause>,
    measured: Option<Measured>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Ingress {
    budget: IngressBudget,
    /// Its last batch had excess.
    expensive: bool,
    /// Its last batch had more frames than have an allowance.
    is_over_rate: bool,
}

/// A port that is not read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pause {
    pub(super) port: PortId,
    since: Duration,
    until: Duration,
    /// Only while another port was active in this time; `None`: always.
    contention_window: Option<Duration>,
    /// The only port that got the last frame of the batch whole, if there was one: the other end of a transfer, which
    /// does not count as one of the others.
    peer: Option<PortId>,
}

/// The batch that is being measured.
#[derive(Debug)]
struct Measured {
    port: PortId,
    batch: TurnCost,
    started: Duration,
    /// CPU time of the thread at the start; only for a port that may be charged.
    cpu_started: Option<Duration>,
}

impl Throttle {
    pub(super) fn new(epoch: Instant) -> Throttle {
        Throttle {
            epoch,
            allowances: Allowances::with_slowdown(slowdown()),
            ingress: vec![Ingress::default(); Ports::MAX].into(),
            egress: vec![SlowWrites::default(); Ports::MAX].into(),
            alert_until: Duration::ZERO,
            alert: false,
            over_budget_until: Duration::ZERO,
            over_budget: false,
            turns: 0,
            active: [(PortId(0), Duration::ZERO); KNOWN],
            paused: Vec::with_capacity(Ports::MAX),
            measured: None,
        }
    }

    fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Whether to measure this turn.
    pub(super) fn measures<B>(&mut self, events: &[EngineEvent<B>]) -> bool {
        self.turns = self.turns.wrapping_add(1);
        match BatchKind::of(events) {
            BatchKind::Empty => false,
            BatchKind::Bulk => true,
            BatchKind::Few => self.turns.is_multiple_of(SAMPLE_TURNS) || self.alert || self.over_budget,
        }
    }

    /// Adds a frame to the batch of its port; false if that batch has not been started.
    pub(super) fn add(&mut self, port: PortId, length: usize) -> bool {
        match &mut self.measured {
            Some(measured) if measured.port == port => {
                measured.batch.frames += 1;
                measured.batch.bytes += length;
                true
            }
            _ => false,
        }
    }

    /// Starts the batch of a port with its first frame.
    pub(super) fn start(&mut self, port: PortId, length: usize) {
        let started = self.now();
        self.note_active(port, started);
        let Ingress { expensive, is_over_rate, .. } = self.ingress[port.index()];
        let cpu_started = if expensive || is_over_rate { cpu_time() } else { None };
        let batch = TurnCost { frames: 1, bytes: length, ..TurnCost::default() };
        self.measured = Some(Measured { port, batch, started, cpu_started });
    }

    /// Whether a batch is being measured.
    pub(super) fn is_measuring(&self) -> bool {
        self.measured.is_some()
    }

    /// Whether the batch is of an expensive port, so that each of its writes is measured.
    pub(super) fn measures_writes(&self) -> bool {
        self.measured.as_ref().is_some_and(|measured| self.ingress[measured.port.index()].expensive)
    }

    /// Notes the time of one write; whether the egress port is slow.
    pub(super) fn note_write(&mut self, port: PortId, length: usize, spent: Duration) -> bool {
        let is_slow = self.allowances.is_slow(length, spent);
        self.egress[port.index()].note(is_slow)
    }

    /// Charges the port of this batch for a wasted frame: a request for a reply that was dropped because the port is
    /// slow, or a super-frame of too many segments. It pauses for these also while no other port needs the worker. They
    /// take the CPU from the ports of a fast datapath, whose frames the worker does not see.
    pub(super) fn penalise(&mut self, port: PortId) {
        if let Some(measured) = self.measured.as_mut().filter(|measured| measured.port == port) {
            measured.batch.penalty += self.allowances.slow_write;
        }
    }

    /// Ends the batch. `peer`: the only port that got its last frame whole. Returns how to read the port of the batch.
    pub(super) fn finish(&mut self, peer: Option<PortId>) -> Option<(PortId, Reads)> {
        let Measured { port, mut batch, started, cpu_started } = self.measured.take()?;
        let now = self.now();
        batch.spent = now.saturating_sub(started);
        let has_wasted = !batch.penalty.is_zero();
        if let Some(cpu_started) = cpu_started
            && let Some(cpu) = cpu_time()
        {
            batch.spent = batch.spent.min(cpu.saturating_sub(cpu_started));
        } else if has_wasted {
            // The worker may have been preempted.
            batch.spent = Duration::ZERO;
        }
        let expensive = !batch.excess(&self.allowances).is_zero();
        self.ingress[port.index()].expensive = expensive;
        self.alert &= now < self.alert_until;
        if expensive {
            self.alert_until = now + ALERT;
            self.alert = true;
            if cpu_started.is_none() && !has_wasted {
                return None;
            }
        }
        let decision = self.ingress[port.index()].budget.charge(now, &batch, &self.allowances);
        self.ingress[port.index()].is_over_rate = decision.is_over_rate;
        let excess_window = if has_wasted { None } else { Some(RECENTLY_ACTIVE) };
        let pauses = [(decision.excess_pause, excess_window), (decision.rate_pause, Some(ACTIVE))];
        if pauses.iter().any(|(pause, _)| !pause.is_zero()) {
            self.over_budget_until = now + ALERT;
        }
        self.over_budget = now < self.over_budget_until;
        for (pause, contention_window) in pauses {
            let pause = Pause { port, since: now, until: now + pause, contention_window, peer };
            if !self.is_over(&pause, now) {
                self.paused.push(pause);
                return Some((port, Reads::Paused));
            }
        }
        let limited = expensive || self.is_contended(now, ACTIVE, port, peer);
        Some((port, if limited { Reads::AtMost(decision.window) } else { Reads::default() }))
    }

    /// Whether a port was in debt in the last second, paused or not.
    pub(super) fn is_over_budget(&self) -> bool {
        self.over_budget
    }

    /// When to call [`Throttle::resume`] at the latest; `None` if no port is paused.
    pub(super) fn next_resume(&self, now: Instant) -> Option<Duration> {
        let now = now.duration_since(self.epoch);
        let until = self.paused.iter().map(|pause| pause.until).min()?;
        Some(until.saturating_sub(now).min(ACTIVE))
    }

    /// A port whose pause is over, and how long it was: its time is up, or no other port needs the worker.
    pub(super) fn resume(&mut self, now: Instant) -> Option<(PortId, Duration)> {
        let now = now.duration_since(self.epoch);
        let at = self.paused.iter().position(|pause| self.is_over(pause, now))?;
        let pause = self.paused.swap_remove(at);
        Some((pause.port, now.saturating_sub(pause.since)))
    }

    /// Forgets a port that is being detached.
    pub(super) fn forget(&mut self, port: PortId) {
        self.paused.retain(|pause| pause.port != port);
        self.ingress[port.index()] = Ingress::default();
        self.egress[port.index()] = SlowWrites::default();
    }

    fn note_active(&mut self, port: PortId, now: Duration) {
        let at = self.active.iter().position(|(known, _)| *known == port);
        let oldest = || (0..KNOWN).min_by_key(|at| self.active[*at].1).unwrap_or(0);
        self.active[at.unwrap_or_else(oldest)] = (port, now);
    }

    fn is_over(&self, pause: &Pause, now: Duration) -> bool {
        let Pause { port, until, contention_window, peer, .. } = *pause;
        until <= now || contention_window.is_some_and(|window| !self.is_contended(now, window, port, peer))
    }

    /// Whether a port other than these was active in this time, and is read.
    fn is_contended(&self, now: Duration, active: Duration, port: PortId, peer: Option<PortId>) -> bool {
        let paused = |known: PortId| self.paused.iter().any(|pause| pause.port == known);
        let other = |known: PortId| known != port && Some(known) != peer && !paused(known);
        self.active
            .iter()
            .any(|&(known, at)| other(known) && !at.is_zero() && now.saturating_sub(at) < active)
    }
}

/// CPU time of the calling thread.
pub(super) fn cpu_time() -> Option<Duration> {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).ok().map(Duration::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOODER: PortId = PortId(1);
    const PEER: PortId = PortId(2);
    const OTHER: PortId = PortId(3);

    /// A throttle that has seen frames of these ports just now.
    fn throttle(active: &[PortId]) -> Throttle {
        let mut throttle = Throttle::new(Instant::now());
        let now = Duration::from_secs(1);
        active.iter().for_each(|port| throttle.note_active(*port, now));
        throttle
    }

    #[test]
    fn a_port_and_its_peer_do_not_contend() {
        let contends = |active: &[PortId], peer, after| {
            let now = Duration::from_secs(1) + Duration::from_millis(after);
            throttle(active).is_contended(now, ACTIVE, FLOODER, peer)
        };
        assert!(!contends(&[FLOODER], None, 0));
        assert!(!contends(&[FLOODER, PEER], Some(PEER), 0));
        assert!(contends(&[FLOODER, PEER], None, 0));
        assert!(contends(&[FLOODER, PEER, OTHER], Some(PEER), 0));
        assert!(!contends(&[FLOODER, PEER, OTHER], Some(PEER), 2), "not active any more");
    }

    #[test]
    fn remembers_the_ports_that_were_active_last() {
        let mut throttle = throttle(&[]);
        for port in 0..100 {
            throttle.note_active(PortId(port), Duration::from_millis(port.into()));
        }
        let newest: Vec<PortId> = (92..100).map(PortId).collect();
        assert!(throttle.active.iter().all(|(port, _)| newest.contains(port)), "{:?}", throttle.active);
    }

    #[test]
    fn resumes_when_the_time_is_up_or_no_port_contends() {
        let mut throttle = throttle(&[OTHER]);
        let at = |ms| throttle_epoch_plus(&throttle, ms);
        let (early, late, idle) = (at(1001), at(1001), at(1010));
        let pause = |until| Pause {
            port: FLOODER,
            since: Duration::from_secs(1),
            until: Duration::from_millis(until),
            contention_window: Some(ACTIVE),
            peer: None,
        };
        throttle.paused.push(pause(2000));
        assert_eq!(throttle.resume(early), None);
        assert_eq!(throttle.resume(idle), Some((FLOODER, Duration::from_millis(10))));
        throttle.paused.push(pause(1001));
        assert_eq!(throttle.resume(late), Some((FLOODER, Duration::from_millis(1))));
        assert_eq!(throttle.next_resume(Instant::now()), None);
    }

    #[test]
    fn a_paused_port_does_not_contend() {
        let mut throttle = throttle(&[FLOODER, OTHER]);
        let now = Duration::from_secs(1);
        assert!(throttle.is_contended(now, ACTIVE, OTHER, None));
        throttle.paused.push(Pause {
            port: FLOODER,
            since: now,
            until: 2 * now,
            contention_window: Some(ACTIVE),
            peer: None,
        });
        assert!(
            !throttle.is_contended(now, ACTIVE, OTHER, None),
            "so two such ports are not paused together"
        );
    }

    #[test]
    fn sleeps_until_the_first_pause_ends() {
        let mut throttle = throttle(&[OTHER]);
        let now = throttle.epoch + Duration::from_secs(1);
        for (port, until) in [(FLOODER, 1_001_500), (PEER, 1_001_000)] {
            let until = Duration::from_micros(until);
            throttle.paused.push(Pause {
                port,
                since: Duration::from_secs(1),
                until,
                contention_window: Some(ACTIVE),
                peer: None,
            });
        }
        assert_eq!(throttle.next_resume(now), Some(Duration::from_millis(1)));
        throttle.paused.pop();
        throttle.paused[0].until = Duration::from_secs(5);
        assert_eq!(throttle.next_resume(now), Some(ACTIVE), "the others may be idle then");
    }

    fn throttle_epoch_plus(throttle: &Throttle, ms: u64) -> Instant {
        throttle.epoch + Duration::from_millis(ms)
    }

    #[test]
    fn port_of_wasted_frames_pauses_always() {
        let paused = |wasted: bool| {
            let mut throttle = throttle(&[]);
            throttle.start(FLOODER, 60_000);
            for _ in 0..100 {
                throttle.add(FLOODER, 60_000);
                if wasted {
                    throttle.penalise(FLOODER);
                }
            }
            let reads = throttle.finish(Some(PEER)).map(|(_, reads)| reads);
            (reads == Some(Reads::Paused), throttle.paused.first().map(|pause| pause.contention_window))
        };
        assert_eq!(paused(true), (true, Some(None)));
        assert_eq!(paused(false), (false, None));
    }

    /// The worker may have been preempted in the first one.
    #[test]
    fn only_a_second_batch_with_excess_is_charged() {
        let mut throttle = throttle(&[]);
        throttle.start(FLOODER, 60);
        std::thread::sleep(Duration::from_millis(5));
        assert_eq!(throttle.finish(None), None);
        assert!(throttle.alert);
        throttle.start(FLOODER, 60);
        assert!(throttle.measures_writes());
        std::thread::sleep(Duration::from_millis(5));
        // It slept, and used no CPU time.
        assert_eq!(throttle.finish(None), Some((FLOODER, Reads::default())));
        assert!(!throttle.is_measuring());
    }
}
