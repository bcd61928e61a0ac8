//! The answers to DHCPv6 clients (RFC 8415 §18.3). Workers punt their messages, so the port of a client is known.

use std::net::{IpAddr, Ipv6Addr};

use dhcproto::v6::Status;
use ipnet::{IpNet, Ipv6Net};

use super::{Applicant, HostNetwork, LeaseEnd, Running, now};
use crate::control::services::dhcp::{
    Answer6, Association, Client, ClientId, Grant, Request6, RequestKind6, Terms6, server_duid,
    servers_of_host, write6,
};
use crate::datapath::PuntedFrame;
use crate::switch::PortId;
use crate::switch::guard::link_local;
use crate::wire::dhcpv6::{frame_to_client, message_to_servers};
use crate::wire::ip::Ipv6;
use crate::wire::{EthernetFrame, Mac};

/// A message, and where it came from.
struct ClientMessage<'a> {
    port: PortId,
    vlan: u16,
    client: (Mac, Ipv6Addr),
    message: &'a [u8],
}

impl<'a> ClientMessage<'a> {
    /// The message in a frame. Its source is link-local (§17.1).
    fn of(frame: &'a PuntedFrame) -> Option<ClientMessage<'a>> {
        let ethernet = EthernetFrame::new_checked(&frame.bytes)?;
        let (_, packet) = ethernet.network()?;
        let packet = Ipv6::parse(packet).filter(|packet| packet.source.is_unicast_link_local())?;
        let client = (ethernet.src(), packet.source);
        Some(ClientMessage {
            port: frame.port,
            vlan: frame.vlan,
            client,
            message: message_to_servers(&packet)?,
        })
    }
}

impl<M: HostNetwork> Running<M> {
    /// Answers a message, if DHCP is served.
    pub(in super::super) fn serve_dhcp6(&mut self, frame: &PuntedFrame) {
        self.expire_leases();
        let answered = ClientMessage::of(frame).and_then(|query| self.answer_query(&query));
        if let Some(dhcp) = self.dhcp.as_mut().filter(|_| answered.is_none()) {
            dhcp.counts6.ignored += 1;
        }
    }

    fn answer_query(&mut self, query: &ClientMessage<'_>) -> Option<()> {
        let terms = self.terms_in(query.vlan)?;
        let request = Request6::parse(query.message, &terms.server)?;
        let answer = self.dhcp6_answer(query, &request)?;
        self.count6(&answer);
        let message = write6(&request, answer, &terms)?;
        let server = (self.gateway_mac(query.vlan), link_local(self.config.mac_prefix.mac(0)));
        let frame = frame_to_client(server, query.client, &message)?;
        self.inject(query.vlan, vec![query.port], frame);
        Some(())
    }

    /// What the clients of a VLAN are told.
    fn terms_in(&self, vlan: u16) -> Option<Terms6> {
        let lease_time = self.config.dhcp_lease?;
        let is_ipv6 = |address: IpAddr| match address {
            IpAddr::V6(address) => Some(address),
            IpAddr::V4(_) => None,
        };
        let gateways = self.gateway_of_vlan(vlan)?.iter().map(IpNet::addr);
        let servers: Vec<IpAddr> = if self.config.dns { gateways.collect() } else { servers_of_host() };
        Some(Terms6 {
            server: server_duid(self.config.mac_prefix.mac(0)),
            dns: servers.into_iter().filter_map(is_ipv6).collect(),
            domain: self.config.dns.then(|| self.config.domain.clone()),
            lease_time,
        })
    }

    fn dhcp6_answer(&mut self, query: &ClientMessage<'_>, request: &Request6) -> Option<Answer6> {
        let gateway = self.gateway_of_vlan(query.vlan)?.iter().find_map(|address| match address {
            IpNet::V6(address) => Some(*address),
            IpNet::V4(_) => None,
        })?;
        let is_granted = request.rapid_commit || request.kind != RequestKind6::Solicit;
        match request.kind {
            RequestKind6::Inform => Some(Answer6::Inform),
            RequestKind6::Confirm => confirm(request, gateway),
            _ if request.associations.is_empty() => None,
            RequestKind6::Release | RequestKind6::Decline => self.give_up(query, request),
            _ => {
                let applicants = self.applicants6(query, request, gateway)?;
                let associations = applicants.iter().zip(&request.associations);
                let grants = associations.map(|(applicant, association)| {
                    self.grant(applicant, (request.kind, is_granted), association)
                });
                let grants = grants.collect();
                Some(if is_granted { Answer6::Reply(grants) } else { Answer6::Advertise(grants) })
            }
        }
    }

    /// A client for each association. The first one of a container gets the address of its port.
    fn applicants6(
        &self,
        query: &ClientMessage<'_>,
        request: &Request6,
        gateway: Ipv6Net,
    ) -> Option<Vec<Applicant>> {
        let (record, duid) = (self.ports.get(&query.port)?, request.client.as_ref()?);
        let is_container = record.is_container(query.client.0);
        let applicant = |(n, association): (usize, &Association)| Applicant {
            port: query.port,
            client: Client { port: record.name.clone(), id: ClientId::Duid(duid.clone(), association.iaid) },
            mac: query.client.0,
            is_container: is_container && n == 0,
            gateway: IpNet::V6(gateway),
        };
        Some(request.associations.iter().enumerate().map(applicant).collect())
    }

    /// Offers an address to an association, or gives it one.
    fn grant(
        &mut self,
        applicant: &Applicant,
        (kind, is_granted): (RequestKind6, bool),
        association: &Association,
    ) -> Grant {
        let Association { iaid, addresses } = association;
        let asked: Vec<IpAddr> = addresses.iter().copied().map(IpAddr::V6).collect();
        let is_on_link = |address: &IpAddr| applicant.gateway.contains(address);
        if kind == RequestKind6::Request && !asked.is_empty() && !asked.iter().any(is_on_link) {
            return Grant { iaid: *iaid, address: Some(Err(Status::NotOnLink)), withdrawn: Vec::new() };
        }
        let chosen = match self.address_for(applicant, &asked) {
            Ok(IpAddr::V6(address)) => Ok(address),
            _ => Err(Status::NoAddrsAvail),
        };
        if let Ok(address) = chosen {
            let give = if is_granted { Self::lease } else { Self::offer };
            give(self, applicant, address.into());
        }
        // A client that has other addresses must not use them any more (§18.3.4).
        let has = matches!(kind, RequestKind6::Renew | RequestKind6::Rebind);
        let withdrawn = addresses.iter().copied().filter(|address| has && Ok(*address) != chosen).collect();
        Grant { iaid: *iaid, address: Some(chosen), withdrawn }
    }

    /// Ends the leases of a client that releases or declines its addresses (§18.3.7, §18.3.8).
    fn give_up(&mut self, query: &ClientMessage<'_>, request: &Request6) -> Option<Answer6> {
        let (port, duid) = (self.ports.get(&query.port)?.name.clone(), request.client.as_ref()?);
        let mut unknown = Vec::new();
        for Association { iaid, addresses } in &request.associations {
            let client = Client { port: port.clone(), id: ClientId::Duid(duid.clone(), *iaid) };
            let leases = &mut self.dhcp.as_mut()?.leases;
            let has = leases.address_of(&client);
            let is_given_up = addresses.iter().any(|address| Some(IpAddr::V6(*address)) == has);
            let (ended, why) = match request.kind {
                _ if !is_given_up => (None, LeaseEnd::Released),
                RequestKind6::Decline => (leases.decline(&client, now()), LeaseEnd::Declined),
                _ => (leases.release(&client), LeaseEnd::Released),
            };
            match ended {
                Some(address) => self.lease_ended(&port, address, why),
                None => unknown.push(Grant {
                    iaid: *iaid,
                    address: Some(Err(Status::NoBinding)),
                    withdrawn: Vec::new(),
                }),
            }
        }
        Some(Answer6::Status(Status::Success, unknown))
    }

    fn count6(&mut self, answer: &Answer6) {
        let Some(dhcp) = &mut self.dhcp else { return };
        let has_address = |grants: &[Grant]| grants.iter().any(|grant| matches!(grant.address, Some(Ok(_))));
        let is_exhausted =
            |grants: &[Grant]| grants.iter().all(|grant| grant.address == Some(Err(Status::NoAddrsAvail)));
        let counts = &mut dhcp.counts6;
        match answer {
            Answer6::Advertise(grants) | Answer6::Reply(grants) if is_exhausted(grants) => {}
            Answer6::Advertise(_) => counts.offered += 1,
            Answer6::Reply(grants) if !has_address(grants) => counts.refused += 1,
            Answer6::Status(Status::NotOnLink, _) => counts.refused += 1,
            Answer6::Reply(_) | Answer6::Status(..) | Answer6::Inform => counts.acknowledged += 1,
        }
    }
}

/// Whether the addresses of a client are right for the link (§18.3.3). No answer without addresses.
fn confirm(request: &Request6, subnet: Ipv6Net) -> Option<Answer6> {
    let mut addresses = request.associations.iter().flat_map(|association| &association.addresses).peekable();
    addresses.peek()?;
    let are_right = addresses.all(|address| subnet.contains(address));
    let status = if are_right { Status::Success } else { Status::NotOnLink };
    Some(Answer6::Status(status, Vec::new()))
}
