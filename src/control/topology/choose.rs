//! Chooses a name prefix and subnets that this machine does not use, where the user has chosen none.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use super::preflight::{self, UsedNetwork, overlapping};
use super::{TopologyError, inspect};
use crate::control::config::VlanGateway;
use crate::control::{Config, addressing};
use crate::sys::netlink::Netlink;

/// Replaces the default prefix and the default subnets of `config` if they are in use. Returns a notice for each
/// choice.
pub(super) fn replace_used_defaults(config: &mut Config) -> Result<Vec<String>, TopologyError> {
    let mut choices = Vec::new();
    if config.choose.prefix
        && let Some(used) = inspect::used_names(config).into_iter().next()
    {
        config.prefix = format!("{}-", config.name);
        choices.push(format!("the namespace {used} exists: the containers are named {}N", config.prefix));
    }
    if config.choose.subnets && !config.internal {
        let mut host = Netlink::open()?;
        let links = preflight::device_names(&mut host)?;
        let mut used = preflight::used_networks(&mut host, &links)?;
        used.extend(config.vlan_gateways.iter().flat_map(of_vlan));
        // Without free subnets the check that follows reports the conflict.
        let free = free_subnets(&config.subnets, &used).unwrap_or_default();
        for (subnet, free) in config.subnets.iter_mut().zip(free) {
            if let Some(UsedNetwork { net, device }) = overlapping(subnet, &used) {
                choices.push(format!("{subnet} overlaps {net} on this host (device {device}): using {free}"));
                replace_gateway(&mut config.gateways, *subnet, free);
                *subnet = free;
            }
        }
    }
    Ok(choices)
}

/// The networks of a VLAN, which the chosen subnets must not overlap.
fn of_vlan(gateway: &VlanGateway) -> impl Iterator<Item = UsedNetwork> + '_ {
    gateway.subnets().map(|net| UsedNetwork { net, device: gateway.port_name() })
}

/// The gateway has the first address of a subnet that the switch chose.
fn replace_gateway(gateways: &mut [IpNet], used: IpNet, free: IpNet) {
    for gateway in gateways.iter_mut().filter(|gateway| gateway.trunc() == used) {
        if let Some(first) = addressing::host_address(free, 0) {
            *gateway = first;
        }
    }
}

/// `subnets`, with those in use replaced by unused private ones of the same size.
pub(crate) fn free_subnets(subnets: &[IpNet], used: &[UsedNetwork]) -> Option<Vec<IpNet>> {
    let mut chosen: Vec<IpNet> = Vec::new();
    for own in subnets {
        let others = subnets.iter().filter(|other| *other != own).chain(&chosen);
        let others: Vec<UsedNetwork> =
            others.map(|net| UsedNetwork { net: *net, device: String::new() }).collect();
        let fits = |net: &IpNet| overlapping(net, used).is_none() && overlapping(net, &others).is_none();
        let candidates = std::iter::once(*own).chain((1..=255).filter_map(|n| private(own, n)));
        chosen.push(candidates.into_iter().find(fits)?);
    }
    Some(chosen)
}

/// A private subnet of the same size as `like` (RFC 1918, RFC 4193).
fn private(like: &IpNet, n: u8) -> Option<IpNet> {
    let address: IpAddr = match like {
        IpNet::V4(_) => Ipv4Addr::new(10, n, 0, 0).into(),
        IpNet::V6(_) => format!("fd00:10:{n}::").parse().ok()?,
    };
    IpNet::new(address, like.prefix_len()).ok().filter(|net| net.addr() == net.network())
}
