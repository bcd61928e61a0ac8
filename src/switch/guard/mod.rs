//! The guard: a container may only use the addresses of its port.
//!
//! A guarded port has an [`Identity`]: the MAC and the IP addresses that the switch assigned, and the IPv6 addresses of
//! that MAC: the link-local one, and one in each advertised prefix. A frame whose source MAC, source address, ARP
//! sender or neighbour discovery has another address is dropped (`check`), and so are the messages of DHCP servers and
//! routers. This is what switches call IP source guard, dynamic ARP inspection, ND inspection, DHCP snooping and RA
//! guard (RFC 6105).
//!
//! In a VLAN (a tag with a VLAN identifier) only the source MAC is checked: addresses there are not the switch's.
//!
//! Workers read an identity without a lock: the MAC is in one word, which is zero where the guard is off. While
//! control changes an identity, a frame may be compared with old and new fields.

mod check;
#[cfg(test)]
mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};

use super::{PortId, Ports};
use crate::wire::Mac;
use crate::wire::ip::by_version;

/// IPv4 addresses of one identity.
const MAX_IPV4: usize = 16;
/// IPv6 addresses of one identity, with two link-local ones.
const MAX_IPV6: usize = 18;

/// The addresses that a port may use.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The source MAC of its frames.
    pub mac: Mac,
    /// Its IP addresses. Of each version the first 16 count.
    pub addresses: Vec<IpAddr>,
    /// An earlier MAC, whose link-local address it may still have: the kernel keeps that when a MAC changes.
    pub earlier_mac: Option<Mac>,
    /// Advertised prefixes, of which it makes addresses itself (SLAAC, RFC 4862).
    pub prefixes: Vec<Ipv6Addr>,
}

impl Identity {
    /// The addresses that it may use as a source: the link-local ones first.
    pub fn sources(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let link_locals = self.macs().map(|mac| link_local(mac).into());
        link_locals.chain(self.addresses.iter().copied()).chain(self.autoconfigured())
    }

    /// The addresses that it makes of advertised prefixes.
    pub fn autoconfigured(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let made = |prefix: &Ipv6Addr| {
            let prefix = *prefix;
            self.macs().map(move |mac| IpAddr::from(autoconfigured(prefix, mac)))
        };
        self.prefixes.iter().flat_map(made)
    }

    fn macs(&self) -> impl Iterator<Item = Mac> {
        [Some(self.mac), self.earlier_mac].into_iter().flatten()
    }
}

/// The IPv6 link-local address of a MAC.
pub fn link_local(mac: Mac) -> Ipv6Addr {
    autoconfigured(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), mac)
}

/// The address of a MAC in a prefix of 64 bits, whose other bits are zero (modified EUI-64, RFC 4291 appendix A).
pub fn autoconfigured(prefix: Ipv6Addr, mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    let identifier = u64::from_be_bytes([a ^ 2, b, c, 0xff, 0xfe, d, e, f]);
    Ipv6Addr::from_bits(prefix.to_bits() | u128::from(identifier))
}

/// Whether an address has the form of an [`autoconfigured`] one.
pub fn is_autoconfigured(address: Ipv6Addr) -> bool {
    address.octets()[11..13] == [0xff, 0xfe]
}

/// In a port's word: the guard is on. The MAC is below.
const ON: u64 = 1 << 63;

/// The addresses of one identity.
#[derive(Debug, Default)]
struct IdentityAddresses {
    ipv4: [AtomicU32; MAX_IPV4],
    ipv6: [[AtomicU64; 2]; MAX_IPV6],
    ipv4_count: AtomicU8,
    ipv6_count: AtomicU8,
}

/// The identities of all ports.
#[derive(Debug)]
pub struct Guards {
    /// [`ON`] and the MAC, or zero where the guard is off. An unguarded port costs only this load.
    macs: Box<[AtomicU64]>,
    /// Made with the first identity of a port number, and used again by the next port with that number.
    addresses: Box<[OnceLock<Box<IdentityAddresses>>]>,
}

impl Default for Guards {
    fn default() -> Self {
        Guards {
            macs: (0..Ports::MAX).map(|_| AtomicU64::new(0)).collect(),
            addresses: (0..Ports::MAX).map(|_| OnceLock::new()).collect(),
        }
    }
}

impl Guards {
    /// Turns the guard of a port on with this identity, or off. Only one thread may call this at a time.
    pub fn set(&self, port: PortId, identity: Option<&Identity>) {
        let word = &self.macs[port.index()];
        let Some(identity) = identity else { return word.store(0, Ordering::Release) };
        let addresses = self.addresses[port.index()].get_or_init(Box::default);
        addresses.replace(identity);
        word.store(ON | identity.mac.as_u64(), Ordering::Release);
    }

    /// The MAC of a guarded port.
    pub fn mac(&self, port: PortId) -> Option<Mac> {
        Some(self.port(port)?.mac)
    }

    /// The MAC of a port, if it has this address.
    pub(super) fn mac_at(&self, port: PortId, address: IpAddr) -> Option<Mac> {
        let bound = self.port(port)?;
        let has = match address {
            IpAddr::V4(address) => bound.has4(address),
            IpAddr::V6(address) => bound.has6(address),
        };
        has.then_some(bound.mac)
    }

    /// The identity that a worker compares with; `None` if the guard is off.
    #[inline(always)]
    pub(super) fn port(&self, port: PortId) -> Option<Bound<'_>> {
        let word = self.macs.get(port.index())?.load(Ordering::Acquire);
        if word == 0 {
            return None;
        }
        // Always there: `set` makes the addresses before it turns the guard on.
        let addresses = self.addresses[port.index()].get()?;
        Some(Bound { mac: Mac::from_u64(word), addresses })
    }
}

impl IdentityAddresses {
    #[allow(clippy::cast_possible_truncation, reason = "at most MAX_IPV6")]
    fn replace(&self, identity: &Identity) {
        let (mut ipv4, mut ipv6) = by_version(identity.sources());
        ipv4.truncate(MAX_IPV4);
        ipv6.truncate(MAX_IPV6);
        for (slot, address) in self.ipv4.iter().zip(&ipv4) {
            slot.store(address.to_bits(), Ordering::Relaxed);
        }
        for (slot, address) in self.ipv6.iter().zip(&ipv6) {
            let (high, low) = halves(*address);
            slot[0].store(high, Ordering::Relaxed);
            slot[1].store(low, Ordering::Relaxed);
        }
        self.ipv4_count.store(ipv4.len() as u8, Ordering::Release);
        self.ipv6_count.store(ipv6.len() as u8, Ordering::Release);
    }
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves")]
const fn halves(address: Ipv6Addr) -> (u64, u64) {
    let bits = address.to_bits();
    ((bits >> 64) as u64, bits as u64)
}

/// The identity of a guarded port.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bound<'a> {
    mac: Mac,
    addresses: &'a IdentityAddresses,
}

impl Bound<'_> {
    #[inline]
    fn has4(&self, address: Ipv4Addr) -> bool {
        let bits = address.to_bits();
        let count = usize::from(self.addresses.ipv4_count.load(Ordering::Acquire));
        self.addresses.ipv4.iter().take(count).any(|slot| slot.load(Ordering::Relaxed) == bits)
    }

    #[inline]
    fn has6(&self, address: Ipv6Addr) -> bool {
        let (high, low) = halves(address);
        let count = usize::from(self.addresses.ipv6_count.load(Ordering::Acquire));
        let is = |slot: &[AtomicU64; 2]| {
            slot[0].load(Ordering::Relaxed) == high && slot[1].load(Ordering::Relaxed) == low
        };
        self.addresses.ipv6.iter().take(count).any(is)
    }
}
