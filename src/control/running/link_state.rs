//! Whether the link of a port is up.

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
    /// The state of a device that exists.
    pub(super) fn of(up: bool, carrier: bool) -> LinkState {
        match (up, carrier) {
            (false, _) => LinkState::Down,
            (true, false) => LinkState::NoCarrier,
            (true, true) => LinkState::Up,
        }
    }
}
