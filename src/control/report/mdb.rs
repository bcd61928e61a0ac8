//! Multicast groups, as `bridge -j -d -s mdb show` prints them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::switch::mdb::MdbCounts;

/// The multicast database.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MdbReport {
    /// The entries, by VLAN, group and port.
    pub mdb: Vec<MdbEntry>,
    /// The ports behind which there are multicast routers, by the name of the switch.
    pub router: BTreeMap<String, Vec<MdbRouter>>,
    /// Where there is a querier. Elsewhere all groups are flooded.
    pub querier: Vec<MdbQuerier>,
    /// The ports with settings that are not the defaults.
    #[serde(default)]
    pub port: Vec<MdbPort>,
    /// What was counted since the start.
    pub counters: MdbCounters,
}

/// Counters of the messages of hosts and routers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MembershipCounters {
    /// Reports and leaves that were received.
    pub reports: u64,
    /// Queries that were received.
    pub queries: u64,
    /// Queries that this switch made.
    pub own_queries: u64,
    /// Messages that were ignored because they are malformed.
    pub malformed: u64,
    /// Members and sources that were refused because the table is full.
    pub refused_full: u64,
    /// Members and sources that were refused because of the limit of the port, or of a member.
    pub refused_limit: u64,
    /// Queries that were not made, because too many waited to be sent.
    pub lost_queries: u64,
    /// Events that were not kept.
    pub lost_events: u64,
}

impl From<MdbCounts> for MembershipCounters {
    fn from(counts: MdbCounts) -> MembershipCounters {
        let MdbCounts {
            reports,
            queries,
            own_queries,
            malformed,
            refused_full,
            refused_limit,
            lost_queries,
            lost_events,
        } = counts;
        MembershipCounters {
            reports,
            queries,
            own_queries,
            malformed,
            refused_full,
            refused_limit,
            lost_queries,
            lost_events,
        }
    }
}

/// Counters of multicast snooping.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MdbCounters {
    /// Those of the messages of hosts and routers.
    #[serde(flatten)]
    pub counts: MembershipCounters,
    /// Messages that were not evaluated, because they arrived too fast.
    pub lost_messages: u64,
}

/// A port that has joined a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MdbEntry {
    /// Name of the switch.
    pub dev: String,
    /// The port.
    pub port: String,
    /// The group.
    #[schema(value_type = String)]
    pub grp: IpAddr,
    /// The source, of an (S,G) entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub src: Option<IpAddr>,
    /// Whether the entry ends.
    pub state: MdbState,
    /// `exclude`: the port gets the group from all sources except the blocked ones. `include`: only from those that
    /// have entries of their own.
    pub filter_mode: String,
    /// The sources of a (\*,G) entry.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub source_list: Vec<MdbSource>,
    /// `blocked`: nothing of this source is forwarded to the port.
    pub flags: Vec<String>,
    /// VLAN ID, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// Seconds until the entry ends, as in ` 259.93`; zero if it does not end by itself.
    pub timer: String,
}

/// A source in a (\*,G) entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MdbSource {
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Seconds for which it is wanted; zero if it is blocked.
    pub timer: String,
}

/// Whether an entry ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum MdbState {
    /// After the membership interval (260 s), unless a host reports again.
    #[default]
    Temp,
    /// Never. Reports do not change it.
    Permanent,
}

impl MdbState {
    /// The word of `bridge mdb`.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            MdbState::Temp => "temp",
            MdbState::Permanent => "permanent",
        }
    }
}

/// A port behind which there is a multicast router.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MdbRouter {
    /// The port.
    pub port: String,
    /// Seconds until it is forgotten.
    pub timer: String,
    /// `temp`: learned; `permanent`: configured.
    #[serde(rename = "type")]
    pub kind: String,
    /// `inet` or `inet6`: of which groups; absent for both.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub family: Option<String>,
    /// VLAN ID, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
}

/// A querier: it makes hosts report their groups.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MdbQuerier {
    /// `inet` (IGMP) or `inet6` (MLD).
    pub family: String,
    /// VLAN ID, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The port behind which it is; absent for the switch itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<String>,
    /// Whether groups go to their members only: hosts have had the time to report.
    pub active: bool,
}

/// How a port takes part, with the names of `bridge -d link show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MdbPort {
    /// The port.
    pub port: String,
    /// Whether there is a multicast router behind it: 0 never, 1 learned from its messages, 2 always.
    pub mcast_router: u8,
    /// Whether a leave ends the membership at once.
    pub fastleave: bool,
    /// Most groups that it joins, an entry for each group and for each source; 0: no limit.
    pub mcast_max_groups: u32,
    /// Groups that it has joined.
    pub mcast_n_groups: u32,
}

/// An entry to add.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewMdbEntry {
    /// The group.
    #[schema(value_type = String)]
    pub grp: IpAddr,
    /// The port.
    pub port: String,
    /// Only from this source: an (S,G) entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub src: Option<IpAddr>,
    /// VLAN ID.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vid: Option<u16>,
    /// Whether it ends [default: temp].
    #[serde(default)]
    pub state: MdbState,
}

/// The entry to delete.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct MdbEntryQuery {
    /// The group.
    #[param(value_type = String)]
    pub grp: IpAddr,
    /// The port.
    pub port: String,
    /// The source, of an (S,G) entry.
    #[param(value_type = Option<String>)]
    pub src: Option<IpAddr>,
    /// VLAN ID.
    pub vid: Option<u16>,
}
