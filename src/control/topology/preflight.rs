//! Finds the reasons why a start would fail before anything is made.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::LinkMessage;
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType};

use super::link::{self, Link};
use super::routing::Routing;
use super::{TopologyError, inspect, nat};
use crate::control::Config;
use crate::control::services::dns::DnsServer;
use crate::switch::Vid;
use crate::sys::netlink::{Netlink, NetlinkError};
use crate::sys::netns::{self, NetnsError};
use crate::sys::{limits, tap};

/// Open files besides the queues: sockets, rings, eventfds, with a reserve.
const FIXED_FILES: u64 = 128;

/// Checks that a switch with this configuration can be set up. Reports all conflicts.
pub(super) fn check(config: &Config, host: &mut Netlink) -> Result<(), TopologyError> {
    let mut conflicts: Vec<TopologyError> = Vec::new();
    conflicts.extend(tap::check_driver().err().map(TopologyError::from));
    conflicts.extend(check_names(config).err());
    conflicts.extend(check_files(config).err());
    let needs_nft = Routing::of(config).is_needed() || !config.publish.is_empty();
    if needs_nft && nat::program().is_none() {
        conflicts.push(TopologyError::NoNft);
    }
    if !config.internal {
        conflicts.extend(host_conflicts(config, host)?);
    }
    match conflicts.len() {
        0 | 1 => conflicts.pop().map_or(Ok(()), Err),
        _ => Err(TopologyError::Conflicts(conflicts)),
    }
}

fn check_names(config: &Config) -> Result<(), TopologyError> {
    (1..=config.ports).try_for_each(|number| netns::check_name(&config.container(number)))?;
    let mut used = inspect::used_names(config).into_iter();
    match (used.next(), used.len()) {
        (None, _) => Ok(()),
        (Some(name), 0) => Err(NetnsError::Exists(name).into()),
        (Some(first), more) => Err(TopologyError::NetnsExist { first, more, prefix: config.prefix.clone() }),
    }
}

/// Raises the soft limit of open files to the hard limit and checks that it is enough.
fn check_files(config: &Config) -> Result<(), TopologyError> {
    let failed = |source| TopologyError::Kernel { what: "raise the limit of open files", source };
    let limit = limits::raise_open_files().map_err(failed)?;
    let needed = files_needed(ports(config), config.workers as u64) + service_files(config);
    if needed > limit { Err(TopologyError::OpenFiles { needed, limit }) } else { Ok(()) }
}

/// Number of open files of published ports and of the DNS server.
fn service_files(config: &Config) -> u64 {
    let published: usize = config.publish.iter().map(|port| port.published.host_ports.count()).sum();
    published as u64 + if config.dns { DnsServer::MOST_FILES } else { 0 }
}

/// The first ports, without the host port.
fn ports(config: &Config) -> u64 {
    u64::from(config.ports) + config.vlan_gateways.len() as u64
}

/// Number of open files of a switch: the queues of each port, one more for each container's device, and the fixed ones.
pub(crate) fn files_needed(ports: u64, workers: u64) -> u64 {
    (ports + 1) * workers + ports + FIXED_FILES
}

/// The names and the subnets of the host ports that the host uses already.
fn host_conflicts(config: &Config, host: &mut Netlink) -> Result<Vec<TopologyError>, TopologyError> {
    let links = device_names(host)?;
    let mut conflicts = Vec::new();
    let of_vlans = config.vlan_gateways.iter().map(|gateway| gateway.ifname(&config.name));
    let names = std::iter::once(config.name.clone()).chain(of_vlans);
    conflicts.extend(
        names.filter(|name| links.values().any(|used| used == name)).map(TopologyError::HostDeviceExists),
    );
    let used = used_networks(host, &links)?;
    for subnet in config.all_subnets() {
        if let Some(UsedNetwork { net, device }) = overlapping(&subnet, &used) {
            conflicts.push(TopologyError::Overlap { subnet, with: *net, device: device.clone() });
        }
    }
    Ok(conflicts)
}

/// A network in which the host has an address or to which it has a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct UsedNetwork {
    pub(crate) net: IpNet,
    /// The device's name, or "no device" for a route without one.
    pub(crate) device: String,
}

/// The first of the networks that overlaps `subnet`.
pub(crate) fn overlapping<'a>(subnet: &IpNet, used: &'a [UsedNetwork]) -> Option<&'a UsedNetwork> {
    used.iter().find(|used| overlap(subnet, &used.net))
}

/// The host's device names by interface index.
pub(super) fn device_names(host: &mut Netlink) -> Result<HashMap<u32, String>, NetlinkError> {
    let links = host.all("list the devices", RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    let named = links.into_iter().filter_map(|message| match message {
        RouteNetlinkMessage::NewLink(message) => Some(Link::from_message(&message)),
        _ => None,
    });
    Ok(named.map(|link| (link.ifindex, link.name)).collect())
}

/// Waits until the devices of a killed switch's host ports are gone. The kernel closes the files of an io_uring on a
/// kernel thread, after the process has ended (`io_ring_exit_work` in Linux `io_uring/io_uring.c`). A device
/// that is still there after two seconds is not ours.
pub(super) fn wait_until_device_is_gone(name: &str, host: &mut Netlink) -> Result<(), NetlinkError> {
    const STEP: Duration = Duration::from_millis(10);
    const STEPS: u32 = 200;
    for _ in 0..STEPS {
        if !device_names(host)?.values().any(|link| link == name || is_of_vlan(link, name)) {
            break;
        }
        std::thread::sleep(STEP);
    }
    Ok(())
}

/// Whether a device has the name of one for a VLAN of this switch.
fn is_of_vlan(link: &str, switch: &str) -> bool {
    let vlan = link.strip_prefix(switch).and_then(|rest| rest.strip_prefix('.'));
    vlan.is_some_and(|vlan| vlan.parse::<Vid>().is_ok())
}

/// All networks in which the host has addresses or to which it has routes. `links` has the names of its devices.
pub(super) fn used_networks(
    host: &mut Netlink,
    links: &HashMap<u32, String>,
) -> Result<Vec<UsedNetwork>, NetlinkError> {
    let addresses =
        host.all("list the addresses", RouteNetlinkMessage::GetAddress(AddressMessage::default()))?;
    let mut found: Vec<_> = addresses.iter().flat_map(address_networks).collect();
    for family in [IpAddr::V4(Ipv4Addr::UNSPECIFIED), IpAddr::V6(Ipv6Addr::UNSPECIFIED)] {
        let routes = host.all("list the routes", RouteNetlinkMessage::GetRoute(link::all_routes(family)))?;
        found.extend(routes.iter().filter_map(route_network));
    }
    let device = |ifindex| links.get(&ifindex).map_or("no device", String::as_str).to_owned();
    Ok(found.into_iter().map(|(net, ifindex)| UsedNetwork { net, device: device(ifindex) }).collect())
}

/// Both ends of a point-to-point link count.
fn address_networks(message: &RouteNetlinkMessage) -> Vec<(IpNet, u32)> {
    let RouteNetlinkMessage::NewAddress(message) = message else { return Vec::new() };
    let ends = message.attributes.iter().filter_map(|attribute| match attribute {
        AddressAttribute::Address(address) | AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let nets = ends.filter_map(|address| IpNet::new(address, message.header.prefix_len).ok());
    nets.map(|net| (net, message.header.index)).collect()
}

fn route_network(message: &RouteNetlinkMessage) -> Option<(IpNet, u32)> {
    let RouteNetlinkMessage::NewRoute(message) = message else { return None };
    let header = &message.header;
    // The other types are local and broadcast routes, which follow from the addresses, and multicast.
    let covers_network = matches!(
        header.kind,
        RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    let net = IpNet::new(destination(message)?, header.destination_prefix_length).ok()?;
    let ifindex = message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    });
    covers_network.then_some((net, ifindex.unwrap_or(0)))
}

fn destination(message: &RouteMessage) -> Option<IpAddr> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(IpAddr::V4(*address)),
        RouteAttribute::Destination(RouteAddress::Inet6(address)) => Some(IpAddr::V6(*address)),
        _ => None,
    })
}

/// Two networks share addresses, and the one on the host is not a way to everywhere: the default route,
/// the two halves of one (0.0.0.0/1 and 128.0.0.0/1, ::/1, 2000::/3) that a VPN puts before it.
fn overlap(subnet: &IpNet, host: &IpNet) -> bool {
    match (subnet, host) {
        (IpNet::V4(subnet), IpNet::V4(host)) => host.prefix_len() > 1 && overlap_v4(subnet, host),
        (IpNet::V6(subnet), IpNet::V6(host)) => host.prefix_len() > 3 && overlap_v6(subnet, host),
        _ => false,
    }
}

fn overlap_v4(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

fn overlap_v6(a: &Ipv6Net, b: &Ipv6Net) -> bool {
    a.contains(&b.network()) || b.contains(&a.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn detects_overlapping_subnets() {
        let cases = [
            ("172.16.0.0/24", "172.16.0.0/24", true),
            ("172.16.0.0/24", "172.16.0.77/32", true),
            ("172.16.0.0/24", "172.16.0.1/16", true),
            ("172.16.0.0/16", "172.16.200.0/24", true),
            ("172.16.0.0/24", "172.16.1.0/24", false),
            ("172.16.0.0/24", "172.15.255.0/24", false),
            ("172.16.0.0/24", "0.0.0.0/0", false),
            ("172.16.0.0/24", "128.0.0.0/1", false),
            ("172.16.0.0/24", "172.0.0.0/8", true),
            ("fd00:172:16::/64", "fd00:172:16::1/64", true),
            ("fd00:172:16::/64", "fd00::/8", true),
            ("fd00:172:16::/64", "fd00:172:17::/64", false),
            ("fd00:172:16::/64", "::/0", false),
            ("2001:db8::/64", "2000::/3", false),
            ("172.16.0.0/24", "::/96", false),
        ];
        for (subnet, host, expected) in cases {
            assert_eq!(
                overlap(&subnet.parse().unwrap(), &host.parse().unwrap()),
                expected,
                "{subnet} {host}"
            );
        }
    }
}
