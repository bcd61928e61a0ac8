//! The switch's own leg: it owns the gateway's addresses, answers ARP, neighbour solicitations and
//! echo for them, and lets no container claim them.

use std::net::{Ipv4Addr, Ipv6Addr};

use crate::wire::{EthernetFrame, Mac};

/// What of the gateway's a container claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Its MAC, as the source of a frame.
    SourceMac,
}

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

/// An answer to a frame, as a value. [`Answer::emit`] makes its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
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

impl Gateway {
    /// What a frame from a container claims of the gateway's, if anything.
    #[inline]
    pub(super) fn claim(&self, _frame: &EthernetFrame<'_>) -> Option<Claim> {
        None
    }

    /// What the switch itself answers to a frame from a container, if anything.
    #[inline]
    pub(super) fn answer(&self, _frame: &EthernetFrame<'_>) -> Option<Answer> {
        None
    }
}

impl Answer {
    /// Longest that an answer is beyond its question, in bytes: an advertisement has an option that
    /// a solicitation may lack.
    pub const GROWTH: usize = 64;

    /// Turns the question, `length` bytes at the start of `frame`, into the answer in place; its length.
    /// `frame` has room for [`Answer::GROWTH`] more. The answer is a complete frame (sums done).
    pub fn emit(&self, gateway: &Gateway, frame: &mut [u8], length: usize) -> usize {
        let _ = (gateway, frame);
        length
    }
}
