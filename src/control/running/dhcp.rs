//! Starts the DHCP server, and decides which address a client gets.
//!
//! A lease is an address that the switch assigns to the client's port, so the guard lets it pass, and names and published
//! ports lead to it. A port with an address in the subnet gives its container that one. Others get one of the subnet.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::{Duration, SystemTime};

use ipnet::{IpNet, Ipv4Net};
use tokio::time::Instant;
use tracing::{info, warn};

use super::ports::PortRecord;
use super::{HostNetwork, RunError, Running};
use crate::control::addressing;
use crate::control::report::{DhcpReport, PortKind};
use crate::control::services::dhcp::{
    Answer, Client, DhcpQuery, DhcpServer, DhcpSettings, DhcpSocket, LeaseError, LeaseFile, Leases, Request,
    RequestKind,
};
use crate::switch::PortId;
use crate::wire::Mac;

/// Least time between two writes of the file.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// Why there is no DHCP server.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DhcpError {
    #[error(
        "cannot serve DHCP on {ifname}: {source}: end the program that does (`ss -lnup 'sport = :67'`), or start without --dhcp"
    )]
    Bind { ifname: String, source: io::Error },
    #[error("cannot start the DHCP server: {0}")]
    Start(#[source] io::Error),
}

/// What control has to do for the server.
#[derive(Debug)]
pub(super) enum DhcpWork {
    Answer(DhcpQuery),
    /// A lease has expired, or the file has to be written.
    UpdateLeases,
}

/// The DHCP server and its leases.
#[derive(Debug)]
pub(super) struct Dhcp {
    server: DhcpServer,
    leases: Leases,
    lease_time: u64,
    /// `None`: they are not kept, because there is no state directory.
    file: Option<LeaseFile>,
    /// When to write the file, if the leases have changed.
    save_at: Option<Instant>,
    /// When the next lease expires.
    expiry_at: Option<Instant>,
    /// Requests that had no answer because no address was free.
    exhausted: u64,
    /// The user was warned, and no address has been given since then.
    warned: bool,
}

impl Dhcp {
    /// Waits for what control has to do; forever, without a server. Cancel-safe.
    pub(super) async fn next_work(dhcp: &mut Option<Dhcp>) -> DhcpWork {
        let Some(dhcp) = dhcp else { return std::future::pending().await };
        let due = async {
            match dhcp.save_at.into_iter().chain(dhcp.expiry_at).min() {
                Some(time) => tokio::time::sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            query = dhcp.server.next_query() => DhcpWork::Answer(query),
            () = due => DhcpWork::UpdateLeases,
        }
    }

    /// Notes that the leases have changed.
    fn changed(&mut self) {
        self.save_at.get_or_insert_with(|| Instant::now() + SAVE_INTERVAL);
        let left = self.leases.next_expiry().map(|expiry| Duration::from_secs(expiry.saturating_sub(now())));
        self.expiry_at = left.map(|left| Instant::now() + left);
    }

    /// Writes the file, if the leases have changed.
    fn save(&mut self) {
        if self.save_at.take().is_some()
            && let Some(Err(error)) = self.file.as_ref().map(|file| file.save(&self.leases))
        {
            warn!(%error, "DHCP leases are not kept: clients may have other addresses after a restart");
        }
    }
}

impl Drop for Dhcp {
    fn drop(&mut self) {
        self.save();
    }
}

/// Seconds since 1970.
fn now() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

impl<M: HostNetwork> Running<M> {
    /// Serves DHCP at all gateways with an IPv4 subnet, if that is configured. Leases are kept in the directory `state`.
    pub(super) fn start_dhcp(&mut self, state: Option<&Path>) -> Result<(), RunError> {
        let Some(lease_time) = self.config.dhcp_lease else { return Ok(()) };
        let hosts = self.ports.values().filter(|port| port.is_host());
        let gateways =
            hosts.filter_map(|port| Some((&port.device.ifname, first_ipv4(&port.device.addresses)?)));
        let bind = |(ifname, gateway): (&String, Ipv4Net)| {
            let failed = |source| DhcpError::Bind { ifname: ifname.clone(), source };
            DhcpSocket::bind(ifname, gateway).map_err(failed)
        };
        let sockets = gateways.map(bind).collect::<Result<_, _>>()?;
        let domain = self.config.dns.then(|| self.config.domain.clone());
        let server =
            DhcpServer::start(sockets, DhcpSettings { lease_time, domain }).map_err(DhcpError::Start)?;
        let file = state.map(|state| LeaseFile::new(state, &self.config.name));
        let leases = file.as_ref().map_or_else(|| Ok(Leases::default()), LeaseFile::load);
        let leases = leases.unwrap_or_else(|error| {
            warn!(%error, "the DHCP leases of the last run cannot be read: clients may get other addresses");
            Leases::default()
        });
        let mut dhcp = Dhcp {
            server,
            leases,
            lease_time: lease_time.into(),
            file,
            save_at: None,
            expiry_at: None,
            exhausted: 0,
            warned: false,
        };
        dhcp.changed();
        self.dhcp = Some(dhcp);
        self.expire_leases();
        let ports: Vec<PortId> = self.ports.keys().copied().collect();
        ports.into_iter().for_each(|id| self.restore_leases(id));
        Ok(())
    }

    /// Assigns the leased addresses of a new port to it again. Those that another port has are not restored.
    pub(super) fn restore_leases(&mut self, id: PortId) {
        let (Some(dhcp), Some(record)) = (&self.dhcp, self.ports.get(&id)) else { return };
        for address in dhcp.leases.behind(&record.name) {
            let is_taken = self.ports.values().any(|port| port.has_assigned(address.into()));
            let subnet = self.config.all_subnets().find(|subnet| subnet.contains(&IpAddr::V4(address)));
            if let Some(subnet) = subnet.filter(|_| !is_taken) {
                self.assign_leased(id, address, subnet.prefix_len());
            }
        }
    }

    pub(super) fn serve_dhcp(&mut self, work: DhcpWork) {
        self.expire_leases();
        if let DhcpWork::Answer(DhcpQuery { request, source, gateway, reply }) = work {
            // The server has ended if nobody waits for the answer.
            let _ = reply.send(self.dhcp_answer(&request, source, gateway));
        }
        if let Some(dhcp) =
            self.dhcp.as_mut().filter(|dhcp| dhcp.save_at.is_some_and(|at| at <= Instant::now()))
        {
            dhcp.save();
        }
    }

    fn expire_leases(&mut self) {
        let Some(dhcp) = &mut self.dhcp else { return };
        if dhcp.expiry_at.is_none_or(|at| at > Instant::now()) {
            return;
        }
        let expired = dhcp.leases.expire(now());
        dhcp.changed();
        for (client, address) in expired {
            info!(port = client.port, %address, "DHCP lease expired");
            self.withdraw_leased(&client.port, address);
        }
    }

    fn dhcp_answer(&mut self, request: &Request, source: IpAddr, gateway: Ipv4Net) -> Answer {
        let Some(id) = self.port_of_client(request.mac) else { return Answer::None };
        let mtu = self.ports[&id].device.mtu;
        match request.kind {
            RequestKind::Discover => match self.address_for(id, request, gateway) {
                Some(address) => self.offer(id, request.mac, address, mtu),
                None => Answer::None,
            },
            // It has chosen another server.
            RequestKind::Request if request.server.is_some_and(|server| server != gateway.addr()) => {
                Answer::None
            }
            RequestKind::Request => match self.address_for(id, request, gateway) {
                Some(address) if request.wanted() == Some(address) => {
                    self.lease(id, request.mac, address, gateway);
                    Answer::Ack(address, mtu)
                }
                Some(_) => Answer::Nak,
                None => Answer::None,
            },
            RequestKind::Release | RequestKind::Decline => {
                self.end_lease(id, request, source);
                Answer::None
            }
            RequestKind::Inform => Answer::Inform(mtu),
        }
    }

    /// The port behind which a client is: the one whose container has its MAC address, or where it was learned.
    fn port_of_client(&self, mac: Mac) -> Option<PortId> {
        let own = self.ports.iter().find(|(_, port)| !port.is_host() && port.is_container(mac));
        let learned = || self.switch.fdb.entries_of(mac).map(|entry| entry.port);
        let is_container = |id: &PortId| self.ports.get(id).is_some_and(|port| !port.is_host());
        own.map(|(id, _)| *id).or_else(|| learned().find(is_container))
    }

    /// The address for a client: the one that its port has in the subnet of the gateway, or a free one, if possible that of
    /// its port's number.
    fn address_for(&mut self, id: PortId, request: &Request, gateway: Ipv4Net) -> Option<Ipv4Addr> {
        let record = &self.ports[&id];
        let is_container = record.assigned.mac.is_none() || record.is_container(request.mac);
        let mut configured = record.configured_addresses().filter_map(ipv4);
        if let Some(own) = configured.find(|own| is_container && gateway.contains(&own.addr())) {
            return Some(own.addr());
        }
        let number = record.number.filter(|_| is_container).map(u64::from);
        let numbered = number.and_then(|number| addressing::host_address(IpNet::V4(gateway), number));
        let numbered = numbered.as_ref().and_then(ipv4).map(|numbered| numbered.addr());
        let preferred: Vec<Ipv4Addr> = request.wanted().into_iter().chain(numbered).collect();
        let client = record.client(request.mac);
        let taken = self.addresses_in_use(id);
        let dhcp = self.dhcp.as_mut()?;
        match dhcp.leases.choose(&client, gateway.trunc(), &taken, &preferred) {
            Ok(address) => {
                dhcp.warned = false;
                Some(address)
            }
            Err(error) => {
                dhcp.refuse(&client, &error);
                None
            }
        }
    }

    /// The addresses that are not leases: those of the gateways, those that are assigned to ports, and those that the devices
    /// of other ports than `id` have.
    fn addresses_in_use(&self, id: PortId) -> Vec<IpAddr> {
        let configured = self.ports.values().flat_map(PortRecord::configured_addresses);
        let others = self.ports.iter().filter(|(other, _)| **other != id);
        let visible = others.flat_map(|(_, port)| &port.device.addresses);
        configured.chain(visible).map(IpNet::addr).chain(self.config.all_gateways()).collect()
    }

    fn offer(&mut self, id: PortId, mac: Mac, address: Ipv4Addr, mtu: u32) -> Answer {
        let record = &self.ports[&id];
        let is_configured = record.configured_addresses().any(|own| own.addr() == IpAddr::V4(address));
        let client = record.client(mac);
        if let Some(dhcp) = self.dhcp.as_mut().filter(|_| !is_configured) {
            dhcp.leases.offer(client, address, now());
            dhcp.changed();
        }
        Answer::Offer(address, mtu)
    }

    /// Gives a client an address, which it keeps for the lease time. An address that the port has anyway is no lease.
    fn lease(&mut self, id: PortId, mac: Mac, address: Ipv4Addr, gateway: Ipv4Net) {
        let record = &self.ports[&id];
        let (name, client) = (record.name.clone(), record.client(mac));
        if record.configured_addresses().any(|own| own.addr() == IpAddr::V4(address)) {
            return;
        }
        let Some(dhcp) = &mut self.dhcp else { return };
        let before = dhcp.leases.bind(client, address, now() + dhcp.lease_time);
        dhcp.changed();
        if let Some(before) = before {
            self.withdraw_leased(&name, before);
        }
        self.assign_leased(id, address, gateway.prefix_len());
    }

    /// Ends the lease of a client that releases or declines its address. A release comes from the address, and a refusal from
    /// 0.0.0.0 (RFC 2131 §4.4.1). The guard checks both, so that a container cannot end the lease of another.
    fn end_lease(&mut self, id: PortId, request: &Request, source: IpAddr) {
        let client = self.ports[&id].client(request.mac);
        let Some(dhcp) = &mut self.dhcp else { return };
        let current = dhcp.leases.address_of(&client).map(IpAddr::V4);
        let ended = match request.kind {
            RequestKind::Decline
                if request.wanted().map(IpAddr::V4) == current && source.is_unspecified() =>
            {
                dhcp.leases.decline(&client, now())
            }
            RequestKind::Release if current == Some(source) => dhcp.leases.release(&client),
            _ => None,
        };
        if let Some(address) = ended {
            dhcp.changed();
            info!(port = client.port, %address, kind = ?request.kind, "DHCP lease ended");
            self.withdraw_leased(&client.port, address);
        }
    }

    /// Assigns a leased address to a port.
    fn assign_leased(&mut self, id: PortId, address: Ipv4Addr, prefix: u8) {
        let Ok(address) = Ipv4Net::new(address, prefix).map(IpNet::V4) else { return };
        let Some(record) = self.ports.get_mut(&id).filter(|port| !port.has_assigned(address.addr())) else {
            return;
        };
        info!(port = record.name, %address, "DHCP lease");
        record.assigned.addresses.push(address);
        record.leased.push(address);
        self.assigned_changed(id);
    }

    /// Takes a leased address away from a port, if the port is still there.
    fn withdraw_leased(&mut self, port: &str, address: Ipv4Addr) {
        let Ok(id) = self.port_named(port) else { return };
        let Some(record) = self.ports.get_mut(&id) else { return };
        if record.leased.iter().any(|leased| leased.addr() == IpAddr::V4(address)) {
            let stays = |other: &IpNet| other.addr() != IpAddr::V4(address);
            record.leased.retain(stays);
            record.assigned.addresses.retain(stays);
            self.assigned_changed(id);
        }
    }

    /// Lets the guard, names and published ports follow the assigned addresses of a port.
    fn assigned_changed(&mut self, id: PortId) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        record.guard.set_addresses(&record.assigned.addresses);
        self.switch.set_guard(id, record.guard.identity());
        self.update_neighbour(id);
        self.addresses_changed();
    }

    pub(super) fn dhcp_report(&self) -> Option<DhcpReport> {
        let dhcp = self.dhcp.as_ref()?;
        let counts = dhcp.server.counts();
        Some(DhcpReport {
            lease_time: dhcp.lease_time,
            leases: dhcp.leases.len(),
            offered: counts.offered,
            acknowledged: counts.acknowledged,
            refused: counts.refused,
            exhausted: dhcp.exhausted,
            ignored: counts.ignored - dhcp.exhausted.min(counts.ignored),
        })
    }
}

impl Dhcp {
    /// Counts a client that gets no address. The user is warned once.
    fn refuse(&mut self, client: &Client, error: &LeaseError) {
        self.exhausted += 1;
        if !std::mem::replace(&mut self.warned, true) {
            warn!(port = client.port, %error, "no DHCP address for a client");
        }
    }
}

impl PortRecord {
    /// Whether the container of the port has this MAC address. Behind other ports are hosts with their own.
    fn is_container(&self, mac: Mac) -> bool {
        self.assigned.mac == Some(mac) || (self.kind == PortKind::Tap && self.device.mac == mac)
    }

    fn client(&self, mac: Mac) -> Client {
        Client { port: self.name.clone(), mac: Some(mac).filter(|mac| !self.is_container(*mac)) }
    }
}

fn first_ipv4(addresses: &[IpNet]) -> Option<Ipv4Net> {
    addresses.iter().find_map(ipv4)
}

fn ipv4(address: &IpNet) -> Option<Ipv4Net> {
    match address {
        IpNet::V4(address) => Some(*address),
        IpNet::V6(_) => None,
    }
}
