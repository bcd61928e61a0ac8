//! The gateway: the switch owns its addresses, answers ARP requests, neighbour solicitations and echo
//! requests for them, and drops frames in which a container uses them as its own.
//!
//! - `claim` checks every frame from a container before its source is learned. A frame that claims an
//!   address of the gateway, or that redirects in the gateway's name, is dropped. So no neighbour cache or
//!   route on this switch can be changed in the gateway's name.
//! - `arp`, `ndp` and `icmp` look at frames to the gateway's MAC or to a group address, and return the
//!   reply as a value. [`SwitchReply::emit`] writes it into the buffer of the request.
//!
//! The host port has the same addresses. So a frame to the gateway that is not answered here (routed packets,
//! echo with options, fragments, malformed packets) goes to the host's kernel.
//!
//! All checks look behind priority tags (VLAN 0), because receivers do. Frames from the host port are not
//! checked.

mod arp;
mod claim;
mod icmp;
mod ndp;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering};

pub use self::claim::Claim;
pub(super) use self::claim::upper_layer;
use super::violation::Violation;
use crate::wire::ip::is_plain_transport6;
use crate::wire::ndp::Advertiser;
use crate::wire::{ETHERNET_HEADER, EtherType, EthernetFrame, Mac};

/// The gateway's addresses.
#[derive(Debug, Clone, Default)]
pub struct Gateway {
    /// MAC address, also of the host port. It changes with that of the host port's device.
    pub mac: SharedMac,
    /// IPv4 addresses.
    pub ipv4: Vec<Ipv4Addr>,
    /// IPv6 addresses.
    pub ipv6: Vec<Ipv6Addr>,
}

/// A MAC address that control changes while the workers read it.
#[derive(Debug, Default)]
pub struct SharedMac(AtomicU64);

impl SharedMac {
    /// The address. A frame that is processed during a change may see the old one.
    #[inline]
    pub fn get(&self) -> Mac {
        let [_, _, address @ ..] = self.0.load(Ordering::Relaxed).to_be_bytes();
        Mac(address)
    }

    /// Changes the address.
    pub fn set(&self, mac: Mac) {
        let [a, b, c, d, e, f] = mac.0;
        self.0.store(u64::from_be_bytes([0, 0, a, b, c, d, e, f]), Ordering::Relaxed);
    }
}

impl From<Mac> for SharedMac {
    fn from(mac: Mac) -> SharedMac {
        let shared = SharedMac::default();
        shared.set(mac);
        shared
    }
}

impl Clone for SharedMac {
    fn clone(&self) -> SharedMac {
        self.get().into()
    }
}

impl Gateway {
    /// Whether a frame from a container uses an address of the gateway, or cannot be checked for that.
    #[inline]
    pub(super) fn check(&self, frame: &EthernetFrame<'_>) -> Result<(), Violation> {
        match frame.network().ok_or(Violation::TooManyHeaders)? {
            (EtherType::IPV4, packet) => claim::ipv4(self, packet),
            (EtherType::IPV6, packet) => claim::ipv6(self, packet),
            (EtherType::ARP, message) => claim::arp(self, message),
            _ => Ok(()),
        }
    }

    /// The reply to a complete frame from a container, if any.
    #[inline]
    pub(super) fn answer(&self, frame: &EthernetFrame<'_>) -> Option<SwitchReply> {
        match frame.l3() {
            (EtherType::ARP, at) => arp::answer(self, after(frame, at)),
            (EtherType::IPV4, at) if frame.dst() == self.mac.get() => icmp::answer4(self, after(frame, at)),
            (EtherType::IPV6, at) if !is_plain_transport6(after(frame, at)) => {
                let packet = after(frame, at);
                let echo = || icmp::answer6(self, packet).filter(|_| frame.dst() == self.mac.get());
                ndp::answer(self, packet).or_else(echo)
            }
            _ => None,
        }
    }
}

/// The bytes of a frame from offset `at`.
#[inline]
fn after<'a>(frame: &EthernetFrame<'a>, at: usize) -> &'a [u8] {
    frame.payload().get(at - ETHERNET_HEADER..).unwrap_or_default()
}

/// A reply of the switch, as a value: of the gateway, or for a neighbour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SwitchReply {
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
    /// An ARP reply or a neighbour advertisement for a host behind another port (`switch/neigh_suppress.rs`).
    Proxy {
        /** Which address was asked for. */
        address: IpAddr,
        /** The host's MAC address. */
        mac: Mac,
    },
}

impl SwitchReply {
    /// How much longer than the request a reply can be, in bytes: an advertisement has an option that a
    /// solicitation may lack.
    pub const GROWTH: usize = 64;

    /// Overwrites the request, `length` bytes at the start of `frame`, with the reply, and returns its
    /// length. `frame` has room for [`SwitchReply::GROWTH`] more bytes. The reply is a complete frame to
    /// the sender of the request, with the same tag. Returns 0 if `frame` is not the request.
    pub fn emit(&self, gateway: &Gateway, frame: &mut [u8], length: usize) -> usize {
        self.write(gateway, frame, length).unwrap_or(0)
    }

    fn write(&self, gateway: &Gateway, frame: &mut [u8], length: usize) -> Option<usize> {
        let question = EthernetFrame::new_checked(frame.get(..length)?)?;
        let (asker, (_, at)) = (question.src(), question.innermost());
        let mac = self.source(gateway);
        let (destination, end) = match *self {
            SwitchReply::Arp { address } | SwitchReply::Proxy { address: IpAddr::V4(address), .. } => {
                arp::write(mac, address, frame.get_mut(at..length)?)?;
                (asker, length)
            }
            SwitchReply::Neighbour { address } | SwitchReply::Proxy { address: IpAddr::V6(address), .. } => {
                let (group, written) = ndp::write(mac, self.advertiser(), address, frame.get_mut(at..)?)?;
                (group.unwrap_or(asker), at + written)
            }
            SwitchReply::Echo => {
                icmp::write4(frame.get_mut(at..length)?)?;
                (asker, length)
            }
            SwitchReply::Echo6 => {
                icmp::write6(frame.get_mut(at..length)?)?;
                (asker, length)
            }
        };
        frame[..6].copy_from_slice(&destination.0);
        frame[6..12].copy_from_slice(&mac.0);
        Some(end)
    }

    /// The source MAC address of the reply.
    pub fn source(&self, gateway: &Gateway) -> Mac {
        match *self {
            SwitchReply::Proxy { mac, .. } => mac,
            _ => gateway.mac.get(),
        }
    }

    fn advertiser(&self) -> Advertiser {
        match self {
            SwitchReply::Proxy { .. } => Advertiser::Host,
            _ => Advertiser::Router,
        }
    }
}
