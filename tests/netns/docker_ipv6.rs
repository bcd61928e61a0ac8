//! Networks of Docker with `--ipv6`: NAT and published ports.

use crate::docker::Docker;
use crate::harness::{Shell, wait_until};

/// A TCP server for both IP versions that sends back what it receives.
const ECHO: &str = "socat -d -d TCP6-LISTEN:80,ipv6-v6only=0,fork,reuseaddr PIPE";

fn echo(place: &dyn Shell, server: &str) {
    let seen = place.sh(&format!("echo hi | socat -t 5 - TCP:{server},connect-timeout=5")).ok();
    assert_eq!(seen, "hi\n", "{server}");
}

#[test]
fn networks_with_ipv6_reach_the_internet_and_publish_ports() {
    let docker = Docker::start();
    let internet = docker.internet();
    let before = docker.left();
    docker.docker("network create -d uswitch --ipv6 --subnet 10.8.0.0/24 --subnet fd00:8::/64 wide");
    docker.docker(&format!("run --detach --name c1 --network wide -p 8080:80 box {ECHO}"));
    docker.run("c2", "--network wide");
    wait_until("c1 listens", || docker.host.run("docker logs c1").stderr.contains("listening on"));
    // The internet has no route to the subnets: it sees the address of the host.
    docker.ping("c2", "2001:db8::2");
    let mut server = internet.spawn(ECHO);
    server.line_with("listening on");
    for (address, seen) in [
        ("[2001:db8::2]", "[2001:0db8:0000:0000:0000:0000:0000:0001]"),
        ("203.0.113.2", "[0000:0000:0000:0000:0000:ffff:cb00:7101]"),
    ] {
        docker.sh(&format!("echo hi | docker exec -i c2 socat -t 5 - TCP:{address}:80")).ok();
        let accepted = server.line_with("accepting connection from");
        assert!(accepted.contains(seen), "{accepted}");
    }
    // The container sees the address of the client.
    for (address, seen) in [
        ("[2001:db8::1]", "[2001:0db8:0000:0000:0000:0000:0000:0002]"),
        ("203.0.113.1", "[0000:0000:0000:0000:0000:ffff:cb00:7102]"),
    ] {
        echo(&internet, &format!("{address}:8080"));
        let log = docker.host.run("docker logs c1").stderr;
        assert!(log.contains(&format!("accepting connection from AF=10 {seen}")), "{address}: {log}");
    }
    echo(&docker.host, "[2001:db8::1]:8080");
    internet.run("ip route add fd00:8::/64 via 2001:db8::1").ok();
    internet.run("ping -n -c 1 -W 1 fd00:8::2").fails();
    docker.docker("rm --force c1 c2");
    docker.docker("network rm wide");
    assert_eq!(docker.left(), before);
}
