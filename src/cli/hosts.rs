//! The `/etc/hosts` that programs see in a container: that of this machine, and the names of the ports.

use std::fmt::Write as _;

use crate::control::report::PortReport;

/// The text of the file. `here` is that of this machine, whose names take precedence.
pub(super) fn file(here: &str, ports: &[PortReport]) -> String {
    let mut text = here.trim_end().to_owned();
    text += "\n# Ports of the switch\n";
    for port in ports {
        for address in &port.addresses {
            let _ = writeln!(text, "{} {}", address.addr(), port.ifname);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_each_address_after_those_of_the_machine() {
        let text = file("127.0.0.1 localhost\n\n", &[PortReport::example(1), PortReport::example(2)]);
        assert_eq!(
            text,
            "127.0.0.1 localhost\n# Ports of the switch\n172.16.0.2 container1\n172.16.0.3 container2\n"
        );
    }
}
