//! The options of the spanning tree, of the switch and of its ports.

use serde::{Deserialize, Serialize};

use super::{Checked, InvalidValue, number};
use crate::control::options::Options;
use crate::control::report::{EdgeSetting, PortSettings};
use crate::switch::stp::{self, BridgeConfig, Edge, PortConfig, Version};
use crate::wire::Mac;

/// The spanning tree protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StpMode {
    /// None.
    #[default]
    Off,
    /// STP on all ports (802.1D-1998).
    Stp,
    /// RSTP (802.1D-2004), and STP with bridges that speak only that.
    Rstp,
}

/// Port priorities as the Linux bridge has them: a fourth of the standard's.
const PRIORITY_SCALE: u8 = 4;
/// The largest port priority on that scale, and its step.
pub(super) const PORT_PRIORITY: (u8, u8) =
    (stp::PORT_PRIORITY.0 / PRIORITY_SCALE, stp::PORT_PRIORITY.1 / PRIORITY_SCALE);

/// The bridge. Its MAC address is that of the switch, which is not known yet.
pub(super) fn bridge(options: &Options) -> Checked<Option<BridgeConfig>> {
    let typed = [
        ("priority", options.priority),
        ("hello-time", options.hello_time),
        ("max-age", options.max_age),
        ("forward-delay", options.forward_delay),
    ];
    let version = match options.stp.unwrap_or_default() {
        StpMode::Off => {
            let unused = typed.iter().find(|(_, value)| value.is_some());
            return unused.map_or(Ok(None), |(key, _)| Err((*key, InvalidValue::WithoutStp)));
        }
        StpMode::Stp => Version::Stp,
        StpMode::Rstp => Version::Rstp,
    };
    let default = BridgeConfig::new(Mac::ZERO);
    let [priority, hello_time, max_age, forward_delay] = typed;
    let get = |(key, typed), default: u16| number(key, typed, default.into(), 0..=u16::MAX.into());
    let bridge = BridgeConfig {
        version,
        priority: get(priority, default.priority)?,
        hello_time: get(hello_time, default.hello_time)?,
        max_age: get(max_age, default.max_age)?,
        forward_delay: get(forward_delay, default.forward_delay)?,
        ..default
    };
    bridge.check().map_err(|why| (key_of(why), InvalidValue::Stp(why)))?;
    Ok(Some(bridge))
}

/// The option that an error is about.
fn key_of(why: stp::StpConfigError) -> &'static str {
    match why {
        stp::StpConfigError::BridgePriority(_) => "priority",
        stp::StpConfigError::HelloTime(_) => "hello-time",
        stp::StpConfigError::ForwardDelay(_) => "forward-delay",
        _ => "max-age",
    }
}

/// The parameters of a port after a change of its settings.
///
/// # Errors
/// A setting is out of its range.
pub(crate) fn port(settings: &PortSettings, before: PortConfig) -> Result<PortConfig, InvalidValue> {
    let (largest, step) = PORT_PRIORITY;
    let priority = match settings.priority {
        Some(typed) if typed > largest || !typed.is_multiple_of(step) => {
            return Err(InvalidValue::PortPriority(typed));
        }
        typed => typed.map_or(before.priority, |typed| typed * PRIORITY_SCALE),
    };
    let port = PortConfig {
        cost: settings.cost.or(before.cost),
        priority,
        edge: settings.edge.map_or(before.edge, edge),
        guard: settings.bpdu_guard.unwrap_or(before.guard),
        root_block: settings.root_block.unwrap_or(before.root_block),
        ..before
    };
    port.check().map_err(InvalidValue::Stp)?;
    Ok(port)
}

fn edge(setting: EdgeSetting) -> Edge {
    match setting {
        EdgeSetting::Auto => Edge::Auto,
        EdgeSetting::On => Edge::On,
        EdgeSetting::Off => Edge::Off,
    }
}

/// A port priority as the Linux bridge has it.
pub(crate) fn shown_priority(priority: u8) -> u16 {
    u16::from(priority / PRIORITY_SCALE)
}
