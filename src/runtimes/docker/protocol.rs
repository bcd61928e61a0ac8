//! The requests and answers of libnetwork's remote network driver (`moby/libnetwork/drivers/remote/api/api.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::null_is_default;
use crate::wire::Mac;

/// Options by their key.
pub(super) type OptionMap = BTreeMap<String, Value>;

/// `CreateNetwork`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateNetwork {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) options: CreateNetworkOptions,
    #[serde(default, rename = "IPv4Data", deserialize_with = "null_is_default")]
    pub(super) ipv4: Vec<IpamData>,
    #[serde(default, rename = "IPv6Data", deserialize_with = "null_is_default")]
    pub(super) ipv6: Vec<IpamData>,
}

/// The options of `docker network create`. Others are dockerd's own.
#[derive(Debug, Default, Deserialize)]
pub(super) struct CreateNetworkOptions {
    /// `--opt`.
    #[serde(default, rename = "com.docker.network.generic", deserialize_with = "null_is_default")]
    pub(super) generic: OptionMap,
    /// `--internal`.
    #[serde(default, rename = "com.docker.network.internal")]
    pub(super) internal: bool,
}

/// A subnet, which an IPAM driver has assigned to a network.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct IpamData {
    /// The driver `null` has 0.0.0.0/0.
    pub(super) pool: IpNet,
    /// With the prefix length.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub(super) gateway: Option<IpNet>,
}

impl IpamData {
    /// Whether containers get addresses.
    pub(super) fn has_addresses(&self) -> bool {
        self.pool.prefix_len() > 0
    }
}

/// A request about a network.
#[derive(Debug, Deserialize)]
pub(super) struct NetworkRequest {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
}

/// A request about an endpoint: the interface of a container in a network.
#[derive(Debug, Deserialize)]
pub(super) struct EndpointRequest {
    #[serde(rename = "NetworkID")]
    pub(super) network: String,
    #[serde(rename = "EndpointID")]
    pub(super) endpoint: String,
}

/// `CreateEndpoint`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreateEndpoint {
    #[serde(flatten)]
    pub(super) of: EndpointRequest,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) interface: EndpointInterface,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) options: OptionMap,
}

/// The addresses that the container gets.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct EndpointInterface {
    #[serde(default, deserialize_with = "empty_is_none")]
    pub(super) address: Option<IpNet>,
    #[serde(default, rename = "AddressIPv6", deserialize_with = "empty_is_none")]
    pub(super) address_v6: Option<IpNet>,
    /// `--mac-address`.
    #[serde(default, deserialize_with = "empty_is_none")]
    pub(super) mac_address: Option<Mac>,
}

impl EndpointInterface {
    pub(super) fn addresses(&self) -> Vec<IpNet> {
        self.address.into_iter().chain(self.address_v6).collect()
    }
}

/// The answer to `CreateEndpoint`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct CreatedEndpoint {
    pub(super) interface: ChosenInterface,
}

/// What the driver has chosen. dockerd refuses an answer with what it has asked for.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ChosenInterface {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mac_address: Option<Mac>,
}

/// `Join`.
#[derive(Debug, Deserialize)]
pub(super) struct Join {
    #[serde(flatten)]
    pub(super) of: EndpointRequest,
    /// The container's network namespace, which may not be there yet.
    #[serde(default, rename = "SandboxKey", deserialize_with = "empty_is_none")]
    pub(super) sandbox: Option<PathBuf>,
}

/// The answer to `Join`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Joined {
    pub(super) interface_name: InterfaceName,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    #[serde(rename = "GatewayIPv6", skip_serializing_if = "Option::is_none")]
    pub(super) gateway_v6: Option<IpAddr>,
    /// Whether dockerd adds no interface of its own for a container without a gateway.
    pub(super) disable_gateway_service: bool,
}

/// The device to move, and the name that it gets in the container, followed by a number.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct InterfaceName {
    pub(super) src_name: String,
    pub(super) dst_prefix: String,
}

/// `ProgramExternalConnectivity`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ProgramExternalConnectivity {
    #[serde(flatten)]
    pub(super) of: EndpointRequest,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) options: ConnectivityOptions,
}

/// The options of `docker run` about ports.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ConnectivityOptions {
    /// `-p`.
    #[serde(default, rename = "com.docker.network.portmap", deserialize_with = "null_is_default")]
    pub(super) bindings: Vec<PortBinding>,
}

/// A value of `-p` (`PortBinding` of `moby/libnetwork/types/types.go`).
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PortBinding {
    /// The number of the transport protocol.
    pub(super) proto: u8,
    /// That of the container.
    pub(super) port: u16,
    /// An address of the host.
    #[serde(default, rename = "HostIP", deserialize_with = "empty_is_none")]
    pub(super) host_address: Option<IpAddr>,
    /// The first port of the host that may be used; 0: any.
    #[serde(default)]
    pub(super) host_port: u16,
    /// The last one.
    #[serde(default)]
    pub(super) host_port_end: u16,
}

/// In Go, a text that is not there can be empty.
fn empty_is_none<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: std::str::FromStr<Err: std::fmt::Display>,
{
    let text: String = null_is_default(deserializer)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| serde::de::Error::custom(format!("'{text}': {error}")))
}
