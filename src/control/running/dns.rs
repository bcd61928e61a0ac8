//! Starts the DNS server, and keeps its names up to date.

use std::io;
use std::net::IpAddr;

use ipnet::IpNet;

use super::{HostNetwork, RunError, Running};
use crate::control::config::ALIAS_LABEL;
use crate::control::report::{DnsReport, PublishedPort};
use crate::control::services::dns::{DNS_PORT, DnsServer, DnsSockets, Zone};
use crate::control::topology::neighbours;

/// Why there is no DNS server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DnsError {
    #[error(
        "cannot serve DNS at {address}: {source}: end the program that does (`ss -lntup 'sport = :53'`), or start without --dns"
    )]
    Bind { address: IpAddr, source: io::Error },
    #[error("cannot start the DNS server: {0}")]
    Start(#[source] io::Error),
}

impl<M: HostNetwork> Running<M> {
    /// Serves DNS at the addresses of all gateways, if that is configured.
    pub(super) fn start_dns(&mut self) -> Result<(), RunError> {
        if !self.config.dns {
            return Ok(());
        }
        let bind = |(ifname, address): (&str, &IpNet)| {
            let address = address.addr();
            neighbours::limit_waiting(ifname, address);
            DnsSockets::bind(ifname, address).map_err(|source| DnsError::Bind { address, source })
        };
        let hosts = self.ports.values().filter(|port| port.is_host());
        let addresses = hosts.flat_map(|port| {
            port.device.addresses.iter().map(|address| (port.device.ifname.as_str(), address))
        });
        let sockets = addresses.map(bind).collect::<Result<_, _>>()?;
        self.dns = Some(DnsServer::start(sockets, self.dns_zone()).map_err(DnsError::Start)?);
        Ok(())
    }

    /// Whether the server has one of these ports of the host.
    pub(super) fn serves_dns_at(&self, published: &PublishedPort) -> bool {
        let has = |gateway: IpAddr| published.host_address.is_none_or(|address| address == gateway);
        let is_everywhere = published.host_address.is_some_and(|address| address.is_unspecified());
        let mut ports = published.host_ports.iter();
        self.config.dns
            && ports.any(|port| port == DNS_PORT)
            && (is_everywhere || self.config.all_gateways().any(has))
    }

    /// Brings the names in line with the ports.
    pub(super) fn update_dns(&self) {
        if let Some(dns) = &self.dns {
            dns.set_zone(self.dns_zone());
        }
    }

    /// The names of all ports and their aliases.
    fn dns_zone(&self) -> Zone {
        let mut zone = Zone::new(&self.config.domain, self.config.all_subnets());
        for (id, port) in &self.ports {
            zone.add(&port.name, &self.own_addresses(*id));
        }
        // An alias does not come before the name of a port.
        for (id, port) in &self.ports {
            let aliases = port.labels.get(ALIAS_LABEL).map(String::as_str).unwrap_or_default().split(',');
            let named = |alias: &str| self.ports.values().any(|port| port.name.eq_ignore_ascii_case(alias));
            for alias in aliases.map(str::trim).filter(|alias| !alias.is_empty() && !named(alias)) {
                zone.add(alias, &self.own_addresses(*id));
            }
        }
        zone
    }

    pub(super) fn dns_report(&self) -> Option<DnsReport> {
        let counts = self.dns.as_ref()?.counts();
        Some(DnsReport {
            domain: self.config.domain.clone(),
            addresses: self.config.all_gateways().collect(),
            answered: counts.answered,
            forwarded: counts.forwarded,
            failed: counts.failed,
            refused: counts.refused,
            unsent: counts.unsent,
        })
    }
}
