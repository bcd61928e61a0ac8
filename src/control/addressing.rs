//! Assigns IP and MAC addresses by port number: the gateway is number 0, container N is number N.
//!
//! - By default the gateway has the first host address of each subnet. Number N has the N-th address after that one.
//!   In an IPv4 subnet the network and broadcast addresses are not host addresses (RFC 1122 §3.2.1.3). In an
//!   IPv6 subnet the first address is the subnet-router anycast address (RFC 4291 §2.6.1). A /31 (RFC 3021) or
//!   /127 (RFC 6164) reserves neither and holds the gateway and one container. A /32 or /128 holds only the
//!   gateway.
//! - MAC addresses are `PP:PP:PP:PP:NN:NN`: P the prefix of the switch ([`MacPrefix`]), N the number. So they differ
//!   within a switch, and the last two bytes identify the container in a capture.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::wire::Mac;

/// The gateway's address in `subnet`.
pub fn gateway(subnet: IpNet) -> IpAddr {
    address_at(subnet, gateway_offset(subnet)).addr()
}

/// The address of number `n`, with the subnet's prefix length; `None` if the subnet is too small.
pub fn host_address(subnet: IpNet, n: u64) -> Option<IpNet> {
    (n <= max_hosts(subnet)).then(|| address_at(subnet, gateway_offset(subnet) + u128::from(n)))
}

/// How many hosts fit into `subnet` beside the gateway.
pub fn max_hosts(subnet: IpNet) -> u64 {
    u64::try_from(host_count(subnet)).unwrap_or(u64::MAX)
}

fn host_count(subnet: IpNet) -> u128 {
    let host_bits = u32::from(subnet.max_prefix_len() - subnet.prefix_len());
    let addresses = 1u128.checked_shl(host_bits).unwrap_or(u128::MAX);
    let broadcast = u128::from(matches!(subnet, IpNet::V4(_)) && host_bits >= 2);
    addresses - gateway_offset(subnet) - 1 - broadcast
}

/// The smallest subnet that contains `subnet` and holds `hosts` beside the gateway.
pub fn widened(subnet: IpNet, hosts: u64) -> Option<IpNet> {
    let mut wide = subnet;
    while max_hosts(wide) < hosts {
        wide = wide.supernet()?;
    }
    Some(wide)
}

/// The first address of `subnet` that a host may have.
pub fn first_host(subnet: IpNet) -> IpAddr {
    gateway(subnet)
}

/// The last address of `subnet` that a host may have.
pub fn last_host(subnet: IpNet) -> IpAddr {
    address_at(subnet, gateway_offset(subnet) + host_count(subnet)).addr()
}

/// Whether a host may have `address` in `subnet`: it is inside, and is not the network or broadcast address.
pub fn is_host_address(subnet: IpNet, address: IpAddr) -> bool {
    let offset = to_u128(address).wrapping_sub(to_u128(subnet.network()));
    subnet.contains(&address)
        && offset >= gateway_offset(subnet)
        && offset - gateway_offset(subnet) <= host_count(subnet)
}

/// The first four octets of the MAC addresses of a switch: locally administered unicast addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MacPrefix([u8; 4]);

impl MacPrefix {
    /// A random prefix. The first octet is `X2`, "administratively assigned" (IEEE 802-2014 §8.4.4.3, as amended by
    /// 802c-2017), so 28 bits are random.
    pub fn random() -> MacPrefix {
        // The keys of the hasher are from the kernel's random numbers.
        let [first, b, c, d, ..] = RandomState::new().build_hasher().finish().to_be_bytes();
        MacPrefix([first & 0xf0 | 0x02, b, c, d])
    }

    /// The MAC address of number `n`.
    pub fn mac(self, n: u16) -> Mac {
        let MacPrefix([a, b, c, d]) = self;
        let [high, low] = n.to_be_bytes();
        Mac([a, b, c, d, high, low])
    }
}

impl fmt::Display for MacPrefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let MacPrefix([a, b, c, d]) = self;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}")
    }
}

/// The text is not the prefix of locally administered unicast addresses.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{0}' is not a prefix of local MAC addresses: write four octets like 02:de:a5:ad, the first with 2, 6, a or e \
         as its second digit"
)]
pub struct ParseMacPrefixError(String);

impl FromStr for MacPrefix {
    type Err = ParseMacPrefixError;

    fn from_str(text: &str) -> Result<MacPrefix, ParseMacPrefixError> {
        const GROUP: u8 = 1;
        const LOCAL: u8 = 2;
        match format!("{text}:00:00").parse() {
            Ok(Mac([first, b, c, d, ..])) if first & (GROUP | LOCAL) == LOCAL => {
                Ok(MacPrefix([first, b, c, d]))
            }
            _ => Err(ParseMacPrefixError(text.to_owned())),
        }
    }
}

/// The offset of the gateway's address from the network address.
fn gateway_offset(subnet: IpNet) -> u128 {
    let host_bits = subnet.max_prefix_len() - subnet.prefix_len();
    u128::from(host_bits >= 2)
}

fn to_u128(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// The address at `offset` from the network address. The caller ensures that it is inside the subnet.
fn address_at(subnet: IpNet, offset: u128) -> IpNet {
    match subnet {
        IpNet::V4(net) => {
            let address = net.network().to_bits().wrapping_add(u32::try_from(offset).unwrap_or(u32::MAX));
            IpNet::V4(Ipv4Net::new_assert(address.into(), net.prefix_len()))
        }
        IpNet::V6(net) => {
            let address = net.network().to_bits().wrapping_add(offset);
            IpNet::V6(Ipv6Net::new_assert(address.into(), net.prefix_len()))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn nth(subnet: &str, n: u64) -> Option<String> {
        host_address(net(subnet), n).map(|address| address.to_string())
    }

    #[test]
    fn container_n_has_the_nth_address_after_the_gateway() {
        assert_eq!(gateway(net("172.16.0.0/24")).to_string(), "172.16.0.1");
        assert_eq!(gateway(net("fd00:172:16::/64")).to_string(), "fd00:172:16::1");
        assert_eq!(nth("172.16.0.0/24", 1).as_deref(), Some("172.16.0.2/24"));
        assert_eq!(nth("172.16.0.0/24", 253).as_deref(), Some("172.16.0.254/24"));
        assert_eq!(nth("172.16.0.0/24", 254), None);
        assert_eq!(nth("fd00:172:16::/64", 300).as_deref(), Some("fd00:172:16::12d/64"));
    }

    #[test]
    fn counts_hosts_of_a_subnet() {
        for (subnet, hosts) in [
            ("10.0.0.0/24", 253),
            ("10.0.0.0/29", 5),
            ("10.0.0.0/30", 1),
            ("10.0.0.0/31", 1),
            ("10.0.0.0/32", 0),
            ("10.0.0.0/8", (1 << 24) - 3),
            ("fd00::/64", u64::MAX - 1),
            ("fd00::/8", u64::MAX),
            ("::/0", u64::MAX),
            ("fd00::/126", 2),
            ("fd00::/127", 1),
            ("fd00::/128", 0),
        ] {
            assert_eq!(max_hosts(net(subnet)), hosts, "{subnet}");
        }
    }

    #[test]
    fn point_to_point_subnet_has_gateway_and_one_host() {
        assert_eq!(gateway(net("10.0.0.0/31")).to_string(), "10.0.0.0");
        assert_eq!(nth("10.0.0.0/31", 1).as_deref(), Some("10.0.0.1/31"));
        assert_eq!(nth("10.0.0.0/31", 2), None);
        assert_eq!(gateway(net("10.0.0.7/32")).to_string(), "10.0.0.7");
        assert_eq!(gateway(net("fd00::/127")).to_string(), "fd00::");
        assert_eq!(nth("fd00::/127", 1).as_deref(), Some("fd00::1/127"));
    }

    #[test]
    fn widens_subnet_until_hosts_fit() {
        assert_eq!(widened(net("10.0.0.0/30"), 5), Some(net("10.0.0.0/29")));
        assert_eq!(widened(net("172.16.0.0/24"), 253), Some(net("172.16.0.0/24")));
        assert_eq!(widened(net("172.16.0.0/24"), 4095), Some(net("172.16.0.0/19")));
        assert_eq!(widened(net("fd00::4/128"), 1), Some(net("fd00::4/127")));
    }

    #[test]
    fn rejects_network_and_broadcast_addresses() {
        let v4 = net("10.0.0.0/29");
        for (address, allowed) in [
            ("10.0.0.0", false),
            ("10.0.0.1", true),
            ("10.0.0.2", true),
            ("10.0.0.6", true),
            ("10.0.0.7", false),
        ] {
            assert_eq!(is_host_address(v4, address.parse().unwrap()), allowed, "{address}");
        }
        assert!(
            !is_host_address(v4, "10.0.0.9".parse().unwrap())
                && !is_host_address(v4, "fd00::2".parse().unwrap())
        );
        let v6 = net("fd00::/64");
        assert!(
            !is_host_address(v6, "fd00::".parse().unwrap())
                && is_host_address(v6, "fd00::1".parse().unwrap())
        );
        assert!(is_host_address(v6, "fd00::ffff:ffff:ffff:ffff".parse().unwrap()));
        assert!(!is_host_address(v6, "fd00:0:0:1::2".parse().unwrap()));
        assert!(is_host_address(net("fd00::/8"), "fd12::1:0:0:0:2".parse().unwrap()));
    }

    #[test]
    fn mac_is_local_unicast_and_ends_in_the_port_number() {
        let prefix = MacPrefix::random();
        let gateway = prefix.mac(0);
        assert!(!gateway.is_group() && gateway.0[0] & 2 != 0);
        assert_eq!(prefix.mac(3).0[4..], [0, 3]);
        assert_eq!(prefix.mac(4095).0[4..], [0x0f, 0xff]);
        assert_eq!(prefix.mac(3).0[..4], gateway.0[..4]);
    }

    #[test]
    fn random_mac_prefixes_differ_and_are_valid() {
        let all: HashSet<String> = (0..1000).map(|_| MacPrefix::random().to_string()).collect();
        // Two of a thousand are equal once in five hundred runs.
        assert!(all.len() >= 998, "{}", all.len());
        assert!(all.iter().all(|text| text.parse::<MacPrefix>().is_ok_and(|read| read.to_string() == *text)));
    }

    #[test]
    fn rejects_mac_prefixes_of_group_and_universal_addresses() {
        assert_eq!("52-54-00-AB".parse::<MacPrefix>().unwrap().to_string(), "52:54:00:ab");
        for text in
            ["", "02", "02:de:a5", "02:de:a5:ad:00", "02:de:a5:ad:", "00:de:a5:ad", "03:de:a5:ad", "x"]
        {
            let error = text.parse::<MacPrefix>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("'{text}' is not a prefix")), "{error}");
        }
    }
}
