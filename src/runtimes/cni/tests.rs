//! Environment, configuration and results, without a switch.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::config::NetworkConfig;
use super::environment::{Command, Environment};
use super::result::{CniResult, Interface, SpecVersion};
use super::run;
use crate::control::report::{PortLimit, PortLimits};
use crate::control::topology::container_device::ContainerRoute;

const NO_SWITCH: &str = "/nonexistent";

fn variables(command: &str) -> HashMap<String, String> {
    let given = [("COMMAND", command), ("CONTAINERID", "c1"), ("NETNS", "/run/netns/c1"), ("IFNAME", "eth0")];
    given.into_iter().map(|(name, value)| (format!("CNI_{name}"), value.to_owned())).collect()
}

fn parse(network: &Value) -> NetworkConfig {
    let mut network = network.clone();
    network["name"] = "lab".into();
    NetworkConfig::parse(Command::Add, network.to_string().as_bytes()).unwrap()
}

#[test]
fn every_input_gets_a_result_or_an_error_of_one_line() {
    let inputs: [&[u8]; 8] = [
        b"",
        b"\xff",
        b"null",
        b"[]",
        b"{\"cniVersion\": 7}",
        b"{\"cniVersion\": \"1.0.0\", \"name\": [\"a\nb\"]}",
        b"{\"cniVersion\": \"1.1.0\", \"prevResult\": {\"ips\": [{}]}}",
        b"{\"cniVersion\": \"1.1.0\", \"x\\ny\": 1}",
    ];
    for command in ["ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION", "", "add", "\n"] {
        for input in inputs {
            let outcome = run(&variables(command), input, &Ok(NO_SWITCH.into()));
            let output = outcome.output.expect("JSON");
            assert_eq!(outcome.succeeded, command == "VERSION", "{output}");
            assert!(command == "VERSION" || output["code"].as_u64().is_some_and(|code| code > 0), "{output}");
            assert!(!output["msg"].to_string().contains("\\n"), "{output}");
        }
    }
}

#[test]
fn arguments_of_the_container_are_checked() {
    let with = |name: &str, value: &str| {
        let mut variables = variables("ADD");
        variables.insert(format!("CNI_{name}"), value.to_owned());
        Environment::parse(Command::Add, &variables).map_err(|error| error.to_string())
    };
    let parsed = with("ARGS", "IgnoreUnknown=true;K8S_POD_NAME=a;MAC=02:00:00:00:00:77;IP=10.4.0.7").unwrap();
    assert_eq!(
        (parsed.args.mac, parsed.args.ip.as_deref()),
        ("02:00:00:00:00:77".parse().ok(), Some("10.4.0.7"))
    );
    assert_eq!(with("PATH", "/a::/b").unwrap().path, [Path::new("/a"), Path::new("/b")]);
    for (name, value, words) in [
        ("CONTAINERID", "../c1", "not a container ID"),
        ("CONTAINERID", "a b", "not a container ID"),
        ("NETNS", "c1", "not an absolute path"),
        ("IFNAME", "", "CNI_IFNAME is not set"),
        ("ARGS", "MAC", "not KEY=VALUE"),
    ] {
        let error = with(name, value).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
}

/// DEL and GC succeed with a configuration that ADD refuses, and without the switch.
#[test]
fn nothing_keeps_a_container_from_being_removed() {
    let network = json!({
        "cniVersion": "1.1.0", "name": "lab", "unknown": 1, "mtu": "x", "ipam": null, "args": null,
        "prevResult": { "ips": [{}] }, "cni.dev/valid-attachments": null,
    });
    let code = |command: &str| {
        let mut variables = variables(command);
        variables.insert("CNI_ARGS".to_owned(), "MAC=".to_owned());
        let outcome = run(&variables, network.to_string().as_bytes(), &Ok(NO_SWITCH.into()));
        outcome.output.and_then(|output| output["code"].as_u64())
    };
    assert_eq!(["DEL", "GC", "ADD"].map(code), [None, None, Some(7)]);
}

#[test]
fn refuses_the_namespace_of_the_host() {
    let mut variables = variables("ADD");
    variables.insert("CNI_NETNS".to_owned(), "/proc/self/ns/net".to_owned());
    let network = json!({ "cniVersion": "1.0.0", "name": "lab" }).to_string();
    let outcome = run(&variables, network.as_bytes(), &Ok(NO_SWITCH.into()));
    assert_eq!(outcome.output.unwrap()["code"], 8);
}

/// The container's ingress is the switch's egress, and bits of a burst are bytes.
#[test]
fn bandwidth_becomes_rate_limits() {
    let bandwidth =
        json!({ "ingressRate": 1000, "ingressBurst": 16_000, "egressRate": 2000, "egressBurst": 0 });
    let network = json!({ "cniVersion": "1.0.0", "runtimeConfig": { "bandwidth": bandwidth } });
    let limits = PortLimits {
        egress_rate: Some(PortLimit { rate: 1000, burst: Some(2000) }),
        ingress_rate: Some(PortLimit { rate: 2000, burst: None }),
        ..PortLimits::default()
    };
    assert_eq!(parse(&network).limits(), limits);
    assert_eq!(parse(&json!({ "cniVersion": "1.0.0" })).limits(), PortLimits::default());
}

#[test]
fn requests_of_the_runtime_take_precedence_over_arguments() {
    let mac = |last: u8| crate::wire::Mac([2, 0, 0, 0, 0, last]);
    let of_args = json!({ "mac": "02:00:00:00:00:02", "ips": ["10.0.0.2"] });
    let mut network = json!({ "cniVersion": "1.0.0", "args": { "cni": of_args } });
    let environment = Some("10.0.0.1".to_owned());
    assert_eq!(parse(&json!({ "cniVersion": "1.0.0" })).mac(Some(mac(1))), Some(mac(1)));
    assert_eq!(parse(&json!({ "cniVersion": "1.0.0" })).ips(environment.as_ref()), ["10.0.0.1"]);
    assert_eq!(parse(&network).mac(Some(mac(1))), Some(mac(2)));
    assert_eq!(parse(&network).ips(environment.as_ref()), ["10.0.0.2"]);
    network["runtimeConfig"] = json!({ "mac": "02:00:00:00:00:03", "ips": ["10.0.0.3", "fd00::3"] });
    assert_eq!(parse(&network).mac(Some(mac(1))), Some(mac(3)));
    assert_eq!(parse(&network).ips(environment.as_ref()), ["10.0.0.3", "fd00::3"]);
}

fn allocated(routes: &Value) -> CniResult {
    let ips = json!([
        { "address": "10.4.0.2/24", "gateway": "10.4.0.1" },
        { "address": "fd00:4::2/64", "gateway": "fd00:4::1" },
    ]);
    serde_json::from_value(json!({ "cniVersion": "1.0.0", "ips": ips, "routes": routes })).unwrap()
}

#[test]
fn routes_have_the_gateway_of_their_family_unless_they_have_their_own() {
    let routes = json!([
        { "dst": "0.0.0.0/0" },
        { "dst": "::/0", "priority": 7 },
        { "dst": "10.5.0.0/16", "gw": "10.4.0.9" },
    ]);
    let route = |destination: &str, gateway: &str, priority| ContainerRoute {
        destination: destination.parse().unwrap(),
        gateway: gateway.parse().ok(),
        priority,
    };
    let expected = vec![
        route("0.0.0.0/0", "10.4.0.1", None),
        route("::/0", "fd00:4::1", Some(7)),
        route("10.5.0.0/16", "10.4.0.9", None),
    ];
    assert_eq!(allocated(&routes).container_routes().unwrap(), expected);
    let mixed = allocated(&json!([{ "dst": "10.5.0.0/16", "gw": "fd00:4::9" }]));
    assert!(mixed.container_routes().unwrap_err().to_string().contains("10.5.0.0/16"));
}

#[test]
fn result_is_in_the_version_of_the_network() {
    let interface = Interface { name: "eth0".into(), mac: "m".into(), mtu: Some(1500), sandbox: "/n".into() };
    let in_version = |version| {
        let result = allocated(&json!([])).with_interface(interface.clone(), version);
        serde_json::to_value(result).unwrap()
    };
    let old = in_version(SpecVersion::V0_4);
    assert_eq!((&old["ips"][0]["version"], &old["ips"][1]["version"]), (&json!("4"), &json!("6")));
    assert_eq!((&old["cniVersion"], &old["ips"][1]["interface"]), (&json!("0.4.0"), &json!(0)));
    let new = in_version(SpecVersion::V1_1);
    assert_eq!((&new["ips"][0]["version"], &new["interfaces"][0]["mtu"]), (&Value::Null, &json!(1500)));
    assert_eq!(in_version(SpecVersion::V1_0)["interfaces"][0]["mtu"], Value::Null);
}
