//! The files in `/etc` by which programs in a container find names.

use std::fmt::Write as _;
use std::fs;

use crate::control::report::{DnsReport, PortReport, Status};

/// The files, each with its name in `/etc`.
pub(super) fn files(status: &Status, ports: &[PortReport]) -> Vec<(&'static str, String)> {
    let hosts = hosts(&fs::read_to_string("/etc/hosts").unwrap_or_default(), ports);
    let resolv_conf = status.dns.as_ref().map(|dns| ("resolv.conf", resolv_conf(dns)));
    [("hosts", hosts)].into_iter().chain(resolv_conf).collect()
}

/// The DNS server of the switch, and its domain (resolv.conf(5)).
fn resolv_conf(dns: &DnsReport) -> String {
    let servers = dns.addresses.iter().map(|address| format!("nameserver {address}\n"));
    format!("search {}\n{}", dns.domain, servers.collect::<String>())
}

/// `/etc/hosts` of this machine, and the names of the ports. `here` is that of this machine, whose names take
/// precedence.
fn hosts(here: &str, ports: &[PortReport]) -> String {
    let mut text = here.trim_end().to_owned();
    text += "\n# Ports of the switch\n";
    for port in ports {
        for address in &port.own_addresses {
            let _ = writeln!(text, "{address} {}", port.ifname);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_each_address_after_those_of_the_machine() {
        let text = hosts("127.0.0.1 localhost\n\n", &[PortReport::example(1), PortReport::example(2)]);
        assert_eq!(
            text,
            "127.0.0.1 localhost\n# Ports of the switch\n172.16.0.2 container1\n172.16.0.3 container2\n"
        );
    }
}
