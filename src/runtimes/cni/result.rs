//! Results: what a container has (section "Result Types").

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CniError;
use crate::control::topology::container_device::ContainerRoute;
use crate::runtimes::null_is_default;
use crate::wire::Mac;

/// A supported version of the specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum SpecVersion {
    V0_4,
    V1_0,
    V1_1,
}

impl SpecVersion {
    pub(super) const ALL: [SpecVersion; 3] = [SpecVersion::V0_4, SpecVersion::V1_0, SpecVersion::V1_1];
    pub(super) const LATEST: SpecVersion = SpecVersion::V1_1;
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SpecVersion::V0_4 => "0.4.0",
            SpecVersion::V1_0 => "1.0.0",
            SpecVersion::V1_1 => "1.1.0",
        })
    }
}

impl FromStr for SpecVersion {
    type Err = ();

    fn from_str(text: &str) -> Result<SpecVersion, ()> {
        SpecVersion::ALL.into_iter().find(|version| version.to_string() == text).ok_or(())
    }
}

/// The result of ADD, of this plugin or of an IPAM plugin.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct CniResult {
    pub(super) cni_version: String,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) interfaces: Vec<Interface>,
    #[serde(deserialize_with = "null_is_default")]
    pub(super) ips: Vec<IpConfig>,
    #[serde(deserialize_with = "null_is_default", skip_serializing_if = "Vec::is_empty")]
    pub(super) routes: Vec<Route>,
    #[serde(skip_serializing_if = "Value::is_null")]
    pub(super) dns: Value,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Interface {
    pub(super) name: String,
    pub(super) mac: String,
    /// Since version 1.1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) mtu: Option<u32>,
    /// Empty: it is not in a container.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) sandbox: String,
    /// Fields of an interface of another plugin.
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Value>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct IpConfig {
    /// `4` or `6`, before version 1.0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) version: Option<String>,
    pub(super) address: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gateway: Option<IpAddr>,
    /// Index in `interfaces`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) interface: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) dst: IpNet,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) gw: Option<IpAddr>,
    /// Since version 1.1, as the following ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) priority: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) mtu: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) advmss: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) table: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) scope: Option<u8>,
    /// Fields that this plugin does not know.
    #[serde(flatten)]
    pub(super) others: BTreeMap<String, Value>,
}

impl CniResult {
    /// The addresses.
    pub(super) fn addresses(&self) -> Vec<IpNet> {
        self.ips.iter().map(|ip| ip.address).collect()
    }

    /// The routes. One without a gateway goes through that of the first address of its family.
    pub(super) fn container_routes(&self) -> Result<Vec<ContainerRoute>, CniError> {
        let route = |route: &Route| {
            let wrong = |what: String| CniError::Config(format!("the route to {} has {what}", route.dst));
            if let Some((key, value)) = route.others.iter().next() {
                return Err(wrong(format!("the unknown field '{key}': {value}")));
            }
            let is_reachable = |gateway: &IpAddr| gateway.is_ipv4() == route.dst.addr().is_ipv4();
            if let Some(gateway) = route.gw.filter(|gateway| !is_reachable(gateway)) {
                return Err(wrong(format!("the gateway {gateway}, of another address family")));
            }
            let default = || self.ips.iter().filter_map(|ip| ip.gateway).find(is_reachable);
            Ok(ContainerRoute {
                gateway: route.gw.or_else(default),
                priority: route.priority,
                mtu: route.mtu,
                advmss: route.advmss,
                table: route.table,
                scope: route.scope,
                ..ContainerRoute::to(route.dst)
            })
        };
        self.routes.iter().map(route).collect()
    }

    /// The result with the container's interface, in this version of the specification.
    pub(super) fn with_interface(self, interface: Interface, version: SpecVersion) -> CniResult {
        let family = |address: &IpNet| if address.addr().is_ipv4() { "4" } else { "6" }.to_owned();
        let ip = |ip: IpConfig| IpConfig {
            version: (version == SpecVersion::V0_4).then(|| family(&ip.address)),
            interface: Some(0),
            ..ip
        };
        let mtu = interface.mtu.filter(|_| version >= SpecVersion::V1_1);
        CniResult {
            cni_version: version.to_string(),
            interfaces: vec![Interface { mtu, ..interface }],
            ips: self.ips.into_iter().map(ip).collect(),
            ..self
        }
    }

    /// What the container has after the plugins before this one in the list and after this one.
    pub(super) fn after(self, before: CniResult) -> CniResult {
        fn both<T>(mut before: Vec<T>, own: Vec<T>) -> Vec<T> {
            before.extend(own);
            before
        }
        let offset = before.interfaces.len();
        let ip = |ip: IpConfig| IpConfig { interface: ip.interface.map(|index| index + offset), ..ip };
        CniResult {
            cni_version: self.cni_version,
            interfaces: both(before.interfaces, self.interfaces),
            ips: both(before.ips, self.ips.into_iter().map(ip).collect()),
            routes: both(before.routes, self.routes),
            dns: if self.dns.is_null() { before.dns } else { self.dns },
        }
    }

    /// The MAC address and the addresses of the container's interface.
    pub(super) fn of_interface(&self, name: &str) -> Option<(Option<Mac>, Vec<IpNet>)> {
        let is_it =
            |interface: &&(usize, &Interface)| interface.1.name == name && !interface.1.sandbox.is_empty();
        let interfaces: Vec<(usize, &Interface)> = self.interfaces.iter().enumerate().collect();
        let (index, interface) = interfaces.iter().find(is_it)?;
        let ips = self.ips.iter().filter(|ip| ip.interface == Some(*index));
        Some((interface.mac.parse().ok(), ips.map(|ip| ip.address).collect()))
    }
}
