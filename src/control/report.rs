//! What the API says and hears, as JSON.
//!
//! Ports have the fields of `bridge -j -d link show`, and forwarding database entries those of `bridge -j fdb show`
//! (iproute2), by the same names, types and values, in the same order; ours come after them, and so does `updated`,
//! which `bridge` shows before the flags, and only with `-s`. A script for the Linux bridge works here too.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::switch::{DropReason, Side};
use crate::wire::Mac;

/// A running switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// Its name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Its process, as it sees itself.
    pub pid: u32,
    /// Seconds since it was made.
    pub uptime: u64,
    /// Whether "the host" is a sandbox of its own, because it was started without root.
    pub sandboxed: bool,
    /// How frames are moved: `io_uring` or `poll`.
    pub engine: String,
    /// Why not io_uring, where `auto` did not take it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_note: Option<String>,
    /// Worker threads.
    pub workers: usize,
    /// The CPU on which each worker stays; empty if the scheduler may move them.
    pub cpus: Vec<usize>,
    /// Its subnets.
    #[schema(value_type = Vec<String>)]
    pub subnets: Vec<IpNet>,
    /// The gateway.
    pub gateway: GatewayReport,
    /// Whether what leaves the host is masqueraded.
    pub nat: bool,
    /// Whether there is no host port.
    pub internal: bool,
    /// MTU of new ports, in bytes.
    pub mtu: u32,
    /// Ports, the host's included.
    pub ports: usize,
    /// Those that are up.
    pub ports_up: usize,
    /// Entries in the forwarding database.
    pub fdb: usize,
    /// Most entries there may be.
    pub fdb_max: usize,
    /// Seconds that a learned address lives without a frame from it.
    pub ageing_time: u64,
    /// Frames received since the start.
    pub rx_frames: u64,
    /// Bytes received since the start.
    pub rx_bytes: u64,
    /// What the workers had to tell and nobody took in time, such as that a device is gone.
    pub lost_notices: u64,
    /// Events that were too many to be told. What a reader of events is too slow for is only said to him.
    pub lost_events: u64,
}

/// The switch's own leg.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayReport {
    /// Its MAC; the host port's too.
    #[schema(value_type = String, example = "02:5e:10:00:00:00")]
    pub mac: Mac,
    /// Its address in each subnet.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortReport {
    /// Its number in the switch, from 1. (The device's index is only unique in its namespace.)
    pub ifindex: u32,
    /// The device behind it.
    pub link: String,
    /// Its name.
    pub ifname: String,
    /// The device's flags, as far as the switch follows them.
    pub flags: Vec<String>,
    /// MTU of the device, in bytes.
    pub mtu: u32,
    /// The switch.
    pub master: String,
    /// `forwarding`, or `disabled` when the link is down or gone.
    pub state: String,
    /// What the Linux bridge shows of a port's settings.
    #[serde(flatten)]
    pub bridge: BridgePort,
    /// `UP`, `DOWN`, or `NOTPRESENT` when somebody deleted the device (RFC 2863 ifOperStatus).
    pub operstate: String,
    /// MAC of the device.
    #[schema(value_type = String)]
    pub address: Mac,
    /// Addresses of the device, with prefix lengths.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// The device's index in its namespace.
    pub device_ifindex: u32,
    /// Its namespace as a path; none for the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// The namespace's inode, as in `net:[4026531840]`: tells it from another that has its path now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns_ino: Option<u64>,
    /// Whether super-frames and unfinished checksums cross it.
    pub offload: bool,
}

/// What can be set on a port of the Linux bridge and not here yet: the values say what this switch does, in
/// the bridge's words. Priority, cost and multicast routers are the bridge's defaults for a TAP; they
/// decide nothing before there is a spanning tree and multicast snooping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[allow(missing_docs, reason = "the names of bridge(8), which explains them")]
#[allow(clippy::struct_excessive_bools, reason = "the shape of `bridge -j -d link`")]
pub struct BridgePort {
    pub priority: u16,
    pub cost: u32,
    pub hairpin: bool,
    pub guard: bool,
    pub root_block: bool,
    pub fastleave: bool,
    pub learning: bool,
    pub flood: bool,
    pub mcast_flood: bool,
    pub bcast_flood: bool,
    pub mcast_router: u8,
    pub mcast_to_unicast: bool,
    pub neigh_suppress: bool,
    pub vlan_tunnel: bool,
    pub isolated: bool,
    pub locked: bool,
}

impl Default for BridgePort {
    fn default() -> Self {
        BridgePort {
            priority: 32,
            cost: 100,
            hairpin: false,
            guard: false,
            root_block: false,
            fastleave: false,
            learning: true,
            flood: true,
            mcast_flood: true,
            bcast_flood: true,
            mcast_router: 1,
            mcast_to_unicast: false,
            neigh_suppress: false,
            vlan_tunnel: false,
            isolated: false,
            locked: false,
        }
    }
}

/// A port to be made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPort {
    /// Its name; the container's too. By default the prefix and the lowest free number, or the name of `netns`.
    pub name: Option<String>,
    /// An existing namespace: a name that `ip netns` knows, an absolute path, or a process. None: a new container.
    pub netns: Option<String>,
    /// Addresses with prefix lengths; by default the next free one in each subnet.
    #[schema(value_type = Vec<String>)]
    pub ip: Vec<IpNet>,
    /// MAC of the device; by default made from the switch's name and the port's number.
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// The device's name [default: eth0].
    pub ifname: Option<String>,
    /// Whether super-frames and unfinished checksums may cross [default: as the switch].
    pub offload: Option<bool>,
    /// MTU in bytes [default: the switch's].
    pub mtu: Option<u64>,
}

/// A port that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedPort {
    /// The port.
    #[serde(flatten)]
    pub port: PortReport,
    /// What the user should know of it, each a sentence.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}

/// An entry of the forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FdbReport {
    /// Whose.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// Behind which port.
    pub ifname: String,
    /// VLAN, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Always empty: the bridge's flags are for entries of other devices.
    pub flags: Vec<String>,
    /// The switch.
    pub master: String,
    /// Empty for a learned entry, `static`, or `permanent` for the switch's own.
    pub state: String,
    /// Seconds since a frame from it was last seen; only on learned entries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub updated: Option<u32>,
}

/// Which entries of the forwarding database to show.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FdbFilter {
    /// Behind this port.
    pub ifname: Option<String>,
    /// Of this station.
    #[param(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// In this VLAN.
    pub vlan: Option<u16>,
}

/// An entry to be put into the forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewFdbEntry {
    /// Whose.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// Behind which port.
    pub ifname: String,
    /// VLAN.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vlan: Option<u16>,
    /// Whether it ages.
    #[serde(default)]
    pub state: NewFdbState,
}

/// The kinds of entries that a person can make.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum NewFdbState {
    /// Neither ages nor moves.
    #[default]
    Static,
    /// As if learned now.
    Dynamic,
}

impl NewFdbState {
    /// As `bridge fdb` has it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            NewFdbState::Static => "static",
            NewFdbState::Dynamic => "dynamic",
        }
    }
}

/// Names an entry of the forwarding database.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FdbEntryQuery {
    /// Whose.
    #[param(value_type = String)]
    pub mac: Mac,
    /// VLAN.
    pub vlan: Option<u16>,
}

/// Which learned entries to take out: all, or those of one port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct FdbFlushQuery {
    /// Behind this port.
    pub ifname: Option<String>,
}

/// How many entries were taken out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FlushReport {
    /// Entries.
    pub flushed: usize,
}

/// The name of the row with what ports counted that are no more.
pub const DELETED: &str = "(deleted)";

/// A port's counters. A super-frame counts once. Every frame received ends as one of `forwarded`, `flooded`, `answered`
/// or a drop on the ingress side; docs/API.md has the sums that hold.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortStats {
    /// The port; `(deleted)` for all that are no more.
    pub ifname: String,
    /// Frames that came in from the container.
    pub rx_frames: u64,
    /// Their bytes, from the destination address on, without FCS.
    pub rx_bytes: u64,
    /// Frames delivered to it.
    pub tx_frames: u64,
    /// Their bytes.
    pub tx_bytes: u64,
    /// Received frames that went to one egress port.
    pub forwarded: u64,
    /// Received frames that were flooded.
    pub flooded: u64,
    /// The copies that they became, one for each egress port.
    pub flood_copies: u64,
    /// Received frames that the switch itself answered.
    pub answered: u64,
    /// Frames for this port that were segmented, or their checksum done, because it takes no offload.
    pub segmented: u64,
    /// What they became.
    pub segments: u64,
    /// Addresses that were new here.
    pub fdb_learned: u64,
    /// Addresses that moved here from another port.
    pub fdb_moved: u64,
    /// Addresses learned here that gave way to others in a full forwarding database.
    pub fdb_evictions: u64,
    /// Addresses not learned, because nothing could give way.
    pub fdb_refused: u64,
    /// Frames that the container sent and the switch never saw, because they came faster than it read and the queue of
    /// the container's device was full. Not there when the device is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_dropped: Option<u64>,
    /// Frames not delivered, by reason; every reason is there.
    pub drops: BTreeMap<String, u64>,
}

impl PortStats {
    /// All drops of one side.
    pub fn dropped(&self, side: Side) -> u64 {
        self.reasons(side).map(|(_, count)| count).sum()
    }

    /// The reasons of one side, in their order, with how many frames each was for.
    pub fn reasons(&self, side: Side) -> impl Iterator<Item = (DropReason, u64)> {
        let of_side = DropReason::ALL.iter().filter(move |reason| reason.side() == side);
        of_side.map(|reason| (*reason, self.drops.get(reason.name()).copied().unwrap_or(0)))
    }
}

/// The switch has stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopReport {
    /// What could not be taken away; empty when nothing is left.
    pub errors: Vec<String>,
}

/// A request that could not be met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReport {
    /// Why, and what to do.
    pub error: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port() -> PortReport {
        PortReport {
            ifindex: 2,
            link: "eth0".into(),
            ifname: "container1".into(),
            flags: ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"].map(str::to_owned).into(),
            mtu: 1500,
            master: "uswitch0".into(),
            state: "forwarding".into(),
            bridge: BridgePort::default(),
            operstate: "UP".into(),
            address: Mac([2, 0, 0, 0, 0, 1]),
            addresses: vec!["172.16.0.2/24".parse().unwrap()],
            device_ifindex: 2,
            netns: Some("/run/netns/container1".into()),
            netns_ino: Some(4_026_532_000),
            offload: true,
        }
    }

    /// As `bridge -j -d link show` of iproute2 6.1 prints a port, up to our own fields.
    #[test]
    fn port_has_the_shape_of_bridge_link() {
        let json = serde_json::to_string(&port()).unwrap();
        let (theirs, ours) = json.split_once(",\"operstate\"").unwrap();
        assert_eq!(
            theirs,
            r#"{"ifindex":2,"link":"eth0","ifname":"container1","flags":["BROADCAST","MULTICAST","UP","LOWER_UP"],"#
                .to_owned()
                + r#""mtu":1500,"master":"uswitch0","state":"forwarding","priority":32,"cost":100,"hairpin":false,"#
                + r#""guard":false,"root_block":false,"fastleave":false,"learning":true,"flood":true,"#
                + r#""mcast_flood":true,"bcast_flood":true,"mcast_router":1,"mcast_to_unicast":false,"#
                + r#""neigh_suppress":false,"vlan_tunnel":false,"isolated":false,"locked":false"#
        );
        assert!(ours.contains(r#""addresses":["172.16.0.2/24"]"#), "{ours}");
        assert_eq!(serde_json::from_str::<PortReport>(&json).unwrap(), port());
    }

    /// As `bridge -j fdb show` of iproute2 6.1 prints a static and a learned entry.
    #[test]
    fn entry_has_the_shape_of_bridge_fdb() {
        let mut entry = FdbReport {
            mac: Mac([2, 0, 0, 0, 0, 9]),
            ifname: "container1".into(),
            vlan: None,
            flags: Vec::new(),
            master: "uswitch0".into(),
            state: "static".into(),
            updated: None,
        };
        let json = |entry: &FdbReport| serde_json::to_string(entry).unwrap();
        assert_eq!(
            json(&entry),
            r#"{"mac":"02:00:00:00:00:09","ifname":"container1","flags":[],"master":"uswitch0","state":"static"}"#
        );
        (entry.vlan, entry.state, entry.updated) = (Some(5), String::new(), Some(3));
        assert_eq!(
            json(&entry),
            r#"{"mac":"02:00:00:00:00:09","ifname":"container1","vlan":5,"flags":[],"#.to_owned()
                + r#""master":"uswitch0","state":"","updated":3}"#
        );
    }

    #[test]
    fn rejects_unknown_port_fields() {
        assert!(serde_json::from_str::<NewPort>(r#"{"nmae": "x"}"#).is_err());
        assert_eq!(serde_json::from_str::<NewPort>("{}").unwrap(), NewPort::default());
    }
}
