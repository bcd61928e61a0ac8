//! Changes settings of running ports: all of a request, or none.

use std::hash::{BuildHasher, RandomState};

use tracing::{info, warn};

use super::link_state::LinkState;
use super::ports::PortRecord;
use super::{HostNetwork, RunError, Running, vlans};
use crate::control::config::{self, Labels};
use crate::control::event::DeviceAspect;
use crate::control::report::{AdminState, PortImpairments, PortKind, PortLimits, PortReport, PortSettings};
use crate::datapath::Impairment;
use crate::switch::PortId;

impl<M: HostNetwork> Running<M> {
    /// Changes the settings of a running port. After an error nothing is changed.
    pub(super) fn set_port(&mut self, name: &str, settings: &PortSettings) -> Result<PortReport, RunError> {
        let id = self.port_named(name)?;
        config::port_settings(name, settings)?;
        if let Some(vlans) = &settings.vlan {
            vlans::check(&self.config, vlans)?;
            self.check_host_port_joins(id, vlans.members().map(|(vid, _)| vid))?;
        }
        let labels = config::changed_labels(&self.ports[&id].labels, &settings.labels)?;
        self.apply_port_settings(id, settings)?;
        if let Some(record) = self.ports.get_mut(&id) {
            record.labels = labels;
        }
        // The guard may have changed.
        self.addresses_changed();
        self.update_dns();
        Ok(self.port_report(id, &self.ports[&id]))
    }

    /// Applies settings that were checked. After an error nothing is changed.
    pub(super) fn apply_port_settings(
        &mut self,
        id: PortId,
        settings: &PortSettings,
    ) -> Result<(), RunError> {
        if let Some(enabled) = settings.guard {
            self.check_port_guard(id, enabled)?;
        }
        if let Some(mode) = settings.uplink_mode {
            self.check_uplink_mode(id, mode)?;
        }
        // The kernel may refuse this one, so it is the first.
        if let Some(admin) = settings.admin_state {
            self.set_admin_state(id, admin)?;
        }
        self.set_impairments(id, &settings.impairment);
        if let Some(max) = settings.fdb_max_learned {
            self.set_fdb_max_learned(id, u32::try_from(max).unwrap_or(u32::MAX));
        }
        self.set_limits(id, &settings.limits);
        if let Some(enabled) = settings.guard {
            self.set_port_guard(id, enabled);
        }
        if let Some(mode) = settings.uplink_mode {
            self.set_uplink_mode(id, mode);
        }
        let mut flags = self.switch.ports.flags(id);
        settings.flags().for_each(|(flag, on)| flags.set(flag, on));
        self.switch.ports.set_flags(id, flags);
        if let Some(mask) = settings.group_fwd_mask.and_then(|mask| u16::try_from(mask).ok()) {
            self.switch.ports.set_group_fwd_mask(id, mask);
        }
        if let Some(vlans) = &settings.vlan {
            self.set_vlans(id, vlans);
        }
        self.set_multicast_port(id, settings);
        self.set_stp_port(id, settings)
    }

    /// Applies the settings that the configuration file has for a new port. The guard, the VLANs and the mode of an
    /// uplink have been set already, because a request takes precedence, also for labels.
    pub(super) fn apply_file_settings(&mut self, id: PortId) -> Result<(), RunError> {
        let Some(record) = self.ports.get_mut(&id) else { return Ok(()) };
        let Some(settings) = self.config.port_settings.get(&record.name) else { return Ok(()) };
        let of_file = config::changed_labels(&Labels::new(), &settings.labels)?;
        record.labels = of_file.into_iter().chain(std::mem::take(&mut record.labels)).collect();
        let settings = PortSettings { guard: None, vlan: None, uplink_mode: None, ..settings.clone() };
        self.apply_port_settings(id, &settings)
    }

    /// Sets a port up or down. The carrier of its TAP device follows; an existing device keeps its own.
    fn set_admin_state(&mut self, id: PortId, admin: AdminState) -> Result<(), RunError> {
        let record = &self.ports[&id];
        if record.is_gone() {
            return Err(RunError::PortGone(record.name.clone()));
        }
        let carrier = admin == AdminState::Up;
        let of_tap = record.kind == PortKind::Tap;
        if of_tap {
            self.network.set_carrier(record.device.id, carrier)?;
        }
        info!(port = record.name, ?admin, "port set");
        self.update_port_state(id, |record| {
            record.admin = admin;
            if !of_tap {
                return;
            }
            // The kernel reports this too, later, unless the device is in a namespace that is not ours to see.
            record.link = LinkState::of(record.link != LinkState::Down, carrier);
        });
        Ok(())
    }

    /// Replaces the impairments that are given.
    fn set_impairments(&mut self, id: PortId, impairments: &PortImpairments) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        for (side, mut impairment) in impairments.given() {
            let seed = impairment.seed.unwrap_or_else(|| RandomState::new().hash_one(id));
            impairment.seed = Some(seed);
            self.datapath.impair(id, side, impairment.enforced(), seed);
            record.impairment.replace(side, impairment);
            self.switch.ports.set_impaired(id, record.impairment.given().next().is_some());
            info!(port = record.name, ?side, impairment = impairment.describe(), "impairment changed");
        }
    }

    /// Ends the impairments of a port, whose number another port may get.
    pub(super) fn clear_impairments(&self, id: PortId) {
        for (side, _) in self.ports[&id].impairment.given() {
            self.datapath.impair(id, side, Impairment::default(), 0);
        }
    }

    /// Changes the limits that are given.
    fn set_limits(&mut self, id: PortId, limits: &PortLimits) {
        let Some(record) = self.ports.get_mut(&id) else { return };
        for (kind, limit) in limits.given() {
            let rate = limit.enforced(kind);
            self.switch.set_limit(id, kind, rate);
            *record.limits.of(kind) = rate.map(|_| limit);
            info!(port = record.name, ?kind, ?rate, "limit changed");
        }
    }

    /// Turns the carrier of a port that is down off again, after another program turned it on.
    pub(super) fn keep_carrier_off(&mut self, id: PortId) {
        let down = |record: &&PortRecord| record.admin == AdminState::Down && record.kind == PortKind::Tap;
        let Some(record) = self.ports.get(&id).filter(down) else { return };
        match self.network.set_carrier(record.device.id, false) {
            Ok(()) => self.emit_port_changed(id, DeviceAspect::Restored, "carrier".to_owned()),
            Err(error) => warn!(port = record.name, %error, "the carrier cannot be turned off again"),
        }
    }
}
