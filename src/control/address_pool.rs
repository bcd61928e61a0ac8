//! The addresses of a subnet: which are assigned, and which one is assigned next.
//!
//! Pure arithmetic for whoever assigns addresses to hosts. A pool does not know who has an address, nor for how long.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::addressing::{first_host, is_host_address, last_host};

/// Most assigned addresses of a pool.
pub const MOST_ASSIGNED: usize = 65_536;

/// Why an address is not assigned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// It is outside the subnet, or the network or broadcast address.
    #[error("{0} is not an address of a host in {1}")]
    NotInSubnet(IpAddr, IpNet),
    /// It is assigned already.
    #[error("{0} is in use")]
    InUse(IpAddr),
    /// All addresses of the range are assigned.
    #[error("all addresses from {0} to {1} are in use")]
    Full(IpAddr, IpAddr),
    /// There are [`MOST_ASSIGNED`] assigned addresses.
    #[error("{MOST_ASSIGNED} addresses of {0} are in use, and a pool assigns no more")]
    TooMany(IpNet),
    /// A range ends before its begin, or has no address of a host.
    #[error("the range from {0} to {1} has no address of a host in {2}")]
    NoRange(IpAddr, IpAddr, IpNet),
}

/// The addresses of a subnet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressPool {
    subnet: IpNet,
    /// First and last address that [`AddressPool::assign_next`] assigns.
    range: (IpAddr, IpAddr),
    assigned: BTreeSet<IpAddr>,
}

impl AddressPool {
    /// A pool that assigns all host addresses of `subnet`.
    pub fn new(subnet: IpNet) -> AddressPool {
        AddressPool {
            subnet: subnet.trunc(),
            range: (first_host(subnet), last_host(subnet)),
            assigned: BTreeSet::new(),
        }
    }

    /// A pool that assigns the addresses from `first` to `last` if none is asked for. Other addresses of `subnet` are
    /// assigned on request ([`AddressPool::assign`]).
    ///
    /// # Errors
    /// The range has no host address of `subnet`.
    pub fn with_range(subnet: IpNet, first: IpAddr, last: IpAddr) -> Result<AddressPool, PoolError> {
        let all = AddressPool::new(subnet);
        let range = (first.max(all.range.0), last.min(all.range.1));
        let is_inside = all.subnet.contains(&first) && all.subnet.contains(&last);
        if !is_inside || range.0 > range.1 {
            return Err(PoolError::NoRange(first, last, all.subnet));
        }
        Ok(AddressPool { range, ..all })
    }

    /// The subnet.
    pub const fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Whether `address` is assigned.
    pub fn is_assigned(&self, address: IpAddr) -> bool {
        self.assigned.contains(&address)
    }

    /// The assigned addresses, in order.
    pub fn assigned(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.assigned.iter().copied()
    }

    /// Assigns `address`, which may be outside the range: a reservation, or an address that a host asks for.
    ///
    /// # Errors
    /// It is in use, or no host of the subnet can have it.
    pub fn assign(&mut self, address: IpAddr) -> Result<(), PoolError> {
        if !is_host_address(self.subnet, address) {
            return Err(PoolError::NotInSubnet(address, self.subnet));
        }
        if self.is_assigned(address) {
            return Err(PoolError::InUse(address));
        }
        if self.assigned.len() >= MOST_ASSIGNED {
            return Err(PoolError::TooMany(self.subnet));
        }
        self.assigned.insert(address);
        Ok(())
    }

    /// Assigns the lowest free address of the range.
    ///
    /// # Errors
    /// None is free.
    pub fn assign_next(&mut self) -> Result<IpAddr, PoolError> {
        self.assign_lowest_of(self.range)
    }

    /// Assigns the lowest free address of the subnet, whatever the range: that of a gateway.
    ///
    /// # Errors
    /// None is free.
    pub fn assign_lowest(&mut self) -> Result<IpAddr, PoolError> {
        self.assign_lowest_of((first_host(self.subnet), last_host(self.subnet)))
    }

    fn assign_lowest_of(&mut self, (first, last): (IpAddr, IpAddr)) -> Result<IpAddr, PoolError> {
        let address = self.lowest_free(first, last).ok_or(PoolError::Full(first, last))?;
        self.assign(address).map(|()| address)
    }

    /// Frees `address`. Returns whether it was assigned.
    pub fn release(&mut self, address: IpAddr) -> bool {
        self.assigned.remove(&address)
    }

    fn lowest_free(&self, first: IpAddr, last: IpAddr) -> Option<IpAddr> {
        let mut free = first;
        for used in self.assigned.range(first..=last) {
            if *used != free {
                break;
            }
            free = after(free).filter(|next| *next <= last)?;
        }
        Some(free)
    }
}

/// The next address; `None` after the last one of the family.
fn after(address: IpAddr) -> Option<IpAddr> {
    Some(match address {
        IpAddr::V4(address) => IpAddr::V4(address.to_bits().checked_add(1)?.into()),
        IpAddr::V6(address) => IpAddr::V6(address.to_bits().checked_add(1)?.into()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn pool(subnet: &str) -> AddressPool {
        AddressPool::new(subnet.parse().unwrap())
    }

    fn next(pool: &mut AddressPool) -> String {
        pool.assign_next().map_or_else(|error| error.to_string(), |address| address.to_string())
    }

    #[test]
    fn assigns_lowest_free_address_until_the_subnet_is_full() {
        let mut pool = pool("10.0.0.0/29");
        pool.assign(ip("10.0.0.2")).unwrap();
        let assigned: Vec<String> = (0..5).map(|_| next(&mut pool)).collect();
        assert_eq!(assigned, ["10.0.0.1", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"]);
        assert_eq!(next(&mut pool), "all addresses from 10.0.0.1 to 10.0.0.6 are in use");
        assert!(pool.release(ip("10.0.0.4")) && !pool.release(ip("10.0.0.4")));
        assert_eq!(next(&mut pool), "10.0.0.4");
        assert_eq!(pool.assigned().count(), 6);
    }

    #[test]
    fn range_limits_only_addresses_that_are_not_asked_for() {
        let subnet = "10.0.0.0/24".parse().unwrap();
        let mut pool = AddressPool::with_range(subnet, ip("10.0.0.254"), ip("10.0.0.255")).unwrap();
        pool.assign(ip("10.0.0.7")).unwrap();
        assert_eq!(next(&mut pool), "10.0.0.254");
        assert_eq!(next(&mut pool), "all addresses from 10.0.0.254 to 10.0.0.254 are in use");
        assert_eq!(pool.assign_lowest(), Ok(ip("10.0.0.1")));
        for (first, last) in [
            ("10.0.0.9", "10.0.0.8"),
            ("10.0.0.0", "10.0.0.0"),
            ("10.0.0.9", "10.0.1.9"),
            ("fd00::1", "fd00::2"),
        ] {
            let error = AddressPool::with_range(subnet, ip(first), ip(last)).unwrap_err();
            assert_eq!(error, PoolError::NoRange(ip(first), ip(last), subnet));
        }
    }

    #[test]
    fn refuses_addresses_in_use_and_addresses_of_no_host() {
        let mut pool = pool("10.0.0.0/24");
        pool.assign(ip("10.0.0.1")).unwrap();
        assert_eq!(pool.assign(ip("10.0.0.1")), Err(PoolError::InUse(ip("10.0.0.1"))));
        for no_host in ["10.0.0.0", "10.0.0.255", "10.0.1.1", "fd00::1"] {
            let error = pool.assign(ip(no_host)).unwrap_err();
            assert_eq!(error.to_string(), format!("{no_host} is not an address of a host in 10.0.0.0/24"));
        }
    }

    #[test]
    fn small_and_last_subnets_are_assigned_whole() {
        for (subnet, addresses) in [
            ("10.0.0.0/31", vec!["10.0.0.0", "10.0.0.1"]),
            ("10.0.0.7/32", vec!["10.0.0.7"]),
            ("255.255.255.252/30", vec!["255.255.255.253", "255.255.255.254"]),
            (
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe/127",
                vec!["ffff:ffff:ffff:ffff:ffff:ffff:ffff:fffe", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"],
            ),
        ] {
            let mut pool = pool(subnet);
            let assigned: Vec<String> = addresses.iter().map(|_| next(&mut pool)).collect();
            assert_eq!(assigned, addresses);
            assert!(matches!(pool.assign_next(), Err(PoolError::Full(..))), "{subnet}");
        }
    }

    #[test]
    fn number_of_assigned_addresses_is_limited() {
        let mut pool = pool("fd00::/64");
        for n in 1..=MOST_ASSIGNED as u128 {
            pool.assign(IpAddr::V6((ip_bits("fd00::") + n).into())).unwrap();
        }
        assert_eq!(pool.assign_next(), Err(PoolError::TooMany("fd00::/64".parse().unwrap())));
        pool.release(ip("fd00::9"));
        assert_eq!(next(&mut pool), "fd00::9");
    }

    fn ip_bits(text: &str) -> u128 {
        text.parse::<std::net::Ipv6Addr>().unwrap().to_bits()
    }
}
