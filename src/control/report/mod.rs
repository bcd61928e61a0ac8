//! JSON bodies of the API.
//!
//! Ports have the fields of `bridge -j -d link show`, and forwarding database entries those of `bridge
//! -j fdb show` (iproute2), with the same names, types, values and order. Fields that only uswitch has
//! follow them, and so does `updated`, which `bridge` prints before the flags and only with `-s`. A
//! script for the Linux bridge works here too.

mod dhcp;
mod fdb;
mod impairment;
mod limit;
mod mdb;
mod mirror;
mod new_port;
mod port;
mod published;
mod stats;
mod status;
mod stp;
#[cfg(test)]
mod tests;
mod uplink;
mod vlan;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::dhcp::DhcpLeaseReport;
pub use self::fdb::{
    FdbEntryQuery, FdbFilter, FdbFlushQuery, FdbReport, FlushReport, NewFdbEntry, NewFdbState,
};
pub use self::impairment::{DelayDistribution, DirectionImpairment, Percent, PortImpairments};
pub use self::limit::{PortLimit, PortLimits};
pub use self::mdb::{
    MdbCounters, MdbEntry, MdbEntryQuery, MdbPort, MdbQuerier, MdbReport, MdbRouter, MdbSource, MdbState,
    MembershipCounters, NewMdbEntry,
};
pub use self::mirror::{MirrorQuery, MirrorReport, NewMirror, PortMirroring};
pub use self::new_port::{AddedPort, NewPort, NewSocket, SocketType};
pub use self::port::{
    AdminState, BridgePort, EdgeSetting, PortBlock, PortFilter, PortKind, PortRemoval, PortReport,
    PortSettings, Throttled,
};
pub use self::published::{PortNumbers, PublishedPort, TransportProtocol};
pub use self::stats::{DELETED, PortStats};
pub use self::status::{
    DhcpReport, DnsReport, GatewayReport, Health, RouterAdvertisementReport, Status, SwitchSettings,
    SwitchState, VlanGatewayReport,
};
pub use self::stp::{BpduCounters, StpPort, StpReport};
pub use self::uplink::{UplinkHost, UplinkMode, UplinkReport};
pub use self::vlan::{
    NewVlan, NewVlanState, PortVlanStats, PortVlans, PortVlansReport, VlanQuery, VlanReport, VlanState,
    VlanStats,
};

/// The switch has stopped.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StopReport {
    /// What could not be removed; empty if nothing is left.
    pub errors: Vec<String>,
}

/// The error of a failed request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorReport {
    /// What failed, and what to do.
    pub error: String,
    /// The kind of error, where a client can give advice about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<ErrorCode>,
}

/// A kind of error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The kernel refused an offload of a device. The device works without offload.
    OffloadRefused,
    /// The syntax of a filter is wrong.
    FilterSyntax,
}
