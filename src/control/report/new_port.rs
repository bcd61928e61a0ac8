//! Requests for new ports.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::uplink::UplinkMode;
use super::{PortReport, PortVlans};
use crate::control::config::Labels;
use crate::wire::Mac;

/// A port to add.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewPort {
    /// Name of the port and its container [default: the prefix and the lowest free number, or the name
    /// of `netns`, `device`, `tap` or `socket`].
    pub name: Option<String>,
    /// An existing network namespace: a name that `ip netns` knows, an absolute path, or a process ID
    /// [default: a new container].
    pub netns: Option<String>,
    /// An existing device of the switch's network namespace. It excludes `netns`, `unmanaged`, `ifname`, `mtu` and
    /// `shared_netns`; `ip` and `mac` are then those of the host behind it, for the guard [default: none].
    pub device: Option<String>,
    /// An existing TAP device of `netns` [default: the switch's network namespace]. If no program has it open, the
    /// switch opens it. The rest is as with `device` [default: none].
    pub tap: Option<String>,
    /// A Unix socket. It excludes `netns`, `unmanaged`, `device`, `tap`, `ifname` and `shared_netns`; `ip` and `mac`
    /// are as with `device` [default: none].
    pub socket: Option<NewSocket>,
    /// Whether another program, such as a container runtime, moves and configures the device. It is created in `netns`
    /// [default: the switch's network namespace] and stays down, without addresses and routes. The port follows it to
    /// other namespaces. `ip` is then what that program assigns, for the guard.
    pub unmanaged: bool,
    /// Addresses with prefix lengths; `[]` for none [default: the next free one in each subnet].
    #[schema(value_type = Option<Vec<String>>)]
    pub ip: Option<Vec<IpNet>>,
    /// MAC address of the device [default: the switch's MAC prefix and the port's number].
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// Name of the device [default: eth0; of an unmanaged one `us` and the digits of its MAC address].
    pub ifname: Option<String>,
    /// Labels, by their key: up to 32 [default: none].
    pub labels: Labels,
    /// Whether to enable checksum and segmentation offload [default: as the switch].
    pub offload: Option<bool>,
    /// MTU in bytes [default: the switch's].
    pub mtu: Option<u64>,
    /// Whether to replace a port of this name, and ports whose device is gone and that hold one of its addresses.
    /// Number, addresses, MAC and labels are then those of the port of this name, unless given, and if its device is
    /// gone, the settings and the counters, too.
    pub replace: bool,
    /// Whether `netns` may have another port of this switch.
    pub shared_netns: bool,
    /// Whether the guard is on [default: as the switch; off with `netns`, `unmanaged`, `device`, `tap` and `socket`].
    pub guard: Option<bool>,
    /// Its VLANs, on a switch that filters them [default: the default PVID].
    pub vlan: Option<PortVlans>,
    /// With `device`: with which MAC addresses the hosts of the switch appear behind it [default: bridge].
    pub uplink_mode: Option<UplinkMode>,
}

/// A Unix socket that becomes a port.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewSocket {
    /// Its absolute path.
    #[schema(value_type = String)]
    pub path: PathBuf,
    /// What it carries [default: seqpacket].
    #[serde(default, rename = "type")]
    pub kind: SocketType,
    /// Whether to create it and wait for a peer, instead of connecting to it.
    #[serde(default)]
    pub listen: bool,
    /// With type dgram: the absolute path of the peer's socket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub remote: Option<PathBuf>,
}

impl NewSocket {
    /// The socket at this path, with the default settings.
    pub(crate) fn at(path: PathBuf) -> NewSocket {
        NewSocket { path, kind: SocketType::default(), listen: false, remote: None }
    }
}

/// What a socket carries.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SocketType {
    /// Messages of a virtio-net header and a frame: another switch
    #[default]
    Seqpacket,
    /// Frames with their length before them: QEMU (`-netdev stream`), passt
    Stream,
    /// Datagrams of one frame each: QEMU (`-netdev dgram`)
    Dgram,
}

impl SocketType {
    /// All of them.
    pub(crate) const ALL: [SocketType; 3] = [SocketType::Seqpacket, SocketType::Stream, SocketType::Dgram];

    /// The name in JSON and in options.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            SocketType::Seqpacket => "seqpacket",
            SocketType::Stream => "stream",
            SocketType::Dgram => "dgram",
        }
    }
}

/// A port that was added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AddedPort {
    /// The port.
    #[serde(flatten)]
    pub port: PortReport,
    /// Notices for the user, a sentence each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notices: Vec<String>,
}
