//! Netlink requests for a device's settings, addresses and routes.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv6Addr};
use std::ops::ControlFlow;
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_core::Nla;
use netlink_packet_route::address::{AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    InfoData, InfoTun, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteType,
};
use netlink_packet_route::tc::{TcAttribute, TcHandle, TcMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{AddressMessageBuilder, LinkMessageBuilder, LinkUnspec, RouteMessageBuilder};

use super::{PortNetns, PortSpec};
use crate::sys::link_monitor::Nsid;
use crate::sys::netlink::{Netlink, NetlinkError, NetlinkRequest};
use crate::sys::netns::Netns;
use crate::wire::Mac;

/// The index of `lo`: it is the first device of every namespace.
pub(super) const LOOPBACK: u32 = 1;

/// A device as the kernel reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Link {
    pub(super) ifindex: u32,
    pub(super) name: String,
    pub(super) mac: Mac,
    pub(super) mtu: u32,
    /// Set up (`IFF_UP`).
    pub(super) up: bool,
    /// It has a carrier (`IFLA_CARRIER`): its cable is not cut.
    pub(super) carrier: bool,
    /// Frames that the device dropped instead of sending (`tx_dropped`).
    pub(super) tx_dropped: u64,
    /// Its settings if it is a TAP device.
    pub(super) tap: Option<TapSettings>,
    /// Its frames are Ethernet frames, and it is not the loopback device.
    pub(super) is_ethernet: bool,
    /// Index of the bridge or bond to which it belongs.
    pub(super) controller: Option<u32>,
    /// Of a veth pair: the index of the other end.
    pub(super) peer: Option<u32>,
    /// The nsid of the other end's namespace, if that is another one.
    pub(super) peer_nsid: Option<i32>,
}

/// Settings of a TAP or TUN device (`IFLA_TUN_OWNER` and so on in Linux `include/uapi/linux/if_link.h`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "the flags of the kernel")]
pub(super) struct TapSettings {
    /// It is a TAP device: its frames are Ethernet frames.
    pub(super) is_tap: bool,
    /// There is a header with flags and protocol before each frame.
    pub(super) packet_info: bool,
    pub(super) vnet_header: bool,
    pub(super) persistent: bool,
    pub(super) multi_queue: bool,
    pub(super) user: Option<u32>,
    pub(super) group: Option<u32>,
    /// Attached queues of a multi-queue device.
    pub(super) queues: Option<u32>,
    /// Its queues that a program has disabled.
    pub(super) disabled_queues: Option<u32>,
}

impl Link {
    pub(super) fn from_message(message: &LinkMessage) -> Link {
        let mut link = Link {
            ifindex: message.header.index,
            name: String::new(),
            mac: Mac::ZERO,
            mtu: 0,
            up: message.header.flags.contains(LinkFlags::Up),
            carrier: true,
            tx_dropped: 0,
            tap: None,
            is_ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            controller: None,
            peer: None,
            peer_nsid: None,
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => name.clone_into(&mut link.name),
                LinkAttribute::Link(ifindex) => link.peer = Some(*ifindex),
                LinkAttribute::LinkNetNsId(nsid) => link.peer_nsid = Some(*nsid),
                LinkAttribute::Controller(ifindex) => link.controller = Some(*ifindex),
                LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
                LinkAttribute::Carrier(carrier) => link.carrier = *carrier != 0,
                LinkAttribute::LinkInfo(info) => link.tap = info.iter().find_map(tap_settings),
                LinkAttribute::Stats64(stats) => link.tx_dropped = stats.tx_dropped,
                LinkAttribute::Address(bytes) => {
                    link.mac = bytes.as_slice().try_into().map_or(Mac::ZERO, Mac);
                }
                _ => {}
            }
        }
        link
    }
}

fn tap_settings(info: &LinkInfo) -> Option<TapSettings> {
    const IFLA_TUN_OWNER: u16 = 1;
    const IFLA_TUN_GROUP: u16 = 2;
    const IFLA_TUN_TYPE: u16 = 3;
    const IFLA_TUN_PI: u16 = 4;
    const IFLA_TUN_VNET_HDR: u16 = 5;
    const IFLA_TUN_PERSIST: u16 = 6;
    const IFLA_TUN_MULTI_QUEUE: u16 = 7;
    const IFLA_TUN_NUM_QUEUES: u16 = 8;
    const IFLA_TUN_NUM_DISABLED_QUEUES: u16 = 9;
    const TAP: u8 = 2;
    let LinkInfo::Data(InfoData::Tun(attributes)) = info else { return None };
    let number = |kind| value(attributes, kind).map(u32::from_ne_bytes);
    let byte = |kind| value(attributes, kind).map_or(0, |[byte]| byte);
    Some(TapSettings {
        is_tap: byte(IFLA_TUN_TYPE) == TAP,
        packet_info: byte(IFLA_TUN_PI) != 0,
        vnet_header: byte(IFLA_TUN_VNET_HDR) != 0,
        persistent: byte(IFLA_TUN_PERSIST) != 0,
        multi_queue: byte(IFLA_TUN_MULTI_QUEUE) != 0,
        user: number(IFLA_TUN_OWNER),
        group: number(IFLA_TUN_GROUP),
        queues: number(IFLA_TUN_NUM_QUEUES),
        disabled_queues: number(IFLA_TUN_NUM_DISABLED_QUEUES),
    })
}

/// The value of an attribute that has `N` bytes.
fn value<const N: usize>(attributes: &[InfoTun], kind: u16) -> Option<[u8; N]> {
    attributes.iter().find_map(|attribute| {
        let InfoTun::Other(attribute) = attribute else { return None };
        let mut value = [0; N];
        if attribute.kind() != kind || attribute.value_len() != N {
            return None;
        }
        attribute.emit_value(&mut value);
        Some(value)
    })
}

/// The device of this name in the socket's namespace.
pub(super) fn find(netlink: &mut Netlink, name: &str) -> Result<Link, NetlinkError> {
    query(netlink, &format!("find the device {name}"), LinkUnspec::new_with_name(name))
}

/// The request for a device in the namespace with this nsid (`None`: the socket's).
pub(super) fn in_nsid(which: LinkMessageBuilder<LinkUnspec>, nsid: Nsid) -> LinkMessageBuilder<LinkUnspec> {
    match nsid {
        Some(nsid) => which.append_extra_attribute(LinkAttribute::IfNetnsId(nsid)),
        None => which,
    }
}

/// The device that `which` identifies.
pub(super) fn query(
    netlink: &mut Netlink,
    what: &str,
    which: LinkMessageBuilder<LinkUnspec>,
) -> Result<Link, NetlinkError> {
    match netlink.one(what, RouteNetlinkMessage::GetLink(which.build()))? {
        RouteNetlinkMessage::NewLink(message) => Ok(Link::from_message(&message)),
        _ => Err(NetlinkError::Malformed { what: what.to_owned(), fault: "not a link message".to_owned() }),
    }
}

/// Moves a device from the socket's namespace to another. It keeps its name; `EEXIST` if that is taken there.
pub(super) fn move_to_netns(name: &str, netns: &Netns) -> NetlinkRequest {
    use std::os::fd::{AsFd, AsRawFd};
    let message = LinkUnspec::new_with_name(name).setns_by_fd(netns.as_fd().as_raw_fd());
    NetlinkRequest::change(format!("move the device {name} into its namespace"), set_link(message))
}

/// Sets the loopback device up.
pub(super) fn loopback_up() -> NetlinkRequest {
    NetlinkRequest::change("set lo up", set_link(LinkUnspec::new_with_index(LOOPBACK).up()))
}

/// Replaces the queueing discipline by `noqueue`. Frames go into the TAP's ring, which has no backpressure, so a
/// discipline would only cost time, and 6 MB a port: the kernel attaches one to each of the 256 possible queues of
/// a multi-queue device (`mq_init`). Must run before the device is set up, which attaches the default discipline.
pub(super) fn set_noqueue(ifindex: u32) -> NetlinkRequest {
    let mut message = TcMessage::default();
    message.header.index = ifindex.cast_signed();
    message.header.parent = TcHandle::ROOT;
    message.attributes = vec![TcAttribute::Kind("noqueue".to_owned())];
    NetlinkRequest::create("remove the queueing discipline", RouteNetlinkMessage::NewQueueDiscipline(message))
}

/// The requests that configure a port's device, in order.
pub(super) fn configure(ifindex: u32, spec: &PortSpec) -> Vec<NetlinkRequest> {
    let name = &spec.ifname;
    let mut settings = LinkUnspec::new_with_index(ifindex).mtu(spec.mtu);
    if let Some(mac) = spec.mac {
        settings = settings.address(mac.0.to_vec());
    }
    if let Some(length) = spec.txqueuelen {
        settings = settings.txqueuelen(length);
    }
    let mac = spec.mac.map_or(String::new(), |mac| format!(" and MAC {mac}"));
    let (settings, up) = if spec.unmanaged { (settings, "") } else { (settings.up(), "up with ") };
    let what = format!("set {name} {up}MTU {}{mac}", spec.mtu);
    let mut requests = vec![NetlinkRequest::change(what, set_link(settings))];
    requests.extend(spec.addresses.iter().map(|address| assign_address(ifindex, name, address)));
    requests
}

/// Assigns an address to the device `name`.
pub(super) fn assign_address(ifindex: u32, name: &str, address: &IpNet) -> NetlinkRequest {
    let what = format!("assign the address {address} to {name}");
    NetlinkRequest::create(what, RouteNetlinkMessage::NewAddress(add_address(ifindex, address)))
}

/// The default routes of a port: one for each address family of which it has an address and a gateway.
pub(super) fn default_routes(ifindex: u32, spec: &PortSpec) -> Vec<(IpAddr, NetlinkRequest)> {
    let reachable =
        |gateway: &&IpAddr| spec.addresses.iter().any(|ours| ours.addr().is_ipv4() == gateway.is_ipv4());
    let route = |gateway: &IpAddr| {
        let builder = match gateway {
            IpAddr::V4(gateway) => RouteMessageBuilder::<std::net::Ipv4Addr>::new()
                .gateway(*gateway)
                .output_interface(ifindex)
                .build(),
            IpAddr::V6(gateway) => RouteMessageBuilder::<std::net::Ipv6Addr>::new()
                .gateway(*gateway)
                .output_interface(ifindex)
                .build(),
        };
        let what = format!("add a default route through {gateway}");
        (*gateway, NetlinkRequest::create(what, RouteNetlinkMessage::NewRoute(builder)))
    };
    spec.gateways.iter().filter(reachable).map(route).collect()
}

/// Whether the calling thread's namespace already has a default route of this gateway's address family. A container may
/// have any number of routes, so they are not listed.
pub(super) fn has_default_route(netlink: &mut Netlink, gateway: IpAddr) -> Result<bool, NetlinkError> {
    match gateway {
        IpAddr::V4(_) => has_default_route_v4(),
        IpAddr::V6(_) => has_default_route_v6(netlink),
    }
}

/// IPv4 routes are listed by their destination, in ascending order (`fib_table_dump`): a default route is among the
/// first.
fn has_default_route_v4() -> Result<bool, NetlinkError> {
    /// A table with more routes to 0.0.0.0/N counts as having a default route.
    const FIRST_ROUTES: usize = 1024;
    let mut main = RouteMessage::default();
    main.header.address_family = AddressFamily::Inet;
    main.header.table = RouteHeader::RT_TABLE_MAIN;
    let mut seen = 0;
    let found = Netlink::open()?.scan("list the routes", RouteNetlinkMessage::GetRoute(main), |message| {
        let RouteNetlinkMessage::NewRoute(route) = message else { return ControlFlow::Continue(()) };
        seen += 1;
        let destination = route.attributes.iter().find_map(|attribute| match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => Some(*address),
            _ => None,
        });
        if is_default(&route) || seen > FIRST_ROUTES {
            ControlFlow::Break(true)
        } else if destination.is_some_and(|destination| !destination.is_unspecified()) {
            ControlFlow::Break(false)
        } else {
            ControlFlow::Continue(())
        }
    })?;
    Ok(found.unwrap_or(false))
}

/// IPv6 lists a default route last (`fib6_walk`). The route to :: is the default route, unless the table has one to
/// ::/N.
fn has_default_route_v6(netlink: &mut Netlink) -> Result<bool, NetlinkError> {
    let mut any = RouteMessage::default();
    any.header.address_family = AddressFamily::Inet6;
    any.header.destination_prefix_length = 128;
    any.header.flags = RouteFlags::FibMatch;
    any.attributes = vec![RouteAttribute::Destination(RouteAddress::Inet6(Ipv6Addr::UNSPECIFIED))];
    match netlink.one("find the default route", RouteNetlinkMessage::GetRoute(any)) {
        Ok(RouteNetlinkMessage::NewRoute(route)) => Ok(is_default(&route)),
        // Refused: there is no route, or one that refuses packets.
        Ok(_) | Err(NetlinkError::Refused { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The request for all routes of an address family.
pub(super) fn all_routes(of_family: IpAddr) -> RouteMessage {
    match of_family {
        IpAddr::V4(_) => RouteMessageBuilder::<std::net::Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<std::net::Ipv6Addr>::new().build(),
    }
}

/// Whether this is a unicast default route in the main table that has a next hop or an output interface.
fn is_default(route: &RouteMessage) -> bool {
    let header = &route.header;
    let has_next_hop = |attribute: &RouteAttribute| {
        matches!(
            attribute,
            RouteAttribute::Oif(_) | RouteAttribute::Gateway(_) | RouteAttribute::MultiPath(_)
        )
    };
    header.destination_prefix_length == 0
        && header.table == RouteHeader::RT_TABLE_MAIN
        && header.kind == RouteType::Unicast
        && route.attributes.iter().any(has_next_hop)
}

fn add_address(ifindex: u32, address: &IpNet) -> AddressMessage {
    match address {
        IpNet::V4(net) => {
            let builder = AddressMessageBuilder::<std::net::Ipv4Addr>::new();
            builder.index(ifindex).address(net.addr(), net.prefix_len()).build()
        }
        IpNet::V6(net) => {
            let builder = AddressMessageBuilder::<std::net::Ipv6Addr>::new();
            let mut message = builder.index(ifindex).address(net.addr(), net.prefix_len()).build();
            // The switch assigned this address to no other port: skip duplicate address detection, which takes a
            // second.
            message.header.flags |= AddressHeaderFlags::Nodad;
            message
        }
    }
}

/// A request that changes a link.
pub(super) fn set_link(link: LinkMessageBuilder<LinkUnspec>) -> RouteNetlinkMessage {
    RouteNetlinkMessage::SetLink(link.build())
}

/// Turns off router advertisements on a device that does not use them, and on the host port's also duplicate address
/// detection. A kernel without IPv6 has no such settings.
pub(super) fn disable_autoconf(spec: &PortSpec) -> io::Result<()> {
    // The network settings under /proc/sys are those of the namespace of the opening thread.
    let settings = Path::new("/proc/sys/net/ipv6/conf").join(&spec.ifname);
    let of_host_port = spec.netns == PortNetns::Host && !spec.unmanaged;
    let off = [("accept_ra", !spec.accept_ra), ("dad_transmits", of_host_port)];
    for (setting, _) in off.into_iter().filter(|(_, off)| *off) {
        match fs::write(settings.join(setting), "0") {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Whether IPv6 is disabled on a device in the calling thread's namespace (`addrconf_add_dev`, `net/ipv6/addrconf.c`).
pub(super) fn ipv6_is_disabled(name: &str) -> bool {
    let setting = Path::new("/proc/sys/net/ipv6/conf").join(name).join("disable_ipv6");
    fs::read_to_string(setting).is_ok_and(|value| value.trim() != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(addresses: &[&str], gateways: &[&str]) -> PortSpec {
        PortSpec {
            netns: PortNetns::New("c1".to_owned()),
            ifname: "eth0".to_owned(),
            mac: None,
            addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
            gateways: gateways.iter().map(|text| text.parse().unwrap()).collect(),
            mtu: 1500,
            txqueuelen: None,
            offload: true,
            queues: 1,
            accept_ra: true,
            unmanaged: false,
        }
    }

    #[test]
    fn adds_a_default_route_for_each_family_with_an_address() {
        let routed = |addresses: &[&str]| {
            let spec = spec(addresses, &["172.16.0.1", "fd00:172:16::1"]);
            default_routes(2, &spec).into_iter().map(|(gateway, _)| gateway.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(routed(&["172.16.0.2/24", "fd00:172:16::2/64"]), ["172.16.0.1", "fd00:172:16::1"]);
        assert_eq!(routed(&["172.16.0.2/24"]), ["172.16.0.1"]);
        assert!(routed(&[]).is_empty());
    }

    #[test]
    fn ipv6_address_skips_dad() {
        let message = add_address(2, &"fd00::2/64".parse().unwrap());
        assert!(message.header.flags.contains(AddressHeaderFlags::Nodad));
    }

    #[test]
    fn recognizes_default_routes() {
        let mut route = RouteMessageBuilder::<std::net::Ipv4Addr>::new().output_interface(2).build();
        assert!(is_default(&route));
        route.header.destination_prefix_length = 24;
        assert!(!is_default(&route));
        // The unreachable default route of IPv6.
        let mut nowhere = RouteMessageBuilder::<std::net::Ipv6Addr>::new().output_interface(1).build();
        nowhere.header.kind = RouteType::Unreachable;
        assert!(!is_default(&nowhere));
    }
}
