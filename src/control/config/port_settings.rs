//! Settings of ports, of the configuration file and of requests.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::{
    Checked, FDB_MOST, InvalidValue, Labels, changed_labels, container_name, is_host_port, range_error,
    spanning_tree, vlan_of_host_port,
};
use crate::control::report::{DirectionImpairment, PortLimit, PortSettings, PortVlans};
use crate::switch::LimitKind;
use crate::switch::mdb::{self, MdbSettings, RouterMode};
use crate::switch::stp::PortConfig;
use crate::switch::vlan::Vid;

/// Checks the settings of the port with this name.
///
/// # Errors
/// A setting is out of range, or the host port cannot have it.
pub fn port_settings(name: &str, settings: &PortSettings) -> Result<(), InvalidValue> {
    if settings.guard.is_some() && is_host_port(name) {
        return Err(InvalidValue::HostPortGuard);
    }
    if settings.vlan.is_some() && vlan_of_host_port(name).is_some() {
        return Err(InvalidValue::FixedVlan);
    }
    changed_labels(&Labels::new(), &settings.labels)?;
    check_range(settings.fdb_max_learned, 0..=FDB_MOST)?;
    settings.vlan.as_ref().map_or(Ok(()), port_vlans)?;
    check_range(settings.group_fwd_mask, 0..=u64::from(u16::MAX))?;
    check_range(settings.mcast_router.map(u64::from), 0..=RouterMode::Permanent as u64)?;
    check_range(settings.mcast_max_groups, 0..=MdbSettings::default().hash_max as u64)?;
    spanning_tree::port(settings, PortConfig::default())?;
    settings.limits.given().try_for_each(|(kind, limit)| check_limit(kind, limit))?;
    settings.impairment.given().try_for_each(|(_, impairment)| check_impairment(&impairment))
}

fn check_impairment(impairment: &DirectionImpairment) -> Result<(), InvalidValue> {
    const LONGEST: u64 = 60_000_000;
    check_range(Some(impairment.delay_us), 0..=LONGEST)?;
    check_range(Some(impairment.jitter_us), 0..=LONGEST)?;
    check_range(Some(impairment.rate).filter(|rate| *rate > 0), BIT_RATES)
}

/// Rates in bits per second.
const BIT_RATES: RangeInclusive<u64> = 1000..=1_000_000_000_000;

fn check_limit(kind: LimitKind, PortLimit { rate, burst }: PortLimit) -> Result<(), InvalidValue> {
    let (rates, bursts) = match kind {
        LimitKind::IngressRate | LimitKind::EgressRate => (BIT_RATES, 1500..=1 << 30),
        _ => (1..=1_000_000_000, 1..=1_000_000_000),
    };
    check_range(Some(rate).filter(|rate| *rate > 0), rates)?;
    check_range(burst, bursts)
}

/// Checks that a value, if there is one, is in range.
fn check_range(value: Option<u64>, range: RangeInclusive<u64>) -> Result<(), InvalidValue> {
    match value {
        Some(value) if !range.contains(&value) => Err(range_error(value, &range)),
        _ => Ok(()),
    }
}

/// How a port takes part in multicast snooping after a change of its settings, which [`port_settings`] has checked.
pub(crate) fn mcast_settings(settings: &PortSettings, before: mdb::MdbPortSettings) -> mdb::MdbPortSettings {
    mdb::MdbPortSettings {
        router: settings.mcast_router.and_then(RouterMode::from_number).unwrap_or(before.router),
        fast_leave: settings.mcast_fast_leave.unwrap_or(before.fast_leave),
        max_groups: settings
            .mcast_max_groups
            .map_or(before.max_groups, |most| u32::try_from(most).unwrap_or(u32::MAX)),
    }
}

/// Checks the VLANs of a port.
///
/// # Errors
/// They are those of an access port and of a trunk, or there are none, or a state is that of another VLAN.
pub fn port_vlans(vlans: &PortVlans) -> Result<(), InvalidValue> {
    let is_trunk = !vlans.trunk.is_empty() || vlans.native.is_some();
    match (vlans.access.is_some(), is_trunk) {
        (true, true) => return Err(InvalidValue::AccessAndTrunk),
        (false, false) => return Err(InvalidValue::EmptyVlans),
        _ => {}
    }
    let members: BTreeSet<Vid> = vlans.members().map(|(vid, _)| vid).collect();
    let foreign = vlans.state.keys().flat_map(|range| range.iter()).find(|vid| !members.contains(vid));
    foreign.map_or(Ok(()), |vid| Err(InvalidValue::StateOfOtherVlan(vid)))
}

/// Checks the tables `[port.NAME]` of a configuration file.
pub(super) fn of_file(ports: BTreeMap<String, PortSettings>) -> Checked<BTreeMap<String, PortSettings>> {
    for (name, settings) in &ports {
        let known = if is_host_port(name) { Ok(()) } else { container_name(name) };
        known
            .and_then(|()| port_settings(name, settings))
            .map_err(|why| ("port", InvalidValue::OfPort { name: name.clone(), why: Box::new(why) }))?;
    }
    Ok(ports)
}
