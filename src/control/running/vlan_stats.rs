//! The counters of VLANs, and of each port in its VLANs.

use tracing::warn;

use super::{HostNetwork, PortRecord, Running};
use crate::control::report::{PortVlanStats, VlanStats};
use crate::switch::vlan::{VlanCounters, VlanCounts};
use crate::switch::{PortId, Vid};

impl<M: HostNetwork> Running<M> {
    /// The counters of the VLANs that have members.
    pub(super) fn vlan_stats(&self) -> Vec<VlanStats> {
        let counted = |vid| {
            let workers = self.datapath.counters().iter().filter_map(|worker| worker.vlan(vid));
            VlanStats::new(vid, sum(workers).plus(self.fast_counts_in_vlan(None, vid)))
        };
        self.switch.vlans.in_use().map(counted).collect()
    }

    /// The counters of each port in its VLANs; none if the switch does not count them.
    pub(super) fn port_vlan_stats(&self) -> Vec<PortVlanStats> {
        if !self.config.vlans.stats_per_port {
            return Vec::new();
        }
        let of_port = |(id, port): (&PortId, &PortRecord)| PortVlanStats {
            ifname: port.name.clone(),
            vlans: port
                .vlans_before
                .iter()
                .map(|(vid, before)| VlanStats::new(*vid, self.counted_in_vlan(*id, *vid).since(*before)))
                .collect(),
        };
        self.ports.iter().map(of_port).collect()
    }

    /// Counts the frames of a port in its VLANs, after they have changed, if the switch counts them.
    pub(super) fn count_in_vlans(&mut self, id: PortId) {
        if !self.config.vlans.stats_per_port {
            return;
        }
        let vids: Vec<Vid> = self.switch.vlans.of_port(id).map(|(vid, _)| vid).collect();
        let counted = &self.ports[&id].vlans_before;
        let new: Vec<Vid> = vids.iter().copied().filter(|vid| !counted.contains_key(vid)).collect();
        let (counted, refused): (Vec<Vid>, Vec<Vid>) = new
            .into_iter()
            .partition(|vid| self.datapath.counters().iter().all(|worker| worker.count_in(id, *vid)));
        // A slot's counters continue for the next port, because only their worker may write them.
        let before: Vec<_> = counted.into_iter().map(|vid| (vid, self.counted_in_vlan(id, vid))).collect();
        let Some(port) = self.ports.get_mut(&id) else { return };
        port.vlans_before.retain(|vid, _| vids.contains(vid));
        port.vlans_before.extend(before);
        if let Some(first) = refused.first() {
            warn!(
                port = port.name,
                vlans = refused.len(),
                first = first.get(),
                "frames are not counted: the ports are in too many VLANs"
            );
        }
    }

    /// Everything that was ever counted for this slot in a VLAN.
    fn counted_in_vlan(&self, id: PortId, vid: Vid) -> VlanCounts {
        let workers = self.datapath.counters().iter().filter_map(|worker| worker.vlan_of_port(id, vid));
        sum(workers).plus(self.fast_counts_in_vlan(Some(id), vid))
    }
}

/// The sum over all workers.
fn sum<'a>(workers: impl Iterator<Item = &'a VlanCounters>) -> VlanCounts {
    workers.map(VlanCounters::read).fold(VlanCounts::default(), VlanCounts::plus)
}
