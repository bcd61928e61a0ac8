//! Edits the forwarding database for users.

use tracing::info;

use super::{HostNetwork, RunError, Running, VlanError};
use crate::control::config::is_host_port;
use crate::control::report::{FdbEntryQuery, FdbFlushQuery, NewFdbEntry, NewFdbState};
use crate::switch::PortId;
use crate::switch::fdb::{FdbEntry, FdbKey, FdbKind};
use crate::wire::Mac;

impl<M: HostNetwork> Running<M> {
    /// Adds an entry that does not exist.
    pub(super) fn add_fdb_entry(&mut self, entry: &NewFdbEntry) -> Result<(), RunError> {
        let id = self.port_named(&entry.ifname)?;
        let key = FdbKey { vlan: self.entry_vlan(id, entry.vlan)?, mac: entry.mac };
        match self.switch.fdb.entry(key).and_then(|existing| self.ports.get(&existing.port)) {
            Some(port) => Err(RunError::EntryExists(entry.mac, port.name.clone())),
            None => self.replace_fdb_entry(entry),
        }
    }

    /// Adds or replaces an entry.
    pub(super) fn replace_fdb_entry(&mut self, entry: &NewFdbEntry) -> Result<(), RunError> {
        let id = self.port_named(&entry.ifname)?;
        let key = FdbKey { vlan: self.entry_vlan(id, entry.vlan)?, mac: entry.mac };
        self.refuse_gateway(entry.mac)?;
        if entry.state == NewFdbState::Permanent && (!is_host_port(&entry.ifname) || entry.sticky) {
            return Err(RunError::PermanentEntry);
        }
        let kind = FdbKind { state: entry.state.into(), sticky: entry.sticky };
        self.switch.fdb.add(self.datapath.now(), key, id, kind)?;
        self.emit_fdb_added(id, key, entry.state);
        Ok(())
    }

    /// Removes an entry, or without a VLAN those in all VLANs; with `ifname` only those of that port.
    pub(super) fn remove_fdb_entry(&mut self, query: &FdbEntryQuery) -> Result<(), RunError> {
        let (mac, vlan) = (query.mac, query.vlan.unwrap_or(0));
        let port = query.ifname.as_deref().map(|name| self.port_named(name)).transpose()?;
        if vlan != 0 && !self.config.vlans.filtering {
            return Err(VlanError::NoVlan(vlan).into());
        }
        self.refuse_gateway(mac)?;
        let asked = |entry: &FdbEntry| {
            (vlan == 0 || entry.key.vlan == vlan) && port.is_none_or(|port| entry.port == port)
        };
        let fdb = &self.switch.fdb;
        let gone = fdb.entries_of(mac).filter(asked).filter_map(|entry| fdb.remove(entry.key));
        let gone: Vec<FdbEntry> = gone.collect();
        gone.iter().for_each(|entry| self.emit_fdb_removed(entry));
        if gone.is_empty() { Err(RunError::NoSuchEntry(mac)) } else { Ok(()) }
    }

    /// Removes the matching entries, except the gateway's. Returns how many.
    pub(super) fn flush_fdb(&mut self, query: &FdbFlushQuery) -> Result<usize, RunError> {
        let port = query.ifname.as_deref().map(|name| self.port_named(name)).transpose()?;
        let gateways: Vec<Mac> = self.switch.gateway_macs().collect();
        let count = self.switch.fdb.remove_matching(|entry| {
            !gateways.contains(&entry.key.mac)
                && port.is_none_or(|port| port == entry.port)
                && query.vlan.is_none_or(|vlan| vlan == entry.key.vlan)
                && query.matches_kind(entry.kind)
        });
        self.emit_fdb_flushed(port, count);
        Ok(count)
    }

    /// The gateway's entry is the switch's own.
    fn refuse_gateway(&self, mac: Mac) -> Result<(), RunError> {
        let is_gateway = self.switch.gateway_macs().any(|gateway| gateway == mac);
        if is_gateway { Err(RunError::GatewayEntry(mac)) } else { Ok(()) }
    }

    /// Limits the addresses that a port learns; 0 ends the limit.
    pub(super) fn set_fdb_max_learned(&mut self, id: PortId, max: u32) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        record.fdb_max_learned = max;
        info!(port = record.name, max, "fdb_max_learned changed");
        self.switch.fdb.set_max_learned(id, (max > 0).then_some(max));
    }
}
