//! The answers to DHCPv4 clients (RFC 2131 §4.3).

use std::net::{IpAddr, Ipv4Addr};

use ipnet::{IpNet, Ipv4Net};

use super::{Applicant, HostNetwork, LeaseEnd, Running, now};
use crate::control::services::dhcp::{Client, ClientId, DhcpAnswer, Request, RequestKind};
use crate::switch::PortId;
use crate::wire::Mac;

impl<M: HostNetwork> Running<M> {
    pub(super) fn dhcp_answer(&mut self, request: &Request, source: IpAddr, gateway: Ipv4Net) -> DhcpAnswer {
        let Some(port) = self.port_of_client(request.mac) else { return DhcpAnswer::None };
        let applicant = self.applicant(port, request, gateway);
        let mtu = self.ports[&port].device.mtu;
        match request.kind {
            RequestKind::Discover => match self.address_for_v4(&applicant, request) {
                Some(address) => {
                    self.offer(&applicant, address.into());
                    DhcpAnswer::Offer(address, mtu)
                }
                None => DhcpAnswer::NoAddress,
            },
            // It has chosen another server.
            RequestKind::Request if request.server.is_some_and(|server| server != gateway.addr()) => {
                DhcpAnswer::None
            }
            RequestKind::Request => match self.address_for_v4(&applicant, request) {
                Some(address) if request.wanted() == Some(address) => {
                    self.lease(&applicant, address.into());
                    DhcpAnswer::Ack(address, mtu)
                }
                Some(_) => DhcpAnswer::Nak,
                None => DhcpAnswer::NoAddress,
            },
            RequestKind::Release | RequestKind::Decline => {
                self.end_lease(&applicant.client, request, source);
                DhcpAnswer::None
            }
            RequestKind::Inform => DhcpAnswer::Inform(mtu),
        }
    }

    /// The port behind which a client is: the one whose container has its MAC address, or where it was learned.
    fn port_of_client(&self, mac: Mac) -> Option<PortId> {
        let own = self.ports.iter().find(|(_, port)| !port.is_host() && port.is_container(mac));
        let learned = || self.switch.fdb.entries_of(mac).map(|entry| entry.port);
        let is_container = |id: &PortId| self.ports.get(id).is_some_and(|port| !port.is_host());
        own.map(|(id, _)| *id).or_else(|| learned().find(is_container))
    }

    fn applicant(&self, port: PortId, request: &Request, gateway: Ipv4Net) -> Applicant {
        let record = &self.ports[&port];
        let is_container = record.is_container(request.mac);
        let id = if is_container { ClientId::Container } else { ClientId::Mac(request.mac) };
        Applicant {
            port,
            client: Client { port: record.name.clone(), id },
            mac: request.mac,
            is_container: is_container || record.assigned.mac.is_none(),
            gateway: IpNet::V4(gateway),
        }
    }

    fn address_for_v4(&mut self, applicant: &Applicant, request: &Request) -> Option<Ipv4Addr> {
        let wanted: Vec<IpAddr> = request.wanted().map(IpAddr::V4).into_iter().collect();
        match self.address_for(applicant, &wanted).ok()? {
            IpAddr::V4(address) => Some(address),
            IpAddr::V6(_) => None,
        }
    }

    /// Ends the lease of a client that releases or declines its address. A release comes from the address, and a
    /// refusal from 0.0.0.0 (RFC 2131 §4.4.1). The guard checks both, so that a container cannot end the lease of
    /// another.
    fn end_lease(&mut self, client: &Client, request: &Request, source: IpAddr) {
        let Some(dhcp) = &mut self.dhcp else { return };
        let current = dhcp.leases.address_of(client);
        let (ended, why) = match request.kind {
            RequestKind::Decline
                if request.wanted().map(IpAddr::V4) == current && source.is_unspecified() =>
            {
                (dhcp.leases.decline(client, now()), LeaseEnd::Declined)
            }
            RequestKind::Release if current == Some(source) => {
                (dhcp.leases.release(client), LeaseEnd::Released)
            }
            _ => return,
        };
        if let Some(address) = ended {
            self.lease_ended(&client.port, address, why);
        }
    }
}
