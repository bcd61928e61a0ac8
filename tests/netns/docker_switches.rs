//! Switches of Docker's networks that end: their containers get their devices back.

use serde_json::{Value, json};

use crate::docker::Docker;
use crate::harness::{Process, Shell, wait_until};

/// The options of a TCP server that sends back what it receives.
const ECHO: &str = "box socat -d -d TCP-LISTEN:80,fork,reuseaddr PIPE";

/// A TCP connection to an echo server.
struct Connection {
    socat: Process,
    /// A FIFO on the host: what is written there is sent.
    input: String,
}

impl Connection {
    /// `place` has this name in a path. `socat` is the command that connects.
    fn open(place: &dyn Shell, name: &str, socat: &str) -> Connection {
        let input = format!("/run/{name}");
        let script = format!("mkfifo {input}; exec 3<>{input}; exec {socat} <&3");
        Connection { socat: place.spawn_sh(&script), input }
    }

    /// Sends a word, which comes back.
    fn exchange(&mut self, docker: &Docker, word: &str) {
        docker.sh(&format!("until [ -p {0} ]; do sleep 0.05; done; echo {word} > {0}", self.input)).ok();
        self.socat.line_with(word);
    }
}

impl Docker {
    /// Starts an echo server.
    fn serve(&self, name: &str, options: &str) {
        self.docker(&format!("run --detach --name {name} {options} {ECHO}"));
        let log = || self.host.run(&format!("docker logs {name}")).stderr;
        wait_until("the server listens", || log().contains("listening on"));
    }

    /// A connection from one container to another.
    fn connect(&self, from: &str, server: &str) -> Connection {
        Connection::open(&self.host, from, &format!("docker exec -i {from} socat - TCP:{server}:80"))
    }

    /// The devices of a container and its routes.
    fn network_of(&self, container: &str) -> (Vec<Value>, String) {
        let json = self.docker(&format!("exec {container} ip -json address"));
        let devices: Vec<Value> = serde_json::from_str(&json).expect("ip prints a list");
        let mut devices: Vec<Value> = devices.iter().map(without_indices).collect();
        devices.sort_by_key(Value::to_string);
        let routes = ["", "-6"].map(|version| self.docker(&format!("exec {container} ip {version} route")));
        // ip does not print the protocol of dockerd's routes, `boot`.
        (devices, routes.join("\n").replace(" proto static", ""))
    }

    /// What the switch shows about the ports of containers, except for numbers and the path of the namespace.
    fn ports_without_numbers(&self, switch: &str) -> Vec<Value> {
        self.wait_until_named(switch);
        let mut ports = self.ports(switch);
        for port in &mut ports {
            for key in ["ifindex", "device_ifindex", "netns", "fdb_n_learned", "mcast_n_groups"] {
                port[key] = Value::Null;
            }
        }
        ports.sort_by_key(|port| port["ifname"].to_string());
        ports
    }

    fn kill_switch(&self, switch: &str) {
        self.sh(&format!("kill -9 $(uswitch status --name {switch} --json | jq .pid)")).ok();
    }

    /// A switch that does not run has none.
    fn wait_until_no_ports(&self, switches: [&str; 2]) {
        let ports = |switch| format!("uswitch port show --name {switch} --label docker.endpoint --json");
        wait_until("no container has a port", || {
            let shown = switches.map(|switch| self.host.run(&ports(switch)));
            shown.into_iter().all(|shown| !shown.succeeded() || shown.json() == json!([]))
        });
    }

    fn wait_until_restored(&self, switch: &str, ports: &[Value]) {
        let show = format!("uswitch port show --name {switch} --label docker.endpoint --json");
        wait_until("all ports are restored", || {
            let shown = self.host.run(&show);
            shown.succeeded() && shown.json().as_array().is_some_and(|now| now.len() == ports.len())
        });
        wait_until("all ports are up", || self.ports(switch).iter().all(|port| port["operstate"] == "UP"));
        assert_eq!(self.ports_without_numbers(switch), ports);
    }
}

/// What `ip address` shows about a device, except for what is another number each time.
fn without_indices(device: &Value) -> Value {
    let mut addresses: Vec<Value> = device["addr_info"].as_array().expect("a list of addresses").clone();
    addresses = addresses.iter().map(|address| json!([address["local"], address["prefixlen"]])).collect();
    addresses.sort_by_key(Value::to_string);
    json!([device["ifname"], device["address"], device["mtu"], device["operstate"], addresses])
}

#[test]
fn switch_that_is_killed_comes_back_and_connections_go_on() {
    let docker = Docker::start();
    let internet = docker.internet();
    let before = docker.left();
    let lan = "--ipv6 --subnet 10.7.0.0/24 --subnet fd00:7::/64 -o com.docker.network.bridge.name=lan";
    docker.docker(&format!("network create -d uswitch {lan} -o com.docker.network.driver.mtu=1400 lan"));
    docker
        .docker("network create -d uswitch --subnet 10.8.0.0/24 -o com.docker.network.bridge.name=wide wide");
    docker.serve("c1", "--network lan -p 8080:80");
    docker.run("c2", "--network lan");
    docker.docker("network connect wide c2");
    docker.run("c3", "--network wide");
    let mut connections = [
        docker.connect("c2", "10.7.0.2"),
        Connection::open(&internet, "internet", "socat - TCP:203.0.113.1:8080"),
    ];
    connections.iter_mut().for_each(|connection| connection.exchange(&docker, "before"));
    let containers = || ["c1", "c2", "c3"].map(|container| docker.network_of(container));
    let (had, lan, wide) =
        (containers(), docker.ports_without_numbers("lan"), docker.ports_without_numbers("wide"));
    ["lan", "wide"].iter().for_each(|switch| docker.kill_switch(switch));
    connections.iter_mut().for_each(|connection| connection.exchange(&docker, "after"));
    docker.wait_until_restored("lan", &lan);
    docker.wait_until_restored("wide", &wide);
    assert_eq!(containers(), had);
    docker.ping("c2", "fd00:7::1");
    docker.ping("c2", "203.0.113.2");
    docker.ping("c3", "c2");
    // dockerd ends what was restored.
    docker.docker("network disconnect lan c2");
    docker.docker("restart --time 0 c1");
    docker.ping("c3", "10.8.0.2");
    docker.docker("rm --force c1 c3");
    assert_eq!(docker.ports("lan"), [] as [Value; 0]);
    // A container that ends while its port is restored.
    ["lan", "wide"].iter().for_each(|switch| docker.kill_switch(switch));
    docker.docker("rm --force c2");
    docker.wait_until_no_ports(["lan", "wide"]);
    docker.docker("network rm lan wide");
    assert_eq!(docker.left(), before);
}

/// As after an upgrade: the plugin and the switch of a user are started again.
#[test]
fn switch_of_the_user_that_starts_again_gets_its_ports_back() {
    let mut docker = Docker::start();
    let start =
        "uswitch start --detach --ports 0 --name lab --subnet 10.7.0.0/24 --vlan-filtering --fast-path off";
    docker.host.run(start).ok();
    let before = docker.left();
    docker.docker("network create -d uswitch --subnet 10.7.0.0/24 -o switch=lab -o vlan=7 lab");
    docker.serve("c1", "--network name=lab,driver-opt=port=web,driver-opt=guard=true");
    docker.run("c2", "--network lab");
    let mut connection = docker.connect("c2", "10.7.0.2");
    connection.exchange(&docker, "before");
    let (had, ports) = (docker.network_of("c1"), docker.ports_without_numbers("lab"));
    drop(docker.plugin.take());
    docker.host.run("uswitch stop --name lab").ok();
    let plugin = docker.plugin.insert(docker.host.spawn("uswitch docker-plugin"));
    plugin.line_with("no switch named lab is running: start it with `uswitch start --name lab`");
    // The new port gets the first MAC address of the switch.
    docker.sh(&format!("{start} && uswitch port add other --name lab --ip 10.7.0.50/24")).ok();
    connection.exchange(&docker, "after");
    docker.wait_until_restored("lab", &ports);
    assert_eq!(docker.network_of("c1"), had);
    // Containers that end meanwhile.
    docker.host.run("uswitch stop --name lab").ok();
    docker.docker("rm --force c1 c2");
    docker.host.run(start).ok();
    docker.run("c3", "--network lab");
    assert_eq!(docker.ports("lab").len(), 1);
    docker.docker("rm --force c3");
    docker.docker("network rm lab");
    assert_eq!(docker.left(), before);
}

/// Only that port of the host is missing, until it is free.
#[test]
fn container_is_restored_while_a_port_that_it_publishes_is_taken() {
    let mut docker = Docker::start();
    let internet = docker.internet();
    docker.docker("network create -d uswitch --subnet 10.7.0.0/24 -o com.docker.network.bridge.name=lan lan");
    docker.serve("c1", "--network lan -p 8080:80 -p 9090:80");
    docker.run("c2", "--network lan");
    drop(docker.plugin.take());
    docker.kill_switch("lan");
    wait_until("the port of the host is free", || docker.sh("ss -Hltn 'sport = :8080'").ok().is_empty());
    let mut other = docker.host.spawn("socat -d -d TCP-LISTEN:8080,fork,reuseaddr PIPE");
    other.line_with("listening on");
    let plugin = docker.plugin.insert(docker.host.spawn("uswitch docker-plugin"));
    plugin.line_with("cannot publish the ports of");
    docker.ping("c2", "10.7.0.2");
    docker.ping("c1", "10.7.0.1");
    Connection::open(&internet, "other", "socat - TCP:203.0.113.1:9090").exchange(&docker, "at once");
    drop(other);
    let published = |port: &Value| port["published"].as_array().map_or(0, Vec::len);
    wait_until("both ports are published", || docker.ports("lan").iter().map(published).sum::<usize>() == 2);
    Connection::open(&internet, "taken", "socat - TCP:203.0.113.1:8080").exchange(&docker, "later");
}
