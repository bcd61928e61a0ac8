//! Configurations and results, without a switch.

use serde_json::{Value, json};

use super::network::{PodmanContainer, PodmanNetwork};
use super::run;
use crate::control::topology::container_device::ContainerRoute;

const NO_SWITCH: &str = "/nonexistent";

/// The configuration that netavark 2.1 sends for a container of podman 4.3.
fn container(network: &Value, device: &Value) -> Value {
    let mut input = json!({
        "container_id": "5a9580ffc5721341a2c1804c75d3c823450f76b47ca9b5c7e4087133f7909d7c",
        "container_name": "c1",
        "port_mappings": null,
        "network": {
            "created": "2026-01-01T00:00:00Z", "dns_enabled": false, "driver": "uswitch-netavark",
            "id": "3f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
            "internal": false, "ipv6_enabled": false, "name": "lab", "network_interface": "us0",
            "options": { "switch": "lab0" }, "ipam_options": { "driver": "host-local" },
            "subnets": [{ "gateway": "10.6.0.1", "subnet": "10.6.0.0/24" }, { "subnet": "fd00:6::/64" }],
        },
        "network_options": {
            "aliases": ["web", "5a9580ffc572"], "interface_name": "eth0",
            "static_ips": ["10.6.0.77", "fd00:6::77"], "static_mac": "02:00:00:00:00:77", "options": null,
        },
    });
    merge(&mut input["network"], network);
    merge(&mut input["network_options"], device);
    input
}

fn merge(value: &mut Value, changes: &Value) {
    for (key, change) in changes.as_object().into_iter().flatten() {
        value[key] = change.clone();
    }
}

fn parsed(network: &Value) -> PodmanContainer {
    serde_json::from_value(container(network, &json!({}))).unwrap()
}

fn error_of(arguments: &[&str], input: &str) -> String {
    let arguments: Vec<String> = arguments.iter().map(|&argument| argument.to_owned()).collect();
    let outcome = run(&arguments, input.as_bytes(), &Ok(NO_SWITCH.into()));
    assert!(!outcome.succeeded);
    let error = outcome.output.unwrap()["error"].as_str().unwrap().to_owned();
    assert_eq!(error.lines().count(), 1, "{error}");
    error
}

#[test]
fn container_has_addresses_and_routes_of_its_network() {
    let container = parsed(&json!({
        "routes": [{ "destination": "10.9.0.0/16", "gateway": "10.6.0.9", "metric": 7 }],
    }));
    let addresses = container.addresses().unwrap();
    assert_eq!(addresses, ["10.6.0.77/24".parse().unwrap(), "fd00:6::77/64".parse().unwrap()]);
    assert_eq!(container.mac().unwrap(), "02:00:00:00:00:77".parse().ok());
    let route = |destination: &str, gateway: &str| ContainerRoute {
        gateway: gateway.parse().ok(),
        ..ContainerRoute::to(destination.parse().unwrap())
    };
    let own = ContainerRoute { priority: Some(7), ..route("10.9.0.0/16", "10.6.0.9") };
    assert_eq!(
        container.network.container_routes(&addresses).unwrap(),
        [route("0.0.0.0/0", "10.6.0.1"), own]
    );
    let internal = parsed(&json!({ "internal": true }));
    assert_eq!(internal.network.container_routes(&addresses).unwrap(), []);
}

#[test]
fn network_has_options() {
    let options = json!({ "options": { "switch": "lab0", "mtu": "1400", "guard": "true", "vlan": "7" } });
    let options = parsed(&options).network.options().unwrap();
    assert_eq!((options.switch.as_str(), options.mtu, options.guard), ("lab0", Some(1400), true));
    assert_eq!(options.vlan, "7".parse().ok());
    assert_eq!(parsed(&json!({ "options": null })).network.switch(), "uswitch0");
}

#[test]
fn networks_that_do_not_work_are_not_created() {
    for (network, words) in [
        (json!({ "options": { "isolate": "true" } }), "the option isolate=true is not supported"),
        (json!({ "options": { "mtu": "big" } }), "the option mtu: 'big' is not a number of bytes"),
        (json!({ "options": { "vlan": "5000" } }), "the option vlan: '5000' is not a VLAN ID"),
        (json!({ "ipam_options": { "driver": "dhcp" } }), "the IPAM driver 'dhcp' is not supported"),
        (json!({ "network_interface": "br0" }), "--interface-name br0 is not supported"),
        (json!({ "subnets": [] }), "needs --subnet or a running switch: no switch named lab0"),
        (
            json!({ "routes": [{ "destination": "10.0.0.0/8", "route_type": "blackhole" }] }),
            "the route to 10.0.0.0/8 has the type blackhole",
        ),
        (json!({ "routes": [{ "destination": "10.0.0.0/8" }] }), "the route to 10.0.0.0/8 has no gateway"),
        (json!({ "name": 7 }), "the input is not valid"),
    ] {
        let mut input = container(&json!({ "network_interface": null }), &json!({}))["network"].take();
        merge(&mut input, &network);
        let error = error_of(&["create"], &input.to_string());
        assert!(error.contains(words), "{network}: {error}");
    }
}

#[test]
fn created_network_is_what_was_asked_without_names_of_aardvark() {
    let mut input =
        container(&json!({ "network_interface": "", "dns_enabled": true }), &json!({}))["network"].take();
    let outcome = run(&["create".to_owned()], input.to_string().as_bytes(), &Ok(NO_SWITCH.into()));
    input["dns_enabled"] = false.into();
    assert_eq!(outcome.output, Some(input));
    // A network without addresses needs no subnets.
    let none = json!({ "network_interface": null, "subnets": null, "ipam_options": { "driver": "none" } });
    let none = container(&none, &json!({}))["network"].take();
    assert!(run(&["create".to_owned()], none.to_string().as_bytes(), &Ok(NO_SWITCH.into())).succeeded);
}

#[test]
fn containers_that_ask_for_too_much_are_refused() {
    let mapping =
        json!([{ "container_port": 80, "host_ip": "", "host_port": 8081, "protocol": "sctp", "range": 1 }]);
    let mut published = container(&json!({}), &json!({}));
    published["port_mappings"] = mapping;
    for (input, words) in [
        (published, "--publish: "),
        (container(&json!({}), &json!({ "options": { "a": "b" } })), "the option a=b of a container"),
        (container(&json!({}), &json!({ "static_mac": "x" })), "'x' is not a MAC address"),
        (
            container(&json!({ "subnets": [] }), &json!({})),
            "the address 10.6.0.77 is in no subnet of the network lab",
        ),
        (container(&json!({ "options": { "a": "b" } }), &json!({})), "the option a=b is not supported"),
        (container(&json!({}), &json!({})), "there is no network namespace /nonexistent"),
    ] {
        let error = error_of(&["setup", "/nonexistent"], &input.to_string());
        assert!(error.contains(words), "{error}");
    }
    let input = container(&json!({}), &json!({})).to_string();
    assert!(
        error_of(&["setup", "/proc/self/ns/net"], &input).contains("is the network namespace of this plugin")
    );
}

/// Also with a configuration that `setup` refuses, and without the switch.
#[test]
fn nothing_keeps_a_container_from_being_removed() {
    let input =
        container(&json!({ "options": { "switch": "lab0", "a": "b" } }), &json!({ "static_mac": "x" }));
    let arguments = ["teardown", "/nonexistent"].map(str::to_owned);
    let outcome = run(&arguments, input.to_string().as_bytes(), &Ok(NO_SWITCH.into()));
    assert_eq!((outcome.output, outcome.succeeded), (None, true));
}

#[test]
fn every_input_gets_a_result_or_an_error_of_one_line() {
    for arguments in [&["create"][..], &["setup", "/n"], &["teardown", "/n"]] {
        for input in ["", "\u{0}", "null", "[]", "{}", "7", r#"{"network":{}}"#] {
            assert!(!error_of(arguments, input).is_empty());
        }
    }
    for arguments in [&[][..], &["setup"], &["play"], &["info", "x"], &["a\nb"]] {
        assert!(error_of(arguments, "").contains("podman and netavark run this plugin"));
    }
    let info = run(&["info".to_owned()], b"", &Ok(NO_SWITCH.into()));
    assert_eq!(info.output.unwrap()["api_version"], "1.0.0");
}

/// As podman sends it.
#[test]
fn network_needs_a_name_only() {
    let network: PodmanNetwork = serde_json::from_value(json!({ "name": "lab" })).unwrap();
    assert!(network.check().is_ok());
}
