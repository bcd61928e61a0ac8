//! The time slice of a worker: how soon it runs when it wakes while other processes use its CPU.
//!
//! The scheduler lets a process finish its slice of some milliseconds before a thread that wakes gets the CPU, unless
//! the thread has a shorter slice. So a process that only computes would delay every frame by milliseconds. A short
//! slice costs throughput in bulk transfers on some machines: the worker then interrupts the sender for each
//! super-frame (`docs/experiments.md`). So it has a short slice except in bulk transfers, and also in these while a
//! port takes more than its budget.

use std::time::Duration;

use super::poll_policy::TrafficPattern;
use crate::sys::process::{set_time_slice, thread_nice};

/// The shortest slice that the kernel accepts (`__setparam_fair` in Linux `kernel/sched/syscalls.c`).
const SHORT: Duration = Duration::from_micros(100);

/// The time slice of one worker.
#[derive(Debug)]
pub(super) struct TimeSlice {
    /// `None` if it has another scheduling policy, which has no slices.
    nice: Option<i32>,
    short: bool,
}

impl TimeSlice {
    /// That of the calling thread, a worker that is not restricted yet.
    pub(super) fn of_this_thread() -> TimeSlice {
        TimeSlice { nice: thread_nice(), short: false }
    }

    /// Called before each wait. A change costs one system call.
    pub(super) fn note(&mut self, pattern: TrafficPattern, over_budget: bool) {
        let short = pattern != TrafficPattern::Bulk || over_budget;
        if self.short != short
            && let Some(nice) = self.nice
        {
            self.short = short;
            // Where the kernel refuses, it runs as before.
            let _ = set_time_slice(short.then_some(SHORT), nice);
        }
    }
}
