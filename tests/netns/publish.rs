//! Published ports: connections from another machine, from the host and from containers to a container.

use serde_json::Value;

use crate::harness::{
    AS_USER, Host, HostSnapshot, Process, Shell, TestNetns, TestSwitch, Uswitch, host_with_public_tun,
    run_as_user, user_command, wait_until,
};
use crate::nat::INTERNET;

/// Writes the address of each client to it.
const SAYS_WHO: &str = "printf %s $SOCAT_PEERADDR";

/// A TCP server, and for each datagram a UDP server, of both IP versions.
pub(crate) fn serve(container: &TestNetns, port: u16) -> [Process; 2] {
    let listen = |kind: &str, answer: &str, ready: &str| {
        let script = format!(
            "exec socat -d -d {kind}:{port},ipv6-v6only=0,fork,reuseaddr SYSTEM:'{answer}{SAYS_WHO}'"
        );
        let mut server = container.spawn_sh(&script);
        server.line_with(ready);
        server
    };
    // socat sends no reply if the program has not read the datagram.
    [listen("TCP6-LISTEN", "", "listening on"), listen("UDP6-RECVFROM", "read hello; ", "receiving on")]
}

/// Sends a datagram, and prints the first one that comes back. (socat would wait for more.)
const UDP_CLIENT: &str = r#"
import socket, sys
host, port = sys.argv[1].rsplit(":", 1)
(family, _, _, _, address), *_ = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_DGRAM)
client = socket.socket(family, socket.SOCK_DGRAM)
client.settimeout(20)
client.connect(address)
client.send(b"hello\n")
print(client.recv(100).decode(), end="")
"#;

/// The address that the server sees, of a client here that connects to `target` by `TCP` or `UDP`.
#[track_caller]
pub(crate) fn seen_from(client: &impl Shell, protocol: &str, target: &str) -> String {
    let script = match protocol {
        "UDP" => format!("python3 -c '{UDP_CLIENT}' {target}"),
        _ => format!("socat -u TCP:{target},connect-timeout=20 STDOUT"),
    };
    let address = client.sh(&script).ok();
    // The server listens with an IPv6 socket.
    let address = address.trim_start_matches('[').trim_end_matches(']');
    let mapped = |address: &str| {
        let address = address.parse::<std::net::Ipv6Addr>().ok()?;
        Some(address.to_canonical().to_string())
    };
    mapped(address).unwrap_or_else(|| address.to_owned())
}

#[track_caller]
pub(crate) fn refused(client: &impl Shell, target: &str) {
    client.sh(&format!("socat -u TCP:{target},connect-timeout=2 STDOUT")).fails();
}

pub(crate) fn on_the_internet(options: &str) -> (Uswitch, TestNetns) {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let internet = host.netns("internet");
    (Uswitch::on(host, &format!("--ports 3 {options}")), internet)
}

/// From another machine, from the host by its address and by 127.0.0.1, and from containers by the address of the host.
#[track_caller]
fn assert_published(s: &Uswitch, internet: &TestNetns, protocols: &[&str]) {
    let [h1, h2, _] = s.containers();
    for protocol in protocols {
        assert_eq!(seen_from(internet, protocol, "203.0.113.1:8080"), "203.0.113.2", "{protocol}");
        assert_eq!(seen_from(internet, protocol, "[2001:db8::1]:8080"), "2001:db8::2", "{protocol}");
        assert_eq!(seen_from(s.host(), protocol, "203.0.113.1:8080"), "203.0.113.1", "{protocol}");
        assert_eq!(seen_from(s.host(), protocol, "[2001:db8::1]:8080"), "2001:db8::1", "{protocol}");
        assert_eq!(seen_from(s.host(), protocol, "127.0.0.1:8080"), "172.16.0.1", "{protocol}");
        // Masqueraded: a container would reply to another one directly.
        for container in [&h1, &h2] {
            assert_eq!(seen_from(container, protocol, "203.0.113.1:8080"), "172.16.0.1", "{protocol}");
            assert_eq!(seen_from(container, protocol, "[2001:db8::1]:8080"), "fd00:172:16::1", "{protocol}");
        }
    }
    refused(s.host(), "[::1]:8080");
}

fn publishes_to_all(options: &str) {
    let (s, internet) = on_the_internet(&format!("--publish 8080:container1:80 {options}"));
    s.host().run("uswitch port publish container1 8080:80/udp").ok();
    let _servers = serve(&s.containers()[0], 80);
    assert_published(&s, &internet, &["TCP", "UDP"]);
}

#[test]
fn publishes_ports_with_the_fast_path() {
    publishes_to_all("--fast-path on");
}

#[test]
fn publishes_ports_without_the_fast_path() {
    publishes_to_all("--fast-path off");
}

#[test]
fn publishes_ports_together_with_nat() {
    publishes_to_all("--nat");
}

/// Publishing a port opens nothing else: other ports of the container, its own address from outside, and, without NAT,
/// the way out.
#[test]
fn nothing_else_passes() {
    let (s, internet) = on_the_internet("--publish 8080:container1:80");
    let [h1, ..] = s.containers();
    let _servers = (serve(&h1, 80), serve(&h1, 81));
    internet.run("ip route add 172.16.0.0/24 via 203.0.113.1").ok();
    internet.run("ip -6 route add fd00:172:16::/64 via 2001:db8::1").ok();
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8080"), "203.0.113.2");
    for target in ["203.0.113.1:81", "172.16.0.2:80", "[fd00:172:16::2]:80", "172.16.0.2:81"] {
        refused(&internet, target);
    }
    let mut outside = internet.spawn("socat -d -d TCP-LISTEN:9999,fork,reuseaddr /dev/null");
    outside.line_with("listening on");
    refused(&h1, "203.0.113.2:9999");
    s.host().sh("socat -u TCP:203.0.113.2:9999 STDOUT </dev/null").ok();
}

/// A range, one address of the host, the loopback address only.
#[test]
fn publishes_ranges_and_addresses() {
    let (s, internet) = on_the_internet(
        "--publish 8080-8082:container1:90-92 --publish 203.0.113.1:7000:container2:80 \
         --publish 127.0.0.1:7001:container2:80 --publish [2001:db8::1]:7002:container2:80",
    );
    let [h1, h2, _] = s.containers();
    let _servers = (serve(&h1, 92), serve(&h2, 80));
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8082"), "203.0.113.2");
    refused(&internet, "203.0.113.1:8081");
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:7000"), "203.0.113.2");
    refused(s.host(), "127.0.0.1:7000");
    assert_eq!(seen_from(s.host(), "TCP", "127.0.0.1:7001"), "172.16.0.1");
    refused(&internet, "203.0.113.1:7001");
    assert_eq!(seen_from(&internet, "TCP", "[2001:db8::1]:7002"), "2001:db8::2");
    refused(&internet, "203.0.113.1:7002");
}

/// What the other machine downloads is what the container has.
#[test]
fn curl_downloads_a_file() {
    let (s, internet) = on_the_internet("--publish 8080:container1:80");
    s.host().sh("mkdir /run/www; head -c 3000000 /dev/urandom > /run/www/file").ok();
    let _server = s.containers()[0].spawn("python3 -m http.server --directory /run/www 80");
    wait_until("the server listens", || internet.run("curl -sSf http://203.0.113.1:8080/").succeeded());
    let original = s.host().sh("sha256sum < /run/www/file").ok();
    assert_eq!(internet.sh("curl -sSf http://203.0.113.1:8080/file | sha256sum").ok(), original);
}

fn published_of(s: &Uswitch, port: &str) -> Value {
    s.row("port show", port)["published"].clone()
}

#[test]
fn ports_are_published_and_withdrawn_live() {
    let (s, internet) = on_the_internet("");
    let before = HostSnapshot::of(s.host());
    let _servers = serve(&s.containers()[0], 80);
    refused(&internet, "203.0.113.1:8080");
    let shown = s.host().run("uswitch port publish container1 8080:80 203.0.113.1:53:53/udp").ok();
    assert!(shown.contains("container1: published 8080:80/tcp 203.0.113.1:53:53/udp"), "{shown}");
    assert_eq!(
        published_of(&s, "container1"),
        serde_json::json!([
            {"host_ports": "8080", "container_ports": "80", "protocol": "tcp"},
            {"host_address": "203.0.113.1", "host_ports": "53", "container_ports": "53", "protocol": "udp"},
        ])
    );
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8080"), "203.0.113.2");
    let event = s.json("events --type port_changed --last 1");
    assert_eq!(event["change"], "published");
    assert_eq!(event["value"], "8080:80/tcp 203.0.113.1:53:53/udp");
    s.host().run("uswitch port unpublish container1 8080:80 203.0.113.1:53:53/udp").ok();
    refused(&internet, "203.0.113.1:8080");
    assert_eq!(published_of(&s, "container1"), Value::Null);
    assert_eq!(HostSnapshot::of(s.host()).of_kind("sockets"), before.of_kind("sockets"));
}

/// Those before the refused one are withdrawn again.
#[test]
fn ports_of_a_command_are_published_all_or_none() {
    let s = Uswitch::with("--ports 3 --publish 8080:container1:80");
    s.host().run("uswitch port publish container2 82:82").ok();
    let published = published_of(&s, "container2");
    let error = s.host().run("uswitch port publish container2 81:81 [::]:83:83 8080:80 84:84").fails();
    assert!(error.contains("port 8080/tcp of the host is published for container1"), "{error}");
    assert_eq!(published_of(&s, "container2"), published);
}

/// Sends a datagram from one port, so that connection tracking takes it for one of the same exchange.
const UDP_EXCHANGE: &str = r#"
import socket
client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
client.settimeout(20)
client.bind(("203.0.113.2", 5555))
client.connect(("203.0.113.1", 8080))
client.send(b"hello\n")
print(client.recv(100).decode())
"#;

/// The next datagram of an exchange goes where the rules lead at that time, also if the client has had an answer from
/// elsewhere.
#[test]
fn udp_exchange_ends_with_its_published_port() {
    let (s, internet) = on_the_internet("");
    let [h1, h2, _] = s.containers();
    let serve = |container: &TestNetns| {
        let name = container.name();
        let script = format!("exec socat -d -d UDP-RECVFROM:80,fork SYSTEM:'read hello; printf {name}'");
        let mut server = container.spawn_sh(&script);
        server.line_with("receiving on");
        server
    };
    let _servers = [serve(&h1), serve(&h2)];
    let exchange = || internet.sh(&format!("python3 -c '{UDP_EXCHANGE}'"));
    let refused = || {
        let error = exchange().fails();
        assert!(error.contains("ConnectionRefusedError"), "{error}");
    };
    refused();
    for container in ["container1", "container2"] {
        s.host().run(&format!("uswitch port publish {container} 8080:80/udp")).ok();
        assert_eq!(exchange().ok().trim(), container);
        s.host().run(&format!("uswitch port unpublish {container} 8080:80/udp")).ok();
        refused();
    }
}

/// Connects, waits until another program opens a FIFO, sends a line, and prints the answer.
const TCP_CLIENT: &str = r#"
import socket
client = socket.create_connection(("203.0.113.1", 8080), 20)
print("connected", flush=True)
open("/run/withdrawn").read()
client.send(b"hello\n")
print("answer", client.recv(100).decode())
"#;

/// Also if the table keeps its other rules.
#[test]
fn tcp_connection_ends_with_its_published_port() {
    for others in ["", "--publish 81:container2:80", "--nat"] {
        let (s, internet) = on_the_internet(&format!("--publish 8080:container1:80 {others}"));
        let mut server = s.containers()[0].spawn("socat -d -d TCP-LISTEN:80,fork EXEC:cat");
        server.line_with("listening on");
        s.host().run("mkfifo /run/withdrawn").ok();
        let mut client = internet.spawn_sh(&format!("exec python3 -c '{TCP_CLIENT}'"));
        client.line_with("connected");
        s.host().run("uswitch port unpublish container1 8080:80").ok();
        refused(&internet, "203.0.113.1:8080");
        s.host().sh("echo > /run/withdrawn").ok();
        client.line_with("ConnectionResetError");
    }
}

/// The rules are those that the options give, and the deletion of a port withdraws its own.
#[test]
fn deleted_port_is_withdrawn() {
    let (s, internet) = on_the_internet("--publish 8080:container1:80");
    let rules = || s.host().run("nft -s list ruleset").ok();
    let of_options = rules();
    s.host().run("uswitch port add web").ok();
    s.host().run("uswitch port publish web 8081:80").ok();
    assert_ne!(rules(), of_options);
    let _servers = serve(&s.host().netns("web"), 80);
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8081"), "203.0.113.2");
    s.host().run("uswitch port del web").ok();
    assert_eq!(rules(), of_options);
    refused(&internet, "203.0.113.1:8081");
}

#[test]
fn stop_and_kill_leave_nothing() {
    let host = Host::new();
    host.sh(INTERNET).ok();
    let before = HostSnapshot::of(&host);
    let start = "uswitch start --detach --ports 2 --publish 8080:container1:80";
    host.run(start).ok();
    host.run("uswitch port publish container2 127.0.0.1:81:81/udp").ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
    host.run(start).ok();
    host.run("pkill -KILL -x uswitch").ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
    host.run("uswitch start --detach --ports 2").ok();
    host.run("uswitch port publish container1 8080:80").ok();
    host.run("pkill -KILL -x uswitch").ok();
    let again = host.run("uswitch start --detach --ports 2");
    assert!(again.stderr.contains("1 nftables table"), "{again}");
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// Refused with one line, nothing changed.
#[test]
fn refuses_what_cannot_be_published() {
    let (s, _internet) = on_the_internet("--publish 8080:container1:80");
    s.host().run("uswitch port add raw --unmanaged").ok();
    s.host().run("uswitch port add bare --ip none").ok();
    let mut taken = s.host().spawn("socat -d -d TCP-LISTEN:9090,bind=127.0.0.1 /dev/null");
    taken.line_with("listening on");
    let rules = s.host().run("nft -s list ruleset").ok();
    for (words, says) in [
        ("container2 8080:80", "port 8080/tcp of the host is published for container1 already"),
        ("container2 127.0.0.1:8080:81", "is published for container1 already"),
        ("container9 81:80", "no port named container9"),
        ("raw 81:80", "raw has no address"),
        ("bare 81:80", "bare has no address"),
        ("host 81:80", "host is the host"),
        ("container2 9090:80", "port 9090/tcp of the host is in use by another program"),
        ("container2 192.0.2.7:81:80", "the host does not have the address 192.0.2.7"),
        ("container2 [::1]:81:80", "::1 cannot be published"),
        ("container2 81-83:80", "3 ports of the host cannot be forwarded to 1"),
        ("container2 1-1025:1-1025", "a switch publishes at most 1024"),
        ("container2 80", "'80' is not a published port"),
    ] {
        let error = s.host().run(&format!("uswitch port publish {words}")).fails();
        assert!(error.contains(says), "{words}: {error}");
        assert!(error.lines().count() == 1 || words.ends_with(" 80"), "{words}: {error}");
    }
    assert_eq!(s.host().run("nft -s list ruleset").ok(), rules);
    let error =
        s.host().run("uswitch start --detach --name b --subnet 10.5.0.0/24 --publish 8080:b-1:80").fails();
    assert!(error.contains("port 8080/tcp of the host is in use by another program or switch"), "{error}");
    let error =
        s.host().run("uswitch start --detach --name b --subnet 10.5.0.0/24 --publish 81:nobody:80").fails();
    assert!(error.contains("no port named nobody"), "{error}");
    assert_eq!(s.host().run("nft -s list ruleset").ok(), rules, "a start that is refused leaves nothing");
    s.host().run("uswitch port publish container2 81:80").ok();
}

/// A switch with the default guard does not follow a container to another address. With the guard off it does.
#[test]
fn follows_the_address_of_a_container() {
    let (s, internet) = on_the_internet("--guard off --publish 203.0.113.1:8080:container1:80");
    let [h1, ..] = s.containers();
    let _servers = serve(&h1, 80);
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8080"), "203.0.113.2");
    h1.sh(
        "ip -4 addr flush dev eth0; ip addr add 172.16.0.99/24 dev eth0; ip route add default via 172.16.0.1",
    )
    .ok();
    wait_until("the rules follow", || {
        s.host().run("nft list ruleset").ok().contains("dnat ip to 172.16.0.99:80")
    });
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8080"), "203.0.113.2");
}

/// Between VLANs, the container sees the address of a container in another VLAN.
#[test]
fn publishes_a_container_in_a_vlan_with_a_gateway() {
    let (s, internet) = on_the_internet("--vlan-filtering --vlan-gateway 10=172.16.10.1/24");
    s.host().run("uswitch port add web --access 10").ok();
    s.host().run("uswitch port publish web 8080:80").ok();
    let _servers = serve(&s.host().netns("web"), 80);
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8080"), "203.0.113.2");
    assert_eq!(seen_from(s.host(), "TCP", "127.0.0.1:8080"), "172.16.10.1");
    assert_eq!(seen_from(&s.containers()[0], "TCP", "203.0.113.1:8080"), "172.16.0.2");
}

/// The table is restored with its rules after another program deleted it.
#[test]
fn restores_the_rules_after_a_flush() {
    let (s, internet) = on_the_internet("--publish 8080:container1:80");
    let _servers = serve(&s.containers()[0], 80);
    let rules = s.host().run("nft -s list ruleset").ok();
    s.host().run("nft flush ruleset").ok();
    wait_until("the table is restored", || s.host().run("nft -s list ruleset").ok() == rules);
    assert_eq!(seen_from(&internet, "TCP", "203.0.113.1:8080"), "203.0.113.2");
}

#[test]
fn configuration_file_publishes_ports() {
    let host = Host::new();
    host.sh(
        "printf 'ports = 1\\npublish = [\"8080:container1:80\", \"81:container1:81/udp\"]\\n' >/run/lab.toml",
    )
    .ok();
    host.run("uswitch start --detach --config /run/lab.toml").ok();
    let text = host.run("uswitch port show container1").ok();
    assert!(text.contains("container1: published 8080:80/tcp 81:81/udp"), "{text}");
    host.sh("printf 'publish = [\"80\"]\\n' >/run/bad.toml").ok();
    let error = host.run("uswitch start --config /run/bad.toml").fails();
    assert!(error.contains("/run/bad.toml:1: publish: '80' is not a published port"), "{error}");
}

/// Without root, they are ports of the switch's network namespace, and the start says so.
#[test]
fn without_root_ports_of_the_sandbox_are_published() {
    let host = host_with_public_tun();
    let start = run_as_user(&host, "uswitch start --detach --ports 1 --publish 8080:container1:80");
    assert!(start.stderr.contains("published ports are those of the switch's network namespace"), "{start}");
    start.ok();
    let script = "uswitch exec container1 -- socat TCP-LISTEN:80 SYSTEM:hostname";
    let _server = host.spawn(&format!("{AS_USER} {script}"));
    wait_until("the port is published", || {
        run_as_user(&host, "uswitch exec host -- socat -u TCP:127.0.0.1:8080 STDOUT").succeeded()
    });
    run_as_user(&host, "uswitch stop").ok();
}

/// With pasta attached from outside, other machines reach the port, and the container sees their address.
#[test]
fn without_root_ports_are_reachable_through_pasta() {
    let host = host_with_public_tun();
    host.sh(INTERNET).ok();
    host.run("ip route add default via 203.0.113.2").ok();
    run_as_user(&host, "uswitch start --detach --ports 1 --publish 8080:container1:80").ok();
    let pid = run_as_user(&host, "uswitch status --json").json()["pid"].clone();
    let pasta = format!("pasta --config-net --no-map-gw --foreground --quiet -t 8080:8080 -u none {pid}");
    let _pasta = host.spawn(&user_command(&pasta));
    let server = "uswitch exec container1 -- python3 -u -m http.server --directory /var/lib/nobody 80";
    let mut server = host.spawn(&user_command(server));
    let internet = host.netns("internet");
    wait_until("the port is reachable", || {
        internet.run("curl -sSf -m 5 -o /dev/null http://203.0.113.1:8080/").succeeded()
    });
    server.line_with("203.0.113.2 - - ");
    run_as_user(&host, "uswitch stop").ok();
}
