//! Starts the DHCP server, and decides which address a client gets.
//!
//! A lease is an address that the switch assigns to the client's port, so the guard lets it pass, and names and
//! published ports lead to it. A port with an address in the subnet gives its container that one. Others get one of the
//! subnet.

mod v4;
mod v6;

use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ipnet::{IpNet, Ipv4Net};
use jiff::Timestamp;
use tokio::time::Instant;
use tracing::{info, warn};

use super::plan::MAX_ADDRESSES;
use super::ports::PortRecord;
use super::{HostNetwork, RunError, Running};
use crate::control::addressing;
use crate::control::config::{DhcpHost, DhcpHostClient};
use crate::control::event::{Event, EventType};
use crate::control::report::{DhcpLeaseReport, DhcpReport, PortKind};
use crate::control::services::dhcp::{
    Candidates, Client, ClientId, DhcpCounts, DhcpQuery, DhcpServer, DhcpSettings, DhcpSocket, LeaseError,
    LeaseFile, Leases,
};
use crate::switch::guard::is_autoconfigured;
use crate::switch::{PortId, Punt};
use crate::wire::Mac;

/// Least time between two warnings of clients without an address.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);
/// Least time between two writes of the file.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);
/// Most leases of the hosts behind an existing device or a socket. A container has at most those that its guard
/// compares with.
const MOST_BEHIND_DEVICE: usize = 1024;

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

/// Why a lease has ended.
#[derive(Debug, Clone, Copy)]
enum LeaseEnd {
    Released,
    /// Another host uses the address.
    Declined,
    Expired,
}

impl LeaseEnd {
    const fn name(self) -> &'static str {
        match self {
            LeaseEnd::Released => "released",
            LeaseEnd::Declined => "declined",
            LeaseEnd::Expired => "expired",
        }
    }
}

/// A client that asks for an address.
#[derive(Debug)]
struct Applicant {
    port: PortId,
    client: Client,
    mac: Mac,
    /// It is the container of its port, which has the addresses of the port.
    is_container: bool,
    /// The gateway with its subnet.
    gateway: IpNet,
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
    /// Requests that got no address because none was free.
    exhausted: u64,
    /// Requests that got no address because their port has the most leases.
    limited: u64,
    /// Messages of DHCPv6.
    counts6: DhcpCounts,
    /// When the user was warned of a client without an address.
    warned_at: Option<Instant>,
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
        // The time in a file may be any number.
        self.expiry_at = left.and_then(|left| Instant::now().checked_add(left));
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
    /// Serves DHCP at all gateways, if that is configured: IPv4 by sockets, IPv6 by frames that workers have punted.
    /// Leases are kept in the directory `state`.
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
            limited: 0,
            counts6: DhcpCounts::default(),
            warned_at: None,
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
        for address in dhcp.leases.addresses_behind(&record.name) {
            let is_taken = self.ports.values().any(|port| port.may_have(address));
            let subnet = self.config.all_subnets().find(|subnet| subnet.contains(&address));
            if let Some(subnet) = subnet.filter(|_| !is_taken) {
                self.assign_leased(id, address, subnet.prefix_len());
            }
        }
    }

    /// Ends the DHCPv6 leases of a container whose port is deleted. The next container of this name has another DUID.
    pub(super) fn end_leases_of_container(&mut self, id: PortId) {
        let Some(record) = self.ports.get(&id).filter(|port| port.kind == PortKind::Tap) else { return };
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.leases.end_duids(&record.name);
            dhcp.changed();
        }
    }

    pub(super) fn serve_dhcp(&mut self, work: DhcpWork) {
        self.expire_leases();
        if let DhcpWork::Answer(DhcpQuery { request, source, gateway, reply }) = work {
            // The receiver is gone if the server has ended.
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
            self.lease_ended(&client.port, address, LeaseEnd::Expired);
        }
    }

    /// The address for a client: the one that its port has in the subnet of the gateway, or that is reserved for it, or
    /// a free one, if possible one that it wants, or that of its port's number.
    fn address_for(&mut self, applicant: &Applicant, wanted: &[IpAddr]) -> Result<IpAddr, LeaseError> {
        let Applicant { port, client, is_container, gateway, .. } = applicant;
        let record = &self.ports[port];
        if let Some(own) = record.configured_in(*gateway).filter(|_| *is_container) {
            return Ok(own);
        }
        let number = record.number.filter(|_| *is_container).map(u64::from);
        let numbered = number.and_then(|number| addressing::host_address(*gateway, number));
        let wanted = wanted.iter().copied().filter(|address| !self.is_made_by_other(record, *address));
        let preferred: Vec<IpAddr> = wanted.chain(numbered.map(|own| own.addr())).collect();
        let reserved = self.reserved_for(applicant);
        let most = if record.kind == PortKind::Tap { MAX_ADDRESSES } else { MOST_BEHIND_DEVICE };
        let mut taken = self.addresses_in_use(*port);
        let all_reserved = self.config.dhcp_hosts.iter().flat_map(|host| host.addresses.iter().copied());
        taken.extend(all_reserved.filter(|address| Some(*address) != reserved));
        let Some(dhcp) = self.dhcp.as_mut() else { return Err(LeaseError::TooMany) };
        let mut ranges = self.config.dhcp_ranges.iter();
        let range = ranges.find(|(first, _)| gateway.contains(first)).copied();
        let candidates = Candidates { reserved, preferred: &preferred, taken: &taken, range };
        let chosen = dhcp.leases.choose(client, gateway.trunc(), &candidates, most);
        if let Err(error) = &chosen {
            dhcp.refuse(client, error);
        }
        chosen
    }

    /// Whether another host makes this address of its MAC address, perhaps one that is not there yet (SLAAC).
    fn is_made_by_other(&self, record: &PortRecord, address: IpAddr) -> bool {
        let IpAddr::V6(ipv6) = address else { return false };
        is_autoconfigured(ipv6)
            && self.config.autonomous_prefixes().any(|prefix| prefix.contains(&ipv6))
            && !record.guard.autoconfigured().any(|own| own == address)
    }

    /// The address that is reserved for a client in the subnet of its gateway.
    fn reserved_for(&self, applicant: &Applicant) -> Option<IpAddr> {
        let Applicant { client, mac, is_container, gateway, .. } = applicant;
        let is_it = |host: &&DhcpHost| match &host.client {
            DhcpHostClient::Mac(reserved) => reserved == mac,
            DhcpHostClient::Port(port) => *is_container && *port == client.port,
        };
        let hosts = self.config.dhcp_hosts.iter().filter(is_it);
        let mut addresses = hosts.flat_map(|host| host.addresses.iter().copied());
        addresses.find(|address| gateway.contains(address))
    }

    /// The addresses that are not leases: those of the gateways, those that are assigned to ports, and those that the
    /// devices of other ports than `id` have or make.
    fn addresses_in_use(&self, id: PortId) -> Vec<IpAddr> {
        let configured = self.ports.values().flat_map(PortRecord::configured_addresses);
        let others = self.ports.iter().filter(|(other, _)| **other != id);
        let visible = others.clone().flat_map(|(_, port)| &port.device.addresses);
        let autoconfigured = others.flat_map(|(_, port)| port.guard.autoconfigured());
        let addresses = configured.chain(visible).map(IpNet::addr);
        addresses.chain(autoconfigured).chain(self.config.all_gateways()).collect()
    }

    /// Keeps an address for a client. One that is assigned to its port needs no lease.
    fn offer(&mut self, applicant: &Applicant, address: IpAddr) {
        if let Some(dhcp) = self.dhcp.as_mut().filter(|_| !self.ports[&applicant.port].is_configured(address))
        {
            dhcp.leases.offer(applicant.client.clone(), address, now());
            dhcp.changed();
        }
    }

    /// Gives a client an address, which it keeps for the lease time. One that is assigned to its port needs no lease.
    fn lease(&mut self, applicant: &Applicant, address: IpAddr) {
        let Applicant { port, client, gateway, .. } = applicant;
        if self.ports[port].is_configured(address) {
            return;
        }
        let Some(dhcp) = &mut self.dhcp else { return };
        let has = dhcp.leases.address_of(client) == Some(address);
        let before = dhcp.leases.bind(client.clone(), address, now() + dhcp.lease_time);
        dhcp.changed();
        let seconds = u32::try_from(dhcp.lease_time).ok();
        if let Some(before) = before {
            self.withdraw_leased(&client.port, before);
        }
        self.assign_leased(*port, address, gateway.prefix_len());
        let kind = if has { EventType::DhcpRenewed } else { EventType::DhcpLeased };
        let (mac, value) = (Some(applicant.mac), Some(address.to_string()));
        self.emit(*port, |running| Event { mac, value, seconds, ..running.port_event(kind, *port) });
    }

    /// The lease of a client behind a port has ended.
    fn lease_ended(&mut self, port: &str, address: IpAddr, why: LeaseEnd) {
        if let Some(dhcp) = &mut self.dhcp {
            dhcp.changed();
        }
        let reason = why.name();
        info!(port, %address, reason, "DHCP lease ended");
        self.withdraw_leased(port, address);
        if let Ok(id) = self.port_named(port) {
            let (value, reason) = (Some(address.to_string()), Some(reason.to_owned()));
            self.emit(id, |running| Event { value, reason, ..running.port_event(EventType::DhcpEnded, id) });
        }
    }

    /// Assigns a leased address to a port.
    fn assign_leased(&mut self, id: PortId, address: IpAddr, prefix: u8) {
        let Ok(address) = IpNet::new(address, prefix) else { return };
        let Some(record) = self.ports.get_mut(&id).filter(|port| !port.has_assigned(address.addr())) else {
            return;
        };
        info!(port = record.name, %address, "DHCP lease");
        record.assigned.addresses.push(address);
        record.leased.push(address);
        self.assigned_changed(id);
    }

    /// Takes a leased address away from a port, if the port is still there.
    fn withdraw_leased(&mut self, port: &str, address: IpAddr) {
        let Ok(id) = self.port_named(port) else { return };
        let Some(record) = self.ports.get_mut(&id) else { return };
        if record.leased.iter().any(|leased| leased.addr() == address) {
            let stays = |other: &IpNet| other.addr() != address;
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

    /// The addresses that clients have.
    pub(super) fn dhcp_leases(&self) -> Result<Vec<DhcpLeaseReport>, RunError> {
        let dhcp = self.dhcp.as_ref().ok_or(RunError::NoDhcp)?;
        let lease = |(client, address, expires): (&Client, IpAddr, u64)| {
            let (mac, duid, iaid) = match &client.id {
                ClientId::Container => (None, None, None),
                ClientId::Mac(mac) => (Some(*mac), None, None),
                ClientId::Duid(duid, iaid) => (None, Some(hexadecimal(duid)), Some(*iaid)),
            };
            let expires =
                i64::try_from(expires).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
            let (ifname, expires) = (client.port.clone(), expires.unwrap_or(Timestamp::MAX));
            DhcpLeaseReport { ifname, address, mac, duid, iaid, expires }
        };
        Ok(dhcp.leases.bound().map(lease).collect())
    }

    pub(super) fn dhcp_report(&self) -> Option<DhcpReport> {
        let dhcp = self.dhcp.as_ref()?;
        let (counts, counts6) = (dhcp.server.counts(), dhcp.counts6);
        Some(DhcpReport {
            lease_time: dhcp.lease_time,
            leases: dhcp.leases.len(),
            offered: counts.offered + counts6.offered,
            acknowledged: counts.acknowledged + counts6.acknowledged,
            refused: counts.refused + counts6.refused,
            exhausted: dhcp.exhausted,
            limited: dhcp.limited,
            ignored: counts.ignored + counts6.ignored,
            lost: self.datapath.lost_punts(Punt::Dhcpv6),
        })
    }
}

impl Dhcp {
    /// Counts a client that gets no address. The user is warned once a minute.
    fn refuse(&mut self, client: &Client, error: &LeaseError) {
        match error {
            LeaseError::TooManyOfPort(..) => self.limited += 1,
            _ => self.exhausted += 1,
        }
        if self.warned_at.is_none_or(|at| at.elapsed() >= WARNING_INTERVAL) {
            self.warned_at = Some(Instant::now());
            warn!(port = client.port, %error, "no DHCP address for a client");
        }
    }
}

impl PortRecord {
    /// Whether the container of the port has this MAC address. Behind other ports are hosts with their own.
    fn is_container(&self, mac: Mac) -> bool {
        self.assigned.mac == Some(mac) || (self.kind == PortKind::Tap && self.device.mac == mac)
    }

    /// The address in a subnet that is assigned to the port, without a lease.
    fn configured_in(&self, subnet: IpNet) -> Option<IpAddr> {
        self.configured_addresses().map(IpNet::addr).find(|own| subnet.contains(own))
    }

    fn is_configured(&self, address: IpAddr) -> bool {
        self.configured_addresses().any(|own| own.addr() == address)
    }
}

/// Bytes as `00:03:00:01`.
fn hexadecimal(bytes: &[u8]) -> String {
    let bytes: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

fn first_ipv4(addresses: &[IpNet]) -> Option<Ipv4Net> {
    addresses.iter().find_map(|address| match address {
        IpNet::V4(address) => Some(*address),
        IpNet::V6(_) => None,
    })
}
