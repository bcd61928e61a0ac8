//! Suppression of ARP and neighbour discovery for ports with `neigh_suppress`, by the rules of the Linux bridge
//! (`net/bridge/br_arp_nd_proxy.c`).
//!
//! - A request for a known neighbour behind such a port is answered by the switch, and flooded to the ports without the flag.
//! - What needs no answer is not flooded to such ports: a request for a neighbour that is known behind another port,
//!   an ARP probe or announcement (RFC 5227), duplicate address detection, an unsolicited advertisement.
//! - A request for an unknown address is flooded, and so is everything from a port with `neigh_suppress`.
//!
//! The known neighbours are the IP addresses of guarded ports ([`super::guard`]) and those of
//! [`super::Switch::neighbours`], if their MAC is in the forwarding database. Unicast requests are not answered: they
//! reach the neighbour itself.

use std::net::IpAddr;

use super::admission::Admitted;
use super::fdb::Database;
use super::forward::Forwarding;
use super::outcome::Outcome;
use super::{Observer, PortFlag, Step, SwitchReply};
use crate::wire::arp::Arp;
use crate::wire::ip::{Ipv6, protocol};
use crate::wire::ndp::{Ndp, is_solicited, solicited};
use crate::wire::{EtherType, EthernetFrame, Mac};

/// A message about neighbours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NeighbourMessage {
    /// Who has this address?
    Request {
        /** The address. */
        target: IpAddr,
        /** A receiver answers it: it is valid by the rules of its protocol. */
        is_valid: bool,
    },
    /// The sender has an address, or looks for another host with it. No other host needs to answer.
    Announcement,
}

impl NeighbourMessage {
    fn of(frame: &EthernetFrame<'_>) -> Option<NeighbourMessage> {
        match frame.network()? {
            (EtherType::ARP, message) => NeighbourMessage::of_arp(&Arp::parse(message)?),
            (EtherType::IPV6, packet) => NeighbourMessage::of_nd(packet),
            _ => None,
        }
    }

    fn of_arp(arp: &Arp) -> Option<NeighbourMessage> {
        let (sender, target) = (arp.sender_ip, arp.target_ip);
        if target.is_loopback() || target.is_multicast() {
            return None;
        }
        // 0.0.0.0/8 is "this network" (RFC 1122 §3.2.1.3).
        let is_announcement = sender.octets()[0] == 0 || sender == target;
        match arp.operation {
            Arp::REVERSE_REQUEST | Arp::REVERSE_REPLY => None,
            _ if is_announcement => Some(NeighbourMessage::Announcement),
            Arp::REQUEST => Some(NeighbourMessage::Request { target: target.into(), is_valid: true }),
            _ => None,
        }
    }

    fn of_nd(packet: &[u8]) -> Option<NeighbourMessage> {
        let packet = Ipv6::parse(packet).filter(|packet| packet.protocol == protocol::ICMPV6)?;
        match Ndp::parse(packet.payload)? {
            Ndp::Advertisement(_) if !is_solicited(packet.payload) => Some(NeighbourMessage::Announcement),
            Ndp::Solicitation(_) if packet.source.is_unspecified() || packet.source == packet.destination => {
                Some(NeighbourMessage::Announcement)
            }
            Ndp::Solicitation(target) => Some(NeighbourMessage::Request {
                target: target.into(),
                is_valid: solicited(&packet).is_some(),
            }),
            _ => None,
        }
    }
}

impl<const VLANS: bool> Forwarding<'_, VLANS> {
    /// Decides whether ports with `neigh_suppress` need a frame to a group, and returns the reply if the switch has it.
    #[cold]
    #[inline(never)]
    pub(super) fn suppress_neighbour<D: Database, O: Observer>(
        &self,
        admitted: &Admitted<'_>,
        fdb: &D,
        outcome: &mut Outcome,
        observer: &mut O,
    ) -> Option<SwitchReply> {
        if admitted.flags.has(PortFlag::NeighSuppress) {
            return None;
        }
        let reply = match NeighbourMessage::of(&admitted.untagged())? {
            NeighbourMessage::Announcement => None,
            NeighbourMessage::Request { target, is_valid } => {
                let mac = self.neighbour(target, admitted)?;
                let port = fdb.lookup(self.at.now.tick, Self::key(admitted, mac))?;
                let replies = is_valid
                    && self.frame.vnet.is_complete()
                    && self.switch.ports.flags(port).has(PortFlag::NeighSuppress);
                replies.then_some(SwitchReply::Proxy { address: target, mac })
            }
        };
        outcome.class.is_neigh_suppressed = true;
        observer.note(Step::NeighSuppressed(reply));
        reply
    }

    /// The MAC address of the port that has an address in the frame's VLAN.
    fn neighbour(&self, address: IpAddr, admitted: &Admitted<'_>) -> Option<Mac> {
        let vid = admitted.vlan.map(|class| class.vid);
        let is_in_vlan = |port| !VLANS || vid.is_none() || self.switch.vlans.pvid(port) == vid;
        // A port without a guard may have any address, also one of a guarded port.
        [&self.switch.guards, &self.switch.neighbours].into_iter().find_map(|known| {
            let mut ports = self.switch.ports.iter().filter(|port| is_in_vlan(*port));
            ports.find_map(|port| known.mac_at(port, address))
        })
    }
}
