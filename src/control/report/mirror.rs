//! Port mirrors.

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::vlan::ranges;
use crate::switch::MirrorDirection;
use crate::switch::vlan::VidRange;

/// A mirror to add: copies of frames for the analyser behind a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMirror {
    /// The destination. It gets only copies, and its own frames are dropped.
    pub to: String,
    /// The ports whose frames are copied [default: all, also those that are added later].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<String>,
    /// Which of their frames: `rx`, those that the switch receives from them; `tx`, those that it sends to them; `both`
    /// [default: both].
    #[serde(default)]
    #[schema(value_type = String)]
    pub direction: MirrorDirection,
    /// Only frames of these VLANs, each one or several as in `10-20` [default: all].
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "ranges")]
    #[schema(value_type = Vec<String>)]
    pub vlan: Vec<VidRange>,
    /// Most bytes of a copy, 14 to 65535 [default: the whole frame].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snaplen: Option<u64>,
}

impl NewMirror {
    /// Its sources in a few words.
    pub(crate) fn sources(&self) -> String {
        let ports = if self.from.is_empty() { "all ports".to_owned() } else { self.from.join(", ") };
        let vlans: Vec<String> = self.vlan.iter().map(ToString::to_string).collect();
        if vlans.is_empty() { ports } else { format!("{ports} in VLAN {}", vlans.join(", ")) }
    }
}

/// A mirror, and what it has copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MirrorReport {
    /// The mirror.
    #[serde(flatten)]
    pub mirror: NewMirror,
    /// Copies that were made since it was added.
    pub mirrored: u64,
    /// Those of them that were dropped: its destination could not take them.
    pub dropped: u64,
}

/// A mirror to delete.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MirrorQuery {
    /// Its destination.
    pub to: String,
}

/// What mirrors have to do with a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortMirroring {
    /// Whether it is the destination of a mirror.
    pub destination: bool,
    /// The destinations to which its frames are mirrored.
    pub to: Vec<String>,
}

impl PortMirroring {
    /// In a few words; `None` if mirrors have nothing to do with it.
    pub(crate) fn describe(&self) -> Option<String> {
        match (self.destination, &self.to[..]) {
            (true, _) => Some("destination of a mirror".to_owned()),
            (false, []) => None,
            (false, to) => Some(format!("mirrored to {}", to.join(", "))),
        }
    }

    /// Mirrors have nothing to do with it.
    pub(crate) fn is_none(&self) -> bool {
        *self == PortMirroring::default()
    }
}
