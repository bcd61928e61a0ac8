//! The IPAM driver: assigns subnets to networks and addresses to containers
//! (`moby/libnetwork/ipams/remote/api/api.go`).

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};

use super::error::DockerError;
use super::null_is_default;
use super::store::{Record, Store};
use crate::control::address_pool::{AddressPool, PoolError};
use crate::control::config::{InvalidValue, is_special};
use crate::control::topology::choose::free_subnets;
use crate::control::topology::inspect;
use crate::control::topology::preflight::UsedNetwork;

/// In an address space, subnets do not overlap.
pub(super) const ADDRESS_SPACE: &str = "uswitch";

/// The subnets of networks without `--subnet`, unless they are in use: those of a switch.
const DEFAULT_V4: &str = "172.16.0.0/24";
const DEFAULT_V6: &str = "fd00:172:16::/64";

/// The option of a request for the address of a gateway.
const ADDRESS_TYPE: &str = "RequestAddressType";
const GATEWAY: &str = "com.docker.network.gateway";

/// `RequestPool`. The texts can be empty.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestPool {
    /// `--subnet`.
    #[serde(default)]
    pool: String,
    /// `--ip-range`.
    #[serde(default)]
    sub_pool: String,
    /// `--ipam-opt`.
    #[serde(default, deserialize_with = "null_is_default")]
    options: BTreeMap<String, String>,
    #[serde(default)]
    v6: bool,
}

/// The answer to `RequestPool`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestedPool {
    #[serde(rename = "PoolID")]
    id: IpNet,
    pool: IpNet,
}

/// `ReleasePool`.
#[derive(Debug, Deserialize)]
pub(super) struct ReleasePool {
    #[serde(rename = "PoolID")]
    pool: String,
}

/// `RequestAddress` and `ReleaseAddress`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct AddressRequest {
    #[serde(rename = "PoolID")]
    pool: String,
    /// One without `--ip`, `--gateway` and `--aux-address` is empty.
    #[serde(default, deserialize_with = "address")]
    address: Option<IpAddr>,
    #[serde(default, deserialize_with = "null_is_default")]
    options: BTreeMap<String, String>,
}

/// The answer to `RequestAddress`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct RequestedAddress {
    address: IpNet,
}

/// A pool on the disk.
#[derive(Debug, Serialize, Deserialize)]
struct PoolRecord {
    subnet: IpNet,
    range: Option<IpNet>,
    assigned: Vec<IpAddr>,
}

impl Record for PoolRecord {
    const DIRECTORY: &'static str = "pools";

    fn key(&self) -> String {
        key(&self.subnet.to_string())
    }
}

/// The name of the file for the ID of a pool, which is its subnet.
fn key(id: &str) -> String {
    id.replace('/', "_")
}

impl PoolRecord {
    fn pool(&self) -> Result<AddressPool, PoolError> {
        let mut pool = match self.range {
            Some(range) => AddressPool::with_range(self.subnet, range.network(), range.broadcast())?,
            None => AddressPool::new(self.subnet),
        };
        self.assigned.iter().try_for_each(|address| pool.assign(*address))?;
        Ok(pool)
    }
}

/// Assigns a subnet to a network.
pub(super) fn request_pool(store: &Store, request: &RequestPool) -> Result<RequestedPool, DockerError> {
    if let Some(key) = request.options.keys().next() {
        return Err(DockerError::UnknownOption("IPAM", key.clone()));
    }
    let range = Some(&request.sub_pool).filter(|range| !range.is_empty());
    let range = range.map(|range| subnet(range)).transpose()?;
    let _changing = store.change();
    let others: Vec<PoolRecord> = store.all()?;
    let subnet = match request.pool.as_str() {
        "" => free_subnet(request.v6, &others)?,
        pool => subnet(pool)?,
    };
    let overlaps = |other: &&PoolRecord| other.subnet.contains(&subnet) || subnet.contains(&other.subnet);
    if let Some(other) = others.iter().find(overlaps) {
        let file = store.path::<PoolRecord>(&other.key())?;
        return Err(DockerError::Overlap { subnet, other: other.subnet, file });
    }
    let record = PoolRecord { subnet, range, assigned: Vec::new() };
    record.pool()?;
    store.save(&record)?;
    Ok(RequestedPool { id: subnet, pool: subnet })
}

fn subnet(text: &str) -> Result<IpNet, InvalidValue> {
    let subnet: IpNet = text.parse().map_err(|_| InvalidValue::SubnetSyntax(text.to_owned()))?;
    if is_special(subnet) { Err(InvalidValue::SpecialSubnet(subnet)) } else { Ok(subnet.trunc()) }
}

/// A subnet that neither this machine nor another network uses.
fn free_subnet(v6: bool, others: &[PoolRecord]) -> Result<IpNet, DockerError> {
    let default = if v6 { DEFAULT_V6 } else { DEFAULT_V4 };
    let default: IpNet = default.parse().map_err(|_| DockerError::NoFreeSubnet)?;
    let (_, mut used) = inspect::network()?;
    used.extend(others.iter().map(|pool| UsedNetwork { net: pool.subnet, device: String::new() }));
    let free = free_subnets(&[default], &used);
    free.and_then(|free| free.first().copied()).ok_or(DockerError::NoFreeSubnet)
}

/// Frees a subnet. One that is free already is not an error.
pub(super) fn release_pool(store: &Store, request: &ReleasePool) -> Result<(), DockerError> {
    let _changing = store.change();
    store.remove::<PoolRecord>(&key(&request.pool))
}

/// Assigns an address: the one that is asked for, or the next one.
pub(super) fn request_address(
    store: &Store,
    request: &AddressRequest,
) -> Result<RequestedAddress, DockerError> {
    let _changing = store.change();
    let record: Option<PoolRecord> = store.load(&key(&request.pool))?;
    let record = record.ok_or_else(|| DockerError::NoSuchPool(request.pool.clone()))?;
    let mut pool = record.pool()?;
    let is_gateway = request.options.get(ADDRESS_TYPE).is_some_and(|kind| kind == GATEWAY);
    let address = match request.address {
        Some(address) => pool.assign(address).map(|()| address)?,
        None if is_gateway => pool.assign_lowest()?,
        None => pool.assign_next()?,
    };
    store.save(&PoolRecord { assigned: pool.assigned().collect(), ..record })?;
    let address = IpNet::new(address, pool.subnet().prefix_len());
    // The prefix length is that of a subnet of the same family.
    address
        .map(|address| RequestedAddress { address })
        .map_err(|_| DockerError::NoSuchPool(request.pool.clone()))
}

/// Frees an address. One that is free already is not an error.
pub(super) fn release_address(store: &Store, request: &AddressRequest) -> Result<(), DockerError> {
    let _changing = store.change();
    let Some(mut record) = store.load::<PoolRecord>(&key(&request.pool))? else { return Ok(()) };
    record.assigned.retain(|address| Some(*address) != request.address);
    store.save(&record)
}

/// An address with or without a prefix length; `None` if the text is empty.
fn address<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<IpAddr>, D::Error> {
    let text: String = null_is_default(deserializer)?;
    let address = text.split_once('/').map_or(text.as_str(), |(address, _)| address);
    if address.is_empty() {
        return Ok(None);
    }
    address.parse().map(Some).map_err(|_| serde::de::Error::custom(format!("'{text}' is not an address")))
}
