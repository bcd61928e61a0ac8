//! Results: what a container has (section "Result Types").

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::error::CniError;
use crate::control::topology::container_device::ContainerRoute;
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
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) interfaces: Vec<Interface>,
    pub(super) ips: Vec<IpConfig>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
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
    pub(super) sandbox: String,
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
    /// Since version 1.1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) priority: Option<u32>,
}

impl CniResult {
    /// The addresses.
    pub(super) fn addresses(&self) -> Vec<IpNet> {
        self.ips.iter().map(|ip| ip.address).collect()
    }

    /// The routes. One without a gateway goes through that of the first address of its family.
    pub(super) fn container_routes(&self) -> Result<Vec<ContainerRoute>, CniError> {
        let route = |route: &Route| {
            let is_reachable = |gateway: &IpAddr| gateway.is_ipv4() == route.dst.addr().is_ipv4();
            if let Some(gateway) = route.gw.filter(|gateway| !is_reachable(gateway)) {
                let what = format!("the route to {} has the gateway {gateway}", route.dst);
                return Err(CniError::Config(format!("{what}, of another address family")));
            }
            let default = || self.ips.iter().filter_map(|ip| ip.gateway).find(is_reachable);
            let gateway = route.gw.or_else(default);
            Ok(ContainerRoute { destination: route.dst, gateway, priority: route.priority })
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

    /// The MAC address and the addresses of the container's interface.
    pub(super) fn of_interface(&self, name: &str) -> Option<(Option<Mac>, Vec<IpNet>)> {
        let is_it =
            |interface: &&(usize, &Interface)| interface.1.name == name && !interface.1.sandbox.is_empty();
        let interfaces: Vec<(usize, &Interface)> = self.interfaces.iter().enumerate().collect();
        let (index, interface) = interfaces.iter().find(is_it)?;
        let ips = self.ips.iter().filter(|ip| ip.interface.is_none_or(|of| of == *index));
        Some((interface.mac.parse().ok(), ips.map(|ip| ip.address).collect()))
    }
}
