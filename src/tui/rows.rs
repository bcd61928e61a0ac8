//! The rows of the panes: joined, filtered, in order.

use std::cmp::Reverse;

use super::app::{App, Pane};
use super::traffic::{Activity, PortRates};
use crate::control::event::Event;
use crate::control::report::{FdbReport, PortReport, PortStats};

/// In which order ports are shown: highest first, where it is a number.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum PortOrder {
    /// As the switch counts them.
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

/// In which order stations are shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FdbOrder {
    #[default]
    Mac,
    Port,
    /// Those heard last first.
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

/// A port and what it does.
#[derive(Debug)]
pub(super) struct PortRow<'a> {
    pub(super) port: &'a PortReport,
    pub(super) rates: PortRates,
    pub(super) activity: Activity,
    /// Frames not delivered since the start.
    pub(super) dropped: u64,
    /// Why most of them were not.
    pub(super) reason: Option<&'a str>,
}

impl App {
    /// How many rows a pane could show.
    pub(super) fn count(&self, pane: Pane) -> usize {
        match pane {
            Pane::Switch => self.shown_ports().count().div_ceil(2),
            Pane::Ports => self.shown_ports().count(),
            Pane::Fdb => self.snapshot.fdb.iter().filter(|entry| self.shows_entry(entry)).count(),
            Pane::Events => self.shown_events().len(),
        }
    }

    /// The ports that the filter lets pass, in order.
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

    /// The stations that the filter lets pass, in order.
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

    /// The events that the filter lets pass, the latest last.
    pub(super) fn shown_events(&self) -> Vec<&Event> {
        self.events
            .iter()
            .filter(|event| {
                let words = [event.ifname.clone(), event.mac.map(|mac| mac.to_string()), event.detail()];
                self.passes(words.into_iter().flatten().chain([event.kind.name()]))
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
        self.passes([entry.mac.to_string(), entry.ifname.clone(), entry.state.clone()])
    }

    fn passes(&self, words: impl IntoIterator<Item = String>) -> bool {
        self.filter.is_empty() || words.into_iter().any(|word| word.to_lowercase().contains(&self.filter))
    }
}
