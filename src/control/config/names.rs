//! Names of switches, devices and containers.

use super::InvalidValue;
use crate::switch::Vid;

/// Longest container name: also a host name (RFC 1123 §2.1, one label).
const LONGEST_CONTAINER_NAME: usize = 63;

/// Longest interface name: `IFNAMSIZ` less the final zero.
const LONGEST_DEVICE_NAME: usize = 15;

/// The default name of a switch.
pub const DEFAULT_NAME: &str = "uswitch0";
/// Name of the host port; no container has it.
pub const HOST: &str = "host";

/// The name of the host port of a VLAN with a gateway of its own; no container has it.
pub fn vlan_host_port(vid: Vid) -> String {
    format!("{HOST}.{vid}")
}

/// The VLAN of whose gateway this is the host port.
pub fn vlan_of_host_port(name: &str) -> Option<Vid> {
    name.strip_prefix(HOST)?.strip_prefix('.')?.parse().ok()
}

/// Whether this is the name of a host port.
pub fn is_host_port(name: &str) -> bool {
    name == HOST || vlan_of_host_port(name).is_some()
}

/// Whether `name` can name a device (Linux `net/core/dev.c`, `dev_valid_name`, and no character that a shell, a path or
/// a URL would take for something else).
pub fn device_name(name: &str) -> Result<(), InvalidValue> {
    let fits = name.len() <= LONGEST_DEVICE_NAME && is_plain(name);
    if fits { Ok(()) } else { Err(InvalidValue::DeviceName(name.to_owned())) }
}

/// Whether `name` can name a container, its port and its namespace.
pub fn container_name(name: &str) -> Result<(), InvalidValue> {
    let fits = name.len() <= LONGEST_CONTAINER_NAME && is_plain(name) && !is_host_port(name);
    if fits { Ok(()) } else { Err(InvalidValue::ContainerName(name.to_owned())) }
}

fn is_plain(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
}
