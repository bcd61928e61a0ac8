//! Entries of the forwarding database.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::switch::fdb::{FdbKind, FdbState};
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
    /// `sticky` if the entry stays on its port. The other flags of `bridge fdb` are for entries of other devices.
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
    /// Whether the entry stays on its port when a frame from its MAC address comes from another.
    #[serde(default)]
    pub sticky: bool,
}

/// The kinds of entries that a user can add.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NewFdbState {
    /// Never expires. It moves if a frame from its MAC address comes from another port, unless it is sticky.
    #[default]
    Static,
    /// Ages as if it were learned now.
    Dynamic,
    /// An address of the host. Never expires and never moves.
    #[serde(alias = "local")]
    Permanent,
}

impl From<NewFdbState> for FdbState {
    fn from(state: NewFdbState) -> FdbState {
        match state {
            NewFdbState::Static => FdbState::Static,
            NewFdbState::Dynamic => FdbState::Dynamic,
            NewFdbState::Permanent => FdbState::Permanent,
        }
    }
}

impl NewFdbState {
    /// The word of `bridge fdb`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            NewFdbState::Static => "static",
            NewFdbState::Dynamic => "dynamic",
            NewFdbState::Permanent => "permanent",
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
    /// Only if it is behind this port.
    pub ifname: Option<String>,
}

/// The entries to delete, as with `bridge fdb flush`. Without a kind, those are the learned ones. The gateway's entry
/// stays.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FdbFlushQuery {
    /// Only entries of this port.
    pub ifname: Option<String>,
    /// Only entries of this VLAN.
    pub vlan: Option<u16>,
    /// Only learned entries and those that were added as dynamic, or only others.
    pub dynamic: Option<bool>,
    /// Only static entries, or only others.
    #[serde(rename = "static")]
    pub static_: Option<bool>,
    /// Only permanent entries, or only others.
    #[serde(alias = "local")]
    pub permanent: Option<bool>,
    /// Only sticky entries, or only others.
    pub sticky: Option<bool>,
}

impl FdbFlushQuery {
    /// Whether an entry is of a kind to delete.
    pub(crate) fn matches_kind(&self, kind: FdbKind) -> bool {
        let FdbFlushQuery { dynamic, static_, permanent, sticky, .. } = *self;
        let is = |state| kind.state == state;
        if [dynamic, static_, permanent, sticky] == [None; 4] {
            return is(FdbState::Dynamic);
        }
        dynamic.is_none_or(|wanted| wanted == is(FdbState::Dynamic))
            && static_.is_none_or(|wanted| wanted == is(FdbState::Static))
            && permanent.is_none_or(|wanted| wanted == is(FdbState::Permanent))
            && sticky.is_none_or(|wanted| wanted == kind.sticky)
    }
}

/// The result of a flush.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlushReport {
    /// Number of deleted entries.
    pub flushed: usize,
}
