//! Uplinks with one MAC address for all hosts of the switch.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tracing::info;

use super::{HostNetwork, PortRecord, RunError, Running};
use crate::control::event::{Event, EventType};
use crate::control::report::{UplinkHost, UplinkMode, UplinkReport};
use crate::control::topology::LinkChange;
use crate::switch::PortId;
use crate::switch::ipvlan::{Uplink, Uplinks};
use crate::wire::Mac;

/// Most addresses of hosts in a report.
const LISTED: usize = 64;

/// The hosts of an uplink by their addresses, each with its port and MAC address.
pub(super) type UplinkHosts = BTreeMap<IpAddr, (PortId, Mac)>;

/// A port that cannot be an uplink with one MAC address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UplinkError {
    #[error("{0} is not a port on an existing device (--device), so it cannot be an uplink in mode ipvlan")]
    NoDevice(String),
    #[error(
        "{} uplinks are in mode ipvlan, which is the maximum: set one of them to bridge first",
        Uplinks::MAX
    )]
    TooMany,
}

impl<M: HostNetwork> Running<M> {
    /// Whether a port can have this mode.
    pub(super) fn check_uplink_mode(&self, id: PortId, mode: UplinkMode) -> Result<(), RunError> {
        if self.switch.uplinks.contains(id) {
            return Ok(());
        }
        self.check_new_uplink(&self.ports[&id], mode)
    }

    /// Whether a port that is not an uplink yet can have this mode.
    pub(super) fn check_new_uplink(&self, record: &PortRecord, mode: UplinkMode) -> Result<(), RunError> {
        match mode {
            UplinkMode::Ipvlan if !record.can_be_uplink => {
                Err(UplinkError::NoDevice(record.name.clone()).into())
            }
            UplinkMode::Ipvlan if self.switch.uplinks.len() >= Uplinks::MAX => {
                Err(UplinkError::TooMany.into())
            }
            UplinkMode::Bridge | UplinkMode::Ipvlan => Ok(()),
        }
    }

    /// Changes the mode of a port that was checked.
    pub(super) fn set_uplink_mode(&self, id: PortId, mode: UplinkMode) {
        let record = &self.ports[&id];
        match mode {
            UplinkMode::Bridge => self.switch.remove_uplink(id),
            UplinkMode::Ipvlan => {
                let addresses = record.device.addresses.iter().map(IpNet::addr).collect();
                self.switch.add_uplink(id, record.device.mac, addresses);
            }
        }
        info!(port = record.name, ?mode, "uplink mode changed");
    }

    /// Follows a change of a device.
    pub(super) fn uplink_changed(&self, id: PortId, change: &LinkChange) {
        match change {
            LinkChange::Mac(mac) => self.switch.uplinks.set_mac(id, *mac),
            LinkChange::Addresses(addresses) => {
                self.switch.uplinks.set_addresses(id, addresses.iter().map(IpNet::addr).collect());
            }
            _ => {}
        }
    }

    /// Reports which hosts the uplinks have learned and forgotten since the last call.
    pub(super) fn compare_uplinks(&mut self) {
        let mut before = std::mem::take(&mut self.events.uplink_hosts);
        let uplinks: Vec<PortId> =
            self.ports.keys().copied().filter(|id| self.switch.uplinks.contains(*id)).collect();
        for id in uplinks {
            let hosts = self.switch.uplinks.with(id, Uplink::hosts).unwrap_or_default();
            let hosts: UplinkHosts =
                hosts.into_iter().map(|(address, port, mac)| (address, (port, mac))).collect();
            let before = before.remove(&id).unwrap_or_default();
            for (address, host) in hosts.iter().filter(|(address, host)| before.get(address) != Some(host)) {
                let kind = match before.get(address) {
                    None => EventType::UplinkLearned,
                    Some(_) => EventType::UplinkMoved,
                };
                self.emit_uplink_host(id, kind, *address, *host);
            }
            for (address, host) in before.iter().filter(|(address, _)| !hosts.contains_key(*address)) {
                self.emit_uplink_host(id, EventType::UplinkForgotten, *address, *host);
            }
            self.events.uplink_hosts.insert(id, hosts);
        }
    }

    fn emit_uplink_host(
        &mut self,
        uplink: PortId,
        kind: EventType,
        address: IpAddr,
        (port, mac): (PortId, Mac),
    ) {
        self.emit(uplink, |running| Event {
            mac: Some(mac),
            other: running.port_ifname(port),
            value: Some(address.to_string()),
            ..running.port_event(kind, uplink)
        });
    }

    /// The uplinks, by the names of their ports.
    pub(super) fn uplink_reports(&self) -> Vec<(String, UplinkReport)> {
        let report = |(id, port): (&PortId, &PortRecord)| Some((port.name.clone(), self.uplink_report(*id)?));
        self.ports.iter().filter_map(report).collect()
    }

    /// What a port is as an uplink.
    pub(super) fn uplink_report(&self, id: PortId) -> Option<UplinkReport> {
        let of = |uplink: &Uplink| (uplink.hosts(), uplink.counters());
        let (hosts, counters) = self.switch.uplinks.with(id, of)?;
        let host = |&(address, port, mac): &_| {
            let ifname = self.ports.get(&port)?.name.clone();
            Some(UplinkHost { address, mac, ifname })
        };
        Some(UplinkReport {
            n_hosts: hosts.len(),
            hosts: hosts.iter().filter_map(host).take(LISTED).collect(),
            learned: counters.learned,
            moved: counters.moved,
            refused: counters.refused,
            evicted: counters.evicted,
            aged: counters.aged,
        })
    }
}
