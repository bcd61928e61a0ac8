//! Uplinks with one MAC address for all hosts of the switch.

use ipnet::IpNet;
use tracing::info;

use super::{HostNetwork, PortRecord, RunError, Running};
use crate::control::report::{UplinkHost, UplinkMode, UplinkReport};
use crate::control::topology::LinkChange;
use crate::switch::PortId;
use crate::switch::ipvlan::{Uplink, Uplinks};

/// Most addresses of hosts in a report.
const LISTED: usize = 64;

/// A port that cannot be an uplink with one MAC address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UplinkError {
    #[error("{0} is no port on an existing device (--device), so it cannot be an uplink in mode ipvlan")]
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
        let (record, uplinks) = (&self.ports[&id], &self.switch.uplinks);
        match mode {
            UplinkMode::Ipvlan if !record.can_be_uplink => {
                Err(UplinkError::NoDevice(record.name.clone()).into())
            }
            UplinkMode::Ipvlan if !uplinks.contains(id) && uplinks.len() >= Uplinks::MAX => {
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
