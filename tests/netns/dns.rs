//! `--dns`: names of containers at the gateway, and other names from the servers of the host.

use crate::harness::{
    Host, HostSnapshot, Process, Shell, TestNetns, TestSwitch, Uswitch, host_with_public_tun, run_as_user,
    wait_until,
};
use crate::nat::INTERNET;

/// The words of dig: one try, and its answers only.
const DIG: &str = "dig +short +tries=1 +time=20";

fn dig(client: &impl Shell, words: &str) -> String {
    client.run(&format!("{DIG} {words}")).ok()
}

/// The response code and whether the reply is authoritative, as dig shows the header.
fn header(client: &impl Shell, words: &str) -> String {
    client.run(&format!("dig +noall +comments +tries=1 +time=20 {words}")).ok()
}

/// A server of the host, on the internet. One of its answers is too long for a datagram.
fn upstream(host: &Host) -> (TestNetns, Process) {
    host.sh(INTERNET).ok();
    host.sh(
        "echo 'nameserver 203.0.113.2' >/run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf",
    )
    .ok();
    let internet = host.netns("internet");
    let long = "--txt-record=big.example.org,".to_owned() + &"x".repeat(200);
    let long = [long.as_str(); 10].join(" ");
    let mut server = internet.spawn(&format!(
        "dnsmasq -k --log-facility=- --conf-file=/dev/null --no-resolv --no-hosts --pid-file= --bind-interfaces \
         --listen-address=203.0.113.2 --host-record=www.example.org,198.51.100.7 {long}"
    ));
    server.line_with("started");
    (internet, server)
}

#[test]
fn names_of_containers_have_addresses() {
    let s = Uswitch::with("--ports 3 --dns");
    let [h1, ..] = s.containers();
    for server in ["172.16.0.1", "fd00:172:16::1"] {
        assert_eq!(dig(&h1, &format!("@{server} container2 A")), "172.16.0.3\n");
        assert_eq!(dig(&h1, &format!("@{server} Container2.uswitch0 AAAA")), "fd00:172:16::3\n");
        assert_eq!(dig(&h1, &format!("@{server} +tcp container3.uswitch0 A")), "172.16.0.4\n");
        assert_eq!(dig(&h1, &format!("@{server} host A")), "172.16.0.1\n");
        assert_eq!(dig(&h1, &format!("@{server} -x 172.16.0.3")), "container2.uswitch0.\n");
        assert_eq!(dig(&h1, &format!("@{server} -x fd00:172:16::3")), "container2.uswitch0.\n");
    }
    let missing = header(&h1, "@172.16.0.1 nobody.uswitch0");
    assert!(missing.contains("NXDOMAIN") && missing.contains(" aa "), "{missing}");
    let other_type = header(&h1, "@172.16.0.1 container2 MX");
    assert!(other_type.contains("NOERROR") && other_type.contains("ANSWER: 0"), "{other_type}");
    let text = s.host().run("uswitch status").ok();
    assert!(text.contains("dns        uswitch0 at 172.16.0.1 fd00:172:16::1: "), "{text}");
    let dns = &s.json("status")["dns"];
    assert_eq!((dns["domain"].as_str(), dns["answered"].as_u64()), (Some("uswitch0"), Some(14)), "{dns}");
    assert!(
        s.host()
            .run("curl -s --unix-socket /run/uswitch/uswitch0.sock http://x/metrics")
            .ok()
            .contains("uswitch_dns_queries_total{result=\"answered\"} 14")
    );
}

/// The resolver of the C library asks the server, in containers that `exec` enters.
#[test]
fn exec_uses_the_server() {
    let s = Uswitch::with("--ports 2 --dns --domain lab.test");
    let found = s.host().run("uswitch exec container1 -- getent ahostsv4 container2.lab.test").ok();
    assert!(found.starts_with("172.16.0.3 "), "{found}");
    let seen = s.host().run("uswitch exec container1 -- cat /etc/resolv.conf").ok();
    assert_eq!(seen, "search lab.test\nnameserver 172.16.0.1\nnameserver fd00:172:16::1\n");
}

#[test]
fn names_follow_ports_addresses_and_aliases() {
    let s = Uswitch::with("--ports 2 --dns --guard off");
    let h1 = s.host().netns("container1");
    assert_eq!(dig(&h1, "@172.16.0.1 web"), "");
    s.host().run("uswitch port add web --label alias=www,shop").ok();
    s.host().run("uswitch port set container2 --label alias=shop").ok();
    assert_eq!(dig(&h1, "@172.16.0.1 web"), "172.16.0.4\n");
    assert_eq!(dig(&h1, "@172.16.0.1 www.uswitch0"), "172.16.0.4\n");
    assert_eq!(dig(&h1, "@172.16.0.1 shop").lines().count(), 2);
    s.host().run("uswitch port set web --no-label alias").ok();
    assert_eq!(dig(&h1, "@172.16.0.1 www"), "");
    s.host().netns("web").sh("ip -4 addr flush dev eth0; ip addr add 172.16.0.99/24 dev eth0").ok();
    wait_until("the name follows", || dig(&h1, "@172.16.0.1 web A") == "172.16.0.99\n");
    s.host().run("uswitch port del web").ok();
    assert_eq!(dig(&h1, "@172.16.0.1 web"), "");
}

#[test]
fn other_names_come_from_the_servers_of_the_host() {
    let host = Host::new();
    let (_internet, server) = upstream(&host);
    let s = Uswitch::on(host, "--ports 3 --dns");
    let [h1, ..] = s.containers();
    assert_eq!(dig(&h1, "@172.16.0.1 www.example.org"), "198.51.100.7\n");
    assert_eq!(dig(&h1, "@172.16.0.1 +tcp www.example.org"), "198.51.100.7\n");
    let long = dig(&h1, "@172.16.0.1 big.example.org TXT");
    assert_eq!(long.lines().count(), 10, "over TCP, because a datagram is too short: {long}");
    assert_eq!(dig(&h1, "@172.16.0.1 container2"), "172.16.0.3\n");
    drop(server);
    let failed = header(&h1, "@172.16.0.1 www.example.org");
    assert!(failed.contains("SERVFAIL"), "{failed}");
    let dns = s.json("status")["dns"].clone();
    assert_eq!((dns["failed"].as_u64(), dns["refused"].as_u64()), (Some(1), Some(0)), "{dns}");
}

/// Only containers are served: not networks of the host, also not at the address of the gateway.
#[test]
fn no_other_network_is_served() {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let internet = host.netns("internet");
    let s = Uswitch::on(host, "--ports 3 --dns");
    internet.run("ip route add 172.16.0.1 via 203.0.113.1").ok();
    for server in ["203.0.113.1", "172.16.0.1"] {
        internet.run(&format!("dig +tries=1 +time=2 @{server} container2")).fails();
    }
    assert_eq!(dig(&s.containers()[0], "@172.16.0.1 container2 A"), "172.16.0.3\n");
}

/// Queries of one client beyond the limit are refused and counted while no server replies, and others are answered.
#[test]
fn waiting_queries_of_a_client_are_limited() {
    const FLOOD: &str = r#"
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.connect(("172.16.0.1", 53))
client.settimeout(20)
for n in range(100):
    client.send(n.to_bytes(2, "big") + b"\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1")
refused = 0
while refused < 68:
    refused += client.recv(512)[3] & 15 == 5
"#;
    let host = Host::new();
    host.sh(INTERNET).ok();
    // It accepts queries and does not reply.
    host.sh(
        "echo 'nameserver 203.0.113.2' >/run/resolv.conf; mount --bind /run/resolv.conf /etc/resolv.conf",
    )
    .ok();
    let mut silent = host.netns("internet").spawn("socat -d -d -u UDP-RECVFROM:53,fork /dev/null");
    silent.line_with("receiving on");
    let s = Uswitch::on(host, "--ports 3 --dns");
    let [h1, h2, _] = s.containers();
    // The host knows the client's MAC address before it sends many replies: few wait for it in the kernel.
    assert_eq!(dig(&h1, "@172.16.0.1 container2 A"), "172.16.0.3\n");
    h1.sh(&format!("python3 -c '{FLOOD}'")).ok();
    assert!(s.json("status")["dns"]["refused"].as_u64() >= Some(68));
    assert_eq!(dig(&h1, "@172.16.0.1 container2 A"), "172.16.0.3\n");
    assert_eq!(dig(&h2, "@172.16.0.1 container1 A"), "172.16.0.2\n");
}

/// Replies to a container that does not answer ARP wait in the kernel, and the others have theirs meanwhile.
#[test]
fn client_that_does_not_answer_arp_stops_no_other() {
    const FLOOD: &str = r#"
import socket, time
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.bind(("172.16.0.99", 0))
client.connect(("172.16.0.1", 53))
while True:
    client.send(b"\0\1\1\0\0\1\0\0\0\0\0\0\4host\0\0\1\0\1")
    time.sleep(0.005)
"#;
    let s = Uswitch::with("--ports 3 --dns --guard off");
    let [h1, h2, _] = s.containers();
    let gateway = s.json("status")["gateway"]["mac"].as_str().expect("a MAC").to_owned();
    // An address that the switch does not announce.
    h1.sh(&format!(
        "ip link set eth0 arp off; ip addr add 172.16.0.99/24 dev eth0
         ip neigh replace 172.16.0.1 lladdr {gateway} dev eth0 nud permanent"
    ))
    .ok();
    std::fs::write(s.host().path("/run/flood.py"), FLOOD).expect("root can write");
    let _flood = h1.spawn("python3 /run/flood.py");
    // So few wait for the address that they fill no send buffer.
    let waiting = s.host().run("cat /proc/sys/net/ipv4/neigh/uswitch0/unres_qlen_bytes").ok();
    assert_eq!(waiting, "16384\n");
    // More than the socket has room for, by default. One lost query fails the test: the loop that waits loses most.
    wait_until("queries are answered", || s.json("status")["dns"]["answered"].as_u64() > Some(1000));
    for _ in 0..8 {
        let found = h2.run("dig +short +tries=1 +time=20 @172.16.0.1 container3 A").ok();
        assert_eq!(found, "172.16.0.4\n");
    }
}

/// Each gateway of a VLAN serves its VLAN.
#[test]
fn gateways_of_vlans_serve_their_vlans() {
    let s = Uswitch::with("--ports 1 --dns --vlan-filtering --vlan-gateway 10=172.16.10.1/24");
    s.host().run("uswitch port add web --access 10").ok();
    let web = s.host().netns("web");
    assert_eq!(dig(&web, "@172.16.10.1 web A"), "172.16.10.3\n");
    assert_eq!(dig(&web, "@172.16.10.1 container1 A"), "172.16.0.2\n");
}

#[test]
fn port_that_is_in_use_is_refused_in_one_line() {
    let host = Host::new();
    let mut taken = host.spawn("socat -d -d UDP4-RECVFROM:53,fork /dev/null");
    taken.line_with("receiving on");
    let before = HostSnapshot::of(&host);
    let error = host.run("uswitch start --detach --ports 1 --dns").fails();
    assert!(error.lines().count() == 1 && error.contains("cannot serve DNS at 172.16.0.1"), "{error}");
    before.assert_same(&host);
}

#[test]
fn stop_and_kill_leave_no_server() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    host.run("uswitch start --detach --ports 2 --dns").ok();
    assert!(host.run("ss -Hlun").ok().contains("172.16.0.1%uswitch0:53"));
    host.run("uswitch stop").ok();
    before.assert_same(&host);
    host.run("uswitch start --detach --ports 2 --dns").ok();
    host.run("pkill -KILL -x uswitch").ok();
    host.run("uswitch start --detach --ports 2 --dns").ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

#[test]
fn serves_without_root() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch start --detach --ports 2 --dns").ok();
    let found =
        run_as_user(&host, &format!("uswitch exec container1 -- {DIG} @172.16.0.1 container2 A")).ok();
    assert_eq!(found, "172.16.0.3\n");
    run_as_user(&host, "uswitch stop").ok();
}
