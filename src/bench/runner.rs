//! A whole run: one cell after the other, what they say, and the signals that end it.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::BenchError;
use super::event::{Event, Lines};
use super::machine;
use super::peer::{Peer, program};
use super::plan::{Plan, Turn, word};
use super::results::{Distribution, PeerReport, Results, SCHEMA, Sample};
use super::turn;
use crate::sys::isolated::IsolatedProcess;

/// Who watches a run.
pub trait Watcher {
    /// A switch is left out, or a measurement failed.
    fn note(&mut self, note: &str);
    /// A turn begins, with about so much time left until the end of all.
    fn turn(&mut self, turn: Turn, left: Duration);
    /// Something else is measured.
    fn step(&mut self, what: &str);
    /// Time passes: some ten times a second.
    fn tick(&mut self);
}

const DEBUG_BUILD: &str = "this uswitch is a debug build and several times slower than it could be: build it with \
                           `cargo build --release`";

/// Or the figures of two switches would be compared on what looks like one machine and is two.
const AWAKE: &str = "with --busy-poll, uswitch as root keeps idle CPUs awake while stations exchange single frames: beside \
                     the other switches they sleep";

/// How often the watcher hears that time passes.
const TICK: Duration = Duration::from_millis(100);
/// Besides what a measurement takes, the longest that a cell is silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Measures. To be called while the process has one thread.
///
/// # Errors
/// Nothing could be measured, or a signal came: then everything that was made has gone.
pub fn run(plan: &Plan, watcher: &mut dyn Watcher) -> Result<Results, BenchError> {
    if plan.tests.iter().any(|test| test.needs_iperf()) && program("iperf3").is_none() {
        return Err(BenchError::NoIperf);
    }
    let mut run = Run::new(plan)?;
    run.open(watcher)?;
    let turns = plan.turns();
    for (done, turn) in turns.iter().enumerate() {
        if run.is_left_out(turn.peer) {
            continue;
        }
        let left = turns[done..].iter().filter(|turn| !run.is_left_out(turn.peer));
        watcher.turn(*turn, left.map(|turn| plan.time_of_turn(turn.peer)).sum());
        run.take(*turn, watcher)?;
    }
    run.finish()
}

struct Run<'a> {
    plan: &'a Plan,
    signals: Signals,
    results: Results,
    /// Those that have no further turn.
    left_out: Vec<Peer>,
    /// How far apart the CPUs were for what is heard next.
    distance: Option<f64>,
}

impl Run<'_> {
    fn new(plan: &Plan) -> Result<Run<'_>, BenchError> {
        let machine = machine::here();
        let results = Results {
            schema: SCHEMA,
            uswitch: env!("CARGO_PKG_VERSION").to_owned(),
            started: jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            peers: plan.peers.iter().map(|peer| peer.report(&machine.kernel)).collect(),
            machine,
            options: plan.settings(),
            notes: Vec::new(),
            samples: Vec::new(),
            distributions: Vec::new(),
        };
        Ok(Run { plan, signals: Signals::hold()?, results, left_out: Vec::new(), distance: None })
    }

    /// What a reader must know from the beginning, and who has no turn at all.
    fn open(&mut self, watcher: &mut dyn Watcher) -> Result<(), BenchError> {
        if self.results.peers.iter().all(|report| report.skipped.is_some()) {
            return Err(self.nothing());
        }
        if cfg!(debug_assertions) {
            self.note(watcher, DEBUG_BUILD.to_owned());
        }
        if self.plan.busy_poll.is_some_and(|us| us > 0) && self.plan.peers.contains(&Peer::Uswitch) {
            self.note(watcher, AWAKE.to_owned());
        }
        for (peer, report) in self.plan.peers.iter().zip(&self.results.peers) {
            if let Some(why) = &report.skipped {
                watcher.note(&format!("{} is left out: {why}", report.name));
                self.left_out.push(*peer);
            }
        }
        Ok(())
    }

    fn report_of(&mut self, peer: Peer) -> Option<&mut PeerReport> {
        let name = word(&peer);
        self.results.peers.iter_mut().find(|report| report.name == name)
    }

    fn is_left_out(&self, peer: Peer) -> bool {
        self.left_out.contains(&peer)
    }

    /// One turn: a cell from its start to its end.
    fn take(&mut self, turn: Turn, watcher: &mut dyn Watcher) -> Result<(), BenchError> {
        let plan = self.plan;
        let mut cell =
            IsolatedProcess::start(|furnished, pipe| turn::take(turn.peer, plan, furnished, pipe))?;
        if let Some(why) = self.listen(&mut cell, turn, watcher)? {
            self.fail(turn, watcher, why);
        }
        Ok(())
    }

    /// Hears a cell to its end. Why it failed, if it did.
    fn listen(
        &mut self,
        cell: &mut IsolatedProcess,
        turn: Turn,
        watcher: &mut dyn Watcher,
    ) -> Result<Option<String>, BenchError> {
        let mut lines = Lines::default();
        let mut silence = Duration::ZERO;
        let longest = PATIENCE + self.plan.duration * 2;
        while silence < longest {
            watcher.tick();
            if !self.signals.or_output(cell)? {
                silence += TICK;
                continue;
            }
            silence = Duration::ZERO;
            let mut piece = [0; 4096];
            let read = cell.output.read(&mut piece).map_err(BenchError::io("hear a cell"))?;
            if read == 0 {
                return Ok(Some("it ended before all was measured".to_owned()));
            }
            for event in lines.push(&piece[..read]) {
                match event {
                    Event::Done => return Ok(None),
                    Event::Failed(why) => return Ok(Some(why)),
                    Event::Nowhere(why) => return Err(BenchError::Nowhere(why)),
                    event => self.hear(turn, watcher, event),
                }
            }
        }
        Ok(Some("it hangs, and was ended".to_owned()))
    }

    fn hear(&mut self, turn: Turn, watcher: &mut dyn Watcher, event: Event) {
        let (repetition, peer) = (turn.repetition, word(&turn.peer));
        match event {
            Event::Step(what) => watcher.step(&what),
            Event::Detail(detail) => {
                if let Some(report) = self.report_of(turn.peer)
                    && !report.what.contains(&detail)
                {
                    report.what += &format!(", {detail}");
                }
            }
            Event::Distance(ns) => self.distance = ns,
            Event::Value(metric, value) => {
                let sample = Sample::new(repetition, &peer, metric, value);
                let placed = sample.map(|sample| Sample { cpu_distance_ns: self.distance, ..sample });
                self.results.samples.extend(placed);
            }
            Event::Times(metric, percentiles) => {
                self.results.distributions.push(Distribution { repetition, peer, metric, percentiles });
            }
            Event::Note(note) => self.note(watcher, format!("{peer}, repetition {repetition}: {note}")),
            Event::Failed(_) | Event::Nowhere(_) | Event::Done => {}
        }
    }

    fn note(&mut self, watcher: &mut dyn Watcher, note: String) {
        watcher.note(&note);
        self.results.notes.push(note);
    }

    /// It has no further turn.
    fn fail(&mut self, turn: Turn, watcher: &mut dyn Watcher, why: String) {
        let (peer, repetition) = (word(&turn.peer), turn.repetition);
        self.note(watcher, format!("{peer} failed in repetition {repetition} and is left out: {why}"));
        self.left_out.push(turn.peer);
        let measured = self.results.samples.iter().any(|sample| sample.peer == peer);
        if let Some(report) = self.report_of(turn.peer).filter(|_| !measured) {
            report.skipped = Some(why);
        }
    }

    fn finish(self) -> Result<Results, BenchError> {
        if self.results.samples.is_empty() { Err(self.nothing()) } else { Ok(self.results) }
    }

    /// Nothing was measured, and why.
    fn nothing(&self) -> BenchError {
        let why = |report: &PeerReport| Some(format!("{}: {}", report.name, report.skipped.as_deref()?));
        let why: Vec<String> = self.results.peers.iter().filter_map(why).collect();
        BenchError::NoPeers(why.join("; "))
    }
}

/// The signals that end a run, held back until they are asked for; let go when dropped.
struct Signals {
    file: SignalFd,
    before: SigSet,
}

impl Signals {
    fn hold() -> Result<Signals, BenchError> {
        let failed = BenchError::io::<Errno>;
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))
            .map_err(failed("hold signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let file = SignalFd::with_flags(&set, flags).map_err(failed("hear signals"))?;
        Ok(Signals { file, before })
    }

    /// Waits a moment for what a cell says. Whether it has said something, or ended.
    ///
    /// # Errors
    /// A signal came.
    fn or_output(&self, cell: &IsolatedProcess) -> Result<bool, BenchError> {
        let mut files = [
            PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(cell.output.as_fd(), PollFlags::POLLIN),
        ];
        let limit = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
        match poll(&mut files, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(BenchError::io("wait for a cell")(error)),
        }
        let came = files[1].any().unwrap_or(false);
        if let Ok(Some(signal)) = self.file.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            return Err(BenchError::Interrupted(Signal::try_from(number).unwrap_or(Signal::SIGTERM)));
        }
        Ok(came)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        // It was so before, so it can be so again.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}
