//! Published ports: the host's ports that lead to containers, in the table of the routing ([`super::dnat`]). Each is
//! bound, so that no program of the host and no other switch can use it as well.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use nix::sys::socket::SockType;

use super::routing::Routing;
use super::{Topology, TopologyError};
use crate::control::report::{PublishedPort, TransportProtocol};
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
        Ok(())
    }
}
