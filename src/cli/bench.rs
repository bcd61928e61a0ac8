//! `uswitch bench`: measures uswitch and other switches.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::bench::report::{Directory, Report, terminal};
use crate::bench::{self, BenchPlan, Peer, PeerRun, ProgressObserver, Test};
use crate::control::EngineChoice;

use super::error::CliError;
use super::output;

/// Measure uswitch and other switches on this machine
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Runs in namespaces of its own: does not change the machine's network, and needs no root. \
                        Frame sizes include the 4-byte FCS, as in RFC 2544."
)]
pub(super) struct BenchCommand {
    /// Switches to measure, in this order [default: all that are installed]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "PEER,...")]
    peers: Vec<Peer>,
    /// Tests to run [default: all]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "TEST,...")]
    tests: Vec<Test>,
    /// Repetitions of each switch, 1 to 1000
    #[arg(long, default_value_t = 5, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Duration of each measurement, 1 to 60
    #[arg(long, default_value_t = 3, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=60))]
    duration: u64,
    /// I/O engine of uswitch
    #[arg(long, value_enum, default_value_t)]
    engine: EngineChoice,
    /// Busy-poll this many microseconds before sleeping, up to 1000000 [default: adaptive]
    #[arg(long, value_name = "MICROSECONDS", value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    busy_poll: Option<u32>,
    /// Write samples, report and charts to this directory, which must not have any yet
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
    /// Print JSON: machine, settings, samples and results
    #[arg(long)]
    json: bool,
}

impl BenchCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let plan = self.plan();
        let directory = self.out.as_deref().map(Directory::claim).transpose()?;
        let mut progress: Box<dyn ProgressObserver> = match io::stderr().is_terminal() {
            true => Box::new(TerminalProgress::new(&plan)),
            false => Box::new(LineProgress { quiet: self.json, peer_runs: plan.peer_runs().len(), begun: 0 }),
        };
        let results = bench::run(&plan, progress.as_mut())?;
        drop(progress);
        if let Some(directory) = directory {
            directory.write(&results)?;
        }
        if self.json { output::json(&Report::new(&results)) } else { output::print(&terminal(&results)) }
    }

    fn plan(&self) -> BenchPlan {
        BenchPlan {
            peers: chosen(&self.peers, Peer::value_variants()),
            tests: chosen(&self.tests, Test::value_variants()),
            repeat: self.repeat,
            duration: Duration::from_secs(self.duration),
            engine: self.engine,
            busy_poll: self.busy_poll,
            controls: bench::congestion_controls(),
        }
    }
}

/// The values that were typed, each once, or all.
fn chosen<T: Copy + PartialEq>(typed: &[T], all: &[T]) -> Vec<T> {
    let mut chosen = Vec::new();
    for value in if typed.is_empty() { all } else { typed } {
        if !chosen.contains(value) {
            chosen.push(*value);
        }
    }
    chosen
}

/// A progress bar on a terminal, with the time left.
struct TerminalProgress {
    bar: ProgressBar,
    whole: Duration,
    /// Time left at the start of the turn.
    left: Duration,
    since: Instant,
    turn: String,
    step: String,
}

impl TerminalProgress {
    fn new(plan: &BenchPlan) -> TerminalProgress {
        let whole = plan.peer_runs().iter().map(|peer_run| plan.estimated_time(peer_run.peer)).sum();
        let bar = ProgressBar::with_draw_target(Some(millis(whole)), ProgressDrawTarget::stderr());
        // A test checks that the template is valid.
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            bar.set_style(style);
        }
        TerminalProgress {
            bar,
            whole,
            left: whole,
            since: Instant::now(),
            turn: String::new(),
            step: String::new(),
        }
    }
}

const TEMPLATE: &str = "{bar:30} {msg}";

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl ProgressObserver for TerminalProgress {
    fn note(&mut self, note: &str) {
        self.bar.suspend(|| say(note));
    }

    fn peer_run(&mut self, peer_run: PeerRun, left: Duration) {
        (self.left, self.since) = (left, Instant::now());
        self.turn = format!("{} {}", bench::word(&peer_run.peer), peer_run.repetition);
    }

    fn step(&mut self, what: &str) {
        what.clone_into(&mut self.step);
    }

    fn tick(&mut self) {
        let left = self.left.saturating_sub(self.since.elapsed());
        self.bar.set_position(millis(self.whole.saturating_sub(left)));
        let left = output::duration(left.as_secs());
        self.bar.set_message(format!("{left} left, {}: {}", self.turn, self.step));
    }
}

impl Drop for TerminalProgress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// A line for each turn, without a terminal.
struct LineProgress {
    quiet: bool,
    peer_runs: usize,
    begun: usize,
}

impl ProgressObserver for LineProgress {
    fn note(&mut self, note: &str) {
        say(note);
    }

    fn peer_run(&mut self, peer_run: PeerRun, left: Duration) {
        self.begun += 1;
        if !self.quiet {
            let (peer, left) = (bench::word(&peer_run.peer), output::duration(left.as_secs()));
            say(&format!("{} of {}: {peer}, about {left} left", self.begun, self.peer_runs));
        }
    }

    fn step(&mut self, _: &str) {}

    fn tick(&mut self) {}
}

fn say(line: &str) {
    // If standard error is closed, the message is lost.
    let _ = writeln!(io::stderr(), "uswitch: {line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_list_selects_all_and_duplicates_are_removed() {
        assert_eq!(chosen(&[], &[1, 2, 3]), [1, 2, 3]);
        assert_eq!(chosen(&[3, 1, 3], &[1, 2, 3]), [3, 1]);
    }

    #[test]
    fn progress_template_is_valid() {
        assert!(ProgressStyle::with_template(TEMPLATE).is_ok());
    }
}
