//! Packet formats: bytes <-> types. Pure: no I/O, no clock, no allocation on the hot path.
//!
//! Panic contract: nothing in this layer panics on any input. A view has a checked constructor, and its
//! accessors cannot fail. A parser returns `None` or a typed error.

pub mod arp;
pub mod bpdu;
pub mod checksum;
pub mod dhcpv6;
pub mod display;
pub mod ethernet;
pub mod filter;
pub mod icmp;
pub mod igmp;
pub mod ip;
pub mod mac;
pub mod membership;
#[cfg(test)]
pub(crate) mod membership_tests;
pub mod mld;
pub mod ndp;
pub mod pim;
pub mod router_advertisement;
pub mod segment;
pub mod upper_layer;
pub mod vnet;

pub use bpdu::Bpdu;
pub use display::Pretty;
pub use ethernet::{EtherType, EthernetFrame, VlanTag};
pub use mac::Mac;
pub use segment::{SegmentError, Segments, wire_length};
pub use vnet::VnetHeader;

/// Bytes of an Ethernet header: destination, source, EtherType.
pub const ETHERNET_HEADER: usize = 14;
/// Bytes of destination and source, which precede tags and the EtherType.
pub const ADDRESSES: usize = 12;
/// Bytes of an 802.1Q tag.
pub const VLAN_TAG: usize = 4;
/// Most tags of a frame that are skipped to find its payload. More tags have no use, and each costs time.
pub const MAX_TAGS: usize = 8;
