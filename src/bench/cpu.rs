//! CPU time of the switch and of the whole machine (proc(5)).

use std::fs;
use std::ops::Sub;
use std::path::PathBuf;

use nix::unistd::{SysconfVar, sysconf};

use super::error::BenchError;

/// CPU time used so far, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Cpu {
    /// Processes or threads of the switch.
    pub(super) switch: f64,
    /// All processes and interrupts.
    pub(super) machine: f64,
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu { switch: self.switch - earlier.switch, machine: self.machine - earlier.machine }
    }
}

/// Reads `/proc/stat`, and the given files in the format of `/proc/PID/stat`.
pub(super) fn read(stats: &[PathBuf]) -> Result<Cpu, BenchError> {
    let read =
        |path: &PathBuf| fs::read_to_string(path).map_err(BenchError::io(format!("read {}", path.display())));
    let mut switch = 0;
    for path in stats {
        switch += ticks_of_task(&read(path)?);
    }
    let machine = ticks_of_machine(&read(&PathBuf::from("/proc/stat"))?);
    let hertz = sysconf(SysconfVar::CLK_TCK).ok().flatten().and_then(|hertz| u32::try_from(hertz).ok());
    let seconds = |ticks: u64| precise(ticks) / f64::from(hertz.unwrap_or(100));
    Ok(Cpu { switch: seconds(switch), machine: seconds(machine) })
}

/// Converts a counter to a floating-point number. Exact up to 2^53, which no counter here reaches.
#[allow(clippy::cast_precision_loss, reason = "counters of frames and ticks are far below 2^53")]
pub(super) fn precise(count: u64) -> f64 {
    count as f64
}

/// Sums utime and stime, fields 14 and 15. The name before them is in parentheses and may contain spaces.
fn ticks_of_task(stat: &str) -> u64 {
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    after_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum()
}

/// Sums user, nice, system, irq and softirq. Excludes idle, iowait and the time taken by the hypervisor
/// (steal).
fn ticks_of_machine(stat: &str) -> u64 {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu ")).unwrap_or_default();
    let fields: Vec<u64> = line.split_whitespace().filter_map(|field| field.parse().ok()).collect();
    [0, 1, 2, 5, 6].iter().filter_map(|&field| fields.get(field)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_user_and_system_time_of_task() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 250 50 0 0 20 0 1 0 12345 0 0\n";
        assert_eq!(ticks_of_task(stat), 300);
        assert_eq!(ticks_of_task(""), 0);
    }

    #[test]
    fn machine_time_excludes_idle_and_steal() {
        assert_eq!(ticks_of_machine("cpu  10 20 30 4000 500 6 7 800 0 0\ncpu0 1 1 1 1 1 1 1 1 0 0\n"), 73);
    }

    #[test]
    fn subtracts_cpu_times() {
        let none = read(&[]).unwrap();
        assert_eq!((none - none).machine, 0.0);
        assert_eq!(none.switch, 0.0);
        assert!(read(&[PathBuf::from("/proc/self/stat")]).unwrap().machine > 0.0);
    }
}
