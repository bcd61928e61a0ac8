//! The configuration of a network, as the runtime passes it to the plugin (section "Deriving execution configuration").

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::error::CniError;
use super::parameters::Operation;
use super::result::{CniResult, SpecVersion};
use crate::control::config::DEFAULT_NAME;
use crate::control::report::{PortLimit, PortLimits, PublishedPort};
use crate::runtimes::null_is_default;
use crate::runtimes::port_mapping::{self, PortMapping};
use crate::switch::Vid;
use crate::wire::Mac;

/// A network.
#[derive(Debug)]
pub(super) struct NetworkConfig {
    pub(super) version: SpecVersion,
    pub(super) fields: Fields,
}

/// The fields that this plugin knows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fields {
    #[serde(default)]
    pub(super) name: String,
    /// The switch [default: uswitch0].
    #[serde(default = "default_switch")]
    pub(super) switch: String,
    /// MTU of the devices [default: the switch's].
    pub(super) mtu: Option<u64>,
    /// Whether containers use only their own addresses [default: false].
    pub(super) guard: Option<bool>,
    /// The VLAN of the containers, on a switch that filters VLANs.
    pub(super) vlan: Option<Vid>,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) ipam: Ipam,
    #[serde(default)]
    pub(super) dns: Value,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) args: ConventionalArgs,
    #[serde(default, deserialize_with = "null_is_default")]
    pub(super) runtime_config: RuntimeConfig,
    prev_result: Option<Value>,
    /// Of GC: what exists.
    #[serde(default, rename = "cni.dev/valid-attachments", deserialize_with = "null_is_empty")]
    pub(super) valid_attachments: Option<Vec<ValidAttachment>>,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Which IPAM plugin allocates addresses. Its own fields are not ours.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Ipam {
    #[serde(default, rename = "type")]
    pub(super) plugin: String,
}

/// `args` of the CNI conventions.
#[derive(Debug, Default, Deserialize)]
pub(super) struct ConventionalArgs {
    #[serde(default)]
    cni: CniArgs,
}

#[derive(Debug, Default, Deserialize)]
struct CniArgs {
    mac: Option<Mac>,
    #[serde(default)]
    ips: Vec<String>,
}

/// What the runtime asks for this container, by the capabilities that the network lists.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RuntimeConfig {
    mac: Option<Mac>,
    #[serde(default)]
    ips: Vec<String>,
    bandwidth: Option<Bandwidth>,
    #[serde(default, deserialize_with = "null_is_default")]
    aliases: Aliases,
    #[serde(default, rename = "portMappings", deserialize_with = "null_is_default")]
    port_mappings: Vec<PortMapping>,
    /// For the IPAM plugin.
    #[serde(default, rename = "ipRanges")]
    _ip_ranges: Value,
    #[serde(flatten)]
    others: BTreeMap<String, Value>,
}

/// Further names of a container in this network.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Aliases {
    /// As the CNI conventions say.
    Names(Vec<String>),
    /// As podman sends them: by network.
    ByNetwork(BTreeMap<String, Vec<String>>),
}

impl Default for Aliases {
    fn default() -> Aliases {
        Aliases::Names(Vec::new())
    }
}

/// Rates in bits per second, bursts in bits; 0: no limit. Ingress is what the container receives.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bandwidth {
    ingress_rate: u64,
    ingress_burst: u64,
    egress_rate: u64,
    egress_burst: u64,
}

/// An attachment that exists, for GC.
#[derive(Debug, Deserialize, PartialEq, Eq)]
pub(super) struct ValidAttachment {
    #[serde(rename = "containerID")]
    pub(super) container: String,
    pub(super) ifname: String,
}

fn default_switch() -> String {
    DEFAULT_NAME.to_owned()
}

/// Fields of the specification that need nothing of a plugin.
const IGNORED: [&str; 6] =
    ["cniVersion", "type", "capabilities", "disableCheck", "disableGC", "loadOnlyInlinedPlugins"];

/// Fields that DEL and GC need. No other one may keep them from removing something.
const NEEDED_TO_REMOVE: [&str; 4] = ["name", "switch", "ipam", "cni.dev/valid-attachments"];

/// As [`null_is_default`], for a list that has to be there.
fn null_is_empty<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    null_is_default(deserializer).map(Some)
}

/// The version in the configuration, if it has one.
pub(super) fn version_of(input: &[u8]) -> Option<String> {
    let value: Value = serde_json::from_slice(input).ok()?;
    Some(value.get("cniVersion")?.as_str()?.to_owned())
}

impl NetworkConfig {
    /// Parses standard input. A field that has no effect is refused, unless it is of the specification, or the
    /// operation only removes.
    pub(super) fn parse(operation: Operation, input: &[u8]) -> Result<NetworkConfig, CniError> {
        let mut value: Value =
            serde_json::from_slice(input).map_err(|error| CniError::Decode(error.to_string()))?;
        if !value.is_object() {
            return Err(CniError::Decode("it is not an object".to_owned()));
        }
        let version = value.get("cniVersion").and_then(Value::as_str).unwrap_or("0.1.0");
        let version = version.parse().map_err(|()| CniError::Version(version.to_owned()))?;
        if operation.only_removes()
            && let Value::Object(fields) = &mut value
        {
            fields.retain(|key, _| NEEDED_TO_REMOVE.contains(&key.as_str()));
        }
        let fields: Fields =
            serde_json::from_value(value).map_err(|error| CniError::Config(error.to_string()))?;
        if fields.name.is_empty() {
            return Err(CniError::Config("it has no name".to_owned()));
        }
        let is_known = |key: &str| IGNORED.contains(&key) || key.contains('/');
        refuse(fields.others.iter().find(|(key, _)| !is_known(key)), "", "")?;
        let advice = ": remove the capability";
        refuse(fields.runtime_config.others.iter().next(), "runtimeConfig.", advice)?;
        Ok(NetworkConfig { version, fields })
    }

    /// The result of ADD, for CHECK.
    pub(super) fn prev_result(&self) -> Result<Option<CniResult>, CniError> {
        let parsed = self.fields.prev_result.clone().map(serde_json::from_value).transpose();
        parsed.map_err(|error| CniError::Config(format!("prevResult: {error}")))
    }

    /// The MAC address that the runtime asks for, as the standard plugins choose it.
    pub(super) fn mac(&self, of_args: Option<Mac>) -> Option<Mac> {
        self.fields.runtime_config.mac.or(self.fields.args.cni.mac).or(of_args)
    }

    /// The addresses that the runtime asks for.
    pub(super) fn ips(&self, of_args: Option<&String>) -> Vec<String> {
        let given = [&self.fields.runtime_config.ips, &self.fields.args.cni.ips];
        let given = given.into_iter().find(|ips| !ips.is_empty()).cloned();
        given.unwrap_or_else(|| of_args.into_iter().cloned().collect())
    }

    /// Further names of the container.
    pub(super) fn aliases(&self) -> Vec<String> {
        match &self.fields.runtime_config.aliases {
            Aliases::Names(names) => names.clone(),
            Aliases::ByNetwork(names) => names.get(&self.fields.name).cloned().unwrap_or_default(),
        }
    }

    /// The ports that the runtime publishes.
    pub(super) fn published(&self) -> Result<Vec<PublishedPort>, CniError> {
        let published = port_mapping::published(&self.fields.runtime_config.port_mappings);
        published.map_err(|error| CniError::Config(format!("portMappings: {error}")))
    }

    /// The rate limits that the runtime asks for.
    pub(super) fn limits(&self) -> PortLimits {
        let Some(bandwidth) = &self.fields.runtime_config.bandwidth else { return PortLimits::default() };
        let limit = |rate, burst: u64| {
            let burst = (burst > 0).then_some(burst / 8);
            (rate > 0).then_some(PortLimit { rate, burst })
        };
        PortLimits {
            // The container's egress enters the switch.
            ingress_rate: limit(bandwidth.egress_rate, bandwidth.egress_burst),
            egress_rate: limit(bandwidth.ingress_rate, bandwidth.ingress_burst),
            ..PortLimits::default()
        }
    }
}

fn refuse(unknown: Option<(&String, &Value)>, place: &str, advice: &'static str) -> Result<(), CniError> {
    match unknown {
        Some((key, value)) => {
            Err(CniError::UnsupportedField(format!("{place}{key}"), value.to_string(), advice))
        }
        None => Ok(()),
    }
}
