//! Ports and their settings.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::PortVlans;
use super::impairment::PortImpairments;
use super::limit::PortLimits;
use super::mirror::PortMirroring;
use super::published::PublishedPort;
use super::uplink::{UplinkMode, UplinkReport};
use crate::control::config::{LabelChanges, Labels};
use crate::switch::{PortFlag, PortFlags, with_port_flags};
use crate::wire::Mac;

/// A port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortReport {
    /// Port number in the switch, from 1. (The device's index is unique only in its namespace.)
    pub ifindex: u32,
    /// Name of the port's device, or the path of its socket.
    pub link: String,
    /// The name.
    pub ifname: String,
    /// The device's flags that the switch follows.
    pub flags: Vec<String>,
    /// MTU of the device, in bytes.
    pub mtu: u32,
    /// What prevents some frames from passing, if anything does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
    /// Name of the switch.
    pub master: String,
    /// `forwarding`; `learning`, `listening` or `blocking` as the spanning tree says; `blocking` while the port is
    /// blocked because of a loop; `disabled` when the port or the link is down, or the device is gone.
    pub state: String,
    /// The port settings that the Linux bridge shows.
    #[serde(flatten)]
    pub bridge: BridgePort,
    /// `UP`, `DOWN`, or `NOTPRESENT` when the device was deleted (RFC 2863 ifOperStatus).
    pub operstate: String,
    /// Whether the user has set the port up or down (RFC 2863 ifAdminStatus). A port that is down takes the carrier
    /// from its device.
    #[serde(default)]
    pub admin_state: AdminState,
    /// MAC address of the device.
    #[schema(value_type = String)]
    pub address: Mac,
    /// Addresses of the device, with prefix lengths.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
    /// The addresses to which its name and its published ports can lead: in subnets of the switch, and not of another
    /// host.
    #[serde(default)]
    #[schema(value_type = Vec<String>)]
    pub own_addresses: Vec<IpAddr>,
    /// The device's index in its namespace.
    pub device_ifindex: u32,
    /// Path of its network namespace; absent for the host's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns: Option<String>,
    /// Inode of the namespace, as in `net:[4026531840]`. It differs from that of another namespace at
    /// the same path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub netns_ino: Option<u64>,
    /// What the port leads to.
    #[serde(default)]
    pub kind: PortKind,
    /// Whether another program moves and configures the device.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmanaged: bool,
    /// Whether checksum and segmentation offload are enabled.
    pub offload: bool,
    /// The offloads that the device uses for the frames that it sends, as `ethtool -k` names them: `tx-checksumming`,
    /// `tcp-segmentation-offload`, `generic-segmentation-offload`. The container can change them.
    /// The device accepts frames with partial checksums and GSO packets in any case.
    #[serde(default)]
    pub offloads: Vec<String>,
    /// Whether the guard is on: frames with addresses that are not the port's are dropped. (`guard` is the BPDU guard
    /// of the Linux bridge.)
    #[serde(default)]
    pub source_guard: bool,
    /// Labels, by their key.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Ports of the host whose packets go to it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub published: Vec<PublishedPort>,
    /// Most addresses that the port learns; 0: no limit.
    #[serde(default)]
    pub fdb_max_learned: u32,
    /// Addresses that it has learned.
    #[serde(default)]
    pub fdb_n_learned: u32,
    /// Reserved group addresses 01:80:C2:00:00:0X that frames of the port may have as destination, bit X, besides those
    /// that the switch forwards.
    #[serde(default)]
    pub group_fwd_mask: u16,
    /// Most multicast groups that the port joins, an entry for each group and for each source; 0: no limit.
    #[serde(default)]
    pub mcast_max_groups: u32,
    /// Groups that it has joined.
    #[serde(default)]
    pub mcast_n_groups: u32,
    /// Storm control and rate limits.
    #[serde(default)]
    pub limits: PortLimits,
    /// Impairments of its frames.
    #[serde(default)]
    pub impairment: PortImpairments,
    /// What it is as an uplink with one MAC address for all hosts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uplink: Option<UplinkReport>,
    /// What mirrors have to do with it.
    #[serde(default, skip_serializing_if = "PortMirroring::is_none")]
    pub mirroring: PortMirroring,
    /// Why the workers decide about all frames of the port. Absent if the kernel forwards some of them, or if the
    /// switch has no fast path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slow: Option<String>,
    /// Why the port was throttled in the last second; empty if it was not.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub throttled: Vec<Throttled>,
    /// Why the port is blocked, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked: Option<PortBlock>,
    /// Whether the switch may not enter the device's namespace. It polls the device's name and MAC address, and does
    /// not see changes of its link state, MTU and IP addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub polled: bool,
}

impl PortReport {
    /// Why the port is down although its device is up, in a few words.
    pub(crate) fn down_reason(&self) -> Option<&'static str> {
        match self.operstate.as_str() {
            "DOWN" if self.admin_state == AdminState::Down => Some("set down"),
            "DOWN" if self.flags.iter().any(|flag| flag == "NO-CARRIER") => Some("no carrier"),
            _ => None,
        }
    }
}

/// Which ports to list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PortFilter {
    /// Those with this label, `KEY` or `KEY=VALUE`.
    pub label: Option<String>,
}

/// How to delete a port.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams)]
#[serde(deny_unknown_fields, default)]
#[into_params(parameter_in = Query)]
pub struct PortRemoval {
    /// Keep the TAP device that the switch created, with its addresses.
    pub keep_device: bool,
}

/// What a port leads to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum PortKind {
    /// A device that the switch created: a TAP device, or the end of a veth pair.
    #[default]
    Tap,
    /// An existing device.
    Device,
    /// A Unix socket.
    Socket,
}

impl PortKind {
    /// The name in JSON and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            PortKind::Tap => "tap",
            PortKind::Device => "device",
            PortKind::Socket => "socket",
        }
    }
}

/// Why a port is blocked: frames of another port came back there, through a loop or a host that sends frames back, or
/// the MAC address is used twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PortBlock {
    /// The MAC address that came in here.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// The port that it belongs to.
    pub other: String,
    /// Seconds until the port is unblocked.
    pub remaining: u32,
}

/// Whether the user has set a port up or down.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdminState {
    /// The port forwards if its link is up.
    #[default]
    Up,
    /// The port does not forward, and its device has no carrier.
    Down,
}

/// Why a port is throttled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Throttled {
    /// Its frames take more than its share of a worker's time, which other ports need. It is read less often.
    Ingress,
    /// Its receive path is slow. Frames for it are written in the background, for a share of the time.
    Egress,
}

impl Throttled {
    /// The name in JSON and in tables.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Throttled::Ingress => "ingress",
            Throttled::Egress => "egress",
        }
    }
}

/// Port settings of the Linux bridge, with the values that describe this switch. Priority and cost
/// have no effect without spanning tree, `mcast_router` and `fastleave` without multicast snooping.
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
    /// Whether the port is that of a hub: nothing is learned from it, and its frames are flooded. (The Linux bridge has
    /// no such setting.)
    #[serde(default)]
    pub hub: bool,
}

impl BridgePort {
    /// The flags that the forwarding rules read.
    pub(crate) fn flags(&self) -> impl Iterator<Item = (PortFlag, bool)> {
        macro_rules! values {
            ($($flag:ident, $name:ident, $default:literal, $text:literal;)+) => {
                [$((PortFlag::$flag, self.$name),)+]
            };
        }
        with_port_flags!(values).into_iter()
    }
}

impl From<PortFlags> for BridgePort {
    fn from(flags: PortFlags) -> BridgePort {
        macro_rules! bridge_port {
            ($($flag:ident, $name:ident, $default:literal, $text:literal;)+) => {
                BridgePort {
                    $($name: flags.has(PortFlag::$flag),)+
                    priority: 32,
                    cost: 100,
                    guard: false,
                    root_block: false,
                    fastleave: false,
                    mcast_router: 1,
                    mcast_to_unicast: false,
                    vlan_tunnel: false,
                }
            };
        }
        with_port_flags!(bridge_port)
    }
}

impl Default for BridgePort {
    fn default() -> Self {
        PortFlags::default().into()
    }
}

/// Settings of a port to change. Missing ones stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PortSettings {
    /// Whether the guard is on.
    pub guard: Option<bool>,
    /// Whether the port is up. A port that is down forwards nothing, and its device has no carrier: it keeps its
    /// addresses and routes.
    #[serde(alias = "admin-state")]
    pub admin_state: Option<AdminState>,
    /// Labels to add or to replace, by their key; `null` removes one.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub labels: LabelChanges,
    /// Most addresses that the port learns, up to 1048576; 0 ends the limit. Those that it has learned stay.
    #[serde(alias = "fdb-max-learned")]
    pub fdb_max_learned: Option<u64>,
    /// Whether source addresses are learned.
    pub learning: Option<bool>,
    /// Whether unknown unicast is flooded to the port.
    pub flood: Option<bool>,
    /// Whether multicast is flooded to the port.
    #[serde(alias = "mcast-flood")]
    pub mcast_flood: Option<bool>,
    /// Whether broadcast is flooded to the port.
    #[serde(alias = "bcast-flood")]
    pub bcast_flood: Option<bool>,
    /// Whether the port exchanges no frames with other isolated ports.
    pub isolated: Option<bool>,
    /// Whether frames may leave on the port that they came in on.
    pub hairpin: Option<bool>,
    /// Whether only frames from addresses that the forwarding database has on this port are accepted.
    pub locked: Option<bool>,
    /// Whether ARP requests and neighbour solicitations for known hosts behind the port are answered by the switch
    /// instead of being flooded to it.
    #[serde(alias = "neigh-suppress")]
    pub neigh_suppress: Option<bool>,
    /// Whether the port is that of a hub: nothing is learned from it, and its frames are flooded.
    pub hub: Option<bool>,
    /// Reserved group addresses 01:80:C2:00:00:0X that frames of the port may have as destination, bit X, up to 65535,
    /// besides those that the switch forwards. Bit 0: BPDUs are forwarded and not seen by a spanning tree.
    #[serde(alias = "group-fwd-mask")]
    pub group_fwd_mask: Option<u64>,
    /// Whether there is a multicast router behind the port: 0 never, 1 learned from its messages, 2 always.
    #[serde(alias = "mcast-router")]
    pub mcast_router: Option<u8>,
    /// Whether a leave ends the membership at once, for a port with one host.
    #[serde(alias = "mcast-fast-leave")]
    pub mcast_fast_leave: Option<bool>,
    /// Most multicast groups that the port joins, an entry for each group and for each source, up to 4096; 0 ends the
    /// limit. Those that it has joined stay.
    #[serde(alias = "mcast-max-groups")]
    pub mcast_max_groups: Option<u64>,
    /// Path cost in the spanning tree, 1 to 200000000.
    pub cost: Option<u32>,
    /// Port priority in the spanning tree, 0 to 60 in steps of 4.
    pub priority: Option<u8>,
    /// Whether only hosts are behind the port, so that it forwards at once.
    pub edge: Option<EdgeSetting>,
    /// BPDU guard: whether a BPDU disables the port until its link was down.
    #[serde(alias = "bpdu-guard")]
    pub bpdu_guard: Option<bool>,
    /// Root guard: whether the port never becomes the root port.
    #[serde(alias = "root-block")]
    pub root_block: Option<bool>,
    /// Its VLANs, instead of those that it has.
    pub vlan: Option<PortVlans>,
    /// Of an existing device: with which MAC addresses the hosts of the switch appear behind it.
    #[serde(alias = "uplink-mode")]
    pub uplink_mode: Option<UplinkMode>,
    /// Storm control and rate limits.
    pub limits: PortLimits,
    /// Impairments of its frames.
    pub impairment: PortImpairments,
}

impl PortSettings {
    /// The flags to change.
    pub(crate) fn flags(&self) -> impl Iterator<Item = (PortFlag, bool)> {
        macro_rules! given {
            ($($flag:ident, $name:ident, $default:literal, $text:literal;)+) => {
                [$((PortFlag::$flag, self.$name),)+]
            };
        }
        with_port_flags!(given).into_iter().filter_map(|(flag, on)| Some((flag, on?)))
    }
}

/// Whether only hosts are behind a port.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum EdgeSetting {
    /// If no BPDU comes in for three seconds.
    #[default]
    Auto,
    /// Until a BPDU comes in.
    On,
    /// No.
    Off,
}

#[cfg(test)]
use crate::switch::mdb;

#[cfg(test)]
impl PortReport {
    /// The port of `container<n>`, for tests.
    pub(crate) fn example(n: u8) -> PortReport {
        PortReport {
            ifindex: u32::from(n) + 1,
            link: "eth0".into(),
            ifname: format!("container{n}"),
            flags: Vec::new(),
            mtu: 1500,
            fault: None,
            master: "uswitch0".into(),
            state: "forwarding".into(),
            bridge: BridgePort::default(),
            operstate: "UP".into(),
            admin_state: AdminState::Up,
            address: Mac([2, 0, 0, 0, 0, n]),
            addresses: vec![format!("172.16.0.{}/24", n + 1).parse().unwrap()],
            own_addresses: vec![[172, 16, 0, n + 1].into()],
            device_ifindex: 2,
            netns: None,
            netns_ino: None,
            kind: PortKind::Tap,
            unmanaged: false,
            offload: true,
            offloads: Vec::new(),
            source_guard: true,
            labels: Labels::new(),
            published: Vec::new(),
            fdb_max_learned: 0,
            fdb_n_learned: 0,
            group_fwd_mask: 0,
            mcast_max_groups: mdb::MdbPortSettings::default().max_groups,
            mcast_n_groups: 0,
            limits: PortLimits::default(),
            impairment: PortImpairments::default(),
            uplink: None,
            mirroring: PortMirroring::default(),
            slow: None,
            throttled: Vec::new(),
            blocked: None,
            polled: false,
        }
    }
}
