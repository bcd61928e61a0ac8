//! The state of a switch.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::control::config::{LabelChanges, Labels};
use crate::switch::Vid;
use crate::wire::Mac;

/// Whether a switch works.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SwitchState {
    /// It forwards.
    #[default]
    Running,
    /// A worker does not respond: some flows are not forwarded, and no port can be added. Or NAT may not work.
    Degraded,
}

impl SwitchState {
    /// The state of a switch with these stalled workers, and with this fault of NAT.
    pub(crate) fn of(stalled_workers: &[usize], nat_fault: Option<&String>) -> SwitchState {
        let works = stalled_workers.is_empty() && nat_fault.is_none();
        if works { SwitchState::Running } else { SwitchState::Degraded }
    }
}

impl fmt::Display for SwitchState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            SwitchState::Running => "running",
            SwitchState::Degraded => "degraded",
        })
    }
}

/// Whether a switch works, for a monitor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Health {
    /// The state.
    pub state: SwitchState,
    /// Numbers of the workers that do not respond.
    pub stalled_workers: Vec<usize>,
    /// Why NAT may not work, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_fault: Option<String>,
}

/// A running switch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Status {
    /// The name.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// Its process ID, in its own PID namespace.
    pub pid: u32,
    /// Seconds since the start.
    pub uptime: u64,
    /// Whether it works.
    pub state: SwitchState,
    /// Numbers of the workers that do not respond.
    pub stalled_workers: Vec<usize>,
    /// Why NAT may not work, if so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nat_fault: Option<String>,
    /// Whether the switch filters VLANs (`vlan_filtering`).
    #[serde(default)]
    pub vlan_filtering: bool,
    /// Whether it counts the frames of each port in each VLAN (`vlan_stats_per_port`).
    #[serde(default)]
    pub vlan_stats_per_port: bool,
    /// Whether the host side is a private network namespace, because the switch was started without
    /// root.
    pub sandboxed: bool,
    /// The I/O engine: `io_uring` or `poll`.
    pub engine: String,
    /// Why `--engine auto` did not choose io_uring.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub engine_note: Option<String>,
    /// Whether the kernel forwards known unicast and floods between containers.
    pub fast_path: bool,
    /// Why `--fast-path auto` found none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fast_path_note: Option<String>,
    /// Number of worker threads.
    pub workers: usize,
    /// The CPU of each worker; empty if workers are not pinned.
    pub cpus: Vec<usize>,
    /// The subnets.
    #[schema(value_type = Vec<String>)]
    pub subnets: Vec<IpNet>,
    /// The gateway.
    pub gateway: GatewayReport,
    /// The gateways of VLANs that have one of their own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub vlan_gateways: Vec<VlanGatewayReport>,
    /// The first four octets of the MAC addresses.
    pub mac_prefix: String,
    /// Labels, by their key.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Whether traffic that leaves the host is masqueraded (NAT).
    pub nat: bool,
    /// Whether there is no host port.
    pub internal: bool,
    /// The DHCP server, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dhcp: Option<DhcpReport>,
    /// The router advertisements, if they are sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub router_advertisements: Option<RouterAdvertisementReport>,
    /// The DNS server, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dns: Option<DnsReport>,
    /// Whether the guard is on for new containers.
    #[serde(default)]
    pub guard: bool,
    /// Number of containers whose guard is off.
    #[serde(default)]
    pub guard_off: usize,
    /// The first 8 of them.
    #[serde(default)]
    pub guard_off_ports: Vec<String>,
    /// Whether loop detection is on.
    #[serde(default)]
    pub loop_detection: bool,
    /// MTU of new ports, in bytes.
    pub mtu: u32,
    /// Number of ports, including the host port.
    pub ports: usize,
    /// Number of ports that are up.
    pub ports_up: usize,
    /// Number of entries in the forwarding database.
    pub fdb: usize,
    /// Limit of entries in the forwarding database.
    pub fdb_max: usize,
    /// Ageing time of learned entries, in seconds.
    pub ageing_time: u64,
    /// Frames received since the start.
    pub rx_frames: u64,
    /// Bytes received since the start.
    pub rx_bytes: u64,
    /// Notices of workers that found the queue full, such as a deleted device.
    pub lost_notices: u64,
    /// Events that were suppressed by rate limits. Events that a slow reader missed are reported to
    /// that reader only.
    pub lost_events: u64,
}

/// The DHCP server. The counters are numbers of messages since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhcpReport {
    /// How long a client has its address, in seconds.
    pub lease_time: u64,
    /// Addresses that clients have now.
    pub leases: usize,
    /// Addresses offered.
    pub offered: u64,
    /// Requests granted.
    pub acknowledged: u64,
    /// Requests for an address that the client must not use.
    pub refused: u64,
    /// Requests that got no address because none was free.
    pub exhausted: u64,
    /// Requests that got no address because their port has the most leases.
    #[serde(default)]
    pub limited: u64,
    /// Messages not answered for other reasons: malformed, from no known port, or to another server.
    pub ignored: u64,
    /// Messages of DHCPv6 that were ignored, because their port sent too many.
    #[serde(default)]
    pub lost: u64,
}

/// The router advertisements of the gateways. The counters are numbers since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouterAdvertisementReport {
    /// The advertised prefixes.
    #[schema(value_type = Vec<String>)]
    pub prefixes: Vec<IpNet>,
    /// Advertisements sent. Each goes to all hosts of the link of a gateway.
    pub sent: u64,
    /// Solicitations of hosts. Several have one answer, if they come within 3 s.
    pub solicited: u64,
    /// Solicitations that were ignored, because their port sent too many.
    pub lost: u64,
}

/// The DNS server. The counters are numbers of queries since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DnsReport {
    /// The domain of the containers' names.
    pub domain: String,
    /// Its addresses.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
    /// Answered by the server itself.
    pub answered: u64,
    /// Answered by a server of the host.
    pub forwarded: u64,
    /// That no server of the host has answered.
    pub failed: u64,
    /// Refused, because too many were waiting.
    pub refused: u64,
    /// Whose reply was dropped, because too many waited for their client to be resolved (ARP, NDP).
    #[serde(default)]
    pub unsent: u64,
}

/// The gateway.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GatewayReport {
    /// Its MAC address, which the host port has too.
    #[schema(value_type = String, example = "02:5e:10:00:00:00")]
    pub mac: Mac,
    /// Its address in each subnet.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpAddr>,
}

/// The gateway of a VLAN.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VlanGatewayReport {
    /// The VLAN.
    #[schema(value_type = u16)]
    pub vlan: Vid,
    /// Its host port.
    pub ifname: String,
    /// Its MAC address.
    #[schema(value_type = String, example = "02:5e:10:00:00:00")]
    pub mac: Mac,
    /// Its addresses, each with the prefix length of its subnet.
    #[schema(value_type = Vec<String>)]
    pub addresses: Vec<IpNet>,
}

/// Settings of the switch to change. Missing ones stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SwitchSettings {
    /// Ageing time of learned addresses, in seconds: 1 to 1000000.
    pub ageing_time: Option<u64>,
    /// Labels to add or to replace, by their key; `null` removes one.
    #[schema(value_type = BTreeMap<String, Option<String>>)]
    pub labels: LabelChanges,
}
