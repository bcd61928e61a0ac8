//! The CNI plugin, run by real runtimes that use libcni, in a list before the plugin portmap of the CNI project:
//! podman, ctr of containerd, and a program of ours.

use std::process::Command;

use serde_json::{Value, json};

use crate::docker::Docker;
use crate::harness::{Host, Shell, wait_until};
use crate::labs::{WITH_PODMAN, prepare_podman};
use crate::nat::INTERNET;

/// The network, the plugins, and the root directory of a container, where the runtimes look for them.
const NETWORK: &str = r#"
mkdir -p /etc/cni/net.d
mount -t tmpfs tmpfs /etc/cni/net.d
mount -t tmpfs tmpfs /opt
mkdir -p /opt/cni/bin
ln -s /usr/lib/cni/* /run/bin/uswitch-cni /opt/cni/bin
ln -s uswitch /run/bin/uswitch-cni
cat > /etc/cni/net.d/10-lab.conflist <<END
{
  "cniVersion": "1.0.0", "name": "lab",
  "plugins": [
    {
      "type": "uswitch-cni", "capabilities": { "mac": true, "ips": true, "aliases": true, "bandwidth": true },
      "ipam": {
        "type": "host-local",
        "ranges": [[{ "subnet": "172.16.0.0/24" }], [{ "subnet": "fd00:172:16::/64" }]],
        "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }]
      }
    },
    { "type": "portmap", "capabilities": { "portMappings": true } }
  ]
}
END
mkdir /run/rootfs
for program in /bin/sleep /bin/ping /usr/bin/printenv /usr/bin/socat; do
    cp --parents --dereference $program $(ldd $program | grep -o '/[^ )]*') /run/rootfs
done"#;

/// Builds the runtime of ours, with Debian's library, as `/run/libcni` of the host.
fn build_libcni(host: &Host) {
    let built = Command::new("go")
        .args(["build", "-o"])
        .arg(host.path("/run/libcni"))
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/netns/libcni.go"))
        .envs([("GOPATH", "/usr/share/gocode"), ("GO111MODULE", "off")])
        .status();
    assert!(built.expect("go runs: `make programs` installs it").success());
}

/// Starts a switch without containers, and makes the network.
fn start(host: &Host) {
    host.sh(INTERNET).ok();
    host.sh(NETWORK).ok();
    host.run("uswitch start --detach --ports 0").ok();
}

/// The ports of containers.
fn ports(host: &Host) -> Value {
    host.run("uswitch port show --label cni.network=lab --json").json()
}

#[track_caller]
fn assert_nothing_left(host: &Host) {
    assert_eq!(ports(host), json!([]));
    let allocated = host.sh("cd /var/lib/cni/networks/lab && ls | grep '^[0-9a-f]*[.:]' || true").ok();
    assert_eq!(allocated, "");
}

/// The container sees the address of the client.
#[test]
fn podman_publishes_a_port_by_the_plugin_portmap() {
    let host = Host::new();
    prepare_podman(&host, "cni");
    start(&host);
    let podman = |command: &str| host.sh(&format!("export HOME=/run; {WITH_PODMAN} podman {command}"));
    host.sh("sysctl -qw net.ipv4.ip_forward=1; tar -C /run/rootfs -cf /run/rootfs.tar .").ok();
    podman("import --quiet /run/rootfs.tar box").ok();
    let server = "socat TCP-LISTEN:80,fork,reuseaddr EXEC:'printenv SOCAT_PEERADDR'";
    let options = "--network lab:ip=172.16.0.77,mac=02:00:5e:00:53:77 --publish 8080:80";
    podman(&format!("run --quiet --detach --name web {options} box {server}")).ok();
    let port = &ports(&host)[0];
    let addresses = (&port["address"], &port["addresses"][0]);
    assert_eq!(addresses, (&"02:00:5e:00:53:77".into(), &"172.16.0.77/24".into()));
    let ask = || host.netns("internet").sh("socat -u TCP:203.0.113.1:8080,connect-timeout=5 STDOUT");
    wait_until("the server answers", || ask().stdout.trim() == "203.0.113.2");
    podman("rm --force --time 0 web").ok();
    ask().fails();
    assert_nothing_left(&host);
}

#[test]
fn ctr_attaches_and_detaches_a_container() {
    let docker = Docker::without_plugin("");
    let host = &docker.host;
    start(host);
    let ctr = "ctr --address /run/docker/containerd/containerd.sock run --rm --cni";
    for address in ["172.16.0.1", "fd00:172:16::1"] {
        let options = format!("--cgroup /{}/c1 --rootfs /run/rootfs", docker.cgroup());
        let said = host.run(&format!("{ctr} {options} c1 /bin/ping -n -c 1 -W 5 {address}")).ok();
        assert!(said.contains("1 received"), "{said}");
        assert_nothing_left(host);
    }
}

/// With what runtimes do not use: CHECK, and limits.
#[test]
fn libcni_adds_checks_and_deletes_a_container() {
    let host = Host::new();
    start(&host);
    build_libcni(&host);
    host.run("ip netns add c1").ok();
    let capabilities = json!({
        "mac": "02:00:5e:00:53:77", "ips": ["172.16.0.77"], "aliases": { "lab": ["web"] },
        "bandwidth": { "ingressRate": 8_000_000, "ingressBurst": 800_000 },
    });
    let list = "/etc/cni/net.d/10-lab.conflist";
    let libcni = |operation: &str| {
        host.sh(&format!("/run/libcni {operation} {list} c1 /run/netns/c1 '{capabilities}'"))
    };
    let result = libcni("add").json();
    assert_eq!(result["interfaces"][0]["mac"], "02:00:5e:00:53:77", "{result}");
    assert_eq!(result["ips"][0]["address"], "172.16.0.77/24", "{result}");
    let limits = json!({ "egress_rate": { "rate": 8_000_000, "burst": 100_000 } });
    assert_eq!(ports(&host)[0]["limits"], limits);
    host.netns("c1").run("ping -n -c 1 -W 5 172.16.0.1").ok();
    libcni("check").ok();
    host.run("ip -n c1 address delete 172.16.0.77/24 dev eth0").ok();
    wait_until("CHECK finds that the address is missing", || !libcni("check").succeeded());
    let said = libcni("check").stderr;
    assert!(said.contains("172.16.0.77"), "{said}");
    libcni("del").ok();
    libcni("del").ok();
    assert_nothing_left(&host);
}
