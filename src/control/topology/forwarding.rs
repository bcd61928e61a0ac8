//! IP forwarding for NAT and between VLANs, without making the host a router for other networks.
//!
//! IPv4 is forwarded if the interface on which a packet arrives has `forwarding` (`ip_route_input_slow` in Linux
//! `net/ipv4/route.c`). It is enabled on the host port and on the interfaces with an IPv4 address, where replies
//! arrive, also on those that get an address later; without NAT only on the devices of the host ports. `ip_forward`,
//! which would enable it on all present and future interfaces, stays as it is. Programs that need it, such as Docker
//! and libvirt, set it, and the kernel ignores it if it is set already: so its value shows whether other programs need
//! forwarding.
//!
//! IPv6 is forwarded if `all.forwarding` is set (`ip6_forward` in Linux `net/ipv6/ip6_output.c`). The interfaces'
//! own `forwarding` only decides whether they act as a router, which ignores router advertisements
//! (`ipv6_accept_ra` in Linux `include/net/addrconf.h`). They keep their values, so that interfaces present and future
//! still get their default routes from advertisements.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use nix::ifaddrs::getifaddrs;

use super::TopologyError;
use super::ledger::{DirectoryLock, Ledger};
use super::sysctl::{self, SysctlChange};

const ALL_V4: &str = "/proc/sys/net/ipv4/ip_forward";
const ALL_V6: &str = "/proc/sys/net/ipv6/conf/all/forwarding";

/// Enables IPv4 forwarding of what arrives on the device of a host port, with which the setting ends.
pub(super) fn enable_v4_from(host_port: &str) -> Result<(), TopologyError> {
    sysctl::write(&of_interface(host_port), "1")
}

/// Lets the device of a host port send packets from 127.0.0.0/8 and receive packets to it, or not. The setting ends
/// with the device.
pub(super) fn route_loopback(host_port: &str, on: bool) -> Result<(), TopologyError> {
    let path = Path::new("/proc/sys/net/ipv4/conf").join(host_port).join("route_localnet");
    sysctl::write(&path, if on { "1" } else { "0" })
}

/// Enables IPv4 forwarding on the interfaces with an address that do not forward yet, except on those of host ports.
pub(super) fn enable_v4(ledger: &mut Ledger, host_ports: &[&str]) -> Result<(), TopologyError> {
    let held = DirectoryLock::take(ledger.directory())?;
    let known: BTreeSet<PathBuf> =
        ledger.contents()?.settings().map(|setting| setting.path.clone()).collect();
    let is_other = |name: &&String| *name != "lo" && !host_ports.contains(&name.as_str());
    for interface in interfaces_with_address()?.iter().filter(is_other) {
        let path = of_interface(interface);
        if known.contains(&path) {
            // An interface that was deleted and created again does not forward.
            sysctl::write(&path, "1")?;
        } else {
            let change = SysctlChange { path: &path, value: "1", sentinel: Some(Path::new(ALL_V4)) };
            sysctl::set(ledger, &change, &held)?;
        }
    }
    Ok(())
}

/// Enables IPv6 forwarding. The kernel then deletes the default routes from router advertisements, except
/// on interfaces whose `accept_ra` is 2 (`rt6_purge_dflt_routers` in Linux `net/ipv6/route.c`), so all have that value
/// for the moment.
pub(super) fn enable_v6(ledger: &mut Ledger) -> Result<(), TopologyError> {
    let held = DirectoryLock::take(ledger.directory())?;
    let all = Path::new(ALL_V6);
    let mut kept = Vec::new();
    if sysctl::read(all)? != "1" {
        for path in sysctl::accepting_router_advertisements() {
            let id = sysctl::set(ledger, &SysctlChange { path: &path, value: "2", sentinel: None }, &held)?;
            kept.push((id, path));
        }
    }
    sysctl::set_for_all_only(ledger, all, "1", &held)?;
    for (id, path) in kept {
        sysctl::write(&path, "1")?;
        ledger.remove(id);
    }
    Ok(())
}

fn of_interface(name: &str) -> PathBuf {
    Path::new("/proc/sys/net/ipv4/conf").join(name).join("forwarding")
}

fn interfaces_with_address() -> Result<BTreeSet<String>, TopologyError> {
    let failed = |error| TopologyError::Kernel { what: "list the addresses", source: io::Error::from(error) };
    let addresses = getifaddrs().map_err(failed)?;
    let v4 = addresses.filter(|it| it.address.is_some_and(|address| address.as_sockaddr_in().is_some()));
    Ok(v4.map(|it| it.interface_name).collect())
}
