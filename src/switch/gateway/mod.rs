//! The switch's own leg: it owns the gateway's addresses, answers ARP, neighbour solicitations and
//! echo for them, and lets no container claim them.
//!
//! - `claim` looks at every frame from a container before anything is learned from it: whoever says that
//!   one of the gateway's addresses is his, or speaks as the gateway of other ways to go, is not let in. So no
//!   neighbour cache and no route on this switch can be told otherwise.
//! - `arp`, `ndp` and `icmp` look at frames to the gateway's MAC or to a group, and say what the answer
//!   is, as a value. [`GatewayReply::emit`] makes its bytes, in the frame that asked.
//!
//! The most frequent frames, TCP and UDP, cost one look each. What is for the gateway and not answered
//! here (routed packets, echo with options, fragments, anything malformed) goes to the host port, whose
//! kernel has the same addresses; so to refuse is always safe.
//!
//! Both look behind priority tags (VLAN 0), as the receivers do. Frames from the host port are the
//! gateway's own and pass unseen.

mod arp;
mod claim;
mod icmp;
mod ndp;
#[cfg(test)]
mod tests;

use std::net::{Ipv4Addr, Ipv6Addr};

pub use self::claim::Claim;
use crate::wire::ip::{is_icmp4, is_plain_transport6};
use crate::wire::{ETHERNET_HEADER, EtherType, EthernetFrame, Mac};

/// The gateway's addresses.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    /// Its MAC; also the host port's.
    pub mac: Mac,
    /// Its IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// Its IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
}

impl Gateway {
    /// What a frame from a container claims of the gateway's, if anything.
    #[inline]
    pub(super) fn claim(&self, frame: &EthernetFrame<'_>) -> Option<Claim> {
        match frame.l3() {
            (EtherType::ARP, at) => claim::arp(self, after(frame, at)),
            (EtherType::IPV4, at) if is_icmp4(after(frame, at)) => claim::redirect(self, after(frame, at)),
            (EtherType::IPV6, at) if !is_plain_transport6(after(frame, at)) => {
                claim::ndp(self, after(frame, at))
            }
            _ => None,
        }
    }

    /// What the switch itself answers to a complete frame from a container, if anything.
    #[inline]
    pub(super) fn answer(&self, frame: &EthernetFrame<'_>) -> Option<GatewayReply> {
        match frame.l3() {
            (EtherType::ARP, at) => arp::answer(self, after(frame, at)),
            (EtherType::IPV4, at) if frame.dst() == self.mac => icmp::answer4(self, after(frame, at)),
            (EtherType::IPV6, at) if !is_plain_transport6(after(frame, at)) => {
                let packet = after(frame, at);
                let echo = || icmp::answer6(self, packet).filter(|_| frame.dst() == self.mac);
                ndp::answer(self, packet).or_else(echo)
            }
            _ => None,
        }
    }
}

/// The bytes of a frame from `at` on.
#[inline]
fn after<'a>(frame: &EthernetFrame<'a>, at: usize) -> &'a [u8] {
    frame.payload().get(at - ETHERNET_HEADER..).unwrap_or_default()
}

/// An answer to a frame, as a value. [`GatewayReply::emit`] makes its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatewayReply {
    /// An ARP reply (RFC 826): `address` is at the gateway's MAC.
    Arp {
        /** Which address was asked for. */
        address: Ipv4Addr,
    },
    /// A neighbour advertisement (RFC 4861 §7.2.4).
    Neighbour {
        /** Which address was asked for. */
        address: Ipv6Addr,
    },
    /// An ICMP echo reply (RFC 792).
    Echo,
    /// An ICMPv6 echo reply (RFC 4443 §4.2).
    Echo6,
}

impl GatewayReply {
    /// Longest that an answer is beyond its question, in bytes: an advertisement has an option that
    /// a solicitation may lack.
    pub const GROWTH: usize = 64;

    /// Turns the question, `length` bytes at the start of `frame`, into the answer in place; its length.
    /// `frame` has room for [`GatewayReply::GROWTH`] more. The answer is a complete frame (sums done), to the
    /// asker, with the question's priority tag if it had one. 0, nothing to send, if `frame` is not the
    /// question that was answered.
    pub fn emit(&self, gateway: &Gateway, frame: &mut [u8], length: usize) -> usize {
        self.write(gateway, frame, length).unwrap_or(0)
    }

    fn write(&self, gateway: &Gateway, frame: &mut [u8], length: usize) -> Option<usize> {
        let question = EthernetFrame::new_checked(frame.get(..length)?)?;
        let (asker, (_, at)) = (question.src(), question.l3());
        let (destination, end) = match *self {
            GatewayReply::Arp { address } => {
                arp::write(gateway, address, frame.get_mut(at..length)?)?;
                (asker, length)
            }
            GatewayReply::Neighbour { address } => {
                let (group, written) = ndp::write(gateway, address, frame.get_mut(at..)?)?;
                (group.unwrap_or(asker), at + written)
            }
            GatewayReply::Echo => {
                icmp::write4(frame.get_mut(at..length)?)?;
                (asker, length)
            }
            GatewayReply::Echo6 => {
                icmp::write6(frame.get_mut(at..length)?)?;
                (asker, length)
            }
        };
        frame[..6].copy_from_slice(&destination.0);
        frame[6..12].copy_from_slice(&gateway.mac.0);
        Some(end)
    }
}
