//! Runs all measurements, each in an isolated process, reads their events, and handles signals.

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
use super::results::{PeerInfo, Results, RoundTripPercentiles, SCHEMA, Sample};
use crate::sys::isolated::IsolatedProcess;

/// Receives the progress of a run.
pub trait ProgressObserver {
    /// A switch is skipped, or a test failed.
    fn note(&mut self, note: &str);
    /// A run of a peer begins. `left` is the approximate time until the end of all runs.
    fn peer_run(&mut self, peer_run: PeerRun, left: Duration);
    /// Another test begins.
    fn step(&mut self, what: &str);
    /// Called about ten times a second.
    fn tick(&mut self);
}

const DEBUG_BUILD_NOTE: &str =
    "this uswitch is a debug build, which is several times slower: use `cargo build --release`";

/// Readers must know that the switches were measured under different conditions.
const BUSY_POLL_NOTE: &str = "with --busy-poll, uswitch as root keeps idle CPUs awake during request-response traffic. With the other \
                              switches they sleep";

/// Interval of [`ProgressObserver::tick`].
const TICK: Duration = Duration::from_millis(100);
/// An isolated process that is silent for longer than this, plus twice the duration of a measurement,
/// hangs.
const SILENCE_LIMIT: Duration = Duration::from_secs(30);

/// Runs all measurements. Call it while the process has one thread.
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
    /// Peers without further runs.
    skipped_peers: Vec<Peer>,
    /// Distance between the CPUs for the values that follow.
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

    /// Reports the initial notes, and skips the peers that cannot be measured.
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
                progress.note(&format!("{} is skipped: {why}", report.name));
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

    /// Runs one isolated process from start to end.
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

    /// Reads events until the process is done. Returns why it failed, if it did.
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
            let read =
                process.output.read(&mut piece).map_err(BenchError::io("read from the isolated process"))?;
            if read == 0 {
                return Ok(Some("it ended before all tests were done".to_owned()));
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
        Ok(Some("it hung and was killed".to_owned()))
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
                self.results.distributions.push(RoundTripPercentiles {
                    repetition,
                    peer,
                    metric,
                    percentiles,
                });
            }
            BenchEvent::Note(note) => self.note(progress, format!("{peer}, repetition {repetition}: {note}")),
            BenchEvent::Failed(_) | BenchEvent::NoNamespaces(_) | BenchEvent::Done => {}
        }
    }

    fn note(&mut self, progress: &mut dyn ProgressObserver, note: String) {
        progress.note(&note);
        self.results.notes.push(note);
    }

    /// Skips the peer in all further repetitions.
    fn fail(&mut self, peer_run: PeerRun, progress: &mut dyn ProgressObserver, why: String) {
        let (peer, repetition) = (word(&peer_run.peer), peer_run.repetition);
        self.note(
            progress,
            format!("{peer} failed in repetition {repetition} and is skipped from now on: {why}"),
        );
        self.skipped_peers.push(peer_run.peer);
        let measured = self.results.samples.iter().any(|sample| sample.peer == peer);
        if let Some(report) = self.report_of(peer_run.peer).filter(|_| !measured) {
            report.skipped = Some(why);
        }
    }

    fn finish(self) -> Result<Results, BenchError> {
        if self.results.samples.is_empty() { Err(self.no_peers_error()) } else { Ok(self.results) }
    }

    /// The error if nothing was measured, with the reason for each peer.
    fn no_peers_error(&self) -> BenchError {
        let why = |report: &PeerInfo| Some(format!("{}: {}", report.name, report.skipped.as_deref()?));
        let why: Vec<String> = self.results.peers.iter().filter_map(why).collect();
        BenchError::NoPeers(why.join("; "))
    }
}

/// Signals that end a run. They are blocked until they are read, and unblocked when this is dropped.
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
            .map_err(failed("block signals"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let file = SignalFd::with_flags(&set, flags).map_err(failed("create a signalfd"))?;
        Ok(BlockedSignals { file, before })
    }

    /// Waits for a short time. Returns whether the process has written something or ended.
    ///
    /// # Errors
    /// A signal arrived.
    fn wait_for_output(&self, process: &IsolatedProcess) -> Result<bool, BenchError> {
        let mut files = [
            PollFd::new(self.file.as_fd(), PollFlags::POLLIN),
            PollFd::new(process.output.as_fd(), PollFlags::POLLIN),
        ];
        let limit = PollTimeout::try_from(TICK).unwrap_or(PollTimeout::ZERO);
        match poll(&mut files, limit) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(BenchError::io("wait for the isolated process")(error)),
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
        // This restores an earlier mask, which cannot fail.
        let _ = pthread_sigmask(SigmaskHow::SIG_SETMASK, Some(&self.before), None);
    }
}
