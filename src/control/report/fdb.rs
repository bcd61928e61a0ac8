//! Entries of the forwarding database.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::wire::Mac;

/// An entry of the forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FdbReport {
    /// The MAC address.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// The port behind which it is.
    pub ifname: String,
    /// VLAN ID, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Always empty: the flags of `bridge fdb` are for entries of other devices.
    pub flags: Vec<String>,
    /// Name of the switch.
    pub master: String,
    /// Empty for a learned entry, `static`, or `permanent` for the switch's own MAC address.
    pub state: String,
    /// Seconds since the last frame from it; only for learned entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<u32>,
}

/// Filter of forwarding database entries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FdbFilter {
    /// Only entries of this port.
    pub ifname: Option<String>,
    /// Only this MAC address.
    #[param(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// Only this VLAN.
    pub vlan: Option<u16>,
}

/// A forwarding database entry to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFdbEntry {
    /// The MAC address.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// The port behind which it is.
    pub ifname: String,
    /// VLAN ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Whether the entry ages [default: static].
    #[serde(default)]
    pub state: NewFdbState,
}

/// The kinds of entries that a user can add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NewFdbState {
    /// Never expires and never moves.
    #[default]
    Static,
    /// Ages as if it were learned now.
    Dynamic,
}

impl NewFdbState {
    /// The word of `bridge fdb`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            NewFdbState::Static => "static",
            NewFdbState::Dynamic => "dynamic",
        }
    }
}

/// The entry to delete.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FdbEntryQuery {
    /// The MAC address.
    #[param(value_type = String)]
    pub mac: Mac,
    /// VLAN ID.
    pub vlan: Option<u16>,
}

/// The learned entries to delete: all, or those of one port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FdbFlushQuery {
    /// Only entries of this port.
    pub ifname: Option<String>,
}

/// The result of a flush.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlushReport {
    /// Number of deleted entries.
    pub flushed: usize,
}
