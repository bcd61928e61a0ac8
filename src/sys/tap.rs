//! TAP devices (Linux `Documentation/networking/tuntap.rst`, `drivers/net/tun.c`).

use std::os::fd::OwnedFd;

/// One queue of a TAP device: reading gives a frame, writing takes one.
#[derive(Debug)]
pub struct Queue {
    /// Non-blocking, close-on-exec.
    pub fd: OwnedFd,
    /// Frames have a [`crate::wire::VnetHeader`] before them.
    pub vnet: bool,
}
