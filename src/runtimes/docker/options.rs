//! The options of networks (`docker network create --opt`) and of endpoints (`--network
//! name=NAME,driver-opt=KEY=VALUE`). An option that has no effect is refused.

use std::fmt::Display;
use std::str::FromStr;

use serde_json::Value;

use super::error::DockerError;
use super::kathara::{self, KatharaOptions};
use super::protocol::OptionMap;
use crate::control::config;
use crate::control::report::UplinkMode;
use crate::switch::Vid;

/// dockerd's own options of an endpoint begin like this: what it has done itself, or asks for in another request
/// (`moby/libnetwork/netlabel/labels.go`).
const OF_DOCKERD: [&str; 3] =
    ["com.docker.network.endpoint.", "com.docker.network.portmap", "com.docker.network.generic"];

/// What the containers of a network can reach beyond it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatewayMode {
    /// The host masquerades their packets.
    Nat,
    /// The host routes their packets as they are.
    Routed,
}

/// The options of a network.
#[derive(Debug, Default)]
pub(super) struct NetworkOptions {
    /// The running switch that it uses.
    pub(super) switch: Option<String>,
    /// The name of the switch to start.
    pub(super) name: Option<String>,
    /// The name of the switch to start, if it can be one and is free.
    pub(super) link: Option<String>,
    pub(super) mtu: Option<u64>,
    /// The VLAN of the containers, on a switch that filters VLANs.
    pub(super) vlan: Option<Vid>,
    /// Whether the containers reach each other. Otherwise they reach only the gateway.
    pub(super) icc: Option<bool>,
    pub(super) masquerade: Option<bool>,
    pub(super) mode_v4: Option<GatewayMode>,
    pub(super) mode_v6: Option<GatewayMode>,
    /// The begin of the names of devices in containers.
    pub(super) iface_prefix: Option<String>,
    /// The device behind which the network is.
    pub(super) parent: Option<String>,
    pub(super) uplink_mode: Option<UplinkMode>,
}

impl NetworkOptions {
    pub(super) fn parse(options: &OptionMap) -> Result<NetworkOptions, DockerError> {
        let mut parsed = NetworkOptions::default();
        for (key, value) in options {
            parsed.set(&GivenOption { key, text: text(value) })?;
        }
        Ok(parsed)
    }

    fn set(&mut self, option: &GivenOption<'_>) -> Result<(), DockerError> {
        match option.key {
            "switch" => self.switch = Some(option.device_name()?),
            "com.docker.network.bridge.name" => self.name = Some(option.device_name()?),
            "kathara.link" => self.link = option.device_name().ok(),
            "com.docker.network.driver.mtu" => self.mtu = Some(option.parse()?),
            "vlan" => self.vlan = Some(option.parse()?),
            "com.docker.network.bridge.enable_icc" => self.icc = Some(option.parse()?),
            "com.docker.network.bridge.enable_ip_masquerade" => self.masquerade = Some(option.parse()?),
            "com.docker.network.bridge.gateway_mode_ipv4" => self.mode_v4 = Some(option.gateway_mode()?),
            "com.docker.network.bridge.gateway_mode_ipv6" => self.mode_v6 = Some(option.gateway_mode()?),
            "com.docker.network.container_iface_prefix" => self.iface_prefix = Some(option.iface_prefix()?),
            "parent" => self.parent = Some(option.device_name()?),
            "macvlan_mode" => self.uplink_mode = Some(option.one_of(&[("bridge", UplinkMode::Bridge)])?),
            "ipvlan_mode" => self.uplink_mode = Some(option.one_of(&[("l2", UplinkMode::Ipvlan)])?),
            key => return Err(DockerError::UnknownOption("network", key.to_owned())),
        }
        Ok(())
    }

    /// Whether packets to other networks are masqueraded. The switch does it for both IP versions or for none.
    pub(super) fn nat(&self) -> Result<bool, DockerError> {
        let mode = self.mode_v4.or(self.mode_v6);
        if self.mode_v4.zip(self.mode_v6).is_some_and(|(v4, v6)| v4 != v6) {
            return Err(DockerError::Conflict(
                "gateway_mode_ipv4 and gateway_mode_ipv6 differ: give the same mode for both".to_owned(),
            ));
        }
        Ok(mode != Some(GatewayMode::Routed) && self.masquerade.unwrap_or(true))
    }

    /// The first option that is about a switch to start, and not about one that runs.
    pub(super) fn of_new_switch(&self) -> Option<&'static str> {
        let given = [
            ("com.docker.network.bridge.name", self.name.is_some()),
            ("kathara.link", self.link.is_some()),
            ("parent", self.parent.is_some()),
        ];
        self.of_gateway().or_else(|| first(given))
    }

    /// The first option that is about the host as the gateway.
    pub(super) fn of_gateway(&self) -> Option<&'static str> {
        first([
            ("com.docker.network.bridge.enable_ip_masquerade", self.masquerade.is_some()),
            ("com.docker.network.bridge.gateway_mode_ipv4", self.mode_v4.is_some()),
            ("com.docker.network.bridge.gateway_mode_ipv6", self.mode_v6.is_some()),
        ])
    }
}

/// The first of these that is given.
fn first<const N: usize>(options: [(&'static str, bool); N]) -> Option<&'static str> {
    options.into_iter().find_map(|(key, is_given)| is_given.then_some(key))
}

/// The options of an endpoint.
#[derive(Debug, Default)]
pub(super) struct EndpointOptions {
    /// Name of the port [default: the first digits of the endpoint's ID].
    pub(super) port: Option<String>,
    /// The VLAN of the container [default: that of the network].
    pub(super) vlan: Option<Vid>,
    /// Whether the container uses only its own addresses [default: false].
    pub(super) guard: Option<bool>,
    pub(super) kathara: KatharaOptions,
}

impl EndpointOptions {
    pub(super) fn parse(options: &OptionMap) -> Result<EndpointOptions, DockerError> {
        let mut parsed = EndpointOptions::default();
        let is_own = |key: &str| !OF_DOCKERD.iter().any(|prefix| key.starts_with(prefix));
        for (key, value) in options.iter().filter(|(key, _)| is_own(key)) {
            let option = GivenOption { key, text: text(value) };
            match key.as_str() {
                "port" => parsed.port = Some(option.parse()?),
                "vlan" => parsed.vlan = Some(option.parse()?),
                "guard" => parsed.guard = Some(option.parse()?),
                key if key.starts_with(kathara::PREFIX) => parsed.kathara.set(&option)?,
                key => return Err(DockerError::UnknownOption("endpoint", key.to_owned())),
            }
        }
        Ok(parsed)
    }
}

/// An option and its value, as typed.
pub(super) struct GivenOption<'a> {
    pub(super) key: &'a str,
    pub(super) text: String,
}

impl GivenOption<'_> {
    pub(super) fn parse<T: FromStr<Err: Display>>(&self) -> Result<T, DockerError> {
        self.text.parse().map_err(|error| self.refused(error))
    }

    fn device_name(&self) -> Result<String, DockerError> {
        config::device_name(&self.text).map(|()| self.text.clone()).map_err(|error| self.refused(error))
    }

    /// dockerd appends a number of up to three digits.
    fn iface_prefix(&self) -> Result<String, DockerError> {
        let longest = format!("{}000", self.text);
        config::device_name(&longest)
            .map(|()| self.text.clone())
            .map_err(|_| self.refused("use 1 to 12 letters, digits, '.', '_' or '-'"))
    }

    fn gateway_mode(&self) -> Result<GatewayMode, DockerError> {
        self.one_of(&[("nat", GatewayMode::Nat), ("routed", GatewayMode::Routed)])
    }

    fn one_of<T: Copy>(&self, values: &[(&str, T)]) -> Result<T, DockerError> {
        let found = values.iter().find(|(name, _)| *name == self.text);
        let names = || values.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" or ");
        found.map(|(_, value)| *value).ok_or_else(|| self.refused(format!("it must be {}", names())))
    }

    fn refused(&self, why: impl Display) -> DockerError {
        DockerError::Option { key: self.key.to_owned(), value: self.text.clone(), why: why.to_string() }
    }
}

/// The value as typed. dockerd sends texts.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(options: Value) -> Result<NetworkOptions, String> {
        let options = serde_json::from_value(options).unwrap();
        NetworkOptions::parse(&options).map_err(|error| error.line())
    }

    #[test]
    fn packets_are_masqueraded_unless_an_option_says_otherwise() {
        const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";
        const MODE_V4: &str = "com.docker.network.bridge.gateway_mode_ipv4";
        const MODE_V6: &str = "com.docker.network.bridge.gateway_mode_ipv6";
        for (options, nat) in [
            (json!({}), Some(true)),
            (json!({ MASQUERADE: "false" }), Some(false)),
            (json!({ MASQUERADE: "true", MODE_V4: "routed" }), Some(false)),
            (json!({ MODE_V6: "routed" }), Some(false)),
            (json!({ MODE_V4: "nat", MODE_V6: "nat" }), Some(true)),
            (json!({ MODE_V4: "nat", MODE_V6: "routed" }), None),
        ] {
            assert_eq!(parse(options.clone()).unwrap().nat().ok(), nat, "{options}");
        }
    }

    #[test]
    fn wrong_options_are_refused_by_name() {
        for (options, words) in [
            (json!({ "com.docker.network.bridge.inhibit_ipv4": "true" }), "inhibit_ipv4 is not supported"),
            (json!({ "swich": "lab" }), "the network option swich is not supported"),
            (json!({ "switch": "a/b" }), "the option switch=a/b: 'a/b' cannot name a network device"),
            (
                json!({ "com.docker.network.driver.mtu": "big" }),
                "the option com.docker.network.driver.mtu=big: ",
            ),
            (json!({ "com.docker.network.bridge.enable_icc": "no" }), "enable_icc=no: "),
            (json!({ "vlan": 4095 }), "the option vlan=4095: "),
            (json!({ "ipvlan_mode": "l3" }), "the option ipvlan_mode=l3: it must be l2"),
            (
                json!({ "com.docker.network.bridge.gateway_mode_ipv4": "isolated" }),
                "it must be nat or routed",
            ),
            (json!({ "com.docker.network.container_iface_prefix": "thirteencharac" }), "1 to 12 letters"),
        ] {
            let error = parse(options).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        let endpoint = serde_json::from_value(json!({ "com.docker.network.portmap": [], "vlna": "1" }));
        let error = EndpointOptions::parse(&endpoint.unwrap()).unwrap_err().line();
        assert!(error.starts_with("the endpoint option vlna is not supported"), "{error}");
    }
}
