//! One MAC address for all hosts of the switch in the network behind an uplink, for networks that accept one MAC
//! address for each port: many Wi-Fi access points, cloud networks, switches with port security. To that network, the
//! switch is one host with many IP addresses. Also known as MAC NAT.
//!
//! Frames that leave by the uplink get its MAC address ([`egress`]). Frames to that address enter by the uplink for the
//! host that has the IP address of their destination ([`ingress`]). The switch learns which host has which address from
//! the frames that leave ([`hosts`]).
//!
//! | | Linux ipvlan, mode l2 (`drivers/net/ipvlan/ipvlan_core.c`) | here |
//! |---|---|---|
//! | MAC address of a host | that of the uplink, also between the hosts | its own, up to the uplink |
//! | IP addresses of a host | those that are configured on its device | learned |
//! | unicast from the network | to the host with the destination address, of ARP with the target address | the same |
//! | broadcast and multicast | to all hosts | by the rules of the switch |
//! | ARP, neighbour discovery | hosts send the MAC address of the uplink | it is written over theirs, and checksums are updated |
//! | DHCP | all hosts have the same `chaddr`, so clients need a client identifier each, and have to set the BROADCAST flag | `chaddr` stays, so each host has its lease. The switch sets the flag: a reply to `chaddr` would not arrive |
//! | broadcast that the network sends back | ignored if its source is an address of a host | dropped: it would teach the hosts the uplink's address for each other |
//!
//! Other protocols leave with the MAC address of the uplink, and replies to them do not find their host. A network that
//! compares `chaddr` with the source address drops the requests of DHCP clients.

pub mod egress;
pub mod hosts;
pub mod ingress;
#[cfg(test)]
mod tests;
pub mod uplinks;

pub use egress::{Rewritten, Unrewritable};
pub use hosts::{HostCounters, Hosts, LearnedHost};
pub use ingress::Inbound;
pub use uplinks::{Head, Uplink, UplinkCopy, Uplinks};

/// Bytes of a frame that hold everything that is rewritten, except in long router advertisements and redirects. So a
/// port that gets the same frame needs a copy of them only.
pub const HEAD: usize = 128;
