//! CPU placement of the workers.
//!
//! A pinned worker lets the scheduler keep the senders on the other CPUs. It also keeps the kernel's free pages in
//! place: a sender allocates a page on its CPU, the worker frees it on its own, and each CPU has its own free lists
//! (`mm/page_alloc.c`, `per_cpu_pages`). When sender and worker swap CPUs, hundreds of megabytes of cold pages move
//! between these lists first.

use std::io;
use std::str::FromStr;

use nix::sched::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

/// Where the workers run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Placement {
    /// Each worker is pinned to the CPU on which the kernel starts it, or to one with fewer workers.
    #[default]
    Auto,
    /// Worker N is pinned to the N-th of these CPUs, modulo their number. Not empty.
    On(Vec<usize>),
    /// Not pinned.
    Any,
}

/// The text is not a [`Placement`].
#[derive(Debug, PartialEq, Eq)]
pub struct ParsePlacementError;

/// The calling thread (`sched_setaffinity(2)`).
const SELF: Pid = Pid::from_raw(0);

impl Placement {
    /// Pins the calling thread as worker `number`, where `taken` are the CPUs of the workers before it. Returns the
    /// CPU.
    ///
    /// # Errors
    /// This process may not use the CPU that the configuration names.
    pub(super) fn pin(&self, number: usize, taken: &[usize]) -> io::Result<Option<usize>> {
        match self {
            Placement::Any => Ok(None),
            // If the kernel refuses, the worker runs unpinned.
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

    /// Parses `any`, or a list of CPUs such as `1`, `2,3` or `0-3,8`.
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

/// The CPUs that this process may use, in ascending order.
pub fn allowed() -> Vec<usize> {
    let set = sched_getaffinity(SELF).unwrap_or_default();
    (0..CpuSet::count()).filter(|cpu| set.is_set(*cpu).unwrap_or(false)).collect()
}

/// Pins the calling thread to this CPU and returns it.
///
/// # Errors
/// This process may not use that CPU.
pub fn pin_to(cpu: usize) -> io::Result<usize> {
    let mut only = CpuSet::new();
    only.set(cpu)?;
    sched_setaffinity(SELF, &only)?;
    Ok(cpu)
}

/// Lets the calling thread run on these CPUs.
///
/// # Errors
/// This process may use none of them.
pub(super) fn run_on(cpus: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    cpus.iter().try_for_each(|cpu| set.set(*cpu))?;
    Ok(sched_setaffinity(SELF, &set)?)
}

/// The CPU of `allowed` with the fewest workers: `here` if it is one of them, otherwise the first.
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

    /// In separate threads, because pinning changes the calling thread.
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
