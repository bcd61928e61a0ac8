//! What the Docker plugin refuses.

use crate::docker::Docker;

const MASQUERADE: &str = "com.docker.network.bridge.enable_ip_masquerade";

#[test]
#[allow(clippy::too_many_lines, reason = "a line for each error")]
fn errors_are_one_line_and_leave_nothing() {
    let docker = Docker::start();
    docker.sh("uswitch start --detach --ports 1 --name lab --subnet 10.6.0.0/24").ok();
    docker.sh("uswitch start --detach --ports 0 --name free --subnet 10.66.0.0/24").ok();
    docker.docker("network create -d uswitch --subnet 10.6.0.0/24 -o switch=lab lab");
    docker.docker(&format!(
        "network create -d uswitch -o com.docker.network.bridge.name=rt -o {MASQUERADE}=false rt"
    ));
    docker.sh("ip link add taken type veth peer name other; ip addr add 10.5.0.1/24 dev other").ok();
    docker.sh("iptables -I DOCKER-USER -i taken -j ACCEPT").ok();
    let before = docker.left();
    let create = "network create -d uswitch";
    let ports = docker.ports("lab");
    for (command, words) in [
        (format!("{create} -o switch=lab9 x"), "no switch named lab9 is running (running: free, lab, rt)"),
        (format!("{create} -o switch=lab x"), "create the network with --subnet (10.6.0.0/24)"),
        (
            format!("{create} -o switch=lab --ipam-driver uswitch --subnet 10.6.0.0/24 --gateway 10.6.0.9 x"),
            "the gateway of lab is 10.6.0.1: create the network with --gateway 10.6.0.1",
        ),
        (
            format!("{create} -o switch=free --subnet 10.66.0.0/16 --gateway 10.66.0.1 x"),
            "free has no subnet 10.66.0.0/16: create the network with --subnet (10.66.0.0/24)",
        ),
        (
            format!("{create} -o switch=free --subnet 10.66.0.128/25 x"),
            "free has no subnet 10.66.0.128/25: create the network with --subnet (10.66.0.0/24)",
        ),
        (
            format!("{create} -o switch=free --subnet 10.66.0.0/24 --internal x"),
            "--internal excludes switch=free",
        ),
        (
            format!("{create} -o switch=free --subnet 10.66.0.0/24 -o vlan=7 x"),
            "vlan needs VLAN filtering: start free with --vlan-filtering",
        ),
        (format!("{create} -o switch=lab -o parent=lan0 x"), "the option parent excludes switch=lab"),
        (format!("{create} -o parent=other -o {MASQUERADE}=false x"), "excludes parent"),
        (format!("{create} -o swich=lab x"), "the network option swich is not supported"),
        (format!("{create} -o ipvlan_mode=l2 x"), "need parent=DEVICE"),
        (format!("{create} -o com.docker.network.driver.mtu=9 x"), "9 is out of range"),
        (
            format!("{create} -o com.docker.network.bridge.name=lab x"),
            "a switch named lab is running: use it with -o switch=lab",
        ),
        (
            format!("{create} -o com.docker.network.bridge.name=taken x"),
            "a device named 'taken' already exists on this host",
        ),
        (format!("{create} --subnet 10.5.0.0/24 x"), "10.5.0.0/24 overlaps 10.5.0.1/24 on this host"),
        (
            "run --network name=lab,driver-opt=vlna=1 box true".to_owned(),
            "the endpoint option vlna is not supported",
        ),
        (
            "run --network name=lab,driver-opt=com.docker.network.driver.mtu=1400 box true".to_owned(),
            "the endpoint option com.docker.network.driver.mtu is not supported",
        ),
        (
            "run --network rt -p 8080:80 box true".to_owned(),
            "-p: other hosts reach the containers of a routed network at their own addresses",
        ),
        ("run --network lab --ip 10.6.0.2 box true".to_owned(), "10.6.0.2 is in use by container1"),
        (
            "run --network lab --ip 10.6.0.9 -p 8080:80/sctp box true".to_owned(),
            "-p 80: the protocol 132 is not supported",
        ),
    ] {
        let error = docker.refused(&command);
        assert!(error.contains(words) && error.matches(words).count() == 1, "{command}: {error}");
        docker.sh("docker ps --all --quiet | xargs -r docker rm --force").ok();
        assert_eq!((docker.left(), docker.ports("lab")), (before.clone(), ports.clone()), "{command}");
    }
}

/// A container that runs keeps its MAC address. One that has ended has none.
#[test]
fn mac_address_of_a_running_container_is_refused() {
    let mut docker = Docker::start_with("--live-restore");
    docker.docker("network create -d uswitch --subnet 10.7.0.0/24 -o com.docker.network.bridge.name=lan lan");
    let mac = "--mac-address 02:00:00:00:00:77";
    docker.run("c1", &format!("--network lan {mac}"));
    let error = docker.refused(&format!("run --network lan {mac} box true"));
    assert!(error.contains("02:00:00:00:00:77 is in use by "), "{error}");
    docker.ping("c1", "10.7.0.1");
    // While dockerd cannot tell that it has ended.
    docker.kill_dockerd();
    docker.sh("pkill -KILL -x sleep").ok();
    docker.start_dockerd("--live-restore");
    docker.run("c2", &format!("--network lan {mac}"));
    docker.ping("c2", "10.7.0.1");
}
