//! The leases of the DHCP server, of both IP versions: which client has which address, and for how long. Pure: times
//! are seconds since 1970, so that they are valid after a restart.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use crate::control::address_pool::{AddressPool, PoolError};
use crate::wire::Mac;

/// Most leases.
pub(crate) const MOST_LEASES: usize = 8192;
/// Most addresses that clients have declined. At this limit the one that is free first is free at once.
const MOST_DECLINED: usize = 16;
/// How long an offered address is kept for the client, in seconds.
const OFFERED: u64 = 60;
/// How long a declined address is not assigned, in seconds.
const DECLINED: u64 = 600;

/// A client, and the port behind which it is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Client {
    pub(crate) port: String,
    pub(crate) id: ClientId,
}

/// What distinguishes a client from the others behind its port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ClientId {
    /// It is the container of the port, whatever MAC address it has.
    Container,
    /// It is another host, with this MAC address.
    Mac(Mac),
    /// It is an interface of a host with DHCPv6: its DUID and IAID, as it says (RFC 8415 §4.2).
    Duid(Vec<u8>, u32),
}

impl ClientId {
    /// Whether it is a client of DHCPv6.
    fn is_ipv6(&self) -> bool {
        matches!(self, ClientId::Duid(..))
    }
}

/// Why a client gets no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeaseError {
    #[error(transparent)]
    Pool(#[from] PoolError),
    #[error("there are {MOST_LEASES} leases, which is the maximum")]
    TooMany,
    #[error("{0} has {1} leases, which is the maximum of a port")]
    TooManyOfPort(String, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lease {
    address: IpAddr,
    expires: u64,
    /// The client has accepted the address.
    bound: bool,
}

/// A lease as it is kept in a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptLease {
    port: String,
    /// Neither MAC address nor DUID: it is the container of the port.
    mac: Option<Mac>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    duid: Option<Vec<u8>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    iaid: Option<u32>,
    address: IpAddr,
    /// Seconds since 1970.
    expires: u64,
}

/// The addresses that a client may get, beside any free one.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Candidates<'a> {
    /// The one that is reserved for it. If another client has it, it gets it later.
    pub(crate) reserved: Option<IpAddr>,
    /// After the one that it has: the first of these that is free.
    pub(crate) preferred: &'a [IpAddr],
    /// None of these: they are the addresses of hosts that are not clients, or are reserved for other clients.
    pub(crate) taken: &'a [IpAddr],
    /// The first and the last one that are not reserved [default: all of the subnet].
    pub(crate) range: Option<(IpAddr, IpAddr)>,
}

/// All leases.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leases {
    by_client: BTreeMap<Client, Lease>,
    /// Addresses that other hosts use, and until when they are not assigned.
    declined: BTreeMap<IpAddr, u64>,
}

impl Leases {
    /// Chooses an address for a client in a subnet, without recording it. `most`: the maximum number of leases of its
    /// port.
    pub(crate) fn choose(
        &self,
        client: &Client,
        subnet: IpNet,
        candidates: &Candidates<'_>,
        most: usize,
    ) -> Result<IpAddr, LeaseError> {
        let Candidates { reserved, preferred, taken, range } = *candidates;
        let in_range = |address: &IpAddr| range.is_none_or(|(first, last)| (first..=last).contains(address));
        let has_other = |address: IpAddr| {
            self.by_client.iter().any(|(other, lease)| other != client && lease.address == address)
        };
        let own = self.by_client.get(client).map(|lease| lease.address).filter(|own| subnet.contains(own));
        let own = own.filter(in_range);
        let reserved = reserved.filter(|reserved| !has_other(*reserved));
        let is_free = |address: &IpAddr| !taken.contains(address) && !self.declined.contains_key(address);
        if let Some(first) = [reserved, own].into_iter().flatten().find(is_free) {
            return Ok(first);
        }
        self.check_limits(client, most)?;
        let mut pool = match range {
            Some((first, last)) => AddressPool::with_range(subnet, first, last)?,
            None => AddressPool::new(subnet),
        };
        let others =
            self.by_client.iter().filter(|(other, _)| *other != client).map(|(_, lease)| lease.address);
        for address in others.chain(self.declined.keys().copied()).chain(taken.iter().copied()) {
            // Some are in other subnets, and two hosts may have the same.
            let _ = pool.assign(address);
        }
        match preferred
            .iter()
            .filter(|address| in_range(address))
            .find(|address| pool.assign(**address).is_ok())
        {
            Some(address) => Ok(*address),
            None => Ok(pool.assign_next()?),
        }
    }

    /// Whether a client may have one more lease.
    fn check_limits(&self, client: &Client, most: usize) -> Result<(), LeaseError> {
        // Each IP version has its own limit, as in the guard.
        let counts = |other: &&Client| other.port == client.port && other.id.is_ipv6() == client.id.is_ipv6();
        let of_port = self.by_client.keys().filter(counts).count();
        if self.by_client.contains_key(client) {
            Ok(())
        } else if self.by_client.len() >= MOST_LEASES {
            Err(LeaseError::TooMany)
        } else if of_port >= most {
            Err(LeaseError::TooManyOfPort(client.port.clone(), most))
        } else {
            Ok(())
        }
    }

    /// Reserves an offered address for a client for [`OFFERED`] seconds. One that has accepted another address keeps
    /// that, and the offered one is not reserved.
    pub(crate) fn offer(&mut self, client: Client, address: IpAddr, now: u64) {
        if self.address_of(&client) != Some(address) {
            // An earlier address stays in use until the client accepts the new one, or expires.
            let offer = Lease { address, expires: now + OFFERED, bound: false };
            self.by_client
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
    pub(crate) fn bind(&mut self, client: Client, address: IpAddr, expires: u64) -> Option<IpAddr> {
        let before = self.address_of(&client).filter(|before| *before != address);
        self.by_client.insert(client, Lease { address, expires, bound: true });
        before
    }

    /// The address that a client has accepted.
    pub(crate) fn address_of(&self, client: &Client) -> Option<IpAddr> {
        self.by_client.get(client).filter(|lease| lease.bound).map(|lease| lease.address)
    }

    /// Ends the lease of a client, and returns the address if it had accepted it.
    pub(crate) fn release(&mut self, client: &Client) -> Option<IpAddr> {
        self.by_client.remove(client).filter(|lease| lease.bound).map(|lease| lease.address)
    }

    /// Ends the lease of a client whose address another host uses. The address is not assigned for a while.
    pub(crate) fn decline(&mut self, client: &Client, now: u64) -> Option<IpAddr> {
        let declined = self.by_client.get(client).map(|lease| lease.address)?;
        if self.declined.len() >= MOST_DECLINED
            && let Some((&first, _)) = self.declined.iter().min_by_key(|(_, until)| **until)
        {
            self.declined.remove(&first);
        }
        self.declined.insert(declined, now + DECLINED);
        self.release(client)
    }

    /// Ends what has expired. Returns the clients that had accepted an address, with it.
    pub(crate) fn expire(&mut self, now: u64) -> Vec<(Client, IpAddr)> {
        self.declined.retain(|_, until| *until > now);
        let expired = self.by_client.iter().filter(|(_, lease)| lease.expires <= now && lease.bound);
        let expired = expired.map(|(client, lease)| (client.clone(), lease.address)).collect();
        self.by_client.retain(|_, lease| lease.expires > now);
        expired
    }

    /// When something expires next.
    pub(crate) fn next_expiry(&self) -> Option<u64> {
        self.by_client.values().map(|lease| lease.expires).chain(self.declined.values().copied()).min()
    }

    /// Ends the leases of the DHCPv6 clients behind a port whose container is gone: the next one has another DUID.
    pub(crate) fn end_duids(&mut self, port: &str) {
        self.by_client.retain(|client, _| client.port != port || !client.id.is_ipv6());
    }

    /// The addresses that clients behind a port have accepted.
    pub(crate) fn addresses_behind(&self, port: &str) -> Vec<IpAddr> {
        let leases = self.by_client.iter().filter(|(client, lease)| client.port == port && lease.bound);
        leases.map(|(_, lease)| lease.address).collect()
    }

    /// The clients that have accepted an address, with it and the end of its lease.
    pub(crate) fn bound(&self) -> impl Iterator<Item = (&Client, IpAddr, u64)> {
        let leases = self.by_client.iter().filter(|(_, lease)| lease.bound);
        leases.map(|(client, lease)| (client, lease.address, lease.expires))
    }

    /// How many addresses clients have.
    pub(crate) fn len(&self) -> usize {
        self.by_client.values().filter(|lease| lease.bound).count()
    }

    /// The leases to keep in a file.
    pub(super) fn kept(&self) -> Vec<KeptLease> {
        let kept = |(client, lease): (&Client, &Lease)| {
            let (mac, duid, iaid) = match &client.id {
                ClientId::Container => (None, None, None),
                ClientId::Mac(mac) => (Some(*mac), None, None),
                ClientId::Duid(duid, iaid) => (None, Some(duid.clone()), Some(*iaid)),
            };
            let Lease { address, expires, .. } = *lease;
            KeptLease { port: client.port.clone(), mac, duid, iaid, address, expires }
        };
        self.by_client.iter().filter(|(_, lease)| lease.bound).map(kept).collect()
    }

    /// The leases of a file, of which each address counts once.
    pub(super) fn from_kept(kept: Vec<KeptLease>) -> Leases {
        let mut leases = Leases::default();
        let mut known = BTreeSet::new();
        for KeptLease { port, mac, duid, iaid, address, expires } in kept.into_iter().take(MOST_LEASES) {
            let id = match (duid, mac) {
                (Some(duid), _) => ClientId::Duid(duid, iaid.unwrap_or(0)),
                (None, Some(mac)) => ClientId::Mac(mac),
                (None, None) => ClientId::Container,
            };
            if known.insert(address) {
                leases.bind(Client { port, id }, address, expires);
            }
        }
        leases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::addressing::host_address;

    fn client(n: u8) -> Client {
        Client { port: format!("container{n}"), id: ClientId::Mac(Mac([2, 0, 0, 0, 0, n])) }
    }

    fn ip(n: u8) -> IpAddr {
        IpAddr::from([10, 0, 0, n])
    }

    fn subnet() -> IpNet {
        "10.0.0.0/29".parse().unwrap()
    }

    fn choose(leases: &Leases, n: u8, preferred: &[IpAddr]) -> Result<IpAddr, LeaseError> {
        let candidates = Candidates { preferred, taken: &[ip(1)], ..Candidates::default() };
        leases.choose(&client(n), subnet(), &candidates, MOST_LEASES)
    }

    #[test]
    fn client_keeps_its_address_and_else_gets_what_it_prefers_or_the_lowest() {
        let mut leases = Leases::default();
        assert_eq!(choose(&leases, 1, &[]), Ok(ip(2)));
        assert_eq!(choose(&leases, 1, &[ip(1), ip(5)]), Ok(ip(5)), "the first is taken");
        leases.bind(client(1), ip(5), 100);
        assert_eq!(choose(&leases, 1, &[ip(3)]), Ok(ip(5)));
        assert_eq!(choose(&leases, 2, &[ip(5), ip(99)]), Ok(ip(2)), "another's, and none of the subnet");
        assert_eq!(
            leases.choose(
                &client(1),
                subnet(),
                &Candidates { taken: &[ip(5)], ..Candidates::default() },
                MOST_LEASES
            ),
            Ok(ip(1)),
            "it was taken"
        );
    }

    #[test]
    fn reserved_address_comes_first_unless_another_client_has_it() {
        let mut leases = Leases::default();
        let reserved =
            Candidates { reserved: Some(ip(5)), preferred: &[ip(3)], taken: &[ip(1)], range: None };
        let choose = |leases: &Leases| leases.choose(&client(1), subnet(), &reserved, MOST_LEASES);
        assert_eq!(choose(&leases), Ok(ip(5)));
        leases.bind(client(1), ip(4), 100);
        assert_eq!(choose(&leases), Ok(ip(5)), "it had another");
        leases.bind(client(2), ip(5), 100);
        assert_eq!(choose(&leases), Ok(ip(4)));
    }

    #[test]
    fn range_limits_all_but_reserved_addresses() {
        let mut leases = Leases::default();
        let of_range = Candidates { range: Some((ip(3), ip(4))), ..Candidates::default() };
        let choose = |leases: &Leases, n, candidates: Candidates<'_>| {
            leases.choose(&client(n), subnet(), &candidates, MOST_LEASES)
        };
        assert_eq!(choose(&leases, 1, of_range), Ok(ip(3)));
        assert_eq!(choose(&leases, 1, Candidates { preferred: &[ip(5), ip(4)], ..of_range }), Ok(ip(4)));
        assert_eq!(choose(&leases, 1, Candidates { reserved: Some(ip(6)), ..of_range }), Ok(ip(6)));
        leases.bind(client(1), ip(5), 100);
        assert_eq!(choose(&leases, 1, of_range), Ok(ip(3)), "it had another before there was a range");
        let full = choose(&leases, 1, Candidates { taken: &[ip(3), ip(4)], ..of_range });
        assert_eq!(full, Err(LeaseError::Pool(PoolError::Full(ip(3), ip(4)))));
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
    fn declined_reservation_is_not_offered_for_a_while() {
        let mut leases = Leases::default();
        let reserved = Candidates { reserved: Some(ip(5)), taken: &[ip(1)], ..Candidates::default() };
        let choose = |leases: &Leases| leases.choose(&client(1), subnet(), &reserved, MOST_LEASES);
        leases.bind(client(1), ip(5), 9000);
        leases.decline(&client(1), 0);
        assert_eq!(choose(&leases), Ok(ip(2)));
        leases.expire(DECLINED);
        assert_eq!(choose(&leases), Ok(ip(5)));
    }

    #[test]
    fn client_keeps_its_lease_while_another_host_has_its_reserved_address() {
        let mut leases = Leases::default();
        leases.bind(client(1), ip(4), 100);
        let reserved = Candidates { reserved: Some(ip(5)), taken: &[ip(5)], ..Candidates::default() };
        assert_eq!(leases.choose(&client(1), subnet(), &reserved, MOST_LEASES), Ok(ip(4)));
    }

    #[test]
    fn number_of_leases_is_limited() {
        let mut leases = Leases::default();
        let wide: IpNet = "2001:db8::/64".parse().unwrap();
        let client = |n: usize| Client { port: n.to_string(), id: ClientId::Container };
        let address = |n: usize| host_address(wide, n as u64 + 1).unwrap().addr();
        for n in 0..MOST_LEASES {
            leases.bind(client(n), address(n), 1);
        }
        let choose = |n| leases.choose(&client(n), wide, &Candidates::default(), 1);
        assert_eq!(choose(MOST_LEASES), Err(LeaseError::TooMany));
        assert_eq!(choose(7), Ok(address(7)), "a client keeps its own");
    }

    #[test]
    fn number_of_leases_of_a_port_is_limited() {
        let mut leases = Leases::default();
        let subnet: IpNet = "2001:db8::/64".parse().unwrap();
        let client = |duid: u8| Client { port: "web".to_owned(), id: ClientId::Duid(vec![0, 3, duid], 1) };
        for n in 1..=3 {
            let address = leases.choose(&client(n), subnet, &Candidates::default(), 3).unwrap();
            leases.offer(client(n), address, 0);
        }
        let choose =
            |leases: &Leases, client: Client| leases.choose(&client, subnet, &Candidates::default(), 3);
        assert_eq!(choose(&leases, client(4)), Err(LeaseError::TooManyOfPort("web".to_owned(), 3)));
        assert!(choose(&leases, client(2)).is_ok());
        assert!(choose(&leases, Client { port: "other".to_owned(), ..client(4) }).is_ok());
        let mac = Client { id: ClientId::Mac(Mac([2, 0, 0, 0, 0, 1])), ..client(4) };
        assert!(choose(&leases, mac).is_ok(), "DHCPv4 has a limit of its own");
        leases.end_duids("web");
        assert!(choose(&leases, client(4)).is_ok());
    }

    #[test]
    fn accepted_leases_are_kept() {
        let mut leases = Leases::default();
        leases.bind(client(1), ip(2), 100);
        leases.offer(client(2), ip(3), 0);
        let duid = Client { port: "web".to_owned(), id: ClientId::Duid(vec![0, 3, 0, 1], 7) };
        leases.bind(duid.clone(), "2001:db8::2".parse().unwrap(), 100);
        let mut kept = leases.kept();
        kept.push(KeptLease { port: "other".to_owned(), ..kept[0].clone() });
        let read = Leases::from_kept(kept);
        assert_eq!((read.len(), read.address_of(&client(1))), (2, Some(ip(2))));
        assert_eq!(
            (read.addresses_behind("container1"), read.address_of(&duid)),
            (vec![ip(2)], leases.address_of(&duid))
        );
    }
}
