//! Sends router advertisements, if that is configured: by them hosts without assigned addresses make their own (SLAAC),
//! and find the gateway and its DNS server.
//!
//! The switch itself sends them to each port, and gets a copy of the solicitations (`switch/group.rs`). So they do not
//! depend on the host's IPv6 settings, and the last one reaches the hosts before the ports are gone.

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::net::Ipv6Addr;

use ipnet::IpNet;
use tokio::time::Instant;

use super::{HostNetwork, Running};
use crate::control::report::RouterAdvertisementReport;
use crate::control::services::router_advertisements::{
    AdvertisementTimer, LIFETIME, PREFERRED_LIFETIME, VALID_LIFETIME,
};
use crate::switch::guard::link_local;
use crate::switch::{PortId, Punt, Tick};
use crate::wire::router_advertisement::{AdvertisedPrefix, RouterAdvertisement};

/// The router advertisements of all gateways.
#[derive(Debug, Default)]
pub(super) struct RouterAdvertisements {
    /// What each gateway advertises, by its host port.
    links: BTreeMap<PortId, AdvertisedLink>,
    random: RandomState,
    sent: u64,
    solicited: u64,
}

#[derive(Debug)]
struct AdvertisedLink {
    timer: AdvertisementTimer,
    advertisement: RouterAdvertisement,
}

impl<M: HostNetwork> Running<M> {
    /// Starts to send them, if that is configured.
    pub(super) fn start_router_advertisements(&mut self) {
        if !self.config.ra {
            return;
        }
        let timer = AdvertisementTimer::new(self.datapath.now());
        let hosts = self.ports.iter().filter(|(_, port)| port.is_host());
        let links = hosts.filter_map(|(id, port)| {
            let advertisement = self.advertisement(self.gateway_addresses(&port.name))?;
            Some((*id, AdvertisedLink { timer: timer.clone(), advertisement }))
        });
        self.router_advertisements =
            Some(RouterAdvertisements { links: links.collect(), ..RouterAdvertisements::default() });
        self.update_router_advertisements();
    }

    /// What a gateway with these addresses advertises; `None` without an IPv6 address.
    fn advertisement(&self, gateway: &[IpNet]) -> Option<RouterAdvertisement> {
        let ipv6 = || gateway.iter().filter(|address| address.addr().is_ipv6());
        let prefix = |address: &IpNet| match address.trunc() {
            IpNet::V6(prefix) => Some(AdvertisedPrefix {
                prefix: prefix.addr(),
                length: prefix.prefix_len(),
                valid: VALID_LIFETIME,
                preferred: PREFERRED_LIFETIME,
            }),
            IpNet::V4(_) => None,
        };
        let servers = ipv6().filter(|_| self.config.dns).filter_map(|address| match address {
            IpNet::V6(address) => Some(address.addr()),
            IpNet::V4(_) => None,
        });
        ipv6().next()?;
        Some(RouterAdvertisement {
            lifetime: LIFETIME,
            dhcp: self.config.dhcp_lease.is_some(),
            mtu: self.config.mtu,
            prefixes: ipv6().filter_map(prefix).collect(),
            dns_servers: servers.collect::<Vec<Ipv6Addr>>(),
            domain: self.config.dns.then(|| self.config.domain.clone()),
            dns_lifetime: LIFETIME.into(),
        })
    }

    /// A host of a VLAN (0: without VLANs) asks for one.
    pub(super) fn router_solicited(&mut self, vlan: u16) {
        let now = self.datapath.now();
        let links: Vec<PortId> =
            self.advertised_links().filter(|host| self.vlan_of_host(*host) == Some(vlan)).collect();
        let Some(advertisements) = &mut self.router_advertisements else { return };
        advertisements.solicited += 1;
        let random = advertisements.random.hash_one(advertisements.solicited);
        for host in links {
            if let Some(link) = advertisements.links.get_mut(&host) {
                link.timer.solicited(now, random);
            }
        }
    }

    /// Sends what is due.
    pub(super) fn update_router_advertisements(&mut self) {
        let now = self.datapath.now();
        let hosts: Vec<PortId> = self.advertised_links().collect();
        for host in hosts {
            let Some(advertisements) = &mut self.router_advertisements else { return };
            let random = advertisements.random.hash_one((advertisements.sent, host.index()));
            let Some(link) = advertisements.links.get_mut(&host) else { continue };
            if link.timer.take_due(now, random) {
                advertisements.sent += 1;
                let advertisement = link.advertisement.clone();
                self.send_advertisement(host, &advertisement);
            }
        }
    }

    /// Tells the hosts that the gateways are not routers any more (RFC 4861 §6.2.5).
    pub(super) fn end_router_advertisements(&self) {
        for (host, link) in self.router_advertisements.iter().flat_map(|advertisements| &advertisements.links)
        {
            let last = RouterAdvertisement { lifetime: 0, dns_lifetime: 0, ..link.advertisement.clone() };
            self.send_advertisement(*host, &last);
        }
    }

    fn send_advertisement(&self, host: PortId, advertisement: &RouterAdvertisement) {
        let Some(vlan) = self.vlan_of_host(host) else { return };
        let source = link_local(self.config.mac_prefix.mac(0));
        let frame = advertisement.frame(self.gateway_mac(vlan), source);
        let is_container = |id: &PortId| self.ports.get(id).is_some_and(|port| !port.is_host());
        let ports = self.ports.keys().copied().filter(|id| is_container(id) && self.forwards(*id));
        self.inject(vlan, ports.collect(), frame);
    }

    fn advertised_links(&self) -> impl Iterator<Item = PortId> + '_ {
        self.router_advertisements.iter().flat_map(|advertisements| advertisements.links.keys().copied())
    }

    /// Waits until the next one is due. Never returns while none will be.
    pub(super) fn router_advertisement_due(&self) -> impl Future<Output = ()> + 'static {
        let links =
            self.router_advertisements.iter().flat_map(|advertisements| advertisements.links.values());
        let next = links.map(|link| link.timer.next()).min();
        let next = next.map(|tick: Tick| Instant::now() + self.until(tick));
        async move {
            match next {
                Some(next) => tokio::time::sleep_until(next).await,
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn router_advertisement_report(&self) -> Option<RouterAdvertisementReport> {
        let RouterAdvertisements { links, sent, solicited, .. } = self.router_advertisements.as_ref()?;
        let prefixes = links.values().flat_map(|link| &link.advertisement.prefixes);
        let network = |prefix: &AdvertisedPrefix| IpNet::new(prefix.prefix.into(), prefix.length).ok();
        Some(RouterAdvertisementReport {
            prefixes: prefixes.filter_map(network).collect(),
            sent: *sent,
            solicited: *solicited,
            lost: self.datapath.lost_punts(Punt::RouterSolicitation),
        })
    }
}
