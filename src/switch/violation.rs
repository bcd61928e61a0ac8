//! Why a frame from a container is dropped: it uses addresses that are not the container's, or that cannot be checked.

use std::net::IpAddr;

use super::DropReason;
use super::gateway::Claim;
use crate::wire::Mac;

/// What is wrong with a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// It uses an address of the gateway.
    Gateway(Claim),
    /// It has more VLAN tags or IPv6 extension headers than the switch skips.
    TooManyHeaders,
    /// It is a fragment of neighbour discovery (RFC 6980), or of a packet whose first fragment does not contain all
    /// headers (RFC 7112).
    FragmentedNd,
    /// Guard: its source MAC is not the port's.
    SourceMac(Mac),
    /// Guard: its source address is not the port's.
    SourceAddress(IpAddr),
    /// Guard: as the sender of ARP it has an address that is not the port's.
    ArpSender {
        /** The sender's MAC. */
        mac: Mac,
        /** The sender's address. */
        address: IpAddr,
    },
    /// Guard: its neighbour discovery is about an address that is not the port's.
    NdTarget(IpAddr),
    /// Guard: an option of its neighbour discovery has a MAC that is not the port's.
    NdLinkAddress(Mac),
    /// Guard: its neighbour discovery is malformed.
    NdMalformed,
    /// Guard: it is a redirect of IPv6, which only routers send.
    NdRedirect,
    /// Guard: it is a router advertisement (RFC 6105).
    RouterAdvertisement,
    /// Guard: as a DHCP client it has a MAC that is not the port's.
    DhcpClient(Mac),
    /// Guard: it is from a DHCP server, of IPv4 or IPv6.
    DhcpServer,
}

impl Violation {
    /// The reason that is counted.
    pub const fn reason(self) -> DropReason {
        match self {
            Violation::Gateway(_) => DropReason::SpoofedGateway,
            Violation::TooManyHeaders => DropReason::TooManyHeaders,
            Violation::FragmentedNd => DropReason::FragmentedNd,
            Violation::SourceMac(_) | Violation::DhcpClient(_) => DropReason::SpoofedMac,
            Violation::SourceAddress(_) => DropReason::SpoofedIp,
            Violation::ArpSender { .. } => DropReason::SpoofedArp,
            Violation::NdTarget(_)
            | Violation::NdLinkAddress(_)
            | Violation::NdMalformed
            | Violation::NdRedirect => DropReason::SpoofedNd,
            Violation::RouterAdvertisement => DropReason::RogueRa,
            Violation::DhcpServer => DropReason::RogueDhcp,
        }
    }
}
