//! The switch that a configuration describes.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;

use ipnet::IpNet;

use super::ticks;
use crate::control::Config;
use crate::control::config::VlanGateway;
use crate::switch::guard::link_local;
use crate::switch::stp::{BridgeConfig, SpanningTree};
use crate::switch::{Gateway, Switch, SwitchConfig};
use crate::wire::ip::by_version;

/// The switch without ports, and its spanning tree.
pub(super) fn new(config: &Config) -> (Switch, Option<SpanningTree>) {
    let mut switch =
        Switch::new(settings(config)).with_group_fwd_mask(config.group_fwd_mask).with_vlans(config.vlans);
    if config.loop_detection {
        switch = switch.with_loop_detection(RandomState::new().hash_one(&config.name));
    }
    if config.ra {
        switch = switch.with_router_advertisements();
    }
    if config.dhcp_lease.is_some() {
        switch = switch.with_dhcpv6();
    }
    let mac = switch.gateway.mac.get();
    for VlanGateway { vid, addresses } in &config.vlan_gateways {
        switch.vlans.set_gateway(*vid, gateway(config, addresses.iter().map(IpNet::addr)));
    }
    // The parameters were checked.
    let spanning_tree = config.stp.and_then(|stp| SpanningTree::new(BridgeConfig { mac, ..stp }).ok());
    if spanning_tree.is_some() {
        switch = switch.with_spanning_tree();
    }
    (switch, spanning_tree)
}

fn settings(config: &Config) -> SwitchConfig {
    SwitchConfig {
        ageing: ticks(config.ageing_time),
        fdb_max: config.fdb_max,
        seed: RandomState::new().hash_one(&config.name),
        gateway: gateway(config, config.gateways()),
    }
}

/// A gateway with these addresses. Hosts know one that sends router advertisements, or serves DHCPv6, also by its
/// link-local address.
fn gateway(config: &Config, addresses: impl Iterator<Item = IpAddr>) -> Gateway {
    let mac = config.mac_prefix.mac(0);
    let (ipv4, mut ipv6) = by_version(addresses);
    if config.ra || config.dhcp_lease.is_some() {
        ipv6.push(link_local(mac));
    }
    Gateway { mac: mac.into(), ipv4, ipv6 }
}
