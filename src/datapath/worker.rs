//! A worker: one thread that receives frames from its engine, asks the switch for a verdict and executes it.
//! Run to completion: only copies for slow ports go to another thread ([`super::background`]).

use std::io;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender};

use super::Notice;
use super::background::{BackgroundWriter, Reply};
use super::cpu_latency::CpuLatency;
use super::engine::{Arrival, Engine, Event, Load, Wait};
use super::mirror::{FramePath, MIRRORS, MirrorSender, MirrorState};
use super::notify::{FdbNotifier, FdbObserver};
use super::poll_policy::{BatchKind, BusyPoll, PollPolicy};
use super::throttle::Throttle;
use super::time_slice::TimeSlice;
use super::worker_handle::QueueOffer;
use crate::switch::{
    Counters, DropReason, LearnCounter, Observer, PortId, Ports, Steps, Switch, Tick, Verdict,
};
use crate::sys::arena::BUFFER_SIZE;
use crate::sys::tap::Queue;
use crate::wire::segment::wire_length;

/// A command from control to a worker.
#[derive(Debug)]
pub(super) enum Command {
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
    pub(super) commands: Receiver<Command>,
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
    /// Detaches that the engine has not completed.
    detaching: Vec<(PortId, Sender<Option<Queue>>)>,
    /// The egress ports of the current frame.
    pub(super) egress: Vec<PortId>,
    /// The ports of a flood that cannot take the frame.
    refused: Vec<(PortId, DropReason)>,
    /// The ports of `egress` without offload.
    pub(super) no_offload_egress: Vec<PortId>,
    /// Mirrors of live frames; usually none.
    pub(super) mirrors: Vec<MirrorSender>,
    pub(super) throttle: Throttle,
    /// Writes to slow ports. `None` in tests without threads.
    pub(super) background: Option<BackgroundWriter>,
    /// Some frames are not sent by [`Engine::send`]: their writes are measured, or a port is slow.
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
            mailbox,
            detaching: Vec::new(),
            egress: Vec::with_capacity(Ports::MAX),
            refused: Vec::with_capacity(Ports::MAX),
            no_offload_egress: Vec::with_capacity(Ports::MAX),
            mirrors: Vec::with_capacity(MIRRORS),
            throttle: Throttle::new(Instant::now()),
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

    /// Forwards frames until [`Command::Stop`]. Ticks count from `epoch`.
    pub(super) fn run(
        &mut self,
        epoch: Instant,
        busy_poll: BusyPoll,
        mut cpu_latency: Option<CpuLatency>,
    ) -> io::Result<()> {
        let mut events = Vec::with_capacity(usize::from(super::BUFFERS) * 2);
        let mut policy = PollPolicy::new(busy_poll, epoch);
        let mut now = epoch;
        loop {
            let wait = match (policy.wait(now), self.throttle.next_resume(now)) {
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
            if self.handle(Tick::at(now.duration_since(epoch)), &mut events)?.is_break() {
                return Ok(());
            }
        }
    }

    /// Runs one turn at time `now`, without waiting.
    #[cfg(test)]
    pub(super) fn turn_at(&mut self, now: Tick) -> io::Result<ControlFlow<()>> {
        let mut events = Vec::new();
        self.engine.turn(Wait::Poll, &mut events)?;
        self.handle(now, &mut events)
    }

    /// Handles the events of one turn.
    fn handle(&mut self, now: Tick, events: &mut Vec<Event<E::Buffer>>) -> io::Result<ControlFlow<()>> {
        // A command alone is not traffic: control, which sends it, would never sleep.
        let busy = events.iter().any(|event| !matches!(event, Event::Woken));
        let measured = self.throttle.measures(events);
        let mut flow = ControlFlow::Continue(());
        for event in events.drain(..) {
            if measured && let Event::Frame(arrival) = &event {
                self.measure(arrival)?;
            }
            match event {
                Event::Frame(arrival) if self.mirrors.is_empty() => self.forward(now, arrival)?,
                Event::Frame(arrival) => self.forward_mirrored(now, arrival)?,
                Event::Gone { port, error } => self.mailbox.notices.send(Notice::PortGone { port, error }),
                Event::Detached { port, queue } => self.detached(port, queue),
                Event::Woken => flow = self.run_commands()?,
            }
        }
        if measured {
            self.finish_batch()?;
        }
        self.publish_load();
        if busy {
            self.notifier.wake_if_asleep();
        }
        Ok(flow)
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
                Command::Attach { port, queue, done } => {
                    // Control takes the queue back when it no longer waits.
                    if let Some(queue) = queue.take() {
                        let _ = done.send(self.engine.attach(port, queue));
                    }
                }
                Command::Detach { port, done } => {
                    self.engine.detach(port)?;
                    self.stop_throttling(port);
                    self.mirrors
                        .extract_if(.., |sender| !sender.remove_port(port))
                        .for_each(MirrorSender::close);
                    self.detaching.push((port, done));
                }
                Command::Mirror { sender, done } => {
                    self.mirrors.push(sender);
                    let _ = done.send(());
                }
                Command::Unmirror(mirror) => self.mirrors.retain(|sender| !sender.is_of(&mirror)),
                Command::Ping { done } => _ = done.send(()),
                #[cfg(test)]
                Command::Block { until } => _ = until.recv(),
                Command::Stop => return Ok(ControlFlow::Break(())),
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn detached(&mut self, port: PortId, queue: Option<Queue>) {
        if let Some(at) = self.detaching.iter().position(|(detaching, _)| *detaching == port) {
            let (_, done) = self.detaching.swap_remove(at);
            self.reply_detached(port, Reply { done, queue });
        }
    }

    /// Counts, decides and executes one frame. The parts that it shares with [`Worker::forward_mirrored`] are inlined in
    /// both, so that a frame without a mirror does not pay for calls.
    #[inline]
    fn forward(&mut self, now: Tick, arrival: Arrival<E::Buffer>) -> io::Result<()> {
        let verdict = self.decide(now, &arrival, ());
        self.resolve(&arrival, verdict);
        self.execute(arrival, verdict)
    }

    /// As [`Worker::forward`], and sends a record to the mirrors.
    #[cold]
    #[inline(never)]
    fn forward_mirrored(&mut self, now: Tick, arrival: Arrival<E::Buffer>) -> io::Result<()> {
        let mut steps = Steps::default();
        let verdict = self.decide(now, &arrival, &mut steps);
        self.resolve(&arrival, verdict);
        let refused = if verdict == Verdict::Flood { &self.refused[..] } else { &[] };
        self.mirror(
            &arrival,
            &steps,
            FramePath { ingress: Some(arrival.port), verdict, egress: &self.egress, refused },
        );
        self.execute(arrival, verdict)
    }

    pub(super) fn mirror(&self, arrival: &Arrival<E::Buffer>, steps: &Steps, path: FramePath<'_>) {
        let frame = arrival.frame(self.engine.bytes(&arrival.buffer));
        for sender in &self.mirrors {
            sender.send_if_wanted(&frame, steps, path);
        }
    }

    #[inline(always)]
    fn decide<O: Observer>(&mut self, now: Tick, arrival: &Arrival<E::Buffer>, observer: O) -> Verdict {
        let ingress = arrival.port;
        let frame = arrival.frame(self.engine.bytes(&arrival.buffer));
        let counters = self.counters.port(ingress);
        counters.rx_frames.add(1);
        counters.rx_bytes.add(frame.bytes.len() as u64);
        let counter = LearnCounter { counters: &self.counters, ingress };
        let (switch, notifier) = (&self.switch, &mut self.notifier);
        let watch = FdbObserver { switch, counter, notifier, now, frame: &frame };
        self.switch.process(now, ingress, &frame, &mut (watch, observer))
    }

    /// Counts the verdict and collects the egress ports of the current frame.
    #[inline(always)]
    fn resolve(&mut self, arrival: &Arrival<E::Buffer>, verdict: Verdict) {
        self.egress.clear();
        let counters = self.counters.port(arrival.port);
        match verdict {
            Verdict::Forward(egress) => {
                counters.forwarded.add(1);
                self.egress.push(egress);
            }
            Verdict::Flood => self.resolve_flood(arrival),
            Verdict::Answer(_) => counters.answered.add(1),
            Verdict::Drop(reason) => counters.dropped(reason),
            Verdict::Refused { egress, reason } => {
                counters.forwarded.add(1);
                self.counters.port(egress).dropped(reason);
            }
        }
    }

    fn resolve_flood(&mut self, arrival: &Arrival<E::Buffer>) {
        let frame = arrival.frame(self.engine.bytes(&arrival.buffer));
        self.refused.clear();
        for (egress, outcome) in self.switch.flood_set(arrival.port, wire_length(frame.bytes, &frame.vnet)) {
            match outcome {
                Ok(()) => self.egress.push(egress),
                Err(reason) => {
                    self.counters.port(egress).dropped(reason);
                    self.refused.push((egress, reason));
                }
            }
        }
        let counters = self.counters.port(arrival.port);
        match self.egress.len() + self.refused.len() {
            0 => counters.dropped(DropReason::NoEgress),
            copies => {
                counters.flooded.add(1);
                counters.flood_copies.add(copies as u64);
            }
        }
    }

    #[inline(always)]
    fn execute(&mut self, arrival: Arrival<E::Buffer>, verdict: Verdict) -> io::Result<()> {
        match verdict {
            Verdict::Answer(answer) => self.answer(arrival, answer),
            _ if self.egress.is_empty() => {
                self.engine.discard(arrival.buffer);
                Ok(())
            }
            _ => self.dispatch(arrival),
        }
    }
}
