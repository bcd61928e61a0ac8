//! Uplinks: ports on devices in a network that accepts one MAC address.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::Mac;

/// With which MAC addresses the hosts of the switch appear in the network behind a device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum UplinkMode {
    /// With their own
    #[default]
    Bridge,
    /// With that of the device, for networks that accept one MAC address for each port
    Ipvlan,
}

/// An uplink in mode `ipvlan`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UplinkReport {
    /// Number of IP addresses of hosts that it knows, at most 4096.
    pub n_hosts: usize,
    /// The first 64 of them.
    pub hosts: Vec<UplinkHost>,
    /// Addresses that were learned.
    pub learned: u64,
    /// Addresses that another host had before.
    pub moved: u64,
    /// Frames with an address that no host of the switch can have.
    pub refused: u64,
    /// Addresses that were removed because there were too many.
    pub evicted: u64,
    /// Addresses that were removed because they were not used for the ageing time.
    pub aged: u64,
}

/// A host that the network behind an uplink knows by its IP address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UplinkHost {
    /// Its address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// Its MAC address.
    #[schema(value_type = String)]
    pub mac: Mac,
    /// Its port.
    pub ifname: String,
}
