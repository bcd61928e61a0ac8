//! Devices in namespaces that are not ours to see: only their queues tell about them.

use std::io;

use super::{DeviceId, LinkChange};
use crate::sys::existing_tap::ExistingTap;
use crate::sys::tap_handle::TapHandle;
use crate::wire::Mac;

/// A device, and what was last reported of it.
#[derive(Debug)]
pub(super) struct PolledDevice {
    pub(super) id: DeviceId,
    pub(super) handle: PolledHandle,
    pub(super) name: String,
    pub(super) mac: Mac,
}

/// Control's descriptor of the device.
#[derive(Debug)]
pub(super) enum PolledHandle {
    /// A device that the command line has created for the switch ([`super::handover`]).
    Tap(TapHandle),
    /// An existing TAP device that the command line has opened ([`super::existing_tap`]). It keeps its own settings.
    ExistingTap(ExistingTap),
}

impl PolledDevice {
    /// What has changed since the last call.
    pub(super) fn poll(&mut self) -> Vec<LinkChange> {
        let (repaired, name, mac) = match &self.handle {
            // What cannot be restored now is tried again the next time.
            PolledHandle::Tap(tap) => (tap.repair().unwrap_or_default(), tap.name(), tap.mac()),
            PolledHandle::ExistingTap(tap) => (Vec::new(), tap.name(), tap.mac()),
        };
        let mut changes: Vec<LinkChange> = repaired.into_iter().map(LinkChange::Restored).collect();
        // The workers report a device that was deleted.
        let (Some(name), Some(mac)) = (name, mac) else { return changes };
        if name != self.name {
            self.name.clone_from(&name);
            changes.push(LinkChange::Name(name));
        }
        if mac != self.mac {
            self.mac = mac;
            changes.push(LinkChange::Mac(mac));
        }
        changes
    }

    /// Its descriptor, if it is a device of ours.
    pub(super) fn tap_mut(&mut self) -> Option<&mut TapHandle> {
        match &mut self.handle {
            PolledHandle::Tap(tap) => Some(tap),
            PolledHandle::ExistingTap(_) => None,
        }
    }

    /// Turns its carrier on or off.
    pub(super) fn set_carrier(&self, on: bool) -> io::Result<()> {
        match &self.handle {
            PolledHandle::Tap(tap) => tap.set_carrier(on),
            PolledHandle::ExistingTap(_) => Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
        }
    }
}
