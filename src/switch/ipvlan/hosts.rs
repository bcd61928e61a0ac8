//! Which host of the switch has an IP address, learned from the frames that leave by the uplink.
//!
//! The number of addresses is bounded. When the table is full, the port with most addresses loses the one that it has
//! not used for the longest time, so no port can evict the addresses of all others. Every step takes logarithmic time,
//! except to find that port.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::switch::{PortId, Tick};
use crate::wire::Mac;

/// Ticks for which an address is not written again.
const FRESH: u32 = Tick::PER_SECOND;

/// What learning an address did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LearnedHost {
    /// It is new.
    New,
    /// The host had it before.
    Known,
    /// Another host had it.
    Moved,
    /// No host of the switch can have it: it is unspecified, a loopback or group address, or an address of the uplink.
    Refused,
}

/// What happened to the addresses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct HostCounters {
    /// New addresses.
    pub learned: u64,
    /// Addresses that another host had before.
    pub moved: u64,
    /// Addresses that no host of the switch can have, once for each frame.
    pub refused: u64,
    /// Addresses removed because the table was full.
    pub evicted: u64,
    /// Addresses removed because they were not used.
    pub aged: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Host {
    port: PortId,
    mac: Mac,
    seen: Tick,
}

/// The addresses of the hosts behind all ports but the uplink.
#[derive(Debug)]
pub struct Hosts {
    hosts: BTreeMap<IpAddr, Host>,
    /// The same, for each port from the address that was not used for the longest time.
    unused: BTreeSet<(PortId, Tick, IpAddr)>,
    /// Number of addresses of each port that has any.
    sizes: BTreeMap<PortId, usize>,
    most: usize,
    of_uplink: Vec<IpAddr>,
    counters: HostCounters,
}

impl Hosts {
    /// A table for at most `most` addresses, at least one. The addresses of the device of the uplink stay with the
    /// host.
    pub fn new(most: usize, of_uplink: Vec<IpAddr>) -> Hosts {
        Hosts {
            hosts: BTreeMap::new(),
            unused: BTreeSet::new(),
            sizes: BTreeMap::new(),
            most: most.max(1),
            of_uplink,
            counters: HostCounters::default(),
        }
    }

    /// The port and the MAC address of the host with this address.
    pub fn find(&self, address: IpAddr) -> Option<(PortId, Mac)> {
        self.hosts.get(&address).map(|host| (host.port, host.mac))
    }

    /// Whether learning would change nothing, so that the table need not be locked for it.
    pub fn is_fresh(&self, now: Tick, address: IpAddr, (port, mac): (PortId, Mac)) -> bool {
        let is_fresh = |host: &Host| (host.port, host.mac) == (port, mac) && now.since(host.seen) < FRESH;
        self.hosts.get(&address).is_some_and(is_fresh)
    }

    /// Learns that a host uses an address.
    pub fn learn(&mut self, now: Tick, address: IpAddr, (port, mac): (PortId, Mac)) -> LearnedHost {
        if !can_be_of_host(address) || self.of_uplink.contains(&address) {
            self.counters.refused += 1;
            return LearnedHost::Refused;
        }
        let before = self.remove(address);
        if before.is_none() && self.hosts.len() >= self.most {
            self.evict();
        }
        // The clock of another worker can be one tick ahead.
        let seen = before.map_or(now, |host| host.seen.max(now));
        self.hosts.insert(address, Host { port, mac, seen });
        self.unused.insert((port, seen, address));
        *self.sizes.entry(port).or_default() += 1;
        match before {
            None => {
                self.counters.learned += 1;
                LearnedHost::New
            }
            Some(host) if (host.port, host.mac) == (port, mac) => LearnedHost::Known,
            Some(_) => {
                self.counters.moved += 1;
                LearnedHost::Moved
            }
        }
    }

    /// Removes the addresses that were not used for `ageing` ticks.
    pub fn age(&mut self, now: Tick, ageing: u32) {
        let is_old = |(_, seen, _): &&(PortId, Tick, IpAddr)| now.since(*seen) >= ageing;
        let old: Vec<IpAddr> = self.unused.iter().filter(is_old).map(|(.., address)| *address).collect();
        self.counters.aged += old.len() as u64;
        for address in old {
            self.remove(address);
        }
    }

    /// Removes the addresses of the hosts behind a port.
    pub fn remove_port(&mut self, port: PortId) {
        while let Some(address) = self.longest_unused(port) {
            self.remove(address);
        }
    }

    /// The addresses in order, each with the port and the MAC address of its host.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, PortId, Mac)> + '_ {
        self.hosts.iter().map(|(address, host)| (*address, host.port, host.mac))
    }

    /// The device of the uplink has these addresses now. They stay with the host.
    pub fn set_uplink(&mut self, addresses: Vec<IpAddr>) {
        for address in &addresses {
            self.remove(*address);
        }
        self.of_uplink = addresses;
    }

    /// Number of addresses.
    pub fn len(&self) -> usize {
        self.hosts.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hosts.is_empty()
    }

    /// What happened to the addresses so far.
    pub fn counters(&self) -> HostCounters {
        self.counters
    }

    fn evict(&mut self) {
        let largest = self.sizes.iter().max_by_key(|(_, size)| **size).map(|(port, _)| *port);
        if let Some(address) = largest.and_then(|port| self.longest_unused(port)) {
            self.remove(address);
            self.counters.evicted += 1;
        }
    }

    fn longest_unused(&self, port: PortId) -> Option<IpAddr> {
        let first = (port, Tick(0), IpAddr::from([0; 4]));
        self.unused.range(first..).next().filter(|(of, ..)| *of == port).map(|(.., address)| *address)
    }

    fn remove(&mut self, address: IpAddr) -> Option<Host> {
        let host = self.hosts.remove(&address)?;
        self.unused.remove(&(host.port, host.seen, address));
        if let Some(size) = self.sizes.get_mut(&host.port) {
            *size -= 1;
            if *size == 0 {
                self.sizes.remove(&host.port);
            }
        }
        Some(host)
    }
}

/// Whether a host can have the address: 0.0.0.0/8 stands for "this host" (RFC 1122 §3.2.1.3).
fn can_be_of_host(address: IpAddr) -> bool {
    let is_this_host = matches!(address, IpAddr::V4(address) if address.octets()[0] == 0);
    let is_broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(address.is_unspecified()
        || address.is_loopback()
        || address.is_multicast()
        || is_this_host
        || is_broadcast)
}
