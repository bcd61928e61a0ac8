//! The link states of ports.

use crate::control::topology::{Attachment, Device};

/// The link state of a port's device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LinkState {
    Up,
    /// Up, without carrier: the cable is cut.
    NoCarrier,
    Down,
    /// The device was deleted, and the workers have closed its queues.
    Gone,
}

impl LinkState {
    /// The state of a new port's device.
    pub(super) fn of_new(attachment: &Attachment, device: &Device) -> LinkState {
        match attachment {
            // It has no peer yet.
            Attachment::Socket(_) => LinkState::NoCarrier,
            // The link state of a polled device is not visible, so it counts as up.
            Attachment::Tap(spec) if spec.unmanaged && !device.polled => LinkState::Down,
            _ => LinkState::Up,
        }
    }

    /// The state of a device that exists.
    pub(super) fn of(up: bool, carrier: bool) -> LinkState {
        match (up, carrier) {
            (false, _) => LinkState::Down,
            (true, false) => LinkState::NoCarrier,
            (true, true) => LinkState::Up,
        }
    }
}
