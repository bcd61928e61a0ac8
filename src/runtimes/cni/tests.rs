//! Environment, configuration and results, without a switch.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Value, json};

use super::config::NetworkConfig;
use super::parameters::{CniParameters, Operation};
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
    NetworkConfig::parse(Operation::Add, network.to_string().as_bytes()).unwrap()
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
        CniParameters::parse(Operation::Add, &variables).map_err(|error| error.to_string())
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
fn refuses_the_namespace_of_the_host_and_one_that_does_not_exist() {
    let network = json!({ "cniVersion": "1.0.0", "name": "lab" }).to_string();
    for (netns, code) in [("/proc/self/ns/net", 8), ("/nonexistent", 4)] {
        let mut variables = variables("ADD");
        variables.insert("CNI_NETNS".to_owned(), netns.to_owned());
        let outcome = run(&variables, network.as_bytes(), &Ok(NO_SWITCH.into()));
        let error = outcome.output.unwrap();
        assert_eq!(error["code"], code);
        assert!(error["msg"].as_str().unwrap().starts_with("CNI_NETNS: "), "{error}");
    }
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
        gateway: gateway.parse().ok(),
        priority,
        ..ContainerRoute::to(destination.parse().unwrap())
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
    let interface = Interface {
        name: "eth0".into(),
        mac: "m".into(),
        mtu: Some(1500),
        sandbox: "/n".into(),
        others: [].into(),
    };
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

/// Of version 1.1.
#[test]
fn routes_have_their_metrics_table_and_scope_and_no_unknown_field() {
    let routes = json!([{ "dst": "10.5.0.0/16", "mtu": 1400, "advmss": 1360, "table": 100, "scope": 253 }]);
    let expected = ContainerRoute {
        gateway: "10.4.0.1".parse().ok(),
        mtu: Some(1400),
        advmss: Some(1360),
        table: Some(100),
        scope: Some(253),
        ..ContainerRoute::to("10.5.0.0/16".parse().unwrap())
    };
    assert_eq!(allocated(&routes).container_routes().unwrap(), [expected]);
    let unknown = allocated(&json!([{ "dst": "10.5.0.0/16", "weight": 7 }]));
    let error = unknown.container_routes().unwrap_err().to_string();
    assert!(error.contains("the route to 10.5.0.0/16 has the unknown field 'weight': 7"), "{error}");
}

/// As in Go, where a list that is not there can be null.
#[test]
fn result_of_an_ipam_plugin_may_have_no_addresses() {
    for text in [r#"{"cniVersion":"1.0.0"}"#, r#"{"ips":null,"routes":null,"dns":{}}"#] {
        let result: CniResult = serde_json::from_str(text).unwrap();
        assert_eq!((result.addresses(), result.container_routes().unwrap()), (vec![], vec![]), "{text}");
    }
}

#[test]
fn result_is_added_to_that_of_the_plugins_before() {
    let before = json!({
        "cniVersion": "1.1.0", "dns": { "domain": "lab" },
        "interfaces": [{ "name": "br0", "mac": "a" }, { "name": "net1", "mac": "b", "sandbox": "/n", "pciID": "1" }],
        "ips": [{ "address": "10.9.0.2/24", "interface": 1 }, { "address": "10.9.0.3/24" }],
        "routes": [{ "dst": "10.9.0.0/16", "weight": 7 }],
    });
    let interface = Interface { name: "eth0".into(), sandbox: "/n".into(), ..Interface::default() };
    let own = allocated(&json!([{ "dst": "0.0.0.0/0" }])).with_interface(interface, SpecVersion::V1_1);
    let both = own.after(serde_json::from_value(before.clone()).unwrap());
    let addresses = ["10.4.0.2/24", "fd00:4::2/64"].map(|address| address.parse().unwrap());
    assert_eq!(both.of_interface("eth0").unwrap().1, addresses);
    assert_eq!(both.of_interface("net1").unwrap().1, ["10.9.0.2/24".parse().unwrap()]);
    let both = serde_json::to_value(both).unwrap();
    assert_eq!((&both["dns"], &both["routes"][0]), (&before["dns"], &before["routes"][0]));
    assert_eq!(both["interfaces"].as_array().unwrap()[..2], before["interfaces"].as_array().unwrap()[..]);
    assert_eq!((&both["ips"][1], &both["ips"][2]["interface"]), (&before["ips"][1], &json!(2)));
}

/// As the CNI conventions say, and as podman sends them.
#[test]
fn aliases_of_the_network_are_accepted() {
    for aliases in [json!(["web", "w"]), json!({ "lab": ["web", "w"], "other": ["x"] })] {
        let network = json!({ "cniVersion": "1.0.0", "runtimeConfig": { "aliases": aliases } });
        assert_eq!(parse(&network).aliases(), ["web", "w"]);
    }
    assert!(parse(&json!({ "cniVersion": "1.0.0" })).aliases().is_empty());
}
