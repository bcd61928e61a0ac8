//! Edits the forwarding database for users.

use tracing::info;

use super::{HostNetwork, RunError, Running};
use crate::control::config::HOST;
use crate::control::report::{FdbEntryQuery, FdbFlushQuery, NewFdbEntry, NewFdbState};
use crate::switch::PortId;
use crate::switch::fdb::{FdbEntry, FdbError, FdbKey, FdbKind, FdbState};
use crate::wire::Mac;

impl<M: HostNetwork> Running<M> {
    /// Adds the permanent FDB entry of the gateway.
    pub(super) fn pin_gateway(&self, host: PortId) -> Result<(), FdbError> {
        let key = FdbKey { vlan: 0, mac: self.switch.gateway.mac.get() };
        self.switch.fdb.add(self.datapath.now(), key, host, FdbState::Permanent)
    }

    /// Adds an entry that does not exist.
    pub(super) fn add_fdb_entry(&mut self, entry: &NewFdbEntry) -> Result<(), RunError> {
        let key = key(entry.mac, entry.vlan.unwrap_or(0))?;
        match self.switch.fdb.entry(key).and_then(|existing| self.ports.get(&existing.port)) {
            Some(port) => Err(RunError::EntryExists(entry.mac, port.name.clone())),
            None => self.replace_fdb_entry(entry),
        }
    }

    /// Adds or replaces an entry.
    pub(super) fn replace_fdb_entry(&mut self, entry: &NewFdbEntry) -> Result<(), RunError> {
        let id = self.port_named(&entry.ifname)?;
        let key = key(entry.mac, entry.vlan.unwrap_or(0))?;
        self.refuse_gateway(entry.mac)?;
        if entry.state == NewFdbState::Permanent && (entry.ifname != HOST || entry.sticky) {
            return Err(RunError::PermanentEntry);
        }
        let kind = FdbKind { state: entry.state.into(), sticky: entry.sticky };
        self.switch.fdb.add(self.datapath.now(), key, id, kind)?;
        self.emit_fdb_added(id, key, entry.state);
        Ok(())
    }

    /// Removes an entry; with `ifname` only one of that port.
    pub(super) fn remove_fdb_entry(&mut self, query: &FdbEntryQuery) -> Result<(), RunError> {
        let mac = query.mac;
        let port = query.ifname.as_deref().map(|name| self.port_named(name)).transpose()?;
        let key = key(mac, query.vlan.unwrap_or(0))?;
        self.refuse_gateway(mac)?;
        let is_there = |entry: &FdbEntry| port.is_none_or(|port| entry.port == port);
        self.switch.fdb.entry(key).filter(is_there).ok_or(RunError::NoSuchEntry(mac))?;
        let gone = self.switch.fdb.remove(key).ok_or(RunError::NoSuchEntry(mac))?;
        self.emit_fdb_removed(&gone);
        Ok(())
    }

    /// Removes the matching entries, except the gateway's. Returns how many.
    pub(super) fn flush_fdb(&mut self, query: &FdbFlushQuery) -> Result<usize, RunError> {
        let port = query.ifname.as_deref().map(|name| self.port_named(name)).transpose()?;
        let gateway = self.switch.gateway.mac.get();
        let count = self.switch.fdb.remove_matching(|entry| {
            entry.key.mac != gateway
                && port.is_none_or(|port| port == entry.port)
                && query.vlan.is_none_or(|vlan| vlan == entry.key.vlan)
                && query.matches_kind(entry.kind)
        });
        self.emit_fdb_flushed(port, count);
        Ok(count)
    }

    /// The gateway's entry is the switch's own.
    fn refuse_gateway(&self, mac: Mac) -> Result<(), RunError> {
        if mac == self.switch.gateway.mac.get() { Err(RunError::GatewayEntry(mac)) } else { Ok(()) }
    }

    /// Limits the addresses that a port learns; 0 ends the limit.
    pub(super) fn set_fdb_max_learned(&mut self, id: PortId, max: u32) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        record.fdb_max_learned = max;
        info!(port = record.name, max, "fdb_max_learned changed");
        self.switch.fdb.set_max_learned(id, (max > 0).then_some(max));
    }
}

/// VLAN-aware bridging does not exist yet: all frames are in VLAN 0.
fn key(mac: Mac, vlan: u16) -> Result<FdbKey, RunError> {
    if vlan == 0 { Ok(FdbKey { vlan, mac }) } else { Err(RunError::NoVlans(vlan)) }
}
