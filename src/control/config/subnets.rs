//! The subnets of a switch and the gateway's address in each.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Checked, InvalidValue};
use crate::control::addressing;
use crate::control::options::Options;

/// Maximum number of subnets.
pub(super) const MOST_SUBNETS: usize = 16;

/// The subnets and the gateway's address in each.
pub(super) fn address_plan(options: &Options, ports: u16) -> Checked<(Vec<IpNet>, Vec<IpNet>)> {
    let subnets = subnets(options, ports).map_err(|why| ("subnet", why))?;
    let gateways = gateways(options, &subnets, ports).map_err(|why| ("gateway", why))?;
    Ok((subnets, gateways))
}

/// The gateway's address in each subnet: the given one, or the first.
fn gateways(options: &Options, subnets: &[IpNet], ports: u16) -> Result<Vec<IpNet>, InvalidValue> {
    let none = options.no_gateway.unwrap_or(false);
    if none && (!options.gateway.is_empty() || options.nat.unwrap_or(false)) {
        return Err(InvalidValue::NoGateway);
    }
    let parse = |text: &String| text.parse().map_err(|_| InvalidValue::GatewaySyntax(text.clone()));
    let given = options.gateway.iter().map(parse).collect::<Result<Vec<IpAddr>, _>>()?;
    if let Some(outside) = given.iter().find(|ip| !subnets.iter().any(|subnet| subnet.contains(*ip))) {
        return Err(InvalidValue::GatewayOutside(*outside));
    }
    // Without a host port nothing is behind a gateway.
    let served = subnets.iter().filter(|_| !none && !options.internal.unwrap_or(false));
    served.map(|subnet| gateway_in(*subnet, &given, ports)).collect()
}

fn gateway_in(subnet: IpNet, given: &[IpAddr], ports: u16) -> Result<IpNet, InvalidValue> {
    let first = addressing::gateway(subnet);
    let address = given.iter().find(|ip| subnet.contains(*ip)).copied().unwrap_or(first);
    let of = |n: u16| addressing::host_address(subnet, n.into()).map(|host| host.addr());
    if let Some(n) = (1..=ports).find(|n| of(*n) == Some(address)) {
        return Err(InvalidValue::GatewayOfContainer(address, n));
    }
    if !addressing::is_host_address(subnet, address) {
        return Err(InvalidValue::GatewayOutside(address));
    }
    IpNet::new(address, subnet.prefix_len()).map_err(|_| InvalidValue::GatewayOutside(address))
}

fn subnets(options: &Options, ports: u16) -> Result<Vec<IpNet>, InvalidValue> {
    let typed = &options.subnet;
    if typed.is_empty() {
        return Ok(if options.no_gateway.unwrap_or(false) { Vec::new() } else { default_subnets(ports) });
    }
    if typed.len() > MOST_SUBNETS {
        return Err(InvalidValue::TooManySubnets(typed.len()));
    }
    let mut subnets: Vec<IpNet> = Vec::with_capacity(typed.len());
    for text in typed {
        let subnet = subnet(text, ports)?;
        if let Some(other) = subnets.iter().find(|other| other.contains(&subnet) || subnet.contains(*other)) {
            return Err(InvalidValue::Overlap(*other, subnet));
        }
        subnets.push(subnet);
    }
    Ok(subnets)
}

/// 172.16.0.0/24, or wider if the ports need it, and fd00:172:16::/64.
pub(super) fn default_subnets(ports: u16) -> Vec<IpNet> {
    let v4 = ipnet::Ipv4Net::new_assert([172, 16, 0, 0].into(), 24);
    let v6 = ipnet::Ipv6Net::new_assert([0xfd00, 0x172, 0x16, 0, 0, 0, 0, 0].into(), 64);
    let v4 = addressing::widened(v4.into(), ports.into()).unwrap_or(v4.into());
    vec![v4, v6.into()]
}

fn subnet(text: &str, ports: u16) -> Result<IpNet, InvalidValue> {
    let subnet: IpNet = text.parse().map_err(|_| InvalidValue::SubnetSyntax(text.to_owned()))?;
    if subnet.addr() != subnet.network() {
        return Err(InvalidValue::HostBits(subnet, subnet.trunc()));
    }
    if is_special(subnet) {
        return Err(InvalidValue::SpecialSubnet(subnet));
    }
    let fits = addressing::max_hosts(subnet);
    if fits < u64::from(ports) {
        let wider = addressing::widened(subnet, ports.into()).filter(|wider| !is_special(*wider));
        let advice = wider.map_or("create fewer".to_owned(), |wider| format!("use {wider}, or create fewer"));
        return Err(InvalidValue::TooSmall { subnet, fits, ports, advice });
    }
    Ok(subnet)
}

/// Has addresses that no host can have: "this network", loopback, multicast, class E, IPv6 link-local
/// (each IPv6 device makes its own; RFC 6890).
pub fn is_special(subnet: IpNet) -> bool {
    let touches = |special: &str| {
        special.parse::<IpNet>().is_ok_and(|special| special.contains(&subnet) || subnet.contains(&special))
    };
    ["0.0.0.0/8", "127.0.0.0/8", "224.0.0.0/3", "::/127", "fe80::/10", "ff00::/8"].into_iter().any(touches)
}
