//! The DHCP server.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Checked, InvalidValue, container_name, number};
use crate::control::address_pool::AddressPool;
use crate::control::addressing;
use crate::control::options::Options;
use crate::wire::Mac;

/// Most hosts with reserved addresses.
const MOST_DHCP_HOSTS: usize = 1024;

/// Addresses that are reserved for a DHCP client (static leases).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DhcpHost {
    /// The client.
    pub client: DhcpHostClient,
    /// Its address in each subnet.
    pub addresses: Vec<IpAddr>,
}

/// The client for which addresses are reserved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DhcpHostClient {
    /// The host with this MAC address.
    Mac(Mac),
    /// The container of this port.
    Port(String),
}

/// How long a client has its address, in seconds; `None`: there is no server.
pub(super) fn lease_time(options: &Options) -> Checked<Option<u32>> {
    const HOUR: u64 = 3600;
    /// A client renews at half of it.
    const SHORTEST: u64 = 10;
    const YEAR: u64 = 365 * 24 * HOUR;
    let lease_time = number("dhcp-lease", options.dhcp_lease, HOUR, SHORTEST..=YEAR)?;
    match options.dhcp.unwrap_or(false) {
        false => Ok(None),
        true if options.internal.unwrap_or(false) || options.no_gateway.unwrap_or(false) => {
            Err(("dhcp", InvalidValue::DhcpWithoutGateway))
        }
        true => Ok(Some(lease_time)),
    }
}

/// The hosts with reserved addresses: host addresses of these subnets, but not those of the gateways.
pub(super) fn hosts(options: &Options, subnets: &[IpNet], gateways: &[IpAddr]) -> Checked<Vec<DhcpHost>> {
    let count = options.dhcp_host.len();
    let refused = |why| Err(("dhcp-host", why));
    if count > 0 && !options.dhcp.unwrap_or(false) {
        return refused(InvalidValue::DhcpHostWithoutDhcp);
    }
    if count > MOST_DHCP_HOSTS {
        return refused(InvalidValue::TooManyDhcpHosts(count, MOST_DHCP_HOSTS));
    }
    let mut known: Vec<DhcpHost> = Vec::new();
    for text in &options.dhcp_host {
        let host = host(text).map_err(|why| ("dhcp-host", why))?;
        if known.iter().any(|other| other.client == host.client) {
            return refused(InvalidValue::DhcpHostTwice(text.clone()));
        }
        for address in &host.addresses {
            let in_subnet = subnets.iter().any(|subnet| addressing::is_host_address(*subnet, *address));
            if !in_subnet || gateways.contains(address) {
                return refused(InvalidValue::DhcpHostAddress(*address));
            }
            if known.iter().any(|other| other.addresses.contains(address)) {
                return refused(InvalidValue::DhcpHostTwice(address.to_string()));
            }
        }
        known.push(host);
    }
    Ok(known)
}

/// `02:00:5e:00:53:07,172.16.0.50,fd00:172:16::50`, or the name of a port before the addresses.
fn host(text: &str) -> Result<DhcpHost, InvalidValue> {
    let syntax = || InvalidValue::DhcpHostSyntax(text.to_owned());
    let (client, addresses) = text.split_once(',').ok_or_else(syntax)?;
    let client = match client.parse() {
        Ok(mac) => DhcpHostClient::Mac(mac),
        Err(_) => DhcpHostClient::Port(container_name(client).map(|()| client.to_owned())?),
    };
    let addresses = addresses.split(',').map(str::parse).collect::<Result<_, _>>().map_err(|_| syntax())?;
    Ok(DhcpHost { client, addresses })
}

/// The ranges of addresses for clients, at most one in each of these subnets.
pub(super) fn ranges(options: &Options, subnets: &[IpNet]) -> Checked<Vec<(IpAddr, IpAddr)>> {
    let refused = |why| Err(("dhcp-range", why));
    if !options.dhcp_range.is_empty() && !options.dhcp.unwrap_or(false) {
        return refused(InvalidValue::DhcpRangeWithoutDhcp);
    }
    let mut known: Vec<(IpAddr, IpAddr)> = Vec::new();
    for text in &options.dhcp_range {
        let Some((first, last)) = range(text) else {
            return refused(InvalidValue::DhcpRangeSyntax(text.clone()));
        };
        let has_range = |subnet: &&IpNet| AddressPool::with_range(**subnet, first, last).is_ok();
        let Some(subnet) = subnets.iter().find(has_range) else {
            return refused(InvalidValue::DhcpRange(text.clone()));
        };
        if known.iter().any(|(other, _)| subnet.contains(other)) {
            return refused(InvalidValue::DhcpRangeTwice(text.clone(), *subnet));
        }
        known.push((first, last));
    }
    Ok(known)
}

/// `172.16.0.100-172.16.0.199`.
fn range(text: &str) -> Option<(IpAddr, IpAddr)> {
    let (first, last) = text.split_once('-')?;
    Some((first.parse().ok()?, last.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::Config;

    fn config(edit: impl FnOnce(&mut Options)) -> Result<Option<u32>, String> {
        checked(edit).map(|config| config.dhcp_lease)
    }

    fn checked(edit: impl FnOnce(&mut Options)) -> Result<Config, String> {
        let mut options = Options { dhcp: Some(true), ..Options::default() };
        edit(&mut options);
        Config::new(options, None).map_err(|error| error.to_string())
    }

    fn hosts(hosts: &[&str]) -> Result<Vec<DhcpHost>, String> {
        let hosts = hosts.iter().map(ToString::to_string).collect();
        checked(|options| options.dhcp_host = hosts).map(|config| config.dhcp_hosts)
    }

    #[test]
    fn addresses_are_reserved_for_macs_and_ports() {
        let hosts = hosts(&["02:00:5e:00:53:07,172.16.0.50,fd00:172:16::50", "web,172.16.0.60"]).unwrap();
        assert_eq!(hosts[0].client, DhcpHostClient::Mac(Mac([2, 0, 0x5e, 0, 0x53, 7])));
        assert_eq!(
            hosts[0].addresses,
            ["172.16.0.50", "fd00:172:16::50"].map(|text| text.parse::<IpAddr>().unwrap())
        );
        assert_eq!(hosts[1].client, DhcpHostClient::Port("web".to_owned()));
    }

    #[test]
    fn explains_which_reservations_it_refuses() {
        for (given, words) in [
            (&["web"][..], "'web' is not a DHCP host: write one like 02:00:5e:00:53:07,172.16.0.50"),
            (&["web,"], "is not a DHCP host"),
            (&["web,172.16.0.x"], "is not a DHCP host"),
            (&["a b,172.16.0.50"], "'a b' cannot name a container"),
            (&["web,172.16.0.1"], "172.16.0.1 cannot be reserved"),
            (&["web,172.16.0.255"], "172.16.0.255 cannot be reserved"),
            (&["web,192.0.2.1"], "192.0.2.1 cannot be reserved"),
            (&["web,172.16.0.50", "web,172.16.0.51"], "'web,172.16.0.51' is a second reservation"),
            (&["web,172.16.0.50", "db,172.16.0.50"], "'172.16.0.50' is a second reservation"),
        ] {
            let error = hosts(given).unwrap_err();
            assert!(error.starts_with("--dhcp-host: ") && error.contains(words), "{given:?}: {error}");
        }
        let many: Vec<String> = (0..=MOST_DHCP_HOSTS).map(|n| format!("web{n},172.16.0.50")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(hosts(&many).unwrap_err().contains("1025 DHCP hosts are too many: give at most 1024"));
        let off = checked(|options| {
            (options.dhcp, options.dhcp_host) = (None, vec!["web,172.16.0.50".to_owned()]);
        });
        assert!(off.unwrap_err().contains("need the DHCP server"));
    }

    #[test]
    fn explains_which_ranges_it_refuses() {
        let ranges = |ranges: &[&str]| {
            let ranges = ranges.iter().map(ToString::to_string).collect();
            checked(|options| options.dhcp_range = ranges).map(|config| config.dhcp_ranges)
        };
        let both = ["172.16.0.100-172.16.0.199", "fd00:172:16::100-fd00:172:16::1ff"];
        assert_eq!(ranges(&both).unwrap().len(), 2);
        for (given, words) in [
            (&["172.16.0.100"][..], "'172.16.0.100' is not a range of addresses: write one like"),
            (&["172.16.0.100-200"], "is not a range of addresses"),
            (&["172.16.0.100-172.16.0.99"], "172.16.0.100-172.16.0.99 has no address of a host"),
            (&["172.16.0.100-172.16.1.99"], "has no address of a host"),
            (&["192.0.2.1-192.0.2.9"], "has no address of a host"),
            (&["172.16.0.2-172.16.0.9", "172.16.0.20-172.16.0.29"], "is a second range in 172.16.0.0/24"),
        ] {
            let error = ranges(given).unwrap_err();
            assert!(error.starts_with("--dhcp-range: ") && error.contains(words), "{given:?}: {error}");
        }
        let off = checked(|options| {
            (options.dhcp, options.dhcp_range) = (None, vec![both[0].to_owned()]);
        });
        assert!(off.unwrap_err().contains("give --dhcp, too"));
    }

    #[test]
    fn lease_time_is_an_hour_by_default() {
        assert_eq!(config(|_| {}), Ok(Some(3600)));
        assert_eq!(config(|options| options.dhcp_lease = Some(60)), Ok(Some(60)));
        assert_eq!(config(|options| options.dhcp = None), Ok(None));
    }

    #[test]
    fn explains_what_it_refuses() {
        let error = config(|options| options.internal = Some(true)).unwrap_err();
        assert!(error.starts_with("--dhcp: DHCP is served at the gateway"), "{error}");
        let error = config(|options| options.dhcp_lease = Some(9)).unwrap_err();
        assert!(error.starts_with("--dhcp-lease: 9 "), "{error}");
    }
}
