//! The CNI plugin, run by real runtimes that use libcni, in a list before the plugin portmap of the CNI project: podman, and
//! ctr of containerd.

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
      "type": "uswitch-cni", "capabilities": { "mac": true, "ips": true, "aliases": true },
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
