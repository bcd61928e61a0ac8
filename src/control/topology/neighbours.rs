//! The kernel's limit of neighbour table entries. IPv4 (ARP) and IPv6 (neighbour discovery) have one table each, which
//! all network namespaces of the machine share. When a table is full, addresses are not resolved and packets
//! are lost without a message to the sender (`neigh_alloc` in Linux `net/core/neighbour.c`).

use std::fs;
use std::io;
use std::net::IpAddr;

use tracing::warn;

/// Entries of a port that exchanges packets with the gateway: one in its namespace and one on the host. Each further
/// pair of ports that exchange packets adds two.
const PER_PORT: u64 = 2;

/// The kernel's default limit.
const DEFAULT_LIMIT: u64 = 1024;

/// Most bytes of packets (with the kernel's own of each) that wait for one neighbour of a host port on which a service
/// replies: about 20 replies. The kernel's default is as much as a socket may send, so that one neighbour could use up
/// a socket's room.
const MOST_WAITING: u32 = 16 << 10;

/// Limits what waits for one neighbour of a device until it is resolved (`unres_qlen_bytes` in Linux
/// `Documentation/networking/ip-sysctl.rst`). The setting ends with the device. Not every kernel has it in a user
/// namespace.
pub(crate) fn limit_waiting(ifname: &str, own: IpAddr) {
    let family = if own.is_ipv4() { "ipv4" } else { "ipv6" };
    let path = format!("/proc/sys/net/{family}/neigh/{ifname}/unres_qlen_bytes");
    match fs::write(&path, MOST_WAITING.to_string()) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => warn!(path, %error, "cannot be set"),
        _ => {}
    }
}

/// The smaller one of the limits of both tables. The settings are only visible in the machine's first network
/// namespace; the kernel's default is assumed in others.
pub(crate) fn limit() -> u64 {
    let read = |family: &str| {
        let path = format!("/proc/sys/net/{family}/neigh/default/gc_thresh3");
        fs::read_to_string(path).ok()?.trim().parse().ok()
    };
    ["ipv4", "ipv6"].into_iter().filter_map(read).min().unwrap_or(DEFAULT_LIMIT)
}

/// Entries that so many active ports need at least.
pub(crate) fn needed(ports: u64) -> u64 {
    ports.saturating_mul(PER_PORT)
}

/// Active ports for which a limit is enough.
pub(crate) fn ports(limit: u64) -> u64 {
    limit / PER_PORT
}

/// The command that raises the limits for so many ports, with room for a peer of each.
pub(crate) fn raise(ports: u64) -> String {
    let limit = ports.saturating_mul(2 * PER_PORT).checked_next_power_of_two().unwrap_or(u64::MAX);
    let settings = ["ipv4", "ipv6"].map(|family| format!("net.{family}.neigh.default.gc_thresh3={limit}"));
    format!("sysctl {}", settings.join(" "))
}
