//! Published ports: the host's ports that lead to containers, in the table of the routing ([`super::dnat`]). Each is
//! bound, so that no program of the host and no other switch can use it as well.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{SockType, SockaddrStorage};
use tracing::warn;

use super::routing::Routing;
use super::{Topology, TopologyError};
use crate::control::report::{PublishedPort, TransportProtocol};
use crate::sys::conntrack;
use crate::sys::reserved_port::ReservedPort;

/// A published port, and the addresses to which its packets go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnatTarget {
    /// The port.
    pub port: PublishedPort,
    /// Addresses of the container, at most one of each IP version.
    pub targets: Vec<IpAddr>,
}

/// A port of the host: at an address, or at all.
type HostPort = (TransportProtocol, Option<IpAddr>, u16);

/// The ports of the host that are published.
#[derive(Debug, Default)]
pub(super) struct ReservedPorts(BTreeMap<HostPort, ReservedPort>);

impl ReservedPorts {
    /// Reserves the ports among these that are not reserved yet.
    fn reserve_new(&self, published: &[DnatTarget]) -> Result<ReservedPorts, TopologyError> {
        let new = host_ports(published).filter(|port| !self.0.contains_key(port));
        new.map(|port| Ok((port, reserve(port)?))).collect::<Result<_, _>>().map(ReservedPorts)
    }

    /// Takes new ones, and releases those that are not published any more.
    fn replace(&mut self, new: ReservedPorts, published: &[DnatTarget]) {
        self.0.extend(new.0);
        let mut kept = BTreeMap::new();
        kept.extend(host_ports(published).filter_map(|port| self.0.remove_entry(&port)));
        self.0 = kept;
    }
}

fn host_ports(published: &[DnatTarget]) -> impl Iterator<Item = HostPort> + '_ {
    let of = |port: &PublishedPort| {
        let (protocol, address) = (port.protocol, port.host_address);
        port.host_ports.iter().map(move |number| (protocol, address, number))
    };
    published.iter().flat_map(move |published| of(&published.port))
}

fn reserve((protocol, address, number): HostPort) -> Result<ReservedPort, TopologyError> {
    let kind = match protocol {
        TransportProtocol::Tcp => SockType::Stream,
        TransportProtocol::Udp => SockType::Datagram,
    };
    ReservedPort::bind(kind, address, number).map_err(|source| match (source.kind(), address) {
        (io::ErrorKind::AddrInUse, _) => TopologyError::HostPortInUse { number, protocol: protocol.name() },
        (io::ErrorKind::AddrNotAvailable, Some(address)) => TopologyError::ForeignAddress(address),
        _ => TopologyError::Kernel { what: "reserve a port of the host", source },
    })
}

impl Topology {
    /// Publishes these ports, and no others.
    ///
    /// # Errors
    /// After an error, the ports are published that were before.
    pub fn publish(&mut self, published: Vec<DnatTarget>) -> Result<(), TopologyError> {
        let new = self.reserved.reserve_new(&published)?;
        let before = self.routing.as_ref().map(|routing| routing.published.clone()).unwrap_or_default();
        let routing = Routing { published, ..Routing::of(&self.config) };
        if self.nat.is_some() {
            self.change_routing(&routing)?;
        } else if routing.is_needed() {
            if self.sandboxed {
                self.notices.add(
                    "without root, published ports are those of the switch's network namespace (`uswitch exec host`): \
                     attach pasta to publish them on the machine, or use sudo"
                        .to_owned(),
                );
            }
            self.enable_routing(routing.clone())?;
        }
        self.reserved.replace(new, &routing.published);
        if let Err(error) = end_connections(&before, &routing.published) {
            warn!(%error, "connections with changed published ports may go on");
        }
        Ok(())
    }
}

/// Ends the connections with ports of the host that lead elsewhere now, or nowhere: the rules decide again about their
/// next packets. Connection tracking would send them where it sent the first one, a datagram also to another container.
fn end_connections(before: &[DnatTarget], after: &[DnatTarget]) -> io::Result<()> {
    let has_changed = |of: &&DnatTarget| before.contains(of) != after.contains(of);
    let changed: Vec<&DnatTarget> = before.iter().chain(after).filter(has_changed).collect();
    if changed.is_empty() {
        return Ok(());
    }
    let addresses = getifaddrs()?.filter_map(|interface| interface.address);
    let own: HashSet<IpAddr> = addresses.filter_map(|address| ip_of(&address)).collect();
    let is_own = |address: IpAddr| address.is_loopback() || own.contains(&address);
    conntrack::delete(|protocol, host| {
        let leads = |of: &&DnatTarget| of.port.protocol.number() == protocol && of.port.is_at(host);
        is_own(host.ip()) && changed.iter().any(leads)
    })
}

fn ip_of(address: &SockaddrStorage) -> Option<IpAddr> {
    let ipv4 = address.as_sockaddr_in().map(|address| address.ip().into());
    ipv4.or_else(|| Some(address.as_sockaddr_in6()?.ip().into()))
}
