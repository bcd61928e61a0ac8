//! The netavark plugin, run by the real netavark (`make netavark` installs it), with this test as podman.

use serde_json::{Value, json};

use crate::harness::{CommandOutput, Host, Shell, TestSwitch, Uswitch, wait_until};

const PLUGINS: &str = "/run/netavark";

/// A switch with a network, and netavark.
struct Podman {
    s: Uswitch,
    network: Value,
}

impl Podman {
    fn start(arguments: &str) -> Podman {
        let host = Host::new();
        let subnets = "--subnet 10.6.0.0/24 --subnet fd00:6::/64";
        host.run(&format!("uswitch start --detach --ports 0 --name lab0 {subnets} {arguments}")).ok();
        host.sh(&format!("mkdir {PLUGINS}; ln -s /run/bin/uswitch {PLUGINS}/uswitch-netavark")).ok();
        host.sh("for n in c1 c2; do ip netns add $n; done").ok();
        let s = Uswitch::running(host);
        let asked = json!({
            "name": "lab", "id": "3f259bab93aaaaa2542ba43ef33eb990d0999ee1b9924b557b7be53c0b7a1bb9",
            "driver": "uswitch-netavark", "dns_enabled": true, "internal": false, "ipv6_enabled": false,
            "ipam_options": { "driver": "host-local" }, "options": { "switch": "lab0" },
        });
        let network = create(s.host(), &asked).json();
        Podman { s, network }
    }

    fn host(&self) -> &Host {
        self.s.host()
    }

    /// What podman says of a container: its name is that of its namespace, and N is the last part of its addresses.
    fn container(&self, name: &str, n: u8) -> Value {
        json!({
            "container_id": format!("{name:0>64}"), "container_name": name,
            "networks": { "lab": {
                "interface_name": "eth0", "aliases": ["web"],
                "static_ips": [format!("10.6.0.{n}"), format!("fd00:6::{n}")],
            } },
            "network_info": { "lab": self.network },
        })
    }

    fn run(&self, command: &str, container: &Value) -> CommandOutput {
        let netns = container["container_name"].as_str().expect("a text");
        netavark(self.host(), &format!("{command} /run/netns/{netns}"), container)
    }

    fn ports(&self) -> Vec<Value> {
        let ports = self.host().run("uswitch port show --name lab0 --label netavark.network=lab --json");
        ports.json().as_array().expect("a list").clone()
    }
}

/// `podman network create`.
fn create(host: &Host, network: &Value) -> CommandOutput {
    let used = json!({ "interfaces": [], "names": {}, "subnets": [] });
    let options = json!({ "subnet_pools": [], "default_interface_name": null, "check_used_subnets": true });
    netavark(host, "create", &json!({ "network": network, "used": used, "options": options }))
}

fn netavark(host: &Host, command: &str, input: &Value) -> CommandOutput {
    let options = format!("--config /run/aardvark --plugin-directory {PLUGINS}");
    host.sh(&format!("printf %s '{input}' | netavark {options} {command}"))
}

/// What podman shows of an error.
fn error_of(output: &CommandOutput) -> String {
    assert!(!output.succeeded(), "{output}");
    let error: Value = serde_json::from_str(&output.stdout).expect("netavark prints JSON");
    error["error"].as_str().expect("a text").to_owned()
}

#[test]
fn containers_are_attached_and_detached() {
    for arguments in ["", "--fast-path off"] {
        let podman = Podman::start(arguments);
        let subnets = json!([
            { "subnet": "10.6.0.0/24", "gateway": "10.6.0.1" },
            { "subnet": "fd00:6::/64", "gateway": "fd00:6::1" },
        ]);
        assert_eq!(podman.network["subnets"], subnets, "those of the switch");
        let containers = [podman.container("c1", 50), podman.container("c2", 51)];
        let [h1, h2] = ["c1", "c2"].map(|name| podman.host().netns(name));
        let status = podman.run("setup", &containers[0]).json();
        let interface = &status["lab"]["interfaces"]["eth0"];
        assert_eq!(interface["mac_address"], h1.mac().to_string());
        let addresses = json!([
            { "ipnet": "10.6.0.50/24", "gateway": "10.6.0.1" },
            { "ipnet": "fd00:6::50/64", "gateway": "fd00:6::1" },
        ]);
        assert_eq!(interface["subnets"], addresses);
        podman.run("setup", &containers[1]).ok();
        for target in ["10.6.0.51", "10.6.0.1", "fd00:6::51", "fd00:6::1"] {
            h1.run(&format!("ping -n -c 1 -W 5 {target}")).ok();
        }
        let routes = h2.sh("ip route show default; ip -6 route show default").ok();
        assert!(routes.contains("via 10.6.0.1 ") && routes.contains("via fd00:6::1 "), "{routes}");
        let port = &podman.ports()[0];
        assert_eq!((&port["ifname"], &port["labels"]["alias"]), (&"c1-eth0".into(), &"web".into()));
        // As podman does when it has lost a container, and again.
        podman.host().run("ip netns del c2").ok();
        wait_until("the device is gone", || podman.ports()[1]["operstate"] == "NOTPRESENT");
        for container in [&containers[1], &containers[0], &containers[0]] {
            podman.run("teardown", container).ok();
        }
        assert_eq!(podman.ports(), [] as [Value; 0]);
        h1.run("ip link show eth0").fails();
    }
}

#[test]
fn options_of_the_network_are_honoured() {
    let mut podman = Podman::start("");
    podman.network["options"] = json!({ "switch": "lab0", "mtu": "1400", "guard": "true" });
    podman.network["internal"] = true.into();
    podman.network = create(podman.host(), &podman.network).json();
    let mut container = podman.container("c1", 50);
    container["networks"]["lab"]["static_mac"] = "02:00:00:00:00:77".into();
    podman.run("setup", &container).ok();
    let port = &podman.ports()[0];
    assert_eq!((&port["mtu"], &port["source_guard"]), (&1400.into(), &true.into()));
    assert_eq!(port["address"], "02:00:00:00:00:77");
    let h1 = podman.host().netns("c1");
    assert_eq!(h1.run("ip route show default").ok(), "");
    h1.run("ping -n -c 1 -W 5 10.6.0.1").ok();
}

#[test]
fn ports_are_published() {
    let podman = Podman::start("");
    let mut container = podman.container("c1", 50);
    let mapping =
        json!({ "container_port": 80, "host_ip": "", "host_port": 8081, "protocol": "tcp", "range": 1 });
    container["port_mappings"] = json!([mapping]);
    podman.run("setup", &container).ok();
    let _server = podman.host().netns("c1").spawn("socat TCP-LISTEN:80,fork EXEC:id");
    let answer = || podman.host().run("socat -T 5 - TCP:127.0.0.1:8081").stdout;
    wait_until("the server answers", || answer().starts_with("uid="));
    let mut taken = podman.container("c2", 51);
    taken["port_mappings"] = json!([mapping]);
    let error = error_of(&podman.run("setup", &taken));
    assert!(error.contains("port 8081/tcp of the host is published for c1-eth0 already"), "{error}");
    assert_eq!(podman.ports().len(), 1, "nothing is left");
    podman.run("teardown", &container).ok();
    podman.run("setup", &taken).ok();
    assert_eq!(podman.ports()[0]["published"][0]["host_ports"], "8081");
}

#[test]
fn errors_have_one_line_and_change_nothing() {
    let podman = Podman::start("");
    podman.run("setup", &podman.container("c1", 50)).ok();
    let mut published = podman.container("c2", 51);
    published["port_mappings"] =
        json!([{ "container_port": 80, "host_ip": "", "host_port": 8081, "protocol": "sctp", "range": 1 }]);
    let mut elsewhere = podman.container("c2", 51);
    elsewhere["network_info"]["lab"]["options"]["switch"] = "lab9".into();
    for (container, words) in [
        (podman.container("c1", 50), "is attached already: the port is c1-eth0"),
        (podman.container("c2", 50), "10.6.0.50 is in use by c1-eth0"),
        (published, "--publish: "),
        (elsewhere, "no switch named lab9 is running (running: lab0)"),
    ] {
        let error = error_of(&podman.run("setup", &container));
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
        let names: Vec<Value> = podman.ports().iter().map(|port| port["ifname"].clone()).collect();
        assert_eq!(names, ["c1-eth0"], "{error}");
        podman.host().run("ip -n c2 link show eth0").fails();
    }
    let mut wrong = podman.network.clone();
    wrong["options"]["isolate"] = "true".into();
    let error = error_of(&create(podman.host(), &wrong));
    assert!(error.contains("the option isolate=true is not supported"), "{error}");
    // A container ends also when its switch has ended.
    podman.host().run("uswitch stop --name lab0").ok();
    podman.run("teardown", &podman.container("c1", 50)).ok();
}
