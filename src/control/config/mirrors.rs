//! Port mirrors, of the configuration file and of requests.

use super::{Checked, HOST, InvalidValue, container_name, range_error};
use crate::control::report::NewMirror;
use crate::switch::{PortMirror, VlanSettings};

/// Checks a mirror, as far as that is possible without the ports.
///
/// # Errors
/// The snaplen is out of range, or the switch does not filter VLANs.
pub fn mirror(mirror: &NewMirror, vlans: &VlanSettings) -> Result<(), InvalidValue> {
    let range = u64::from(*PortMirror::SNAPLEN.start())..=u64::from(*PortMirror::SNAPLEN.end());
    match mirror.snaplen {
        Some(snaplen) if !range.contains(&snaplen) => Err(range_error(snaplen, &range)),
        _ if !mirror.vlan.is_empty() && !vlans.filtering => Err(InvalidValue::NoVlanFiltering),
        _ => Ok(()),
    }
}

/// Checks the tables `[[mirror]]` of a configuration file.
pub(super) fn of_file(mirrors: Vec<NewMirror>, vlans: &VlanSettings) -> Checked<Vec<NewMirror>> {
    for new in &mirrors {
        let mut names = new.from.iter().chain([&new.to]).filter(|name| *name != HOST);
        names.try_for_each(|name| container_name(name)).and_then(|()| mirror(new, vlans)).map_err(|why| {
            ("mirror", InvalidValue::OfPort { name: format!("to {}", new.to), why: Box::new(why) })
        })?;
    }
    Ok(mirrors)
}
