//! The number of workers, their CPUs, and how long they poll.

use std::time::Duration;

use super::{Checked, InvalidValue, number};
use crate::datapath::{BusyPoll, Placement, allowed_cpus};

/// Measured on two CPUs: two workers lower the rate of small frames by a tenth, and help several TCP streams
/// in some runs only. More than four are idle.
pub(super) fn default_workers(cpus: usize) -> u64 {
    if cpus <= 3 { 1 } else { (cpus as u64 / 2).min(4) }
}

/// CPUs that the process may use.
pub(super) fn placement(text: String) -> Checked<Placement> {
    let Ok(placement) = text.parse() else { return Err(("cpus", InvalidValue::CpuListSyntax(text))) };
    let allowed = allowed_cpus();
    match &placement {
        Placement::On(cpus) => match cpus.iter().find(|cpu| !allowed.contains(cpu)) {
            Some(other) => Err(("cpus", InvalidValue::CpuNotAllowed(*other, allowed))),
            None => Ok(placement),
        },
        Placement::Auto | Placement::Any => Ok(placement),
    }
}

/// On a single CPU, a polling worker would take the CPU from the senders.
pub(super) fn busy_poll(typed: Option<u64>, cpus: usize) -> Checked<BusyPoll> {
    let for_so_long = |us| BusyPoll::For(Duration::from_micros(us));
    match typed {
        None if cpus > 1 => Ok(BusyPoll::Adaptive),
        typed => number("busy-poll", typed, 0, 0..=1_000_000).map(for_so_long),
    }
}

pub(super) fn cpus() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}
