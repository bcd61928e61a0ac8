//! Configures the device of an unmanaged port, for a container runtime that leaves that to us (a CNI plugin).

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use ipnet::IpNet;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::route::{RouteAttribute, RouteMessage, RouteMetric, RouteScope};
use rtnetlink::{LinkUnspec, RouteMessageBuilder};

use super::TopologyError;
use super::link;
use crate::sys::netlink::{Netlink, NetlinkRequest};
use crate::sys::netns::{Netns, in_netns};

/// A route of a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ContainerRoute {
    /// Its destination.
    pub(crate) destination: IpNet,
    /// `None`: the destination is on the link.
    pub(crate) gateway: Option<IpAddr>,
    /// Its metric; `None`: the kernel's default, as with the following ones.
    pub(crate) priority: Option<u32>,
    /// Path MTU, in bytes.
    pub(crate) mtu: Option<u32>,
    /// The TCP MSS to advertise, in bytes.
    pub(crate) advmss: Option<u32>,
    /// Routing table.
    pub(crate) table: Option<u32>,
    /// `rtm_scope` of rtnetlink(7).
    pub(crate) scope: Option<u8>,
}

impl ContainerRoute {
    /// A route on the link.
    pub(crate) fn to(destination: IpNet) -> ContainerRoute {
        ContainerRoute {
            destination,
            gateway: None,
            priority: None,
            mtu: None,
            advmss: None,
            table: None,
            scope: None,
        }
    }
}

/// Sets a device in the namespace at `path` up, with these addresses and routes. A route that is there already is kept.
///
/// # Errors
/// There is no such namespace or device, or the kernel refuses an address or a route.
pub(crate) fn configure(
    path: &Path,
    ifname: &str,
    addresses: &[IpNet],
    routes: &[ContainerRoute],
) -> Result<(), TopologyError> {
    let netns = Netns::open(path)?;
    in_netns(|thread| {
        thread.enter(&netns)?;
        if addresses.iter().any(|address| address.addr().is_ipv6()) {
            enable_ipv6(ifname)?;
        }
        let mut netlink = Netlink::open()?;
        let link = link::find(&mut netlink, ifname)?;
        let up = link::set_link(LinkUnspec::new_with_index(link.ifindex).up());
        netlink.apply(&[NetlinkRequest::change(format!("set {ifname} up"), up)])?;
        for address in addresses {
            netlink.apply(&[link::assign_address(link.ifindex, ifname, address)])?;
        }
        routes.iter().try_for_each(|route| add_route(&mut netlink, link.ifindex, route))
    })?
}

/// Engines disable IPv6 in the namespaces of containers that have no IPv6 address yet.
fn enable_ipv6(ifname: &str) -> Result<(), TopologyError> {
    let path = Path::new("/proc/sys/net/ipv6/conf").join(ifname).join("disable_ipv6");
    match fs::write(&path, "0") {
        // This kernel has no IPv6.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(TopologyError::NoIpv6(ifname.to_owned()))
        }
        written => written.map_err(|source| TopologyError::Sysctl { what: "write", path, source }),
    }
}

fn add_route(netlink: &mut Netlink, ifindex: u32, route: &ContainerRoute) -> Result<(), TopologyError> {
    let what = format!("add a route to {}", route.destination);
    let message = RouteNetlinkMessage::NewRoute(message(ifindex, route));
    match netlink.apply(&[NetlinkRequest::create(what, message)]) {
        Err(error) if error.errno() == Some(libc::EEXIST) => Ok(()),
        added => Ok(added?),
    }
}

fn message(ifindex: u32, route: &ContainerRoute) -> RouteMessage {
    macro_rules! build {
        ($family:ty, $net:expr, $gateway:pat => $address:expr) => {{
            let mut builder = RouteMessageBuilder::<$family>::new()
                .destination_prefix($net.addr(), $net.prefix_len())
                .output_interface(ifindex);
            if let Some(priority) = route.priority {
                builder = builder.priority(priority);
            }
            if let Some(table) = route.table {
                builder = builder.table_id(table);
            }
            match route.gateway {
                Some($gateway) => builder.gateway($address),
                _ => builder.scope(RouteScope::Link),
            }
            .build()
        }};
    }
    let mut message = match route.destination {
        IpNet::V4(net) => build!(Ipv4Addr, net, IpAddr::V4(gateway) => gateway),
        IpNet::V6(net) => build!(Ipv6Addr, net, IpAddr::V6(gateway) => gateway),
    };
    if let Some(scope) = route.scope {
        message.header.scope = scope.into();
    }
    let metrics = [route.mtu.map(RouteMetric::Mtu), route.advmss.map(RouteMetric::Advmss)];
    let metrics: Vec<RouteMetric> = metrics.into_iter().flatten().collect();
    if !metrics.is_empty() {
        message.attributes.push(RouteAttribute::Metrics(metrics));
    }
    message
}
