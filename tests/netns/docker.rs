//! The Docker plugin, with the real dockerd (Debian: docker.io).

use serde_json::{Value, json};

use crate::harness::{CommandOutput, Host, HostSnapshot, Process, Shell, TestNetns, wait_until};
use crate::nat::INTERNET;

/// What a test host does not have: cgroups, as this machine mounts them. Another docker may be before Debian's in PATH.
const MACHINE: &str = r#"
ln -s /usr/bin/docker /run/bin/docker
mount -t tmpfs tmpfs /sys/fs/cgroup
while IFS=: read -r _ controllers _; do
    [ -n "$controllers" ] || continue
    mkdir /sys/fs/cgroup/${controllers#name=}
    mount -t cgroup -o "$controllers" cgroup /sys/fs/cgroup/${controllers#name=}
done < /proc/self/cgroup
[ -n "$(ls /sys/fs/cgroup)" ] || mount -t cgroup2 cgroup2 /sys/fs/cgroup"#;

/// An image of programs of this machine.
const IMAGE: &str = "
mkdir /run/rootfs
for program in /bin/sleep /bin/ping /bin/ip /usr/bin/socat; do
    cp --parents --dereference $program $(ldd $program | grep -o '/[^ )]*') /run/rootfs
done
tar -C /run/rootfs -c . | docker import - box";

/// A machine with dockerd and the plugin.
pub struct Docker {
    pub host: Host,
    dockerd: Option<Process>,
    pub plugin: Option<Process>,
}

impl Docker {
    pub fn start() -> Docker {
        Docker::start_with("")
    }

    /// With more arguments of dockerd.
    pub fn start_with(arguments: &str) -> Docker {
        let mut docker = Docker::without_plugin(arguments);
        docker.start_plugin();
        docker.sh(IMAGE).ok();
        docker
    }

    /// dockerd with these arguments, and no image.
    pub fn without_plugin(arguments: &str) -> Docker {
        let host = Host::new();
        host.sh(MACHINE).ok();
        let mut docker = Docker { host, dockerd: None, plugin: None };
        docker.start_dockerd(arguments);
        docker
    }

    pub fn start_plugin(&mut self) {
        let mut plugin = self.host.spawn("uswitch docker-plugin");
        plugin.line_with("ready");
        self.plugin = Some(plugin);
    }

    /// Kills it. Containers live on, and the containerd that it has started ends with it.
    pub fn kill_dockerd(&mut self) {
        drop(self.dockerd.take());
        wait_until("containerd has ended", || !self.host.run("pidof containerd").succeeded());
    }

    pub fn start_dockerd(&mut self, arguments: &str) {
        let cgroups = format!("--exec-opt native.cgroupdriver=cgroupfs --cgroup-parent {}", self.cgroup());
        let mut dockerd = self.host.spawn(&format!("dockerd {cgroups} {arguments}"));
        dockerd.line_with("API listen on");
        self.dockerd = Some(dockerd);
    }

    /// The name of its cgroup, which is in the directories of this machine.
    pub fn cgroup(&self) -> String {
        format!("uswitch-test-{}", self.host.init())
    }

    pub fn sh(&self, script: &str) -> CommandOutput {
        self.host.sh(script)
    }

    /// Runs a command of docker that succeeds.
    #[track_caller]
    pub fn docker(&self, command: &str) -> String {
        self.host.run(&format!("docker {command}")).ok().trim().to_owned()
    }

    /// The error of a command of docker.
    #[track_caller]
    pub fn refused(&self, command: &str) -> String {
        self.host.run(&format!("docker {command}")).fails()
    }

    /// Starts a container that waits.
    #[track_caller]
    pub fn run(&self, name: &str, options: &str) {
        self.docker(&format!("run --detach --name {name} {options} box sleep 1000"));
    }

    #[track_caller]
    pub fn ping(&self, from: &str, target: &str) {
        self.docker(&format!("exec {from} ping -n -c 1 -W 5 {target}"));
    }

    #[track_caller]
    pub fn cannot_ping(&self, from: &str, target: &str) {
        self.host.run(&format!("docker exec {from} ping -n -c 1 -W 1 {target}")).fails();
    }

    /// What `docker inspect` shows about a container in a network.
    pub fn endpoint(&self, container: &str, network: &str, field: &str) -> String {
        self.docker(&format!("inspect -f {{{{.NetworkSettings.Networks.{network}.{field}}}}} {container}"))
    }

    /// The ports of containers on a switch.
    pub fn ports(&self, switch: &str) -> Vec<Value> {
        let ports =
            self.host.run(&format!("uswitch port show --name {switch} --label docker.endpoint --json"));
        ports.json().as_array().expect("a list").clone()
    }

    /// The switches, devices and records that networks leave.
    pub fn left(&self) -> String {
        let script = "uswitch ls --json | jq -c '.[].name'; ls /run/uswitch; cd /var/lib/uswitch; find -name '*.json'; ls; \
                      ip -br link | cut -d' ' -f1; iptables -S DOCKER-USER; nft list tables inet";
        self.sh(script).ok()
    }

    pub fn internet(&self) -> TestNetns {
        self.sh(INTERNET).ok();
        self.host.netns("internet")
    }
}

impl Drop for Docker {
    /// Ends all processes of the host, and removes their cgroups.
    fn drop(&mut self) {
        self.host.sh("kill -KILL -1");
        let find = format!("find /sys/fs/cgroup -depth -path '*/{}*' -type d", self.cgroup());
        wait_until("the cgroups are removed", || {
            self.host.sh(&format!("{find} -exec rmdir {{}} + || true; {find}")).stdout.is_empty()
        });
    }
}

#[test]
fn containers_of_a_network_reach_each_other() {
    let docker = Docker::start();
    let before = docker.left();
    let subnet =
        "--subnet 10.7.0.0/24 --gateway 10.7.0.254 --ip-range 10.7.0.128/25 --aux-address x=10.7.0.128";
    let options = "-o com.docker.network.bridge.name=lan -o com.docker.network.driver.mtu=1400";
    docker.docker(&format!("network create -d uswitch {subnet} {options} lan"));
    docker.docker("network create -d uswitch --ipv6 --subnet 10.8.0.0/24 --subnet fd00:8::/64 wide");
    docker.run("c1", "--network lan");
    docker.run("c2", "--network lan --ip 10.7.0.9 --mac-address 02:00:00:00:00:77 --network-alias web");
    assert_eq!(docker.endpoint("c1", "lan", "IPAddress"), "10.7.0.129");
    assert_eq!(docker.endpoint("c2", "lan", "MacAddress"), "02:00:00:00:00:77");
    let devices = docker.docker("exec c2 ip address show eth0");
    assert!(
        devices.contains("mtu 1400")
            && devices.contains("02:00:00:00:00:77")
            && devices.contains("10.7.0.9/24"),
        "{devices}"
    );
    for target in ["10.7.0.9", "web", "10.7.0.254"] {
        docker.ping("c1", target);
    }
    assert!(docker.docker("exec c1 ip route").starts_with("default via 10.7.0.254 dev eth0"));
    docker.docker("network connect --ip 10.8.0.9 wide c1");
    docker.run("c3", "--network wide --ip6 fd00:8::66");
    docker.ping("c3", "10.8.0.9");
    docker.ping("c1", "fd00:8::66");
    docker.docker("network disconnect lan c1");
    docker.cannot_ping("c2", "10.7.0.129");
    assert!(!docker.docker("exec c1 ip address").contains("10.7.0."));
    let in_use = docker.refused("network rm lan");
    assert!(in_use.contains("has active endpoints"), "{in_use}");
    docker.docker("restart --time 0 c2");
    docker.docker("network connect lan c1");
    docker.ping("c1", "10.7.0.9");
    assert_eq!(docker.ports("lan").len(), 2);
    docker.docker("rm --force c1 c2 c3");
    assert_eq!(docker.ports("lan"), [] as [Value; 0]);
    docker.docker("network rm lan wide");
    assert_eq!(docker.left(), before);
}

/// As a user of Docker's bridge expects.
#[test]
fn networks_reach_the_internet_unless_they_are_internal() {
    let docker = Docker::start();
    let internet = docker.internet();
    let before = docker.left();
    docker.docker("network create -d uswitch --subnet 10.7.0.0/24 nat");
    docker.docker("network create -d uswitch --subnet 10.8.0.0/24 --internal internal");
    const ROUTED: &str = "-o com.docker.network.bridge.gateway_mode_ipv4=routed";
    docker.docker(&format!("network create -d uswitch --subnet 10.9.0.0/24 {ROUTED} routed"));
    docker.run("c1", "--network nat");
    docker.run("c2", "--network internal");
    docker.run("c3", "--network routed");
    docker.run("c4", "");
    docker.ping("c1", "203.0.113.2");
    docker.cannot_ping("c2", "203.0.113.2");
    assert_eq!(docker.docker("exec c2 ip route").lines().count(), 1, "only the route to its own subnet");
    // The internet has no route back.
    docker.cannot_ping("c3", "203.0.113.2");
    internet.run("ip route add 10.9.0.0/24 via 203.0.113.1").ok();
    docker.ping("c3", "203.0.113.2");
    // Networks are isolated from each other.
    let bridged = docker.docker("inspect -f {{.NetworkSettings.IPAddress}} c4");
    docker.ping("c4", "203.0.113.2");
    docker.cannot_ping("c1", &bridged);
    docker.cannot_ping("c4", "10.7.0.2");
    docker.docker("rm --force c1 c2 c3 c4");
    docker.docker("network rm nat internal routed");
    assert_eq!(docker.left(), before);
}

#[test]
fn options_of_networks_and_endpoints_have_an_effect() {
    let docker = Docker::start();
    docker.sh("uswitch start --detach --ports 0 --name lab --subnet 10.7.0.0/24 --vlan-filtering").ok();
    let options = "-o switch=lab -o com.docker.network.container_iface_prefix=lan";
    docker.docker(&format!("network create -d uswitch --subnet 10.7.0.0/24 {options} lab"));
    docker.run("c1", "--network name=lab,driver-opt=port=web,driver-opt=guard=true");
    docker.run("c2", "--network name=lab,driver-opt=vlan=7");
    assert!(docker.docker("exec c1 ip -br address").contains("lan0"));
    docker.ping("c1", "10.7.0.1");
    docker.cannot_ping("c1", "10.7.0.3");
    let port = docker.host.run("uswitch port show web --name lab --json").json();
    assert_eq!(port[0]["source_guard"], true, "{port}");
    docker.docker("rm --force c1 c2");
    docker.docker("network rm lab");
    assert_eq!(docker.ports("lab"), [] as [Value; 0], "the switch still runs");
    docker.docker("network create -d uswitch -o com.docker.network.bridge.enable_icc=false alone");
    docker.run("c1", "--network alone");
    docker.run("c2", "--network alone");
    let gateway = docker.endpoint("c1", "alone", "Gateway");
    docker.ping("c1", &gateway);
    docker.cannot_ping("c1", &docker.endpoint("c2", "alone", "IPAddress"));
    docker.docker("network create -d uswitch --ipam-driver null layer2");
    docker.run("c3", "--network layer2");
    assert!(docker.docker("exec c3 ip -br link").contains("eth0"));
    assert!(docker.docker("exec c3 ip -4 -br address show dev eth0").is_empty());
}

/// As macvlan and ipvlan do.
#[test]
fn containers_are_in_the_network_of_a_parent_device() {
    let docker = Docker::start();
    docker
        .sh("ip netns add lan; ip link add lan0 type veth peer name eth0 netns lan; ip link set lan0 up")
        .ok();
    docker.sh("ip -n lan addr add 192.0.2.1/24 dev eth0; ip -n lan link set eth0 up").ok();
    let before = docker.left();
    let subnet = "--subnet 192.0.2.0/24 --gateway 192.0.2.1 --ip-range 192.0.2.128/25";
    let router = docker.host.netns("lan");
    for mode in ["", "-o ipvlan_mode=l2"] {
        docker.docker(&format!("network create -d uswitch {subnet} -o parent=lan0 {mode} lan"));
        docker.run("c1", "--network lan");
        docker.ping("c1", "192.0.2.1");
        let seen = router.run("ip neigh show 192.0.2.128").ok();
        let own = docker.endpoint("c1", "lan", "MacAddress");
        assert_eq!(seen.contains(&own), mode.is_empty(), "{seen}");
        docker.docker("rm --force c1");
        docker.docker("network rm lan");
        assert_eq!(docker.left(), before);
    }
    let none = docker.refused(&format!("network create -d uswitch {subnet} -o parent=lan9 lan"));
    assert!(none.contains("lan9"), "{none}");
    assert_eq!(docker.left(), before);
}

#[test]
fn plugin_chooses_addresses() {
    let docker = Docker::start();
    let before = docker.left();
    let create = "network create -d uswitch --ipam-driver uswitch";
    docker
        .docker(&format!("{create} --subnet 10.7.0.0/24 --ip-range 10.7.0.8/29 --aux-address x=10.7.0.8 a"));
    docker.docker(&format!("{create} b"));
    docker.docker(&format!("{create} --subnet 10.9.0.0/30 full"));
    docker.run("c1", "--network a");
    docker.run("c2", "--network a --ip 10.7.0.200");
    docker.run("c3", "--network b");
    docker.run("c4", "--network full");
    assert_eq!(docker.endpoint("c1", "a", "IPAddress"), "10.7.0.9");
    assert_eq!(docker.endpoint("c1", "a", "Gateway"), "10.7.0.1");
    docker.ping("c1", "10.7.0.200");
    assert_eq!(docker.endpoint("c3", "b", "IPAddress"), "172.16.0.2");
    docker.ping("c4", "10.9.0.1");
    for (command, words) in [
        (
            format!("{create} --subnet 10.7.0.128/25 x"),
            "10.7.0.128/25 overlaps 10.7.0.0/24 of another network",
        ),
        (format!("{create} --ipam-opt a=b x"), "the IPAM option a is not supported"),
        ("run --network full box true".to_owned(), "all addresses from 10.9.0.1 to 10.9.0.2 are in use"),
        ("run --network a --ip 10.7.0.200 box true".to_owned(), "10.7.0.200 is in use"),
    ] {
        let error = docker.refused(&command);
        assert!(error.contains(words), "{error}");
    }
    docker.docker("rm --force c4");
    docker.run("c5", "--network full");
    let all = docker.docker("ps --all --quiet").replace('\n', " ");
    docker.docker(&format!("rm --force {all}"));
    docker.docker("network rm a b full");
    assert_eq!(docker.left(), before);
}

#[test]
fn published_ports_lead_to_containers() {
    let docker = Docker::start();
    let internet = docker.internet();
    let before = docker.left();
    docker.docker("network create -d uswitch -o com.docker.network.bridge.name=lan lan");
    let serve = "box socat -d -d TCP-LISTEN:80,fork,reuseaddr PIPE";
    let echo = |place: &dyn Shell, server: &str| {
        place.sh(&format!("echo hi | socat -t 5 - TCP:{server},connect-timeout=5"))
    };
    docker.docker(&format!("run --detach --name c1 --network lan -p 8080:80 {serve}"));
    wait_until("c1 listens", || docker.host.run("docker logs c1").stderr.contains("listening on"));
    for (place, server) in [
        (&internet as &dyn Shell, "203.0.113.1:8080"),
        (&docker.host, "127.0.0.1:8080"),
        (&docker.host, "203.0.113.1:8080"),
    ] {
        assert_eq!(echo(place, server).ok(), "hi\n", "{server}");
    }
    let seen = docker.host.run("docker logs c1").stderr;
    assert!(seen.contains("from AF=2 203.0.113.2:"), "c1 sees the client: {seen}");
    let taken = docker.refused(&format!("run --rm --network lan -p 8080:80 {serve}"));
    assert!(taken.contains("port 8080/tcp of the host is published for"), "{taken}");
    docker.docker(&format!("run --detach --name c2 --network lan -p 8080-8082:80 -p 80 {serve}"));
    let port = |host: &str| json!({ "host_ports": host, "container_ports": "80", "protocol": "tcp" });
    let published: Vec<Value> = docker.ports("lan").iter().map(|port| port["published"].clone()).collect();
    for expected in [json!([port("8080")]), json!([port("49153"), port("8081")])] {
        assert!(published.contains(&expected), "{published:?}");
    }
    docker.docker("rm --force c1");
    echo(&docker.host, "127.0.0.1:8080").fails();
    docker.docker("rm --force c2");
    docker.docker("network rm lan");
    assert_eq!(docker.left(), before);
}

#[test]
fn restarts_in_any_order_lose_nothing() {
    let mut docker = Docker::start_with("--live-restore");
    docker.docker("network create -d uswitch --subnet 10.7.0.0/24 -o com.docker.network.bridge.name=lan lan");
    docker.run("c1", "--network lan --restart always");
    docker.run("c2", "--network lan");
    let pid = docker.host.run("uswitch status --name lan --json").json()["pid"].clone();
    // The plugin: killed, and started again.
    drop(docker.plugin.take());
    docker.ping("c1", "10.7.0.3");
    docker.start_plugin();
    docker.run("c3", "--network lan");
    docker.ping("c3", "10.7.0.2");
    // dockerd that is killed, while its containers live.
    docker.kill_dockerd();
    docker.start_dockerd("--live-restore");
    docker.ping("c3", "10.7.0.2");
    docker.run("c4", "--network lan");
    docker.ping("c4", "10.7.0.4");
    assert_eq!(
        docker.host.run("uswitch status --name lan --json").json()["pid"],
        pid,
        "one switch all the time"
    );
    // dockerd that is killed, and ends its containers when it starts: it deletes no endpoint.
    docker.kill_dockerd();
    docker.start_dockerd("");
    wait_until("c1 is started again", || {
        docker.host.run("docker exec c1 ping -n -c 1 -W 1 10.7.0.1").succeeded()
    });
    docker.docker("start c2");
    docker.ping("c2", "10.7.0.2");
    let stale = docker.ports("lan").iter().filter(|port| port["operstate"] == "NOTPRESENT").count();
    assert_eq!(stale, 0);
    // The switch, and a container at the same time.
    docker.sh("kill -9 $(uswitch status --name lan --json | jq .pid)").ok();
    docker.docker("restart --time 0 c1");
    wait_until("c2 has its device again", || {
        docker.host.run("docker exec c1 ping -n -c 1 -W 1 10.7.0.3").succeeded()
    });
    docker.docker("rm --force c1 c2 c3 c4");
    docker.docker("network rm lan");
    assert!(!docker.left().contains("lan"));
}

#[test]
fn socket_of_another_plugin_is_refused_and_a_dead_one_replaced() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let plugin = |arguments: &str| format!("uswitch docker-plugin --state /run/state {arguments}");
    let mut first = host.spawn(&plugin(""));
    first.line_with("ready");
    let socket = host.run("stat -c %a:%F /run/docker/plugins/uswitch.sock").ok();
    assert_eq!(socket, "600:socket\n");
    for (arguments, words) in [
        ("", "another program listens on /run/docker/plugins/uswitch.sock: stop it first"),
        ("--socket /run/other.sock", "another docker-plugin uses /run/state: stop it first"),
        ("--socket /run/state/lock", "/run/state"),
    ] {
        let error = host.run(&plugin(arguments)).fails();
        assert!(error.contains(words) && error.lines().count() == 1, "{error}");
    }
    drop(first);
    host.run("stat /run/docker/plugins/uswitch.sock").ok();
    let mut second = host.spawn(&plugin(""));
    second.line_with("ready");
    let answer =
        host.sh("curl -s --unix-socket /run/docker/plugins/uswitch.sock -X POST http://x/Plugin.Activate");
    assert_eq!(answer.json()["Implements"], json!(["NetworkDriver", "IpamDriver"]));
    second.signal(nix::sys::signal::Signal::SIGTERM);
    second.ok();
    host.run("rm -r /run/state /run/docker").ok();
    before.assert_same(&host);
}

/// systemd-socket-activate is not in containers. A shell can pass a socket as systemd does.
#[test]
fn serves_the_socket_that_systemd_passes() {
    let host = Host::new();
    let activate = r#"import os, socket
s = socket.socket(socket.AF_UNIX)
s.bind("/run/passed.sock")
s.listen()
os.dup2(s.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execvp("uswitch", ["uswitch", "docker-plugin"])"#;
    let mut plugin = host.spawn_sh(&format!("exec python3 -c '{activate}'"));
    plugin.line_with("ready");
    let answer =
        host.sh("curl -s --unix-socket /run/passed.sock -X POST http://x/NetworkDriver.GetCapabilities");
    assert_eq!(answer.json()["Scope"], "local");
    plugin.signal(nix::sys::signal::Signal::SIGTERM);
    plugin.ok();
    host.run("stat /run/passed.sock").ok();
    host.run("stat /run/docker").fails();
}

/// As after a restart of the machine.
#[test]
fn a_hundred_containers_start_and_end_in_parallel() {
    let docker = Docker::start();
    let before = docker.left();
    let network = "--ipam-driver uswitch --subnet 10.7.0.0/24 -o com.docker.network.bridge.name=lan";
    docker.docker(&format!("network create -d uswitch {network} lan"));
    // In four rounds, because a command has a limited time.
    let rounds = [(1, 25), (26, 50), (51, 75), (76, 100)];
    let each = |(first, last): (u8, u8), command: &str| {
        docker.sh(&format!("seq {first} {last} | xargs -P 25 -I @ docker {command} > /dev/null")).ok();
    };
    for round in rounds {
        each(round, "run --detach --name n@ --network lan box sleep 1000");
    }
    assert_eq!(docker.ports("lan").len(), 100);
    docker.ping("n1", "n100");
    for round in rounds {
        each(round, "rm --force n@");
    }
    assert_eq!(docker.ports("lan"), [] as [Value; 0]);
    docker.docker("network rm lan");
    assert_eq!(docker.left(), before);
}
