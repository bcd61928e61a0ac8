//! The rows of the panes: joined, filtered and sorted.

use std::cmp::Reverse;
use std::net::IpAddr;

use ipnet::IpNet;

use super::app::{App, Pane};
use super::traffic::{Activity, PortRates};
use crate::control::event::Event;
use crate::control::report::{FdbReport, PortReport, PortStats};

/// Sort order of the ports; numbers sort descending.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PortOrder {
    /// By the port's number in the switch.
    #[default]
    Number,
    Name,
    Received,
    Sent,
    Drops,
}

impl PortOrder {
    pub(super) fn next(self) -> PortOrder {
        match self {
            PortOrder::Number => PortOrder::Name,
            PortOrder::Name => PortOrder::Received,
            PortOrder::Received => PortOrder::Sent,
            PortOrder::Sent => PortOrder::Drops,
            PortOrder::Drops => PortOrder::Number,
        }
    }
}

/// Sort order of the forwarding database.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FdbOrder {
    #[default]
    Mac,
    Port,
    /// Most recent first.
    Age,
}

impl FdbOrder {
    pub(super) fn next(self) -> FdbOrder {
        match self {
            FdbOrder::Mac => FdbOrder::Port,
            FdbOrder::Port => FdbOrder::Age,
            FdbOrder::Age => FdbOrder::Mac,
        }
    }
}

/// A port with its rates and drops.
#[derive(Debug)]
pub(super) struct PortRow<'a> {
    pub(super) port: &'a PortReport,
    pub(super) rates: PortRates,
    pub(super) activity: Activity,
    /// Frames dropped since the start.
    pub(super) dropped: u64,
    /// The most frequent drop reason.
    pub(super) reason: Option<&'a str>,
}

impl App {
    /// Number of rows of a pane.
    pub(super) fn count(&self, pane: Pane) -> usize {
        match pane {
            Pane::Switch => self.shown_ports().count().div_ceil(2),
            Pane::Ports => self.shown_ports().count(),
            Pane::Fdb => self.snapshot.fdb.iter().filter(|entry| self.shows_entry(entry)).count(),
            Pane::Events => self.shown_events().len(),
        }
    }

    /// The ports that match the filter, sorted.
    pub(super) fn port_rows(&self) -> Vec<PortRow<'_>> {
        let mut rows: Vec<PortRow<'_>> = self.shown_ports().map(|port| self.port_row(port)).collect();
        match self.port_order {
            PortOrder::Number => rows.sort_by_key(|row| row.port.ifindex),
            PortOrder::Name => rows.sort_by(|a, b| a.port.ifname.cmp(&b.port.ifname)),
            PortOrder::Received => rows.sort_by_key(|row| Reverse(row.rates.rx.bits)),
            PortOrder::Sent => rows.sort_by_key(|row| Reverse(row.rates.tx.bits)),
            PortOrder::Drops => rows.sort_by_key(|row| Reverse(row.dropped)),
        }
        rows
    }

    /// The forwarding database entries that match the filter, sorted.
    pub(super) fn fdb_rows(&self) -> Vec<&FdbReport> {
        let mut entries: Vec<&FdbReport> =
            self.snapshot.fdb.iter().filter(|entry| self.shows_entry(entry)).collect();
        match self.fdb_order {
            FdbOrder::Mac => entries.sort_by_key(|entry| (entry.mac.0, entry.vlan)),
            FdbOrder::Port => entries.sort_by(|a, b| (&a.ifname, a.mac.0).cmp(&(&b.ifname, b.mac.0))),
            FdbOrder::Age => {
                entries.sort_by_key(|entry| (entry.updated.is_none(), entry.updated, entry.mac.0));
            }
        }
        entries
    }

    /// The events that match the filter, the latest last.
    pub(super) fn shown_events(&self) -> Vec<&Event> {
        self.events
            .iter()
            .filter(|event| {
                let words = [event.ifname.clone(), event.mac.map(|mac| mac.to_string()), event.detail()];
                self.passes(words.into_iter().flatten().chain([event.kind.name().to_owned()]))
            })
            .collect()
    }

    fn port_row<'a>(&'a self, port: &'a PortReport) -> PortRow<'a> {
        let stats = self.snapshot.stats.iter().find(|stats| stats.ifname == port.ifname);
        let most = |stats: &'a PortStats| stats.drops.iter().max_by_key(|(_, count)| **count);
        PortRow {
            port,
            rates: self.traffic.of_port(&port.ifname),
            activity: self.traffic.activity_of(&port.ifname, self.now),
            dropped: stats.map_or(0, |stats| stats.drops.values().sum()),
            reason: stats.and_then(most).filter(|(_, count)| **count > 0).map(|(reason, _)| reason.as_str()),
        }
    }

    pub(super) fn shown_ports(&self) -> impl Iterator<Item = &PortReport> {
        self.snapshot.ports.iter().filter(|port| {
            let addresses = port.addresses.iter().map(ToString::to_string);
            self.passes(addresses.chain([
                port.ifname.clone(),
                port.operstate.clone(),
                port.address.to_string(),
            ]))
        })
    }

    fn shows_entry(&self, entry: &FdbReport) -> bool {
        let addresses = self.addresses_of(entry).into_iter().map(|address| address.to_string());
        self.passes(addresses.chain([entry.mac.to_string(), entry.ifname.clone(), entry.state.clone()]))
    }

    /// IP addresses of the device that has the entry's MAC address: a port's, or the gateway's.
    pub(super) fn addresses_of(&self, entry: &FdbReport) -> Vec<IpAddr> {
        let status = &self.snapshot.status;
        if entry.mac == status.gateway.mac {
            return status.gateway.addresses.clone();
        }
        let mut ports = self.snapshot.ports.iter();
        let port = ports.find(|port| port.ifname == entry.ifname && port.address == entry.mac);
        port.map_or_else(Vec::new, |port| port.addresses.iter().map(IpNet::addr).collect())
    }

    fn passes(&self, words: impl IntoIterator<Item = String>) -> bool {
        self.filter.is_empty() || words.into_iter().any(|word| word.to_lowercase().contains(&self.filter))
    }
}
