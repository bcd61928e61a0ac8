//! Which capabilities this process has (capabilities(7)).

use std::{fs, io};

/// The capabilities that building a switch on the host itself takes.
/// Their numbers are from `include/uapi/linux/capability.h`.
const NEEDED: [u32; 2] = [NET_ADMIN, SYS_ADMIN];
/// Devices, addresses, routes, nftables.
const NET_ADMIN: u32 = 12;
/// Namespaces and mounts.
const SYS_ADMIN: u32 = 21;

/// The process may make namespaces and devices where it stands. When not, it can still do so in a
/// [sandbox](super::sandbox) of its own.
///
/// # Errors
/// `/proc` is not mounted.
pub fn can_build_here() -> io::Result<bool> {
    let status = fs::read_to_string("/proc/self/status")?;
    Ok(effective(&status).is_some_and(|set| NEEDED.iter().all(|bit| set & 1 << bit != 0)))
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
    fn effective_set_is_read_from_status() {
        let status = "Name:\tx\nCapPrm:\t000001ffffffffff\nCapEff:\t0000000000201000\nCapBnd:\t0\n";
        assert_eq!(effective(status), Some(1 << NET_ADMIN | 1 << SYS_ADMIN));
        assert_eq!(effective("Name:\tx\n"), None);
        assert_eq!(effective("CapEff:\tnone\n"), None);
    }
}
