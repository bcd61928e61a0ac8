//! Which CPU a worker runs on.
//!
//! A worker that stays on one CPU lets the scheduler keep those who send to it on the others, and keeps the kernel's
//! pages going round: what a sender took on its CPU is freed on the worker's, and each CPU has lists of its own
//! (`mm/page_alloc.c`, `per_cpu_pages`). Whenever the two change places, hundreds of megabytes change lists first,
//! in pages that no cache knows.

use std::io;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Where the workers run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Placement {
    /// Each stays on the CPU on which the kernel starts it, or on another where fewer of them are.
    #[default]
    Auto,
    /// Worker N stays on the N-th of these, and so round again; not empty.
    On(Vec<usize>),
    /// Wherever the scheduler moves them.
    Any,
}

/// A word that is no [`Placement`].
#[derive(Debug, PartialEq, Eq)]
pub struct ParsePlacementError;

/// The calling thread, as the kernel calls it.
const SELF: Pid = Pid::from_raw(0);

impl Placement {
    /// Has the calling thread stay where worker `number` shall, beside workers on the CPUs `taken`. Says which CPU that is.
    ///
    /// # Errors
    /// The CPU that a person named is none of those that this process may use.
    pub(super) fn pin(&self, number: usize, taken: &[usize]) -> io::Result<Option<usize>> {
        match self {
            Placement::Any => Ok(None),
            // Where the kernel will not have it, it goes without.
            Placement::Auto => {
                let here = sched_getcpu().ok();
                Ok(here.and_then(|here| pin_to(least_used(here, &allowed(), taken)).ok()))
            }
            Placement::On(cpus) => cpus.iter().cycle().nth(number).map(|cpu| pin_to(*cpu)).transpose(),
        }
    }
}

impl FromStr for Placement {
    type Err = ParsePlacementError;

    /// `any`, or numbers and ranges of them, as in `1`, `2,3` and `0-3,8`.
    fn from_str(text: &str) -> Result<Placement, ParsePlacementError> {
        if text == "any" {
            return Ok(Placement::Any);
        }
        let mut cpus = Vec::new();
        for part in text.split(',') {
            let (from, to) = part.split_once('-').unwrap_or((part, part));
            let [from, to] =
                [from, to].map(|cpu| cpu.parse::<usize>().ok().filter(|cpu| *cpu < CpuSet::count()));
            cpus.extend(from.ok_or(ParsePlacementError)?..=to.ok_or(ParsePlacementError)?);
        }
        if cpus.is_empty() { Err(ParsePlacementError) } else { Ok(Placement::On(cpus)) }
    }
}

/// The CPUs that this process may use, in order.
pub fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(SELF).unwrap_or_default();
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

/// Has the calling thread stay on this CPU, and says which it is.
///
/// # Errors
/// It is none of those that this process may use.
pub fn pin_to(cpu: usize) -> io::Result<usize> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(SELF, &only)?;
    Ok(cpu)
}

/// `here`, or the first of `allowed` that fewer have taken.
fn least_used(here: usize, allowed: &[usize], taken: &[usize]) -> usize {
    let takers = |cpu: usize| taken.iter().filter(|other| **other == cpu).count();
    let free = allowed.iter().copied().min_by_key(|cpu| (takers(*cpu), *cpu != here));
    free.unwrap_or(here)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_placements() {
        assert_eq!("any".parse(), Ok(Placement::Any));
        assert_eq!("1".parse(), Ok(Placement::On(vec![1])));
        assert_eq!("2-4,0".parse(), Ok(Placement::On(vec![2, 3, 4, 0])));
        for no in ["", "a", "1-", "-1", "1,,2", "3-2", "1024", "0-1024", "1 2", "+1-0"] {
            assert_eq!(no.parse::<Placement>(), Err(ParsePlacementError), "{no}");
        }
    }

    #[test]
    fn picks_the_least_used_cpu() {
        assert_eq!(least_used(1, &[0, 1], &[]), 1);
        assert_eq!(least_used(1, &[0, 1], &[1]), 0);
        assert_eq!(least_used(1, &[0, 1], &[1, 0]), 1);
        assert_eq!(least_used(0, &[0, 1], &[0, 1, 0]), 1);
        assert_eq!(least_used(5, &[], &[]), 5);
    }

    /// The whole of it, in threads of their own since their CPUs change.
    #[test]
    fn pins_worker_to_cpu() {
        let pin = |placement: Placement, number, taken: Vec<usize>| {
            let thread = std::thread::spawn(move || (placement.pin(number, &taken).unwrap(), allowed()));
            thread.join().unwrap()
        };
        let cpus = allowed();
        assert_eq!(pin(Placement::Any, 0, Vec::new()), (None, cpus.clone()));
        let (own, only) = pin(Placement::Auto, 0, Vec::new());
        assert_eq!(only, [own.unwrap()]);
        let last = *cpus.last().unwrap();
        assert_eq!(pin(Placement::On(vec![last, cpus[0]]), 2, Vec::new()), (Some(last), vec![last]));
        assert_eq!(pin(Placement::On(vec![last, cpus[0]]), 1, Vec::new()), (Some(cpus[0]), vec![cpus[0]]));
    }

    #[test]
    fn rejects_missing_cpu() {
        let refused = std::thread::spawn(|| Placement::On(vec![CpuSet::count() - 1]).pin(0, &[]).is_err());
        assert!(refused.join().unwrap());
    }
}
