//! Names of containers.

use crate::harness::{
    Host, HostSnapshot, Shell, TestSwitch, Uswitch, host_with_public_tun, run_as_user, wait_until,
};

/// Programs that `exec` runs find the other containers and the host by the names of their ports.
#[test]
fn exec_resolves_names_of_ports() {
    let host = Host::new();
    let hosts = host.run("cat /etc/hosts").ok();
    let before = HostSnapshot::of(&host);
    let s = Uswitch::on(host, "--ports 3");
    for option in ["-4", "-6"] {
        for target in ["container2", "container1", "host"] {
            s.host().run(&format!("uswitch exec container1 -- ping -n {option} -c 1 -W 5 {target}")).ok();
        }
    }
    s.host().run("uswitch port add web").ok();
    let found = s.host().run("uswitch exec container1 -- getent ahostsv4 web").ok();
    assert!(found.starts_with("172.16.0.5 "), "{found}");
    let localhost = s.host().run("uswitch exec container1 -- getent ahostsv4 localhost").ok();
    assert!(localhost.starts_with("127.0.0.1 "), "{localhost}");
    s.host().run("uswitch exec host -- ping -n -c 1 -W 5 container3").ok();
    assert_eq!(s.host().run("cat /etc/hosts").ok(), hosts);
    s.stop();
    before.assert_same(s.host());
}

#[test]
fn exec_resolves_names_without_root() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch start --detach --ports 2").ok();
    run_as_user(&host, "uswitch exec container1 -- ping -n -c 1 -W 5 container2").ok();
    run_as_user(&host, "uswitch stop").ok();
}

/// A container that takes addresses of others gives its name no more than its own ones, as over DNS.
#[test]
fn container_points_its_name_at_no_foreign_address() {
    let s = Uswitch::with("--ports 3");
    let own = s.host().run("uswitch exec container2 -- getent ahostsv4 container1").ok();
    assert!(own.starts_with("172.16.0.2 "), "{own}");
    let foreign = ["198.51.100.7/24", "172.16.0.3/24"];
    let add = foreign.map(|address| format!("ip addr add {address} dev eth0")).join("; ");
    s.host().netns("container1").sh(&add).ok();
    wait_until("the switch sees them", || {
        let addresses = s.json("port show container1")[0]["addresses"].to_string();
        foreign.iter().all(|address| addresses.contains(address))
    });
    assert_eq!(s.host().run("uswitch exec container2 -- getent ahostsv4 container1").ok(), own);
}

/// A file of the administrator, as `ip netns exec` uses it, takes precedence.
#[test]
fn exec_prefers_hosts_file_of_the_namespace() {
    let s = Uswitch::with("--ports 2");
    s.host()
        .sh("mount -t tmpfs none /mnt; mkdir -p /mnt/netns/container1; cp -r /etc/. /mnt/ 2>/dev/null || true
            mount --bind /mnt /etc; echo '172.16.0.3 db' >/etc/netns/container1/hosts")
        .ok();
    s.host().run("uswitch exec container1 -- ping -n -c 1 -W 5 db").ok();
    s.host().run("uswitch exec container1 -- getent ahostsv4 container2").fails();
}
