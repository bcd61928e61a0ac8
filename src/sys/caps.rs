//! Capabilities of this process (capabilities(7)).

use std::marker::PhantomData;
use std::{fs, io};

use caps::{CapSet, Capability};

/// The capabilities that a switch on the host's own network needs.
/// The numbers are those of `include/uapi/linux/capability.h`.
const NEEDED: [(u32, &str); 2] = [(NET_ADMIN, "CAP_NET_ADMIN"), (SYS_ADMIN, "CAP_SYS_ADMIN")];
/// Devices, addresses, routes, nftables.
const NET_ADMIN: u32 = 12;
/// Namespaces and mounts.
const SYS_ADMIN: u32 = 21;
/// Locked memory is not limited by `RLIMIT_MEMLOCK`.
const IPC_LOCK: u32 = 14;

/// Whether the process may create namespaces and devices in its current namespaces. Without this it can
/// still do so in a [sandbox](super::sandbox).
///
/// # Errors
/// `/proc` is not mounted.
pub fn can_manage_network() -> io::Result<bool> {
    Ok(missing()?.is_empty())
}

/// The names of the capabilities that are missing for that.
///
/// # Errors
/// `/proc` is not mounted.
pub fn missing() -> io::Result<Vec<&'static str>> {
    let set = effective_set()?;
    Ok(NEEDED.iter().filter(|(bit, _)| set & 1 << bit == 0).map(|(_, name)| *name).collect())
}

/// Whether the process may lock any amount of memory (`CAP_IPC_LOCK`), regardless of `RLIMIT_MEMLOCK`.
///
/// # Errors
/// `/proc` is not mounted.
pub fn can_pin_memory() -> io::Result<bool> {
    Ok(effective_set()? & 1 << IPC_LOCK != 0)
}

/// Capabilities that are effective in this thread until this is dropped. Between operations a thread of a switch has
/// them only in its permitted set ([`super::confine::restrict_control`]).
#[derive(Debug)]
#[must_use]
pub struct Raised {
    lowered_later: Vec<Capability>,
    /// Capabilities belong to a thread.
    _of_this_thread: PhantomData<*const ()>,
}

impl Raised {
    /// Raises those that the thread may use and does not. Without one of them, the operation reports what is missing.
    pub fn new(wanted: &[Capability]) -> Raised {
        let raise = |capability: &Capability| {
            let effective = caps::has_cap(None, CapSet::Effective, *capability).unwrap_or(true);
            !effective && caps::raise(None, CapSet::Effective, *capability).is_ok()
        };
        let lowered_later = wanted.iter().copied().filter(raise).collect();
        Raised { lowered_later, _of_this_thread: PhantomData }
    }
}

impl Drop for Raised {
    fn drop(&mut self) {
        for capability in &self.lowered_later {
            // A thread may always lower its own capabilities.
            let _ = caps::drop(None, CapSet::Effective, *capability);
        }
    }
}

fn effective_set() -> io::Result<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(effective(&status).unwrap_or(0))
}

/// The effective set in the text of `/proc/PID/status`.
fn effective(status: &str) -> Option<u64> {
    let digits = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(digits.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_capability_is_lowered_again() {
        let capability = Capability::CAP_NET_RAW;
        let effective = || caps::has_cap(None, CapSet::Effective, capability).unwrap();
        let permitted = caps::has_cap(None, CapSet::Permitted, capability).unwrap();
        // On a thread of its own, because it changes the capabilities.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                caps::drop(None, CapSet::Effective, capability).unwrap();
                let raised = Raised::new(&[capability]);
                assert_eq!(effective(), permitted);
                drop(raised);
                assert!(!effective());
            });
        });
    }

    #[test]
    fn reads_effective_set_from_status() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000201000\nCapBnd:\t0\n";
        assert_eq!(effective(status), Some(1 << NET_ADMIN | 1 << SYS_ADMIN));
        assert_eq!(effective("Name:\tx\n"), None);
        assert_eq!(effective("CapEff:\tnone\n"), None);
    }
}
