//! Settings of ports, of the configuration file and of requests.

use std::collections::BTreeMap;

use super::{Checked, HOST, InvalidValue, container_name};
use crate::control::report::PortSettings;

/// Checks the settings of the port with this name.
///
/// # Errors
/// A setting is out of range, or the host port cannot have it.
pub fn port_settings(name: &str, settings: &PortSettings) -> Result<(), InvalidValue> {
    if settings.guard.is_some() && name == HOST {
        return Err(InvalidValue::HostPortGuard);
    }
    Ok(())
}

/// Checks the tables `[port.NAME]` of a configuration file.
pub(super) fn of_file(ports: BTreeMap<String, PortSettings>) -> Checked<BTreeMap<String, PortSettings>> {
    for (name, settings) in &ports {
        let known = if name == HOST { Ok(()) } else { container_name(name) };
        known
            .and_then(|()| port_settings(name, settings))
            .map_err(|why| ("port", InvalidValue::OfPort { name: name.clone(), why: Box::new(why) }))?;
    }
    Ok(ports)
}
