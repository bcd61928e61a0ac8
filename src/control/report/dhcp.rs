//! The leases of the DHCP server.

use std::net::IpAddr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::wire::Mac;

/// An address that a DHCP client has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DhcpLeaseReport {
    /// The port behind which the client is, or was when it asked last.
    pub ifname: String,
    /// The address.
    #[schema(value_type = String)]
    pub address: IpAddr,
    /// The client's MAC address, of DHCPv4. Absent: it is the container of the port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub mac: Option<Mac>,
    /// The client's DUID, of DHCPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duid: Option<String>,
    /// The identifier of the client's association, of DHCPv6.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub iaid: Option<u32>,
    /// When the lease ends (RFC 3339).
    #[schema(value_type = String, format = "date-time")]
    pub expires: Timestamp,
}
