//! A whole run: one process after the other, what they say, and the signals that end it.

use std::io::Read;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, Signal, pthread_sigmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::BenchError;
use super::event::{BenchEvent, EventParser};
use super::machine;
use super::measurement;
use super::peer::{Peer, program};
use super::plan::{BenchPlan, PeerRun, word};
use super::results::{Distribution, PeerInfo, Results, SCHEMA, Sample};
use crate::sys::isolated::IsolatedProcess;

/// Who watches a run.
pub trait ProgressObserver {
    /// A switch is left out, or a measurement failed.
    fn note(&mut self, note: &str);
    /// A turn begins, with about so much time left until the end of all.
    fn peer_run(&mut self, peer_run: PeerRun, left: Duration);
    /// Something else is measured.
    fn step(&mut self, what: &str);
    /// Time passes: some ten times a second.
    fn tick(&mut self);
}

const DEBUG_BUILD_NOTE: &str = "this uswitch is a debug build and several times slower than it could be: build it with \
                           `cargo build --release`";

/// Or the figures of two switches would be compared on what looks like one machine and is two.
const BUSY_POLL_NOTE: &str = "with --busy-poll, uswitch as root keeps idle CPUs awake while endpoints exchange single frames: beside \
                     the other switches they sleep";

/// How often the progress hears that time passes.
const TICK: Duration = Duration::from_millis(100);
/// Besides what a measurement takes, the longest that a process is silent.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Measures. To be called while the process has one thread.
///
/// # Errors
/// Nothing could be measured, or a signal came: then everything that was made has gone.
pub fn run(plan: &BenchPlan, progress: &mut dyn ProgressObserver) -> Result<Results, BenchError> {
    if plan.tests.iter().any(|test| test.needs_iperf()) && program("iperf3").is_none() {
        return Err(BenchError::NoIperf);
    }
    let mut run = Run::new(plan)?;
    run.start(progress)?;
    let peer_runs = plan.peer_runs();
    for (done, peer_run) in peer_runs.iter().enumerate() {
        if run.is_skipped(peer_run.peer) {
            continue;
        }
        let left = peer_runs[done..].iter().filter(|peer_run| !run.is_skipped(peer_run.peer));
        progress.peer_run(*peer_run, left.map(|peer_run| plan.estimated_time(peer_run.peer)).sum());
        run.measure_peer(*peer_run, progress)?;
    }
    run.finish()
}

struct Run<'a> {
    plan: &'a BenchPlan,
    signals: BlockedSignals,
    results: Results,
    /// Those that have no further turn.
    skipped_peers: Vec<Peer>,
    /// How far apart the CPUs were for what is heard next.
    distance: Option<f64>,
}

impl Run<'_> {
    fn new(plan: &BenchPlan) -> Result<Run<'_>, BenchError> {
        let machine = machine::detect();
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
        Ok(Run {
            plan,
            signals: BlockedSignals::block()?,
            results,
            skipped_peers: Vec::new(),
            distance: None,
        })
    }

    /// What a reader must know from the beginning, and who has no turn at all.
    fn start(&mut self, progress: &mut dyn ProgressObserver) -> Result<(), BenchError> {
        if self.results.peers.iter().all(|report| report.skipped.is_some()) {
            return Err(self.no_peers_error());
        }
        if cfg!(debug_assertions) {
            self.note(progress, DEBUG_BUILD_NOTE.to_owned());
        }
        if self.plan.busy_poll.is_some_and(|us| us > 0) && self.plan.peers.contains(&Peer::Uswitch) {
            self.note(progress, BUSY_POLL_NOTE.to_owned());
        }
        for (peer, report) in self.plan.peers.iter().zip(&self.results.peers) {
            if let Some(why) = &report.skipped {
                progress.note(&format!("{} is left out: {why}", report.name));
                self.skipped_peers.push(*peer);
            }
        }
        Ok(())
    }

    fn report_of(&mut self, peer: Peer) -> Option<&mut PeerInfo> {
        let name = word(&peer);
        self.results.peers.iter_mut().find(|report| report.name == name)
    }

    fn is_skipped(&self, peer: Peer) -> bool {
        self.skipped_peers.contains(&peer)
    }

    /// One turn: a process from its start to its end.
    fn measure_peer(
        &mut self,
        peer_run: PeerRun,
        progress: &mut dyn ProgressObserver,
    ) -> Result<(), BenchError> {
        let plan = self.plan;
        let mut process = IsolatedProcess::start(|namespaces, pipe| {
            measurement::run_isolated(peer_run.peer, plan, namespaces, pipe);
        })?;
        if let Some(why) = self.read_events(&mut process, peer_run, progress)? {
            self.fail(peer_run, progress, why);
        }
        Ok(())
    }

    /// Hears a process to its end. Why it failed, if it did.
    fn read_events(
        &mut self,
        process: &mut IsolatedProcess,
        peer_run: PeerRun,
        progress: &mut dyn ProgressObserver,
    ) -> Result<Option<String>, BenchError> {
        let mut lines = EventParser::default();
        let mut silence = Duration::ZERO;
        let longest = SILENCE_LIMIT + self.plan.duration * 2;
        while silence < longest {
            progress.tick();
            if !self.signals.wait_for_output(process)? {
                silence += TICK;
                continue;
            }
            silence = Duration::ZERO;
            let mut piece = [0; 4096];
            let read = process.output.read(&mut piece).map_err(BenchError::io("hear a process"))?;
            if read == 0 {
                return Ok(Some("it ended before all was measured".to_owned()));
            }
            for event in lines.push(&piece[..read]) {
                match event {
                    BenchEvent::Done => return Ok(None),
                    BenchEvent::Failed(why) => return Ok(Some(why)),
                    BenchEvent::NoNamespaces(why) => return Err(BenchError::NoNamespaces(why)),
                    event => self.handle_event(peer_run, progress, event),
                }
            }
        }
        Ok(Some("it hangs, and was ended".to_owned()))
    }

    fn handle_event(&mut self, peer_run: PeerRun, progress: &mut dyn ProgressObserver, event: BenchEvent) {
        let (repetition, peer) = (peer_run.repetition, word(&peer_run.peer));
        match event {
            BenchEvent::Step(what) => progress.step(&what),
            BenchEvent::Detail(detail) => {
                if let Some(report) = self.report_of(peer_run.peer)
                    && !report.what.contains(&detail)
                {
                    report.what += &format!(", {detail}");
                }
            }
            BenchEvent::Distance(ns) => self.distance = ns,
            BenchEvent::Value(metric, value) => {
                let sample = Sample::new(repetition, &peer, metric, value);
                let sample = sample.map(|sample| Sample { cpu_distance_ns: self.distance, ..sample });
                self.results.samples.extend(sample);
            }
            BenchEvent::Times(metric, percentiles) => {
                self.results.distributions.push(Distribution { repetition, peer, metric, percentiles });
            }
            BenchEvent::Note(note) => self.note(progress, format!("{peer}, repetition {repetition}: {note}")),
            BenchEvent::Failed(_) | BenchEvent::NoNamespaces(_) | BenchEvent::Done => {}
        }
    }

    fn note(&mut self, progress: &mut dyn ProgressObserver, note: String) {
        progress.note(&note);
        self.results.notes.push(note);
    }

    /// It has no further turn.
    fn fail(&mut self, peer_run: PeerRun, progress: &mut dyn ProgressObserver, why: String) {
        let (peer, repetition) = (word(&peer_run.peer), peer_run.repetition);
        self.note(progress, format!("{peer} failed in repetition {repetition} and is left out: {why}"));
        self.skipped_peers.push(peer_run.peer);
        let measured = self.results.samples.iter().any(|sample| sample.peer == peer);
        if let Some(report) = self.report_of(peer_run.peer).filter(|_| !measured) {
            report.skipped = Some(why);
        }
    }

    fn finish(self) -> Result<Results, BenchError> {
        if self.results.samples.is_empty() { Err(self.no_peers_error()) } else { Ok(self.results) }
    }

    /// Nothing was measured, and why.
    fn no_peers_error(&self) -> BenchError {
        let why = |report: &PeerInfo| Some(format!("{}: {}", report.name, report.skipped.as_deref()?));
        let why: Vec<String> = self.results.peers.iter().filter_map(why).collect();
        BenchError::NoPeers(why.join("; "))
    }
}

/// The signals that end a run, held back until they are asked for; let go when dropped.
struct BlockedSignals {
    file: SignalFd,
    before: SigSet,
}

impl BlockedSignals {
    fn block() -> Result<BlockedSignals, BenchError> {
        let failed = BenchError::io::<Errno>;
        let set: SigSet = [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP].into_iter().collect();
        let mut before = SigSet::empty();
        pthread_sigmask(SigmaskHow::SIG_BLOCK, Some(&set), Some(&mut before))
            .map_err(failed("hold signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let file = SignalFd::with_flags(&set, flags).map_err(failed("hear signals"))?;
        Ok(BlockedSignals { file, before })
    }

    /// Waits a moment for what a process says. Whether it has said something, or ended.
    ///
    /// # Errors
    /// A signal came.
    fn wait_for_output(&self, process: &IsolatedProcess) -> Result<bool, BenchError> {
        let mut files = [
            PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.output.as_fd(), PollFlags::POLLIN),
        ];
        let limit = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
        match poll(&mut files, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(BenchError::io("wait for a process")(error)),
        }
        let came = files[1].any().unwrap_or(false);
        if let Ok(Some(signal)) = self.file.read_signal() {
            let number = i32::try_from(signal.ssi_signo).unwrap_or(0);
            return Err(BenchError::Interrupted(Signal::try_from(number).unwrap_or(Signal::SIGTERM)));
        }
        Ok(came)
    }
}

impl Drop for BlockedSignals {
    fn drop(&mut self) {
        // It was so before, so it can be so again.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}
