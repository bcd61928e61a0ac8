//! Published ports: which ports of the host lead to which container.
//!
//! The rules lead to an address of the container that the switch knows to be its own. A container whose guard is off
//! may change its address, and the rules follow, but not to an address of another host.

use std::net::IpAddr;

use tokio::time::{Duration, Instant};
use tracing::{info, warn};

use super::command::PublishCommand;
use super::{HostNetwork, RunError, Running};
use crate::control::config;
use crate::control::event::DeviceAspect;
use crate::control::report::{AddedPort, PublishedPort};
use crate::control::topology::{DnatTarget, TopologyError};
use crate::switch::PortId;

/// Most ports of the host that a switch publishes. Each is an open file.
const MOST_PUBLISHED: usize = 1024;
/// Least time between two changes of rules and names that containers cause by changing their addresses.
const FOLLOW_INTERVAL: Duration = Duration::from_secs(1);

/// A port that cannot be published, or is not.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PublishError {
    /// The port, its protocol, and the container that has it.
    #[error(
        "port {0}/{1} of the host is published for {2} already: choose another, or `uswitch port unpublish` it"
    )]
    Taken(u16, &'static str, String),
    #[error(
        "{0} has no address in a subnet of the switch, so its ports cannot be published: give it one with --ip"
    )]
    NoAddress(String),
    #[error("{0} has no {1} address in a subnet of the switch, so its ports cannot be published at {2}")]
    NoAddressOfVersion(String, &'static str, IpAddr),
    #[error("{0} is the host: publish ports of a container")]
    HostPort(String),
    #[error(
        "published ports need the gateway, which this switch does not have: start one without --internal and --no-gateway"
    )]
    NoGateway,
    #[error(
        "the switch serves DNS at port 53 of its gateway: publish the port at another address of the host, as in 203.0.113.1:53:53, or start without --dns"
    )]
    DnsPort,
    #[error("{0} ports of the host would be published: a switch publishes at most {MOST_PUBLISHED}")]
    TooMany(usize),
    #[error("{0} does not publish {1}: `uswitch port show` lists its published ports")]
    NotPublished(String, PublishedPort),
}

/// What is published.
#[derive(Debug, Default)]
pub(super) struct PublishedPorts {
    /// The rules in force.
    current: Vec<DnatTarget>,
    /// When rules and names follow addresses that have changed, if some have.
    follow_at: Option<Instant>,
    last_followed: Option<Instant>,
}

impl PublishedPorts {
    /// Whether the rules have to follow changed addresses.
    #[cfg(test)]
    pub(super) fn is_due(&self) -> bool {
        self.follow_at.is_some()
    }

    /// Resolves when the rules have to follow changed addresses; never, if none have changed.
    pub(super) async fn due(&self) {
        match self.follow_at {
            Some(time) => tokio::time::sleep_until(time).await,
            None => std::future::pending().await,
        }
    }
}

impl<M: HostNetwork> Running<M> {
    pub(super) fn carry_out_publish(&mut self, command: PublishCommand) {
        match command {
            PublishCommand::Add(name, new, reply) => _ = reply.send(self.publish(&name, &new)),
            PublishCommand::Remove(name, gone, reply) => _ = reply.send(self.unpublish(&name, &gone)),
        }
    }

    /// Publishes the ports of the options. All containers exist.
    pub(super) fn publish_first_ports(&mut self) -> Result<(), RunError> {
        let ports = self.config.publish.clone();
        ports.iter().try_for_each(|new| self.publish_port(&new.ifname, &new.published).map(drop))
    }

    /// Publishes ports of a container, and returns the notices. After an error nothing is changed.
    pub(super) fn publish(&mut self, name: &str, new: &PublishedPort) -> Result<AddedPort, RunError> {
        let id = self.publish_port(name, new)?;
        Ok(AddedPort { port: self.port_report(id, &self.ports[&id]), notices: self.network.take_notices() })
    }

    fn publish_port(&mut self, name: &str, new: &PublishedPort) -> Result<PortId, RunError> {
        let id = self.port_named(name)?;
        config::published_port(new)?;
        self.check_publish(id, new)?;
        self.change_published(id, |published| published.push(new.clone()))?;
        info!(port = name, published = %new, "port published");
        Ok(id)
    }

    /// Withdraws a published port. After an error nothing is changed.
    pub(super) fn unpublish(&mut self, name: &str, gone: &PublishedPort) -> Result<(), RunError> {
        let id = self.port_named(name)?;
        if !self.ports[&id].published.contains(gone) {
            return Err(PublishError::NotPublished(name.to_owned(), gone.clone()).into());
        }
        self.change_published(id, |published| published.retain(|port| port != gone))?;
        info!(port = name, published = %gone, "port not published any more");
        Ok(())
    }

    /// Withdraws everything that a port publishes, because it is removed. Publishing goes on for the others.
    pub(super) fn unpublish_port(&mut self, id: PortId) -> Result<(), TopologyError> {
        match self.ports.get_mut(&id).map(|record| std::mem::take(&mut record.published)) {
            Some(published) if !published.is_empty() => self.apply_dnat(),
            _ => Ok(()),
        }
    }

    fn check_publish(&self, id: PortId, new: &PublishedPort) -> Result<(), PublishError> {
        let record = &self.ports[&id];
        if record.is_host() {
            return Err(PublishError::HostPort(record.name.clone()));
        }
        if self.config.all_gateways().next().is_none() || self.config.internal {
            return Err(PublishError::NoGateway);
        }
        if self.serves_dns_at(new) {
            return Err(PublishError::DnsPort);
        }
        for other in self.ports.values() {
            if let Some(port) = other.published.iter().find_map(|published| published.conflict(new)) {
                return Err(PublishError::Taken(port, new.protocol.name(), other.name.clone()));
            }
        }
        let published = self.ports.values().flat_map(|port| &port.published).chain([new]);
        let count: usize = published.map(|port| port.host_ports.count()).sum();
        if count > MOST_PUBLISHED {
            return Err(PublishError::TooMany(count));
        }
        let addresses = self.own_addresses(id);
        match new.host_address {
            _ if addresses.is_empty() => Err(PublishError::NoAddress(record.name.clone())),
            Some(host) if !addresses.iter().any(|address| new.has_version_of(address)) => {
                let version = if host.is_ipv4() { "IPv4" } else { "IPv6" };
                Err(PublishError::NoAddressOfVersion(record.name.clone(), version, host))
            }
            _ => Ok(()),
        }
    }

    /// Changes what a port publishes, with the rules.
    fn change_published(
        &mut self,
        id: PortId,
        change: impl FnOnce(&mut Vec<PublishedPort>),
    ) -> Result<(), TopologyError> {
        let Some(record) = self.ports.get_mut(&id) else { return Ok(()) };
        let before = record.published.clone();
        change(&mut record.published);
        let texts: Vec<String> = record.published.iter().map(ToString::to_string).collect();
        if let Err(error) = self.apply_dnat() {
            self.ports.entry(id).and_modify(|record| record.published = before);
            return Err(error);
        }
        self.emit_port_changed(id, DeviceAspect::Published, texts.join(" "));
        Ok(())
    }

    /// Brings the rules in line with the ports.
    fn apply_dnat(&mut self) -> Result<(), TopologyError> {
        let wanted: Vec<DnatTarget> = self.ports.keys().flat_map(|id| self.dnat_targets_of(*id)).collect();
        if wanted != self.published.current {
            self.network.publish(wanted.clone())?;
            self.published.current = wanted;
        }
        Ok(())
    }

    fn dnat_targets_of(&self, id: PortId) -> Vec<DnatTarget> {
        let record = &self.ports[&id];
        if record.published.is_empty() {
            return Vec::new();
        }
        let addresses = self.own_addresses(id);
        let published = |port: &PublishedPort| {
            let first = |is_of_version: fn(&IpAddr) -> bool| {
                addresses
                    .iter()
                    .copied()
                    .find(|address| is_of_version(address) && port.has_version_of(address))
            };
            let targets = first(IpAddr::is_ipv4).into_iter().chain(first(IpAddr::is_ipv6));
            DnatTarget { port: port.clone(), targets: targets.collect() }
        };
        record.published.iter().map(published).collect()
    }

    /// Notes that the addresses of a port have changed, or whose they are. Rules and names follow soon, but not more
    /// often than once in a while.
    pub(super) fn addresses_changed(&mut self) {
        if !self.published.current.is_empty() || self.dns.is_some() {
            let earliest = self.published.last_followed.map(|last| last + FOLLOW_INTERVAL);
            self.published.follow_at.get_or_insert_with(|| earliest.unwrap_or_else(Instant::now));
        }
    }

    /// Lets rules and names follow changed addresses.
    pub(super) fn follow_addresses(&mut self) {
        self.update_dns();
        self.published.follow_at = None;
        self.published.last_followed = Some(Instant::now());
        if let Err(error) = self.apply_dnat() {
            warn!(%error, "published ports lead to earlier addresses of their containers");
        }
    }
}
