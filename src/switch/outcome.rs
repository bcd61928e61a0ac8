//! The terms of a decision's outcome: the class of the frame, and where it goes.

use super::PortId;

/// The kind of a frame's destination. It decides which ports a frame may be flooded to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Destination {
    /// One address whose port is known.
    #[default]
    Unicast,
    /// One address whose port is not known.
    UnknownUnicast,
    /// A group address.
    Multicast,
    /// The broadcast address.
    Broadcast,
}

/// What the egress rules need to know about a frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FrameClass {
    /// The port that received it.
    pub ingress: PortId,
    /// Its VLAN; 0 without VLANs.
    pub vlan: u16,
    /// The kind of its destination.
    pub destination: Destination,
    /// Length of the longest frame on the wire, Ethernet header included, without the outermost tag; for a super-frame,
    /// of one segment.
    pub wire_length: usize,
}

/// A port that a frame is sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Egress {
    /// The port.
    pub port: PortId,
    /// How its copy differs from the received frame.
    pub edit: Edit,
}

/// A change of the outermost tag.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Edit {
    /// None: the frame as it was received.
    #[default]
    None,
    /// Insert a tag with this control information (802.1Q-2022 clause 9.6: PCP, DEI, VID).
    Push(u16),
    /// Remove it.
    Pop,
    /// Replace its control information.
    Rewrite(u16),
}
