//! The leases of the DHCP server: which client has which address, and for how long. Pure: times are seconds since 1970,
//! so that they are valid after a restart.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::control::address_pool::{AddressPool, PoolError};
use crate::wire::Mac;

/// Most leases.
pub(crate) const MOST_LEASES: usize = 8192;
/// Most addresses that clients have declined. At this limit the one that is free first is free at once.
const MOST_DECLINED: usize = 16;
/// How long an offered address is kept for the client, in seconds.
const OFFERED: u64 = 60;
/// How long nobody gets a declined address, in seconds.
const DECLINED: u64 = 600;

/// A client: the container of a port, or another host behind it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    pub(crate) port: String,
    /// `None`: the container of the port, whatever MAC address it has.
    pub(crate) mac: Option<Mac>,
}

/// Why a client gets no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("there are {MOST_LEASES} leases, which is the maximum")]
    TooMany,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    address: Ipv4Addr,
    expires: u64,
    /// The client has accepted the address.
    bound: bool,
}

/// A lease as it is kept in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptLease {
    port: String,
    mac: Option<Mac>,
    address: Ipv4Addr,
    /// Seconds since 1970.
    expires: u64,
}

/// All leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    of: BTreeMap<Client, Lease>,
    /// Addresses that other hosts use, and until when nobody gets them.
    declined: BTreeMap<Ipv4Addr, u64>,
}

impl Leases {
    /// The address for a client: the one that it has or is offered, else the first free one of `preferred`, else the lowest
    /// free one of the subnet. `taken` are the addresses of hosts that are not clients. Changes nothing.
    pub(crate) fn choose(
        &self,
        client: &Client,
        subnet: Ipv4Net,
        taken: &[IpAddr],
        preferred: &[Ipv4Addr],
    ) -> Result<Ipv4Addr, LeaseError> {
        let own = self.of.get(client);
        if own.is_none() && self.of.len() >= MOST_LEASES {
            return Err(LeaseError::TooMany);
        }
        let mut pool = AddressPool::new(IpNet::V4(subnet));
        let others = self.of.iter().filter(|(other, _)| *other != client).map(|(_, lease)| lease.address);
        for address in
            others.chain(self.declined.keys().copied()).map(IpAddr::V4).chain(taken.iter().copied())
        {
            // Some are in other subnets, and two hosts may have the same.
            let _ = pool.assign(address);
        }
        let mut wanted = own.map(|lease| lease.address).into_iter().chain(preferred.iter().copied());
        if let Some(address) = wanted.find(|address| pool.assign(IpAddr::V4(*address)).is_ok()) {
            return Ok(address);
        }
        match pool.assign_next()? {
            IpAddr::V4(address) => Ok(address),
            other => Err(PoolError::NotInSubnet(other, IpNet::V4(subnet)).into()),
        }
    }

    /// Keeps an address for the client to which it is offered, unless that has it.
    pub(crate) fn offer(&mut self, client: Client, address: Ipv4Addr, now: u64) {
        if self.address_of(&client) != Some(address) {
            // An earlier address stays in use until the client accepts the new one, or expires.
            let offer = Lease { address, expires: now + OFFERED, bound: false };
            self.of
                .entry(client)
                .and_modify(|lease| {
                    if !lease.bound {
                        *lease = offer;
                    }
                })
                .or_insert(offer);
        }
    }

    /// Gives a client an address until `expires`. Returns its earlier one, if it had another.
    pub(crate) fn bind(&mut self, client: Client, address: Ipv4Addr, expires: u64) -> Option<Ipv4Addr> {
        let before = self.address_of(&client).filter(|before| *before != address);
        self.of.insert(client, Lease { address, expires, bound: true });
        before
    }

    /// The address that a client has accepted.
    pub(crate) fn address_of(&self, client: &Client) -> Option<Ipv4Addr> {
        self.of.get(client).filter(|lease| lease.bound).map(|lease| lease.address)
    }

    /// Ends the lease of a client, and returns the address if it had accepted it.
    pub(crate) fn release(&mut self, client: &Client) -> Option<Ipv4Addr> {
        self.of.remove(client).filter(|lease| lease.bound).map(|lease| lease.address)
    }

    /// Ends the lease of a client whose address another host uses. Nobody gets it for a while.
    pub(crate) fn decline(&mut self, client: &Client, now: u64) -> Option<Ipv4Addr> {
        let declined = self.of.get(client).map(|lease| lease.address)?;
        if self.declined.len() >= MOST_DECLINED
            && let Some((&first, _)) = self.declined.iter().min_by_key(|(_, until)| **until)
        {
            self.declined.remove(&first);
        }
        self.declined.insert(declined, now + DECLINED);
        self.release(client)
    }

    /// Ends what has expired. Returns the clients that had accepted an address, with it.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(Client, Ipv4Addr)> {
        self.declined.retain(|_, until| *until > now);
        let expired = self.of.iter().filter(|(_, lease)| lease.expires <= now && lease.bound);
        let expired = expired.map(|(client, lease)| (client.clone(), lease.address)).collect();
        self.of.retain(|_, lease| lease.expires > now);
        expired
    }

    /// When something expires next.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.of.values().map(|lease| lease.expires).chain(self.declined.values().copied()).min()
    }

    /// The clients behind a port that have accepted an address, with it.
    pub(crate) fn behind(&self, port: &str) -> Vec<Ipv4Addr> {
        let leases = self.of.iter().filter(|(client, lease)| client.port == port && lease.bound);
        leases.map(|(_, lease)| lease.address).collect()
    }

    /// How many addresses clients have.
    pub(crate) fn len(&self) -> usize {
        self.of.values().filter(|lease| lease.bound).count()
    }

    /// The leases to keep in a file.
    pub(super) fn kept(&self) -> Vec<KeptLease> {
        let kept = |(client, lease): (&Client, &Lease)| KeptLease {
            port: client.port.clone(),
            mac: client.mac,
            address: lease.address,
            expires: lease.expires,
        };
        self.of.iter().filter(|(_, lease)| lease.bound).map(kept).collect()
    }

    /// The leases of a file, of which each address counts once.
    pub(super) fn from_kept(kept: Vec<KeptLease>) -> Leases {
        let mut leases = Leases::default();
        for KeptLease { port, mac, address, expires } in kept.into_iter().take(MOST_LEASES) {
            if !leases.of.values().any(|lease| lease.address == address) {
                leases.bind(Client { port, mac }, address, expires);
            }
        }
        leases
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> Client {
        Client { port: format!("container{n}"), mac: Some(Mac([2, 0, 0, 0, 0, n])) }
    }

    fn ip(n: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 0, 0, n)
    }

    fn subnet() -> Ipv4Net {
        "10.0.0.0/29".parse().unwrap()
    }

    fn choose(leases: &Leases, n: u8, preferred: &[Ipv4Addr]) -> Result<Ipv4Addr, LeaseError> {
        leases.choose(&client(n), subnet(), &[IpAddr::V4(ip(1))], preferred)
    }

    #[test]
    fn client_keeps_its_address_and_else_gets_what_it_prefers_or_the_lowest() {
        let mut leases = Leases::default();
        assert_eq!(choose(&leases, 1, &[]), Ok(ip(2)));
        assert_eq!(choose(&leases, 1, &[ip(1), ip(5)]), Ok(ip(5)), "the first is taken");
        leases.bind(client(1), ip(5), 100);
        assert_eq!(choose(&leases, 1, &[ip(3)]), Ok(ip(5)));
        assert_eq!(choose(&leases, 2, &[ip(5), ip(99)]), Ok(ip(2)), "another's, and none of the subnet");
        assert_eq!(leases.choose(&client(1), subnet(), &[ip(5).into()], &[]), Ok(ip(1)), "it was taken");
    }

    #[test]
    fn exhausted_subnet_has_no_address_until_one_is_released_or_expires() {
        let mut leases = Leases::default();
        for n in 2..=6 {
            let address = choose(&leases, n, &[]).unwrap();
            leases.offer(client(n), address, 0);
            assert_eq!(leases.bind(client(n), address, u64::from(n) * 100), None);
        }
        assert!(matches!(choose(&leases, 9, &[]), Err(LeaseError::Pool(PoolError::Full(..)))));
        assert_eq!(leases.release(&client(4)), Some(ip(4)));
        assert_eq!(choose(&leases, 9, &[]), Ok(ip(4)));
        assert_eq!((leases.next_expiry(), leases.expire(199)), (Some(200), Vec::new()));
        assert_eq!(leases.expire(300), [(client(2), ip(2)), (client(3), ip(3))]);
        assert_eq!((leases.len(), choose(&leases, 9, &[])), (2, Ok(ip(2))));
    }

    #[test]
    fn offer_is_kept_for_a_while_and_takes_no_address_away() {
        let mut leases = Leases::default();
        leases.offer(client(1), ip(2), 1000);
        assert_eq!((leases.address_of(&client(1)), choose(&leases, 2, &[])), (None, Ok(ip(3))));
        assert_eq!(leases.expire(1000 + OFFERED), [], "the client did not accept it");
        assert_eq!(choose(&leases, 2, &[]), Ok(ip(2)));
        leases.bind(client(2), ip(2), 9000);
        leases.offer(client(2), ip(4), 2000);
        assert_eq!(leases.address_of(&client(2)), Some(ip(2)));
        assert_eq!(leases.bind(client(2), ip(4), 9000), Some(ip(2)), "the earlier one is free");
    }

    #[test]
    fn declined_address_is_not_given_for_a_while_and_few_can_be_declined() {
        let mut leases = Leases::default();
        leases.bind(client(1), ip(2), 9000);
        assert_eq!(leases.decline(&client(1), 0), Some(ip(2)));
        assert_eq!(leases.decline(&client(1), 0), None, "it has no address");
        assert_eq!(choose(&leases, 1, &[ip(2)]), Ok(ip(3)));
        leases.expire(DECLINED);
        assert_eq!(choose(&leases, 1, &[ip(2)]), Ok(ip(2)));
        for n in 0..100 {
            leases.bind(client(1), ip(n), 9000);
            leases.decline(&client(1), n.into());
        }
        assert_eq!(leases.declined.len(), MOST_DECLINED);
    }

    #[test]
    fn number_of_leases_is_limited() {
        let mut leases = Leases::default();
        let wide: Ipv4Net = "10.0.0.0/8".parse().unwrap();
        for n in 0..MOST_LEASES {
            let client = Client { port: n.to_string(), mac: None };
            leases.bind(
                client,
                Ipv4Addr::from_bits(wide.network().to_bits() + 1 + u32::try_from(n).unwrap()),
                1,
            );
        }
        assert_eq!(leases.choose(&client(1), wide, &[], &[]), Err(LeaseError::TooMany));
        let known = Client { port: "7".to_owned(), mac: None };
        assert_eq!(leases.choose(&known, wide, &[], &[]), Ok(ip(8)), "a client keeps its own");
    }

    #[test]
    fn accepted_leases_are_kept() {
        let mut leases = Leases::default();
        leases.bind(client(1), ip(2), 100);
        leases.offer(client(2), ip(3), 0);
        let mut kept = leases.kept();
        kept.push(KeptLease { port: "other".to_owned(), ..kept[0].clone() });
        let read = Leases::from_kept(kept);
        assert_eq!((read.len(), read.address_of(&client(1))), (1, Some(ip(2))));
        assert_eq!(read.behind("container1"), [ip(2)]);
    }
}
