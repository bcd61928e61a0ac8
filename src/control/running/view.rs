//! Reports of the running switch for the API.

use std::sync::Arc;
use std::time::SystemTime;

use tracing::info;

use super::link_state::LinkState;
use super::ports::PortRecord;
use super::totals;
use super::{FdbPage, HostNetwork, Running};
use crate::control::config::{VlanGateway, spanning_tree};
use crate::control::metrics::{MetricsSnapshot, WorkerStats};
use crate::control::report::{
    BridgePort, DELETED, FdbFilter, FdbReport, GatewayReport, PortReport, PortStats, Status, SwitchState,
    VlanGatewayReport,
};
use crate::switch::fdb::{FdbEntry, FdbState};
use crate::switch::stp::path_cost;
use crate::switch::{Counters, PortCounts, PortFlags, PortId, PortState, Tick};
use crate::wire::Mac;

/// Slots of the forwarding database that are read at once.
pub(super) const FDB_PAGE: u32 = 1024;

/// Most unguarded ports in the status. The list of ports shows all.
const UNGUARDED_LISTED: usize = 8;

impl<M: HostNetwork> Running<M> {
    /// Logs the started switch.
    pub(crate) fn log_started(&self) {
        let (name, engine, ports) = (&self.config.name, self.engine.to_string(), self.ports.len());
        let note = self.engine_note.as_deref();
        info!(name, ports, engine, note, workers = self.config.workers, "switch started");
    }

    #[allow(clippy::too_many_lines, reason = "a line for each field")]
    pub(crate) fn status(&self) -> Status {
        let config = &self.config;
        let totals = PortId::all().map(|id| self.totals(id));
        let counted = totals.fold(PortCounts::default(), |sum, port| sum.plus(&port));
        let stalled_workers = self.datapath.stalled_workers();
        let (guard_off, guard_off_ports) = self.unguarded();
        Status {
            name: config.name.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            uptime: self.started.elapsed().as_secs(),
            state: SwitchState::of(&stalled_workers, self.nat_fault.as_ref()),
            stalled_workers,
            nat_fault: self.nat_fault.clone(),
            engine: self.engine.to_string(),
            engine_note: self.engine_note.clone(),
            fast_path: self.fast_path.is_some(),
            fast_path_note: self.fast_path_note.clone(),
            workers: config.workers,
            cpus: self.datapath.cpus().to_vec(),
            vlan_filtering: config.vlans.filtering,
            vlan_stats_per_port: config.vlans.stats_per_port,
            sandboxed: self.sandboxed,
            subnets: config.subnets.clone(),
            gateway: self.gateway_report(),
            vlan_gateways: self.vlan_gateway_reports(),
            labels: config.labels.clone(),
            mac_prefix: config.mac_prefix.to_string(),
            nat: config.nat,
            internal: config.internal,
            dhcp: self.dhcp_report(),
            router_advertisements: self.router_advertisement_report(),
            dns: self.dns_report(),
            guard: config.guard,
            guard_off,
            guard_off_ports,
            loop_detection: config.loop_detection,
            mtu: config.mtu,
            ports: self.ports.len(),
            ports_up: self.ports.values().filter(|port| port.is_up()).count(),
            fdb: self.switch.fdb.len(),
            fdb_max: self.switch.fdb.max(),
            ageing_time: config.ageing_time.as_secs(),
            rx_frames: counted.rx_frames,
            rx_bytes: counted.rx_bytes,
            lost_notices: self.datapath.lost_notices(),
            lost_events: self.events.history.lost(),
        }
    }

    fn gateway_report(&self) -> GatewayReport {
        GatewayReport { mac: self.switch.gateway.mac.get(), addresses: self.config.gateways().collect() }
    }

    fn vlan_gateway_reports(&self) -> Vec<VlanGatewayReport> {
        let report = |gateway: &VlanGateway| VlanGatewayReport {
            vlan: gateway.vid,
            ifname: gateway.port_name(),
            mac: self.switch.vlans.gateway(gateway.vid).map_or(Mac::ZERO, |gateway| gateway.mac.get()),
            addresses: gateway.addresses.clone(),
        };
        self.config.vlan_gateways.iter().map(report).collect()
    }

    /// How many containers have no guard, and the names of some.
    fn unguarded(&self) -> (usize, Vec<String>) {
        let unguarded = self.ports.values().filter(|port| !port.is_host() && !port.guard.enabled);
        let listed = unguarded.clone().take(UNGUARDED_LISTED).map(|port| port.name.clone());
        (unguarded.clone().count(), listed.collect())
    }

    pub(crate) fn port_reports(&self) -> Vec<PortReport> {
        self.ports.iter().map(|(id, port)| self.port_report(*id, port)).collect()
    }

    pub(super) fn port_report(&self, id: PortId, port: &PortRecord) -> PortReport {
        let (device, (flags, state, operstate)) = (&port.device, self.link_report(id, port));
        PortReport {
            ifindex: u32::from(id.0) + 1,
            link: device.ifname.clone(),
            ifname: port.name.clone(),
            flags: flags.iter().map(ToString::to_string).collect(),
            mtu: device.mtu,
            fault: port.fault.clone(),
            master: self.config.name.clone(),
            state: state.to_owned(),
            bridge: bridge_port(self.switch.ports.flags(id), port),
            operstate: operstate.to_owned(),
            admin_state: port.admin,
            address: device.mac,
            addresses: device.addresses.clone(),
            own_addresses: self.own_addresses(id),
            device_ifindex: device.ifindex,
            netns: device.netns.as_ref().map(|path| path.display().to_string()),
            netns_ino: port.netns_ino,
            kind: port.kind,
            unmanaged: port.unmanaged,
            offload: port.offload,
            offloads: device.offloads.iter().map(ToString::to_string).collect(),
            source_guard: port.guard.enabled,
            labels: port.labels.clone(),
            published: port.published.clone(),
            fdb_max_learned: port.fdb_max_learned,
            limits: port.limits,
            impairment: port.impairment,
            fdb_n_learned: self.switch.fdb.learned_on(id),
            group_fwd_mask: self.switch.ports.group_fwd_mask(id),
            mcast_max_groups: port.mcast.max_groups,
            mcast_n_groups: self.joined_groups(id),
            uplink: self.uplink_report(id),
            mirroring: self.port_mirroring(id),
            slow: self.why_slow(id),
            throttled: port.throttled.clone(),
            blocked: port.loop_record.as_ref().map(|record| record.report(self.datapath.now())),
            polled: device.polled,
        }
    }

    fn state(&self, id: PortId) -> PortState {
        match self.switch.ports.state(id) {
            PortState::Forwarding if self.switch.ports.is_blocked(id) => PortState::Blocking,
            state => state,
        }
    }

    /// Flags, state and operstate of a port.
    fn link_report(&self, id: PortId, port: &PortRecord) -> (&[&str], &str, &str) {
        let flags: &[&str] = match port.link {
            LinkState::Up => &["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
            LinkState::NoCarrier => &["NO-CARRIER", "BROADCAST", "MULTICAST", "UP"],
            LinkState::Down => &["BROADCAST", "MULTICAST"],
            LinkState::Gone => &[],
        };
        match port.link {
            LinkState::Gone => (flags, "disabled", "NOTPRESENT"),
            _ if !port.is_up() => (flags, "disabled", "DOWN"),
            _ => (flags, self.stp_state_of(id).unwrap_or(self.state(id).name()), "UP"),
        }
    }

    /// One page of the forwarding database, without expired entries. The first page starts at slot 0.
    pub(super) fn fdb_page(&self, filter: &FdbFilter, start: u32) -> FdbPage {
        let (mut entries, next) = self.switch.fdb.page(self.datapath.now(), start, FDB_PAGE);
        entries.sort_unstable_by_key(|entry| (entry.port, entry.key));
        let reports = entries.iter().filter_map(|entry| self.fdb_report(entry));
        let passes = |report: &FdbReport| {
            filter.ifname.as_ref().is_none_or(|ifname| *ifname == report.ifname)
                && filter.mac.is_none_or(|mac| mac == report.mac)
                && filter.vlan.is_none_or(|vlan| vlan == report.vlan.unwrap_or(0))
        };
        FdbPage { entries: reports.filter(passes).collect(), next }
    }

    fn fdb_report(&self, entry: &FdbEntry) -> Option<FdbReport> {
        let (state, updated) = match entry.kind.state {
            FdbState::Dynamic => ("", Some(self.datapath.now().since(entry.seen) / Tick::PER_SECOND)),
            FdbState::Static => ("static", None),
            FdbState::Permanent => ("permanent", None),
        };
        Some(FdbReport {
            mac: entry.key.mac,
            ifname: self.ports.get(&entry.port)?.name.clone(),
            vlan: (entry.key.vlan != 0).then_some(entry.key.vlan),
            flags: entry.kind.sticky.then(|| "sticky".to_owned()).into_iter().collect(),
            master: self.config.name.clone(),
            state: state.to_owned(),
            updated,
        })
    }

    /// Counters of all ports. A last row has the counters of deleted ports, if there are any, so that
    /// the sum of all rows is everything counted since the start.
    pub(super) fn stats(&mut self) -> Vec<PortStats> {
        let lost = self.network.queue_dropped();
        let mut deleted = PortCounts::default();
        let mut rows = Vec::with_capacity(self.ports.len() + 1);
        for id in PortId::all() {
            let counts = self.totals(id);
            let Some(port) = self.ports.get(&id) else {
                deleted = deleted.plus(&counts);
                continue;
            };
            // A slot's counters continue for the next port, because only their worker may write them.
            deleted = deleted.plus(&port.counted_before);
            let counts = counts.since(&port.counted_before);
            let mut row = totals::port_stats(&port.name, &counts, lost.get(&port.device.id).copied());
            row.fast = self.fast_path.as_ref().map_or(0, |fast| fast.counts_of_current(id).rx_frames);
            rows.push(row);
        }
        if deleted != PortCounts::default() {
            rows.push(totals::port_stats(DELETED, &deleted, None));
        }
        rows
    }

    /// All metrics, read now.
    pub(crate) fn snapshot(&mut self) -> MetricsSnapshot {
        let stalled = self.datapath.stalled_workers();
        let worker = |(number, counters): (usize, &Arc<Counters>)| WorkerStats {
            stalled: stalled.contains(&number),
            turns: counters.engine.turns.value(),
            system_calls: counters.engine.system_calls.value(),
            free_buffers: counters.engine.free_buffers.value(),
            frames: PortId::all().map(|id| counters.port(id).rx_frames.value()).sum(),
        };
        let since_epoch = self.started_at.duration_since(SystemTime::UNIX_EPOCH);
        MetricsSnapshot {
            status: self.status(),
            start_time: since_epoch.map_or(0, |time| time.as_secs()),
            ports: self.stats(),
            vlans: self.vlan_stats(),
            port_vlans: self.port_vlan_stats(),
            uplinks: self.uplink_reports(),
            up: self.ports.values().map(|port| (port.name.clone(), port.is_up())).collect(),
            blocked: self
                .ports
                .values()
                .map(|port| (port.name.clone(), port.loop_record.is_some()))
                .collect(),
            fdb_aged: self.aged,
            workers: self.datapath.counters().iter().enumerate().map(worker).collect(),
        }
    }

    /// Everything that was ever counted in this slot.
    pub(super) fn totals(&self, id: PortId) -> PortCounts {
        self.add_fast_counts(id, totals::sum(self.datapath.port_counters(id)))
    }
}

/// The settings that the Linux bridge has too.
fn bridge_port(flags: PortFlags, &PortRecord { stp, mcast, .. }: &PortRecord) -> BridgePort {
    BridgePort {
        priority: spanning_tree::shown_priority(stp.priority),
        cost: stp.cost.unwrap_or(path_cost(None)),
        guard: stp.guard,
        root_block: stp.root_block,
        fastleave: mcast.fast_leave,
        mcast_router: mcast.router as u8,
        ..flags.into()
    }
}
