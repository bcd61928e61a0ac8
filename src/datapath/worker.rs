//! A worker: one thread that receives frames from its engine, asks the switch for a verdict and executes it.
//! Run to completion: only copies for slow ports go to another thread ([`super::background`]).

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::Notice;
use super::background::{BackgroundWriter, DetachReply};
use super::cpu_latency::CpuLatency;
use super::engine::{Arrival, Engine, EngineEvent, Load, Wait};
use super::impaired::ImpairedPorts;
use super::impairment::LinkSetup;
use super::mirror::{FramePath, MIRRORS, MirrorSender, MirrorState};
use super::notify::{FdbNotifier, NotableFrame};
use super::poll_policy::{BatchKind, BusyPoll, PollPolicy};
use super::punt::Punter;
use super::shares::Shares;
use super::throttle::Throttle;
use super::time_slice::TimeSlice;
use super::worker_handle::QueueOffer;
use crate::switch::{
    Counters, DropReason, Egress, Frame, InjectedFrame, Now, Observer, Outcome, PortId, Ports, Side, Steps,
    Switch, Tick, Verdict,
};
use crate::sys::arena::BUFFER_SIZE;
use crate::sys::queue::Queue;

/// A command from control to a worker.
#[derive(Debug)]
pub(super) enum WorkerCommand {
    Attach {
        port: PortId,
        queue: QueueOffer,
        done: Sender<io::Result<()>>,
    },
    Detach {
        port: PortId,
        done: Sender<Option<Queue>>,
    },
    Mirror {
        sender: MirrorSender,
        done: Sender<()>,
    },
    Unmirror(Arc<MirrorState>),
    /// Sends a frame.
    Inject(InjectedFrame),
    /// Impairs a port in one direction.
    Impair {
        port: PortId,
        side: Side,
        setup: LinkSetup,
        done: Sender<()>,
    },
    /// Shows that the worker responds.
    Ping {
        done: Sender<()>,
    },
    /// Blocks the thread.
    #[cfg(test)]
    Block {
        until: Receiver<std::convert::Infallible>,
    },
    Stop,
}

/// A worker's ends of the channels to and from control.
#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) commands: Receiver<WorkerCommand>,
    pub(super) notices: super::NoticeSender,
}

/// One worker. Created and run on its own thread.
#[derive(Debug)]
pub(super) struct Worker<E: Engine> {
    pub(super) switch: Arc<Switch>,
    pub(super) engine: E,
    pub(super) counters: Arc<Counters>,
    mailbox: Mailbox,
    notifier: FdbNotifier,
    punter: Punter,
    shares: Shares,
    /// Detaches that the engine has not completed.
    detaching: Vec<(PortId, Sender<Option<Queue>>)>,
    /// The decision about the latest frame.
    pub(super) outcome: Outcome,
    /// On a detour: the ports to which a frame is written here, not in the background. Also those whose segments are
    /// being sent.
    pub(super) direct: Vec<Egress>,
    /// Mirrors of live frames; usually none.
    pub(super) mirrors: Vec<MirrorSender>,
    pub(super) throttle: Throttle,
    /// Ports whose frames are delayed or lost on request; usually none.
    pub(super) impaired: ImpairedPorts,
    /// The time of this turn.
    pub(super) now: Now,
    /// Writes to slow ports. `None` in tests without threads.
    pub(super) background: Option<BackgroundWriter>,
    /// Some frames are not sent by [`Engine::send`]: their writes are measured, or a port is slow or impaired.
    pub(super) detour: bool,
    time_slice: TimeSlice,
    /// A super-frame that is being segmented, and one of its segments.
    pub(super) super_frame: Box<[u8]>,
    pub(super) segment: Box<[u8]>,
}

impl<E: Engine> Worker<E> {
    pub(super) fn new(
        switch: Arc<Switch>,
        engine: E,
        counters: Arc<Counters>,
        mailbox: Mailbox,
    ) -> Worker<E> {
        Worker {
            switch,
            engine,
            counters,
            notifier: FdbNotifier::new(mailbox.notices.fdb_sender.clone()),
            punter: Punter::new(mailbox.notices.punts.clone()),
            mailbox,
            shares: Shares::new(),
            detaching: Vec::new(),
            outcome: Outcome::default(),
            direct: Vec::with_capacity(Ports::MAX),
            mirrors: Vec::with_capacity(MIRRORS),
            throttle: Throttle::new(Instant::now()),
            impaired: ImpairedPorts::default(),
            now: Tick(0).into(),
            background: None,
            detour: false,
            time_slice: TimeSlice::of_this_thread(),
            super_frame: vec![0; BUFFER_SIZE].into(),
            segment: vec![0; BUFFER_SIZE].into(),
        }
    }

    /// Has a background writer write to the ports that are slow.
    pub(super) fn with_background(self, background: BackgroundWriter) -> Worker<E> {
        Worker { background: Some(background), ..self }
    }

    /// Forwards frames until [`WorkerCommand::Stop`]. Ticks count from `epoch`.
    pub(super) fn run(
        &mut self,
        epoch: Instant,
        busy_poll: BusyPoll,
        mut cpu_latency: Option<CpuLatency>,
    ) -> io::Result<()> {
        let mut events = Vec::with_capacity(usize::from(super::BUFFERS) * 2);
        let mut policy = PollPolicy::new(busy_poll, epoch);
        let mut now = epoch;
        self.switch.prepare_thread();
        loop {
            let timers = [self.throttle.next_resume(now), self.impaired_wait()];
            let wait = match (policy.wait(now), timers.into_iter().flatten().min()) {
                _ if self.shares.wait() => Wait::Poll,
                (Wait::Sleep, Some(time)) => Wait::SleepAtMost(time),
                (wait, _) => wait,
            };
            if let Some(cpu_latency) = &mut cpu_latency {
                cpu_latency.note(wait, policy.pattern());
            }
            self.time_slice.note(policy.pattern(), self.throttle.is_over_budget());
            self.engine.turn(wait, &mut events)?;
            now = Instant::now();
            policy.note(now, BatchKind::of(&events));
            self.resume_paused(now);
            if self.handle(Now::at(now.duration_since(epoch)), &mut events)?.is_break() {
                return Ok(());
            }
        }
    }

    /// Runs one turn at time `now`, without waiting.
    #[cfg(test)]
    pub(super) fn turn_at(&mut self, now: Tick) -> io::Result<ControlFlow<()>> {
        let mut events = Vec::new();
        self.engine.turn(Wait::Poll, &mut events)?;
        self.handle(now.into(), &mut events)
    }

    /// Handles the events of one turn.
    fn handle(&mut self, now: Now, events: &mut Vec<EngineEvent<E::Buffer>>) -> io::Result<ControlFlow<()>> {
        self.now = now;
        // A command alone is not traffic: control, which sends it, would never sleep.
        let busy = events.iter().any(|event| !matches!(event, EngineEvent::Woken));
        if self.shares.wait() {
            self.share(events.iter().any(|event| matches!(event, EngineEvent::Frame(_))));
        }
        let measured = self.throttle.measures(events);
        let mut flow = ControlFlow::Continue(());
        for event in events.drain(..) {
            if measured && let EngineEvent::Frame(arrival) = &event {
                self.measure(arrival)?;
            }
            match event {
                EngineEvent::Frame(arrival)
                    if self.detour && self.impaired.is_impaired(arrival.port, Side::Ingress) =>
                {
                    self.impair_ingress(arrival);
                }
                EngineEvent::Frame(arrival) if self.mirrors.is_empty() => self.forward(arrival)?,
                EngineEvent::Frame(arrival) => self.forward_mirrored(arrival)?,
                EngineEvent::Gone { port, error } => {
                    self.mailbox.notices.send(Notice::PortGone { port, error });
                }
                EngineEvent::Detached { port, queue } => self.detached(port, queue),
                EngineEvent::Woken => flow = self.run_commands()?,
            }
        }
        if measured {
            self.finish_batch()?;
        }
        if !self.impaired.is_empty() {
            self.release_impaired()?;
        }
        self.publish_load();
        if busy {
            self.notifier.wake_if_asleep();
        }
        Ok(flow)
    }

    /// Lets the fast datapath forward what it may, when no frame waits here.
    #[cold]
    fn share(&mut self, found_frames: bool) {
        for share in self.shares.take_due(self.now, found_frames) {
            self.switch.share(&share);
        }
    }

    /// Publishes the engine's load. Called once per turn, not per frame.
    fn publish_load(&self) {
        let counters = &self.counters.engine;
        let Load { system_calls, free_buffers } = self.engine.load();
        counters.turns.add(1);
        counters.system_calls.set(system_calls);
        counters.free_buffers.set(free_buffers as u64);
    }

    /// Executes the waiting commands.
    pub(super) fn run_commands(&mut self) -> io::Result<ControlFlow<()>> {
        while let Ok(command) = self.mailbox.commands.try_recv() {
            match command {
                WorkerCommand::Attach { port, queue, done } => {
                    // Control takes the queue back when it no longer waits.
                    if let Some(queue) = queue.take() {
                        let _ = done.send(self.engine.attach(port, queue));
                    }
                }
                WorkerCommand::Detach { port, done } => {
                    self.engine.detach(port)?;
                    self.stop_throttling(port);
                    self.drop_waiting(port);
                    self.mirrors
                        .extract_if(.., |sender| !sender.remove_port(port))
                        .for_each(MirrorSender::close);
                    self.detaching.push((port, done));
                }
                WorkerCommand::Mirror { sender, done } => {
                    self.mirrors.push(sender);
                    let _ = done.send(());
                }
                WorkerCommand::Unmirror(mirror) => self.mirrors.retain(|sender| !sender.is_of(&mirror)),
                WorkerCommand::Inject(injected) => self.inject(&injected)?,
                WorkerCommand::Impair { port, side, setup, done } => {
                    self.impaired.set(port, side, setup);
                    self.update_detour();
                    let _ = done.send(());
                }
                WorkerCommand::Ping { done } => _ = done.send(()),
                #[cfg(test)]
                WorkerCommand::Block { until } => _ = until.recv(),
                WorkerCommand::Stop => return Ok(ControlFlow::Break(())),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn detached(&mut self, port: PortId, queue: Option<Queue>) {
        if let Some(at) = self.detaching.iter().position(|(detaching, _)| *detaching == port) {
            let (_, done) = self.detaching.swap_remove(at);
            self.reply_detached(port, DetachReply { done, queue });
        }
    }

    /// Decides and executes one frame. The parts that it shares with [`Worker::forward_mirrored`] are inlined in both,
    /// so that a frame without a mirror does not pay for calls.
    #[inline]
    fn forward(&mut self, arrival: Arrival<E::Buffer>) -> io::Result<()> {
        self.decide(&arrival, &mut ());
        self.execute(arrival)
    }

    /// As [`Worker::forward`], and sends a record to the mirrors.
    #[cold]
    #[inline(never)]
    fn forward_mirrored(&mut self, arrival: Arrival<E::Buffer>) -> io::Result<()> {
        let mut steps = Steps::default();
        self.decide(&arrival, &mut steps);
        self.mirror(&arrival, Some(arrival.port), &steps);
        self.execute(arrival)
    }

    /// Records the current frame. `received_on` is absent for one that the switch made.
    pub(super) fn mirror(&self, arrival: &Arrival<E::Buffer>, received_on: Option<PortId>, steps: &Steps) {
        self.mirror_frame(&arrival.frame(self.engine.bytes(&arrival.buffer)), received_on, steps);
    }

    pub(super) fn mirror_frame(&self, frame: &Frame<'_>, received_on: Option<PortId>, steps: &Steps) {
        let path = FramePath { ingress: received_on, outcome: &self.outcome };
        for sender in &self.mirrors {
            sender.send_if_wanted(frame, steps, path);
        }
    }

    #[inline(always)]
    fn decide<O: Observer>(&mut self, arrival: &Arrival<E::Buffer>, observer: &mut O) {
        let (engine, decider) = self.split();
        decider.decide(arrival.port, &arrival.frame(engine.bytes(&arrival.buffer)), observer);
    }

    /// The engine, whose buffer has the frame, and the rest of what a decision needs.
    #[inline(always)]
    pub(super) fn split(&mut self) -> (&E, Decider<'_>) {
        let Worker {
            switch,
            engine,
            counters,
            mailbox,
            notifier,
            punter,
            shares,
            outcome,
            throttle,
            now,
            ..
        } = self;
        let notices = &mailbox.notices;
        (
            engine,
            Decider { switch, counters, notices, notifier, punter, shares, outcome, throttle, now: *now },
        )
    }

    #[inline(always)]
    fn execute(&mut self, arrival: Arrival<E::Buffer>) -> io::Result<()> {
        match self.outcome.verdict() {
            Verdict::Answer(answer) => self.answer(arrival, answer),
            _ if self.outcome.is_sent() || self.outcome.is_mirrored() => self.dispatch(arrival),
            _ => {
                self.engine.discard(arrival.buffer);
                Ok(())
            }
        }
    }
}

/// What a decision uses of a worker, apart from the buffer with the frame.
pub(super) struct Decider<'a> {
    switch: &'a Switch,
    counters: &'a Counters,
    notices: &'a super::NoticeSender,
    notifier: &'a mut FdbNotifier,
    punter: &'a mut Punter,
    shares: &'a mut Shares,
    outcome: &'a mut Outcome,
    throttle: &'a mut Throttle,
    now: Now,
}

impl Decider<'_> {
    /// Decides what happens to a frame, and counts it.
    #[inline(always)]
    pub(super) fn decide<O: Observer>(self, ingress: PortId, frame: &Frame<'_>, observer: &mut O) {
        let Decider { switch, counters, notices, notifier, punter, shares, outcome, throttle, now } = self;
        let of_port = counters.port(ingress);
        of_port.rx_frames.add(1);
        of_port.rx_bytes.add(frame.bytes.len() as u64);
        switch.process(now, ingress, frame, outcome, observer);
        counters.count(outcome);
        if let Some(share) = outcome.share() {
            shares.add(now, share);
        }
        if let Some(class) = outcome.class().vlan {
            counters.count_in_vlan(class, outcome, frame.bytes.len());
        }
        if outcome.is_notable() {
            let now = now.tick;
            NotableFrame { switch, counters, notifier, now, frame, outcome }.report();
            if punter.punt(now, frame, outcome) {
                (notices.on_notice)();
            }
            penalise_segments(throttle, outcome);
        }
    }
}

/// Slows a port down whose super-frames have too many segments, and are not delivered.
#[cold]
fn penalise_segments(throttle: &mut Throttle, outcome: &Outcome) {
    if !outcome.is_sent()
        && outcome.refused().iter().any(|(_, reason)| *reason == DropReason::TooManySegments)
    {
        throttle.penalise(outcome.ingress());
    }
}
