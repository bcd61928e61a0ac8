//! What the programs and user space both know: the places of values in the shared maps.

use crate::switch::fdb::{FLOOD, FLOOD_DEVICES};

/// Values of the map of ports. The index is that of a network device, or a [`crate::switch::fdb::flood_device`].
pub(super) const DEVICES: u32 = FLOOD + FLOOD_DEVICES;
/// The index of the first host end. Each port has two devices: see [`super::PortDevices::numbered`].
pub(super) const FIRST_HOST_END: u32 = 2;
/// The ports to which the programs flood: the first ones, with a bit each.
pub(super) const FLOOD_PORTS: u32 = u64::BITS;
/// 64-bit words of one value: two cache lines.
pub(super) const PORT_WORDS: usize = 16;
/// IPv4 addresses in the list of a port: its own with the guard, else the gateway's; the host port has none.
pub(super) const IPV4_SOURCES: usize = 2;
/// IPv6 addresses in the list of a port: with the guard, the link-local address and two more.
pub(super) const IPV6_SOURCES: usize = 3;

/// Words of a value of the map of ports, each written at once.
pub(super) mod word {
    /// Low half: the TAP device, for frames that user space decides. High half: the host end.
    pub(in crate::fastpath) const DEVICES: usize = 0;
    /// Of a [`crate::switch::fdb::flood_device`], which stands for the egress port: a bit for each port that gets
    /// floods.
    pub(in crate::fastpath) const FLOOD_PORTS: usize = 0;
    /// Low half: [`super::flag`]s. High half: the longest frame.
    pub(in crate::fastpath) const STATE: usize = 1;
    /// The MAC of the port in its VLAN, as in [`crate::switch::fdb::Stations`].
    pub(in crate::fastpath) const MAC: usize = 2;
    /// Two addresses, in network byte order.
    pub(in crate::fastpath) const IPV4: usize = 3;
    /// Three addresses of two words each, in network byte order.
    pub(in crate::fastpath) const IPV6: usize = 4;
    /// The VLAN of untagged frames in the highest 16 bits, as in a key of [`crate::switch::fdb::Stations`]; 0: none.
    pub(in crate::fastpath) const VLAN: usize = 10;
}

/// Flags of a port.
pub(super) mod flag {
    /// It forwards.
    pub(in crate::fastpath) const UP: u32 = 1;
    /// User space decides about each of its frames.
    pub(in crate::fastpath) const PUNT: u32 = 2;
    /// It may use its own addresses only.
    pub(in crate::fastpath) const GUARD: u32 = 4;
    /// It is the host port.
    pub(in crate::fastpath) const HOST: u32 = 8;
    /// It exchanges no frames with others of these.
    pub(in crate::fastpath) const ISOLATED: u32 = 16;
}

/// Words of the counters of a device.
pub(super) mod counter {
    /// Frames that came in here and were forwarded.
    pub(in crate::fastpath) const RX_FRAMES: usize = 0;
    /// Their bytes.
    pub(in crate::fastpath) const RX_BYTES: usize = 1;
    /// Frames that went out here.
    pub(in crate::fastpath) const TX_FRAMES: usize = 2;
    /// Their bytes.
    pub(in crate::fastpath) const TX_BYTES: usize = 3;
    /// Flooded frames among [`RX_FRAMES`].
    pub(in crate::fastpath) const FLOODED: usize = 4;
    /// Copies of flooded frames.
    pub(in crate::fastpath) const FLOOD_COPIES: usize = 5;
    /// Words in all.
    pub(in crate::fastpath) const WORDS: usize = 6;
}
