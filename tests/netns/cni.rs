//! The CNI plugin, with this test as the container runtime and the plugin host-local of the CNI project.

use serde_json::{Value, json};

use crate::harness::{CommandOutput, Host, Shell, TestSwitch, Uswitch, wait_until};

/// Directories of plugins: of this test, and of the standard ones (Debian: containernetworking-plugins).
const PLUGINS: &str = "/run/cni:/usr/lib/cni";

/// An IPAM plugin of version 1.1.0: host-local, which has version 1.0.0, and a route with the fields of 1.1.0.
const IPAM: &str = r#"#!/bin/sh
case $CNI_COMMAND in STATUS | GC) exit ;; esac
route='{ dst: "10.9.0.0/16", mtu: 1300, advmss: 1200, table: 100, priority: 7 }'
jq '.cniVersion = "1.0.0"' | /usr/lib/cni/host-local | jq ".cniVersion = \"1.1.0\" | .routes = [$route]"
"#;

/// A switch, whose gateway has the address that host-local gives to a gateway, and a runtime.
struct Runtime {
    s: Uswitch,
    /// The configuration of the network.
    network: Value,
}

/// The parameters of an operation about a container.
#[derive(Clone, Copy)]
struct Container<'a> {
    id: &'a str,
    netns: &'a str,
    args: &'a str,
}

impl<'a> Container<'a> {
    /// The container `id`, in the namespace of this name.
    fn new(id: &'a str) -> Container<'a> {
        Container { id, netns: id, args: "" }
    }
}

impl Runtime {
    fn start(version: &str, arguments: &str) -> Runtime {
        let host = Host::new();
        let subnets = "--subnet 10.4.0.0/24 --subnet fd00:4::/64";
        host.run(&format!("uswitch start --detach --ports 0 --name lab0 {subnets} {arguments}")).ok();
        host.sh("ln -s uswitch /run/bin/uswitch-cni; for n in c1 c2 c3; do ip netns add $n; done").ok();
        let network = json!({
            "cniVersion": version, "name": "lab", "type": "uswitch-cni", "switch": "lab0",
            "ipam": {
                "type": "host-local",
                "ranges": [[{ "subnet": "10.4.0.0/24" }], [{ "subnet": "fd00:4::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        });
        Runtime { s: Uswitch::running(host), network }
    }

    fn host(&self) -> &Host {
        self.s.host()
    }

    fn call(&self, command: &str, of: Container<'_>, network: &Value) -> CommandOutput {
        let Container { id, netns, args } = of;
        let netns = if netns.is_empty() { String::new() } else { format!("/run/netns/{netns}") };
        self.host().sh(&format!(
            "export CNI_COMMAND={command} CNI_CONTAINERID={id} CNI_NETNS={netns} CNI_IFNAME=eth0 \
             CNI_PATH={PLUGINS} CNI_ARGS='{args}'; printf %s '{network}' | uswitch-cni"
        ))
    }

    fn add(&self, of: Container<'_>) -> Value {
        self.call("ADD", of, &self.network).json()
    }

    /// The network with a field more.
    fn with(&self, field: &str, value: Value) -> Value {
        let mut network = self.network.clone();
        network[field] = value;
        network
    }

    /// The error that the plugin prints.
    fn refused(&self, command: &str, of: Container<'_>, network: &Value) -> (u64, String) {
        let called = self.call(command, of, network);
        assert_eq!((called.code, called.stderr.as_str()), (Some(1), ""), "{called}");
        let error: Value = serde_json::from_str(&called.stdout).expect("the error is JSON");
        let text = error["msg"].as_str().expect("a message").to_owned();
        assert!(error["cniVersion"].is_string() && text.lines().count() == 1, "{error}");
        (error["code"].as_u64().expect("a number"), text)
    }

    /// Adds a plugin.
    fn install(&self, name: &str, script: &str) {
        let path = format!("/run/cni/{name}");
        self.host().run("mkdir -p /run/cni").ok();
        std::fs::write(self.host().path(&path), script).expect("root can write");
        self.host().run(&format!("chmod +x {path}")).ok();
    }

    /// The ports of containers, and the addresses that host-local has allocated.
    fn left(&self) -> (usize, String) {
        let ports = self.host().run("uswitch port show --name lab0 --label cni.network=lab --json").json();
        let networks = self
            .host()
            .sh("cd /var/lib/cni/networks/lab 2>/dev/null && ls | grep '^[0-9a-f]*[.:]' || true")
            .ok();
        (ports.as_array().expect("a list").len(), networks)
    }
}

fn nothing() -> (usize, String) {
    (0, String::new())
}

#[test]
fn containers_are_added_checked_and_deleted() {
    for (version, arguments) in [("0.4.0", ""), ("1.0.0", "--fast-path off")] {
        let r = Runtime::start(version, arguments);
        let [h1, h2] = ["c1", "c2"].map(|name| r.host().netns(name));
        let result = r.add(Container::new("c1"));
        let mac = h1.mac().to_string();
        let interface = json!({ "name": "eth0", "mac": mac, "sandbox": "/run/netns/c1" });
        assert_eq!((&result["cniVersion"], &result["interfaces"]), (&version.into(), &json!([interface])));
        let ip = &result["ips"][0];
        assert_eq!((&ip["address"], &ip["gateway"]), (&"10.4.0.2/24".into(), &"10.4.0.1".into()));
        assert_eq!(ip["interface"], 0);
        assert_eq!(ip["version"], if version == "0.4.0" { json!("4") } else { Value::Null });
        let second = r.add(Container::new("c2"));
        assert_eq!(second["ips"][1]["address"], "fd00:4::3/64");
        for target in ["10.4.0.3", "10.4.0.1", "fd00:4::3", "fd00:4::1"] {
            h1.run(&format!("ping -n -c 1 -W 5 {target}")).ok();
        }
        for route in ["ip route show default", "ip -6 route show default"] {
            let shown = h2.run(route).ok();
            assert!(shown.contains("via 10.4.0.1") || shown.contains("via fd00:4::1"), "{shown}");
        }
        let with_result = r.with("prevResult", result);
        r.call("CHECK", Container::new("c1"), &with_result).ok();
        h1.run("ip address del 10.4.0.2/24 dev eth0").ok();
        wait_until("CHECK finds that an address is missing", || {
            !r.call("CHECK", Container::new("c1"), &with_result).succeeded()
        });
        let (code, text) = r.refused("CHECK", Container::new("c1"), &with_result);
        assert_eq!((code, text.as_str()), (100, "eth0 of c1: the address 10.4.0.2/24 is missing"));
        // As containerd does when the container has ended, and again.
        r.host().run("ip netns del c2").ok();
        for id in ["c1", "c2", "c2", "c3"] {
            let netns = if id == "c2" { "" } else { id };
            let deleted = r.call("DEL", Container { netns, ..Container::new(id) }, &with_result);
            assert_eq!(deleted.ok(), "");
        }
        assert_eq!(r.left(), nothing());
        h1.run("ip link show eth0").fails();
    }
}

#[test]
fn mac_addresses_and_limits_of_the_runtime_are_honoured() {
    let mut r = Runtime::start("1.0.0", "");
    // As podman does.
    let args = "IgnoreUnknown=1;K8S_POD_NAME=c1;MAC=02:00:00:00:00:77;IP=10.4.0.77";
    let result = r.add(Container { args, ..Container::new("c1") });
    assert_eq!(result["interfaces"][0]["mac"], "02:00:00:00:00:77");
    assert_eq!(result["ips"][0]["address"], "10.4.0.77/24");
    r.network["mtu"] = 1400.into();
    r.network["guard"] = true.into();
    r.network["runtimeConfig"] = json!({
        "mac": "02:00:00:00:00:78", "ips": ["10.4.0.78"],
        "aliases": ["web", "db"],
        "portMappings": [{ "hostPort": 8080, "containerPort": 80, "protocol": "tcp" }],
        "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 2_147_483_647_u64, "egressRate": 4_000_000 },
    });
    let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:79";
    let result = r.add(Container { args, ..Container::new("c2") });
    assert_eq!(result["interfaces"][0]["mac"], "02:00:00:00:00:78");
    assert_eq!(result["ips"][0]["address"], "10.4.0.78/24");
    let ports = r.host().run("uswitch port show --name lab0 --label cni.container=c2 --json").json();
    let port = &ports[0];
    assert_eq!((&port["mtu"], &port["source_guard"]), (&1400.into(), &true.into()));
    assert_eq!(port["labels"]["alias"], "web,db");
    let published = json!([{ "host_ports": "8080", "container_ports": "80", "protocol": "tcp" }]);
    assert_eq!(port["published"], published);
    // What the container receives leaves the switch.
    let limits = json!({ "egress_rate": { "rate": 8_000_000, "burst": 268_435_455 }, "ingress_rate": { "rate": 4_000_000 } });
    assert_eq!(port["limits"], limits);
    r.host().netns("c1").run("ping -n -c 1 -W 5 10.4.0.78").ok();
}

#[test]
fn network_without_ipam_is_collected_and_has_a_status() {
    let mut r = Runtime::start("1.1.0", "");
    r.network["ipam"] = json!({});
    let versions = r.call("VERSION", Container::new(""), &json!({ "cniVersion": "1.0.0" })).json();
    let supported = json!(["0.4.0", "1.0.0", "1.1.0"]);
    assert_eq!(versions, json!({ "cniVersion": "1.0.0", "supportedVersions": supported }));
    r.call("STATUS", Container::new(""), &r.network).ok();
    let asked = r.with("runtimeConfig", json!({ "ips": ["10.4.0.7/24"] }));
    let result = r.call("ADD", Container::new("c1"), &asked).json();
    assert_eq!(
        (&result["interfaces"][0]["mtu"], &result["ips"][0]["address"]),
        (&1500.into(), &"10.4.0.7/24".into())
    );
    assert_eq!(r.add(Container::new("c2"))["ips"], json!([]));
    r.call("DEL", Container::new("c2"), &r.network).ok();
    // It is not an error either if a plugin allocates none.
    r.install("none", "#!/bin/sh\necho '{ \"cniVersion\": \"1.1.0\", \"ips\": null }'");
    let allocated = r.call("ADD", Container::new("c2"), &r.with("ipam", json!({ "type": "none" })));
    assert_eq!(allocated.json()["ips"], json!([]));
    let other = r.with("name", json!("other"));
    r.call("ADD", Container::new("c3"), &other).ok();
    let valid = json!([{ "containerID": "c1", "ifname": "eth0" }]);
    r.call("GC", Container::new(""), &r.with("cni.dev/valid-attachments", valid)).ok();
    let ports = r.host().run("uswitch port show --name lab0 --label cni.container --json").json();
    let names: Vec<&Value> = ports.as_array().into_iter().flatten().map(|port| &port["ifname"]).collect();
    assert_eq!(names, ["c1-eth0", "c3-eth0"], "those of the network that are not valid were removed");
    r.host().run("uswitch stop --name lab0").ok();
    assert_eq!(r.refused("STATUS", Container::new(""), &r.network).0, 50);
    // The port ended with the switch.
    assert_eq!(r.call("DEL", Container::new("c1"), &r.network).ok(), "");
}

#[test]
#[allow(clippy::too_many_lines, reason = "a line for each error")]
fn errors_have_the_codes_of_the_specification_and_leave_nothing() {
    let r = Runtime::start("1.0.0", "");
    let c1 = Container::new("c1");
    let args = |args| Container { args, ..c1 };
    let nowhere = Container { netns: "nowhere", ..c1 };
    let config = |capability: &str| r.with("runtimeConfig", json!({ capability: ["x"] }));
    let cases = [
        ("ADD", c1, r.with("switch", json!("lab9")), 100, "no switch named lab9 is running (running: lab0)"),
        ("ADD", c1, r.with("cniVersion", json!("0.2.0")), 1, "CNI version '0.2.0' is not supported"),
        ("ADD", c1, r.with("swich", json!("lab0")), 2, "'swich': \"lab0\" is not supported"),
        ("ADD", c1, config("deviceID"), 2, "'runtimeConfig.deviceID': [\"x\"] is not supported"),
        ("ADD", Container { id: "", ..c1 }, r.network.clone(), 4, "CNI_CONTAINERID is not set"),
        ("ADD", Container { netns: "", ..c1 }, r.network.clone(), 4, "CNI_NETNS is not set"),
        ("PLAY", c1, r.network.clone(), 4, "CNI_COMMAND: 'PLAY' is not one of"),
        ("ADD", args("MAC=x"), r.network.clone(), 4, "CNI_ARGS: 'x' is not a MAC address"),
        ("ADD", args("A=b"), r.network.clone(), 4, "CNI_ARGS: 'A' is not supported"),
        ("ADD", c1, r.with("name", json!("")), 7, "it has no name"),
        ("ADD", c1, json!("x"), 6, "not valid JSON: it is not an object"),
        ("ADD", c1, r.with("mtu", json!("big")), 7, "the configuration of the network: "),
        ("ADD", c1, r.with("mtu", json!(9)), 100, "9 is out of range"),
        ("ADD", c1, r.with("vlan", json!(7)), 100, "vlan-filtering"),
        (
            "ADD",
            c1,
            r.with("ipam", json!({ "type": "nothing" })),
            7,
            "no IPAM plugin 'nothing' in CNI_PATH (/run/cni:/usr/lib/cni)",
        ),
        ("ADD", args("IP=10.9.0.1"), r.network.clone(), 999, "host-local: "),
        // The IPAM plugin gets the version of the network.
        ("ADD", c1, r.with("cniVersion", json!("1.1.0")), 1, "host-local: incompatible CNI versions"),
        ("ADD", nowhere, r.network.clone(), 4, "CNI_NETNS: there is no network namespace /run/netns/nowhere"),
        ("CHECK", c1, r.network.clone(), 7, "CHECK needs a prevResult"),
        ("CHECK", c1, r.with("prevResult", json!({})), 3, "the switch lab0 has no port for eth0 of c1"),
        ("GC", c1, r.network.clone(), 1, "GC needs CNI version 1.1.0"),
    ];
    for (command, of, network, code, words) in cases {
        let (found, text) = r.refused(command, of, &network);
        assert!(found == code && text.contains(words), "{command} {network}: {found} {text}");
        assert_eq!(r.left(), nothing(), "{text}");
    }
    let broken = r.host().sh("printf '{' | CNI_COMMAND=ADD uswitch-cni");
    assert!(broken.code == Some(1) && broken.stdout.contains("\"code\":6"), "{broken}");
    assert!(r.host().run("uswitch cni").stdout.contains("\"code\":4"));
}

#[test]
fn conflicts_are_refused_and_change_nothing() {
    let r = Runtime::start("1.0.0", "");
    let c1 = Container::new("c1");
    let args = "IgnoreUnknown=1;MAC=02:00:00:00:00:77";
    let added = r.add(Container { args, ..c1 });
    let address = added["ips"][0]["address"].as_str().expect("a text");
    let left = r.left();
    let taken = Container { args, ..Container::new("c2") };
    let in_use = r.with("ipam", json!({}));
    let asked = format!("IP={address}");
    let asked = Container { args: &asked, ..Container::new("c2") };
    let address_in_use = format!("{} is in use by c1-eth0", address.trim_end_matches("/24"));
    for (of, network, words) in [
        (taken, &r.network, "02:00:00:00:00:77 is in use by c1-eth0"),
        (asked, &in_use, &address_in_use),
        (
            Container { netns: "c1", ..Container::new("c2") },
            &r.network,
            "'eth0' already exists in /run/netns/c1",
        ),
    ] {
        let (code, text) = r.refused("ADD", of, network);
        assert!(code == 100 && text.contains(words), "{code} {text}");
        assert_eq!(r.left(), left, "{text}");
    }
    let twice = r.refused("ADD", c1, &r.network);
    assert_eq!(twice, (100, "eth0 of c1 is attached already: the port is c1-eth0".to_owned()));
    assert_eq!(r.left(), left);
}

/// A runtime should not do this, but the container that is attached keeps its addresses.
#[test]
fn second_add_at_the_same_time_leaves_the_first_one_alone() {
    let r = Runtime::start("1.0.0", "");
    let network = &r.network;
    let codes = r.host().sh(&format!(
        "export CNI_COMMAND=ADD CNI_CONTAINERID=c1 CNI_NETNS=/run/netns/c1 CNI_IFNAME=eth0 CNI_PATH={PLUGINS}
         printf %s '{network}' > /run/network
         for n in 1 2 3 4 5 6; do (uswitch-cni < /run/network > /run/result$n; echo $?) & done; wait"
    ));
    let codes = codes.stdout;
    assert_eq!(codes.matches('0').count(), 1, "{codes}");
    assert_eq!(r.left(), (1, "10.4.0.2\nfd00:4::2\n".to_owned()));
    let errors = r.host().sh("jq -r '.msg // empty' /run/result* | sort -u").ok();
    assert_eq!(errors, "eth0 of c1 is attached already: the port is c1-eth0\n");
    r.host().netns("c1").run("ping -n -c 1 -W 5 10.4.0.1").ok();
}

/// The runtime was killed with the container, and starts the container again.
#[test]
fn restarted_container_gets_its_port_again() {
    let r = Runtime::start("1.0.0", "");
    let mapped = |host: &[u16]| {
        let mapping = |port: &u16| json!({ "hostPort": port, "containerPort": 80, "protocol": "tcp" });
        json!({ "portMappings": host.iter().map(mapping).collect::<Vec<_>>() })
    };
    let add = |ports: &[u16]| {
        r.call("ADD", Container::new("c1"), &r.with("runtimeConfig", mapped(ports))).ok();
    };
    add(&[8080, 8081]);
    let port = |s: &Uswitch| s.host().run("uswitch port show c1-eth0 --name lab0 --json").json()[0].clone();
    r.host().run("uswitch port set c1-eth0 --name lab0 --isolated on").ok();
    let before = port(&r.s);
    // So that the addresses of the container are free, as after a restart of the machine.
    r.host().sh("ip netns del c1; rm -r /var/lib/cni").ok();
    wait_until("the device is gone", || port(&r.s)["operstate"] == "NOTPRESENT");
    r.host().run("ip netns add c1").ok();
    add(&[8081, 8082]);
    let after = port(&r.s);
    let published: Vec<_> = [0, 1].map(|n| after["published"][n]["host_ports"].clone()).into();
    assert_eq!(published, ["8081", "8082"], "those of the last start: {after}");
    assert_eq!((&after["address"], &after["isolated"]), (&before["address"], &true.into()));
    r.host().netns("c1").run("ping -n -c 1 -W 5 10.4.0.1").ok();
}

#[test]
fn long_container_ids_have_ports_of_their_own() {
    let r = Runtime::start("1.0.0", "");
    let ids = ["a", "b"].map(|last| "x".repeat(60) + last);
    let [first, second] =
        [(&ids[0], "c1"), (&ids[1], "c2")].map(|(id, netns)| Container { id, netns, args: "" });
    r.add(first);
    r.add(second);
    r.call("DEL", first, &r.network).ok();
    assert_eq!(r.left(), (1, "10.4.0.3\nfd00:4::3\n".to_owned()));
    r.host().netns("c2").run("ping -n -c 1 -W 5 10.4.0.1").ok();
    r.call("DEL", second, &r.network).ok();
    assert_eq!(r.left(), nothing());
}

#[test]
fn follows_another_plugin_in_a_list_of_version_1_1() {
    let mut r = Runtime::start("1.1.0", "");
    r.install("host-local-1.1", IPAM);
    r.network["ipam"]["type"] = "host-local-1.1".into();
    // What another plugin has added to the container.
    let before = json!({
        "cniVersion": "1.1.0",
        "interfaces": [{ "name": "net1", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/c1" }],
        "ips": [{ "address": "10.8.0.2/24", "interface": 0 }],
    });
    let result = r.call("ADD", Container::new("c1"), &r.with("prevResult", before.clone())).json();
    assert_eq!((&result["interfaces"][0], &result["ips"][0]), (&before["interfaces"][0], &before["ips"][0]));
    assert_eq!(
        (&result["interfaces"][1]["name"], &result["ips"][1]["interface"]),
        (&"eth0".into(), &1.into())
    );
    let route = r.host().netns("c1").run("ip route show table 100").ok();
    assert_eq!(route.trim(), "10.9.0.0/16 via 10.4.0.1 dev eth0 proto static metric 7 mtu 1300 advmss 1200");
    r.call("CHECK", Container::new("c1"), &r.with("prevResult", result)).ok();
    r.call("STATUS", Container::new(""), &r.network).ok();
    r.call("DEL", Container::new("c1"), &r.network).ok();
    assert_eq!(r.left(), nothing());
}

/// As an orchestrator does after a restart of the machine.
#[test]
fn a_hundred_containers_are_added_and_deleted_in_parallel() {
    let r = Runtime::start("1.0.0", "");
    let all = |command: &str| {
        let network = &r.network;
        r.host().sh(&format!(
            "export CNI_COMMAND={command} CNI_IFNAME=eth0 CNI_PATH={PLUGINS}; printf %s '{network}' > /run/network
             seq 100 | xargs -P 100 -I @ sh -c 'CNI_CONTAINERID=n@ CNI_NETNS=/run/netns/n@ uswitch-cni < /run/network'"
        ))
    };
    r.host().sh("for n in $(seq 100); do ip netns add n$n; done").ok();
    all("ADD").ok();
    assert_eq!(r.left().0, 100);
    r.host().netns("n1").run("ping -n -c 1 -W 5 10.4.0.1").ok();
    all("DEL").ok();
    assert_eq!(r.left(), nothing());
    assert!(!r.host().sh("for n in $(seq 100); do ip -n n$n link; done").ok().contains("eth0"));
}
