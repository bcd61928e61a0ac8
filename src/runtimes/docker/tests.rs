//! Requests of dockerd and our answers, with a switch on the fake network.

use std::path::Path;

use serde_json::{Value, json};

use super::DockerPlugin;
use super::server::outcome;
use crate::control::Options;
use crate::control::client::ApiClient;
use crate::control::report::PortReport;
use crate::control::running::fake::config;
use crate::control::test_server::with_switch;

/// What dockerd 20.10 sent, and what the plugin answered: a line for each request. The network is on the switch `lab`.
const TRANSCRIPT: &str = include_str!("transcript.jsonl");

const NETWORK: &str = "e5f12ae5f12ae5f12ae5f12ae5f12ae5f12ae5f12ae5f12ae5f12ae5f12ae5f1";

/// The plugin with a running switch.
struct TestPlugin {
    plugin: DockerPlugin,
    switch: ApiClient,
    _state: tempfile::TempDir,
}

impl TestPlugin {
    fn on(runtime: &Path) -> TestPlugin {
        let state = tempfile::tempdir().unwrap();
        TestPlugin {
            plugin: DockerPlugin::open(state.path(), runtime.to_owned()).unwrap(),
            switch: ApiClient::new("lab", runtime).unwrap(),
            _state: state,
        }
    }

    /// The answer, or the error.
    fn answer(&self, method: &str, request: &Value) -> Result<Value, String> {
        let body = request.to_string();
        self.plugin.answer(&format!("/{method}"), body.as_bytes()).map_err(|error| error.line())
    }

    fn create_network(&self, options: &Value) -> Result<Value, String> {
        self.answer("NetworkDriver.CreateNetwork", &json!({
            "NetworkID": NETWORK,
            "Options": { "com.docker.network.generic": options, "com.docker.network.enable_ipv6": false },
            "IPv4Data": [{ "AddressSpace": "LocalDefault", "Pool": "10.7.0.0/24", "Gateway": "10.7.0.1/24" }],
            "IPv6Data": [],
        }))
    }

    fn create_endpoint(&self, endpoint: &str, address: &str, mac: &str) -> Result<Value, String> {
        self.answer(
            "NetworkDriver.CreateEndpoint",
            &json!({
                "NetworkID": NETWORK, "EndpointID": endpoint, "Options": null,
                "Interface": { "Address": address, "AddressIPv6": "", "MacAddress": mac },
            }),
        )
    }

    fn ports(&self) -> Vec<PortReport> {
        self.switch.get("/v1/ports?label=docker.endpoint").unwrap()
    }
}

/// Runs `test` with the switch `lab`.
fn with_plugin(test: impl FnOnce(&TestPlugin) + Send + 'static) {
    let lab = |options: &mut Options| {
        options.name = Some("lab".to_owned());
        options.ports = Some(0);
        options.subnet = vec!["10.7.0.0/24".to_owned(), "fd00:7::/64".to_owned()];
    };
    with_switch(config(lab), |_, runtime| test(&TestPlugin::on(&runtime)));
}

#[test]
fn answers_as_recorded() {
    with_plugin(|docker| {
        for line in TRANSCRIPT.lines() {
            let recorded: Value = serde_json::from_str(line).unwrap();
            let body = recorded["request"].to_string();
            let (_, answer) = outcome(&docker.plugin, recorded["path"].as_str().unwrap(), body.as_bytes());
            assert_eq!(answer, recorded["answer"], "{recorded}");
        }
    });
}

#[test]
fn every_request_gets_an_answer_or_an_error_of_one_line() {
    with_plugin(|docker| {
        let methods = [
            "NetworkDriver.CreateNetwork",
            "NetworkDriver.CreateEndpoint",
            "NetworkDriver.Join",
            "NetworkDriver.AllocateNetwork",
            "IpamDriver.RequestAddress",
            "VolumeDriver.Create",
            "",
        ];
        let bodies = [
            "",
            "\u{0}",
            "null",
            "[]",
            "{\"NetworkID\": \"a\nb\"}",
            "{\"NetworkID\": \"../x\", \"EndpointID\": \"\"}",
        ];
        for method in methods {
            for body in bodies {
                let error = docker.plugin.answer(&format!("/{method}"), body.as_bytes()).unwrap_err().line();
                assert!(!error.is_empty() && !error.contains('\n'), "{method} {body}: {error}");
            }
        }
        for (method, request) in [
            ("DeleteNetwork", json!({ "NetworkID": "unknown" })),
            ("DeleteEndpoint", json!({ "NetworkID": "unknown", "EndpointID": "unknown" })),
            ("DiscoverNew", json!({})),
        ] {
            assert_eq!(docker.answer(&format!("NetworkDriver.{method}"), &request), Ok(json!({})));
        }
    });
}

/// dockerd that was killed does not delete endpoints. It assigns their addresses again.
#[test]
fn endpoint_replaces_ports_that_dockerd_has_forgotten() {
    with_plugin(|docker| {
        docker.create_network(&json!({ "switch": "lab" })).unwrap();
        docker.create_endpoint("e1", "10.7.0.2/24", "").unwrap();
        docker.create_endpoint("e2", "10.7.0.3/24", "02:00:00:00:00:77").unwrap();
        docker.create_endpoint("e3", "", "02:00:00:00:00:77").unwrap();
        docker.create_endpoint("e4", "10.7.0.9/24", "").unwrap();
        docker.create_endpoint("e4", "10.7.0.9/24", "").unwrap();
        let names: Vec<String> = docker.ports().into_iter().map(|port| port.ifname).collect();
        assert_eq!(names, ["e1", "e3", "e4"]);
    });
}

#[test]
fn options_of_kathara_are_those_of_the_port() {
    with_plugin(|docker| {
        docker.create_network(&json!({ "switch": "lab" })).unwrap();
        let create = |endpoint: &str, options: Value| {
            let request = json!({ "NetworkID": NETWORK, "EndpointID": endpoint, "Options": options });
            docker.answer("NetworkDriver.CreateEndpoint", &request)
        };
        let created = create("e1", json!({ "kathara.machine": "container", "kathara.iface": "1" })).unwrap();
        assert_eq!(created["Interface"]["MacAddress"], "b6:88:c2:19:86:5f");
        let mut same_name = json!({ "kathara.machine": "container", "kathara.iface": "1" });
        same_name["kathara.mac_addr"] = json!("02:00:00:00:00:77");
        assert_eq!(create("e2", same_name).unwrap()["Interface"]["MacAddress"], "02:00:00:00:00:77");
        // Kathará 3.8 gives only these two.
        create("e3", json!({ "kathara.iface": "0", "kathara.link": "A" })).unwrap();
        docker.create_endpoint("e4", "", "").unwrap();
        let ports = docker.ports();
        let names: Vec<&str> = ports.iter().map(|port| port.ifname.as_str()).collect();
        assert_eq!(names, ["container-eth1", "e2", "e3", "e4"]);
        let settings: Vec<(bool, u16)> =
            ports.iter().map(|port| (port.bridge.hub, port.group_fwd_mask)).collect();
        assert_eq!(settings, [(true, 0xffff), (true, 0xffff), (true, 0xffff), (false, 0)]);
        assert_eq!(ports[2].labels.get("kathara.link").map(String::as_str), Some("A"));
        let clash =
            create("e5", json!({ "kathara.machine": "container", "kathara.iface": "1" })).unwrap_err();
        assert!(clash.contains("b6:88:c2:19:86:5f is in use by container-eth1"), "{clash}");
    });
}

/// The record of an endpoint says what it takes to restore its port.
#[test]
fn record_of_an_endpoint_follows_the_requests() {
    with_plugin(|docker| {
        let of = |endpoint: &str| json!({ "NetworkID": NETWORK, "EndpointID": endpoint });
        let request = |method: &str, fields: Value| {
            let mut request = of("e1");
            request.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
            docker.answer(&format!("NetworkDriver.{method}"), &request).unwrap();
            docker.plugin.networks.endpoints(NETWORK).unwrap()
        };
        docker.create_network(&json!({ "switch": "lab" })).unwrap();
        docker.create_endpoint("e1", "10.7.0.2/24", "02:00:00:00:00:77").unwrap();
        let joined = request("Join", json!({ "SandboxKey": "/run/docker/netns/1" })).remove(0);
        assert_eq!((joined.port_name(), joined.device.as_str()), ("e1", "us020000000077"));
        assert_eq!(joined.sandbox, Some("/run/docker/netns/1".into()));
        let portmap = json!([{ "Proto": 6, "Port": 80, "HostPort": 8080 }]);
        let options = json!({ "Options": { "com.docker.network.portmap": portmap } });
        let gateway = request("ProgramExternalConnectivity", options).remove(0);
        assert_eq!((gateway.is_gateway, gateway.published[0].to_string().as_str()), (true, "8080:80/tcp"));
        let revoked = request("RevokeExternalConnectivity", json!({})).remove(0);
        assert_eq!((revoked.is_gateway, revoked.published), (false, Vec::new()));
        assert_eq!(request("Leave", json!({}))[0].sandbox, None);
        assert_eq!(request("DeleteEndpoint", json!({})), []);
    });
}

/// dockerd that was killed does not say that a container has ended.
#[test]
fn port_of_a_container_that_has_ended_is_not_restored() {
    with_plugin(|docker| {
        docker.create_network(&json!({ "switch": "lab" })).unwrap();
        docker.create_endpoint("e1", "10.7.0.2/24", "").unwrap();
        let join =
            json!({ "NetworkID": NETWORK, "EndpointID": "e1", "SandboxKey": "/run/docker/netns/none" });
        docker.answer("NetworkDriver.Join", &join).unwrap();
        docker.switch.delete("/v1/ports/e1").unwrap();
        docker.create_endpoint("e2", "10.7.0.3/24", "").unwrap();
        let records = docker.plugin.networks.endpoints(NETWORK).unwrap();
        assert_eq!(records.iter().map(|record| record.id.as_str()).collect::<Vec<_>>(), ["e2"]);
        assert_eq!(docker.ports().len(), 1);
    });
}

/// An address or a MAC address of a port that is not of the network is not free.
#[test]
fn conflicts_with_other_ports_are_refused() {
    with_plugin(|docker| {
        let mine =
            json!({ "name": "mine", "unmanaged": true, "ip": ["10.7.0.2/24"], "mac": "02:00:00:00:00:77" });
        docker.switch.post::<Value>("/v1/ports", &mine).unwrap();
        docker.create_network(&json!({ "switch": "lab" })).unwrap();
        for (address, mac, words) in [
            ("10.7.0.2/24", "", "10.7.0.2 is in use by mine"),
            ("10.7.0.3/24", "02:00:00:00:00:77", "02:00:00:00:00:77 is in use by mine"),
        ] {
            let error = docker.create_endpoint("e1", address, mac).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
        assert_eq!(docker.ports(), []);
    });
}

/// The network would stop a switch that the user has started.
#[test]
fn switch_of_the_user_is_not_taken_for_the_own_one_of_a_network() {
    with_plugin(|docker| {
        let error = docker.create_network(&json!({ "com.docker.network.bridge.name": "lab" })).unwrap_err();
        assert_eq!(error, "a switch named lab is running: use it with -o switch=lab, or choose another name");
        let removed = docker.answer("NetworkDriver.DeleteNetwork", &json!({ "NetworkID": NETWORK }));
        assert_eq!((removed, docker.ports()), (Ok(json!({})), Vec::new()), "lab runs");
    });
}

#[test]
fn network_of_a_running_switch_has_its_gateway() {
    with_plugin(|docker| {
        let create = |pool: &str, gateway: &str| {
            let data = json!([{ "AddressSpace": "x", "Pool": pool, "Gateway": gateway }]);
            let options = json!({ "com.docker.network.generic": { "switch": "lab" } });
            let request =
                json!({ "NetworkID": NETWORK, "Options": options, "IPv4Data": data, "IPv6Data": [] });
            docker.answer("NetworkDriver.CreateNetwork", &request)
        };
        let other_gateway = create("10.7.0.0/24", "10.7.0.9/24").unwrap_err();
        assert_eq!(
            other_gateway,
            "the gateway of lab is 10.7.0.1: create the network with --gateway 10.7.0.1"
        );
        let other_subnet = create("10.8.0.0/24", "10.8.0.1/24").unwrap_err();
        assert_eq!(
            other_subnet,
            "lab has no subnet 10.8.0.0/24: create the network with --subnet (10.7.0.0/24, fd00:7::/64)"
        );
        assert_eq!(create("10.7.0.0/24", "10.7.0.1/24"), Ok(json!({})));
        // Without addresses there is nothing to compare.
        assert_eq!(create("0.0.0.0/0", ""), Ok(json!({})));
    });
}

#[test]
fn pools_assign_the_addresses_of_networks() {
    with_plugin(|docker| {
        let ipam = |method: &str, request: Value| docker.answer(&format!("IpamDriver.{method}"), &request);
        let pool = json!({ "AddressSpace": "uswitch", "Pool": "10.7.0.0/29", "SubPool": "10.7.0.4/30", "Options": null, "V6": false });
        let requested = ipam("RequestPool", pool.clone()).unwrap();
        assert_eq!(requested, json!({ "PoolID": "10.7.0.0/29", "Pool": "10.7.0.0/29" }));
        let address = |address: &str, options: Value| {
            let request = json!({ "PoolID": "10.7.0.0/29", "Address": address, "Options": options });
            ipam("RequestAddress", request).map(|answer| answer["Address"].as_str().unwrap().to_owned())
        };
        let gateway = json!({ "RequestAddressType": "com.docker.network.gateway" });
        assert_eq!(address("", gateway).as_deref(), Ok("10.7.0.1/29"));
        assert_eq!(address("10.7.0.3", Value::Null).as_deref(), Ok("10.7.0.3/29"));
        let next: Vec<_> = (0..3).map(|_| address("", Value::Null).unwrap()).collect();
        assert_eq!(next, ["10.7.0.4/29", "10.7.0.5/29", "10.7.0.6/29"]);
        assert_eq!(
            address("", Value::Null).unwrap_err(),
            "all addresses from 10.7.0.4 to 10.7.0.6 are in use"
        );
        assert_eq!(address("10.7.0.3", Value::Null).unwrap_err(), "10.7.0.3 is in use");
        let released = json!({ "PoolID": "10.7.0.0/29", "Address": "10.7.0.5" });
        for _ in 0..2 {
            assert_eq!(ipam("ReleaseAddress", released.clone()), Ok(json!({})));
        }
        assert_eq!(address("", Value::Null).as_deref(), Ok("10.7.0.5/29"));
        let again = ipam("RequestPool", pool).unwrap_err();
        assert!(again.contains("10.7.0.0/29 overlaps 10.7.0.0/29 of another network"), "{again}");
        assert_eq!(ipam("ReleasePool", json!({ "PoolID": "10.7.0.0/29" })), Ok(json!({})));
        assert!(address("", Value::Null).unwrap_err().contains("no pool 10.7.0.0/29"));
    });
}
