//! What the kernel of a port's namespace would do with a packet: the route, the source address and the neighbour. Each
//! is one lookup, so the size of the tables does not matter.

use std::fmt;
use std::net::IpAddr;

use netlink_packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState,
};
use netlink_packet_route::route::{RouteAddress, RouteAttribute, RouteMessage, RouteType, RouteVia};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::LinkUnspec;

use super::{TopologyError, link};
use crate::sys::netlink::{Netlink, NetlinkError};
use crate::sys::netns::{Netns, in_netns};
use crate::wire::Mac;

/// What a host does with a packet for an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SenderRoute {
    /// It sends the packet from its port.
    Port {
        /** The source address that it chooses, if there is one. */
        source: Option<IpAddr>,
        /** The destination itself if it is on-link, otherwise a router. */
        next_hop: IpAddr,
        /** The MAC address of the next hop; `None`: the host has to ask for it first. */
        mac: Option<Mac>,
    },
    /// It sends the packet from this other device.
    OtherDevice(String),
    /// The address is its own.
    Own,
    /// It has no route, and sends nothing.
    Missing,
}

/// A route lookup in the namespace of a port. It may wait for the kernel.
pub struct RouteLookup(Box<dyn FnOnce() -> Result<SenderRoute, TopologyError> + Send>);

impl fmt::Debug for RouteLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RouteLookup")
    }
}

impl RouteLookup {
    /// A lookup that calls `run`.
    pub(crate) fn new(
        run: impl FnOnce() -> Result<SenderRoute, TopologyError> + Send + 'static,
    ) -> RouteLookup {
        RouteLookup(Box::new(run))
    }

    /// Asks the kernel.
    ///
    /// # Errors
    /// The namespace cannot be entered, or the kernel refused.
    pub fn run(self) -> Result<SenderRoute, TopologyError> {
        (self.0)()
    }
}

/// A packet that a host is to send.
#[derive(Debug, Clone, Copy)]
pub struct RoutedPacket {
    /// The source address; `None`: the host chooses it.
    pub source: Option<IpAddr>,
    /// The destination address.
    pub destination: IpAddr,
}

/// Looks up the route of a packet in a namespace. `port` is the index of the port's device there.
pub(super) fn look_up(netns: &Netns, port: u32, packet: RoutedPacket) -> Result<SenderRoute, TopologyError> {
    in_netns(|thread| {
        thread.enter(netns)?;
        Ok(ask(&mut Netlink::open()?, port, packet)?)
    })?
}

fn ask(netlink: &mut Netlink, port: u32, packet: RoutedPacket) -> Result<SenderRoute, NetlinkError> {
    let found = match (packet.source, get_route(netlink, port, packet)) {
        // There is no route, or the source is not an address of this host, as in a packet that it forwards or makes up.
        (Some(_), Err(error)) if matches!(error.errno(), Some(libc::ENETUNREACH | libc::EINVAL)) => {
            get_route(netlink, port, RoutedPacket { source: None, ..packet })
        }
        (_, found) => found,
    };
    let route = match found {
        Ok(route) => route,
        // EACCES: a prohibit route. EINVAL: a blackhole route.
        Err(error) => match error.errno() {
            Some(libc::ENETUNREACH | libc::EHOSTUNREACH | libc::EACCES | libc::EINVAL) => {
                return Ok(SenderRoute::Missing);
            }
            _ => return Err(error),
        },
    };
    match route.header.kind {
        RouteType::Local | RouteType::Anycast => return Ok(SenderRoute::Own),
        RouteType::Unicast | RouteType::Broadcast | RouteType::Multicast => {}
        _ => return Ok(SenderRoute::Missing),
    }
    let device = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(ifindex) => Some(*ifindex),
        _ => None,
    });
    if device != Some(port) {
        return Ok(SenderRoute::OtherDevice(device_name(netlink, device)));
    }
    let source = route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(address) => ip(address),
        _ => None,
    });
    let next_hop = gateway(&route).unwrap_or(packet.destination);
    let mac = match (route.header.kind, Mac::of_group(next_hop)) {
        (RouteType::Broadcast, _) => Some(Mac::BROADCAST),
        (_, Some(group)) => Some(group),
        (_, None) => neighbour(netlink, port, next_hop)?,
    };
    Ok(SenderRoute::Port { source: packet.source.or(source), next_hop, mac })
}

/// The route that the kernel chooses, by its rules and tables.
fn get_route(netlink: &mut Netlink, port: u32, packet: RoutedPacket) -> Result<RouteMessage, NetlinkError> {
    let RoutedPacket { source, destination } = packet;
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination);
    message.header.destination_prefix_length = bits(destination);
    message.attributes.push(RouteAttribute::Destination(route_address(destination)));
    if let Some(source) = source.filter(|source| source.is_ipv4() == destination.is_ipv4()) {
        message.header.source_prefix_length = bits(source);
        message.attributes.push(RouteAttribute::Source(route_address(source)));
    }
    // These addresses are on every link. A program names the device (RFC 4007 §6).
    if is_of_every_link(destination) {
        message.attributes.push(RouteAttribute::Oif(port));
    }
    let what = format!("find the route to {destination}");
    match netlink.one(&what, RouteNetlinkMessage::GetRoute(message))? {
        RouteNetlinkMessage::NewRoute(route) => Ok(route),
        _ => Err(NetlinkError::Malformed { what, fault: "not a route message".to_owned() }),
    }
}

/// The MAC address in the neighbour table, if there is one that the kernel uses (`NUD_VALID`).
fn neighbour(netlink: &mut Netlink, port: u32, address: IpAddr) -> Result<Option<Mac>, NetlinkError> {
    let mut message = NeighbourMessage::default();
    message.header.family = family(address);
    message.header.ifindex = port;
    message.attributes.push(NeighbourAttribute::Destination(match address {
        IpAddr::V4(address) => NeighbourAddress::Inet(address),
        IpAddr::V6(address) => NeighbourAddress::Inet6(address),
    }));
    let what = format!("find the neighbour {address}");
    let found = match netlink.one(&what, RouteNetlinkMessage::GetNeighbour(message)) {
        Ok(RouteNetlinkMessage::NewNeighbour(found)) => found,
        Ok(_) => return Err(NetlinkError::Malformed { what, fault: "not a neighbour message".to_owned() }),
        Err(error) if error.errno() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_valid = matches!(
        found.header.state,
        NeighbourState::Reachable
            | NeighbourState::Stale
            | NeighbourState::Delay
            | NeighbourState::Probe
            | NeighbourState::Noarp
            | NeighbourState::Permanent
    );
    Ok(found.attributes.iter().filter(|_| is_valid).find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(Mac),
        _ => None,
    }))
}

/// The router of a route; `None` for an on-link destination.
fn gateway(route: &RouteMessage) -> Option<IpAddr> {
    route.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip(address),
        // A router of the other family (RFC 8950).
        RouteAttribute::Via(RouteVia::Inet(address)) => Some((*address).into()),
        RouteAttribute::Via(RouteVia::Inet6(address)) => Some((*address).into()),
        _ => None,
    })
}

fn device_name(netlink: &mut Netlink, ifindex: Option<u32>) -> String {
    let found = ifindex.map(|ifindex| {
        link::query(netlink, "find the device of a route", LinkUnspec::new_with_index(ifindex))
    });
    match found {
        Some(Ok(link)) => link.name,
        _ => "another device".to_owned(),
    }
}

fn is_of_every_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_multicast() || address.is_broadcast(),
        IpAddr::V6(address) => address.is_multicast() || address.is_unicast_link_local(),
    }
}

fn family(address: IpAddr) -> AddressFamily {
    if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 }
}

fn bits(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn route_address(address: IpAddr) -> RouteAddress {
    match address {
        IpAddr::V4(address) => RouteAddress::Inet(address),
        IpAddr::V6(address) => RouteAddress::Inet6(address),
    }
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
