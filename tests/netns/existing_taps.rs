//! Ports on existing TAP devices (`ip tuntap add`): a bridge of the host has the device `tap0`, and leads to the "LAN".

use crate::harness::{Host, Process, Shell, TestNetns, TestSwitch, Uswitch, v4, wait_until};
use crate::traffic::send_file;

/// The address of the host on the LAN, in the subnet of the containers.
const LAN: &str = "172.16.0.100";

/// A machine with a persistent TAP device.
fn machine(options: &str) -> Host {
    let host = Host::new();
    host.sh(&format!(
        "ip tuntap add tap0 mode tap {options}; ip link add br0 type bridge mcast_snooping 0; ip netns add lan
         ip link add eth1 type veth peer name eth0 netns lan; ip -n lan addr add {LAN}/24 dev eth0
         for port in tap0 eth1; do ip link set $port master br0 up; done; ip link set br0 up
         ip -n lan link set eth0 up"
    ))
    .ok();
    host
}

fn lan(s: &Uswitch) -> TestNetns {
    s.host().netns("lan")
}

/// All that `ip` and `ethtool` show of the device, and the size of its virtio-net header. Which offloads were requested
/// has no effect: whoever opens the device requests others.
fn device(host: &Host, flags: &str) -> String {
    const HEADER: &str = r#"import fcntl, struct, sys
tun = open('/dev/net/tun', 'r+b', buffering=0)
fcntl.ioctl(tun, 0x400454ca, struct.pack('16sH22x', b'tap0', 0x1002 | int(sys.argv[1], 16)))
print(fcntl.ioctl(tun, 0x800454d7, bytes(4)))"#;
    host.sh(&format!(
        "echo \"{HEADER}\" >/run/header.py; python3 /run/header.py {flags}
         ip -d -o link show tap0; ethtool -k tap0 | sed 's/ .requested on.//'"
    ))
    .ok()
}

/// Files cross in both directions.
#[track_caller]
fn carries_traffic(options: &str, arguments: &str) -> Uswitch {
    let s = Uswitch::on(machine(options), &format!("--ports 1 {arguments}"));
    s.host().run("uswitch port add --tap tap0").ok();
    let h1 = s.host().netns("container1");
    // A bridge forwards to a port some time after that has its carrier.
    wait_until("they reach each other", || h1.run(&format!("ping -n -c 1 -W 1 {LAN}")).succeeded());
    send_file(&h1, &lan(&s), LAN);
    send_file(&lan(&s), &h1, &v4(1));
    s
}

#[test]
fn carries_traffic_of_an_existing_tap_device() {
    for arguments in ["--engine uring", "--engine poll", "--workers 3"] {
        let s = carries_traffic("", arguments);
        assert_eq!(s.row("port show", "tap0")["offload"], false);
    }
}

#[test]
fn device_with_vnet_hdr_carries_super_frames() {
    for arguments in ["--engine uring", "--engine poll", "--workers 3"] {
        let s = carries_traffic("vnet_hdr", arguments);
        for direction in ["rx", "tx"] {
            let count = |what| s.count("tap0", &format!("{direction}_{what}"));
            let mean = count("bytes") / count("frames");
            assert!(mean > 1514, "{arguments}: {direction}: {mean} bytes in a frame");
        }
    }
    let s = carries_traffic("vnet_hdr", "--no-offload");
    assert!(s.count("tap0", "rx_bytes") / s.count("tap0", "rx_frames") <= 1514);
}

#[test]
fn each_worker_has_a_queue_of_a_multi_queue_device() {
    for options in ["multi_queue", "multi_queue vnet_hdr"] {
        let s = carries_traffic(options, "--workers 3");
        assert!(s.host().run("ip -d link show tap0").ok().contains("numqueues 3"));
    }
}

#[test]
fn leaves_the_device_as_it_was() {
    for (options, flags) in [("", "0"), ("vnet_hdr", "4000"), ("multi_queue vnet_hdr", "4100")] {
        let host = machine(options);
        let before = device(&host, flags);
        let s = Uswitch::on(host, "--ports 1");
        let host = s.host();
        for end in ["uswitch port del tap0", "uswitch stop", "pkill -KILL -x uswitch"] {
            host.run("uswitch port add --tap tap0").ok();
            host.run(end).ok();
            if end.contains("KILL") {
                // It has changed nothing of a device without virtio-net headers.
                let said = host.sh("uswitch stop 2>&1").ok();
                assert_eq!(said.contains("1 TAP device"), options.contains("vnet_hdr"), "{said}");
            }
            let closed = || host.run("ip -o link show tap0").ok().contains("NO-CARRIER");
            wait_until("the device is closed", closed);
            assert_eq!(device(host, flags), before, "{options}: {end}");
            if !end.contains("del") {
                host.run("uswitch start --detach --ports 1").ok();
            }
        }
    }
}

/// The program that has it open is behind the port, not the network device: here, a wire to a second TAP device.
#[test]
fn device_of_another_program_is_attached_as_an_existing_device() {
    let s = Uswitch::on(machine(""), "--ports 1");
    let host = s.host();
    host.run("ip link set tap0 nomaster").ok();
    let tap = |name: &str| format!("TUN,tun-name={name},tun-type=tap,iff-no-pi,iff-up");
    let _wire = host.spawn(&format!("socat {} {}", tap("tap0"), tap("wire")));
    wait_until("both devices are up", || host.sh("ip link show wire | grep -qw UP").succeeded());
    host.run("ip link set wire master br0").ok();
    let said = host.sh("uswitch port add vm --tap tap0 2>&1").ok();
    assert!(said.contains("another program has the device open"), "{said}");
    host.netns("container1").run(&format!("ping -n -c 1 -W 5 {LAN}")).ok();
}

#[test]
fn rejects_a_device_that_is_not_a_free_tap() {
    let s = Uswitch::on(machine(""), "--ports 1");
    let host = s.host();
    host.sh("ip tuntap add tun0 mode tun; ip tuntap add tap1 mode tap pi; ip tuntap add tap2 mode tap").ok();
    host.run("uswitch port add --tap tap0").ok();
    let before = host.run("uswitch port show").ok();
    for (device, words) in [
        ("missing", "no device named 'missing'"),
        ("eth1", "'eth1' is not a TAP device"),
        ("tun0", "'tun0' is not a TAP device"),
        ("tap0", "'tap0' is already a port"),
        ("uswitch0", "'uswitch0' is the device of the host port"),
        ("tap1", "has packet information before each frame"),
        ("not/a/name", "cannot name a network device"),
        ("tap2 --device eth1", "cannot be combined with"),
        ("tap9 --netns lan", "no device named 'tap9' in that namespace"),
        ("eth0 --netns lan", "'eth0' is not a TAP device"),
        ("tap0 --netns nowhere", "there is no network namespace /run/netns/nowhere"),
        ("tap2 --mtu 1400", "cannot be combined with"),
    ] {
        let error = host.run(&format!("uswitch port add new --tap {device}")).fails();
        assert!(error.contains(words) && error.trim().lines().count() == 1, "{error}");
    }
    assert_eq!(host.run("uswitch port show").ok(), before);
}

#[test]
fn port_follows_its_tap_device() {
    let s = Uswitch::on(machine(""), "--ports 1");
    let host = s.host();
    host.run("uswitch port add lab --tap tap0").ok();
    let state = |state: &'static str| {
        wait_until(state, || s.row("port show", "lab")["operstate"] == state);
    };
    state("UP");
    host.run("ip link set tap0 down").ok();
    state("DOWN");
    host.run("ip link set tap0 up").ok();
    state("UP");
    host.run("ip link del tap0").ok();
    state("NOTPRESENT");
    host.run("uswitch port del lab").ok();
}

/// A container whose device the switch did not create: it outlives the switch.
fn add_tap_container(host: &Host, name: &str, address: &str) {
    host.sh(&format!(
        "ip netns add {name}; ip -n {name} tuntap add eth0 mode tap vnet_hdr
         ip -n {name} address add {address} dev eth0; ip -n {name} link set eth0 up"
    ))
    .ok();
}

/// A TCP connection to a server that sends back what it receives.
struct Connection {
    _server: Process,
    client: Process,
}

impl Connection {
    fn open(client: &TestNetns, server: &TestNetns, address: &str) -> Connection {
        let listening = server.spawn("socat TCP-LISTEN:80,fork EXEC:cat");
        wait_until("the server listens", || server.run("ss -ltn").ok().contains(":80"));
        let socat = format!("mkfifo /run/typed; exec 4<>/run/typed; exec socat - TCP:{address}:80 <&4");
        let client = client.spawn_sh(&socat);
        Connection { _server: listening, client }
    }

    /// Sends a word, which comes back.
    fn exchange(&mut self, host: &Host, word: &str) {
        wait_until("the client runs", || host.sh("test -p /run/typed").succeeded());
        host.sh(&format!("echo {word} > /run/typed")).ok();
        self.client.line_with(word);
    }
}

/// A connection goes on while its container moves from one switch to another.
#[test]
fn device_of_a_deleted_port_is_kept_for_another_switch() {
    let host = Host::new();
    for (name, subnet) in [("one", "172.16.0.1/24"), ("two", "172.16.0.2/24")] {
        let options = "--ports 0 --no-gateway --fast-path off --workers 2";
        host.run(&format!("uswitch start --detach --name {name} {options}")).ok();
        let web = format!("ip netns add {name}; ip netns exec {name} ip link set lo up");
        host.sh(&web).ok();
        host.run(&format!("uswitch port add c --name {name} --netns {name} --ip {subnet}")).ok();
    }
    // A wire between the switches.
    host.run("uswitch port add wire --name one --socket /run/wire.sock --listen").ok();
    host.run("uswitch port add wire --name two --socket /run/wire.sock").ok();
    let [one, two] = ["one", "two"].map(|name| host.netns(name));
    let mut connection = Connection::open(&two, &one, "172.16.0.1");
    connection.exchange(&host, "one");
    host.run("uswitch port del c --name one --keep-device").ok();
    let kept = one.run("ip -details address show eth0").ok();
    assert!(
        kept.contains("172.16.0.1/24") && kept.contains("type tap") && kept.contains("persist on"),
        "{kept}"
    );
    host.run("uswitch port add --tap eth0 --netns one --name two").ok();
    connection.exchange(&host, "two");
    let left = host.run("uswitch port show --name one --json").json();
    assert!(left.as_array().is_some_and(|ports| ports.iter().all(|port| port["ifname"] != "c")), "{left}");
    ["one", "two"].iter().for_each(|name| _ = host.run(&format!("uswitch stop --name {name}")).ok());
    assert!(one.run("ip address show eth0").ok().contains("172.16.0.1/24"));
}

#[test]
fn device_that_ends_with_the_port_is_not_kept() {
    let host = Host::new();
    host.run("ip netns add web").ok();
    host.run("uswitch start --detach --ports 1").ok();
    host.run("uswitch port add web --netns web").ok();
    host.run("uswitch port add wire --socket /run/wire.sock --listen").ok();
    for (port, words) in [
        ("container1", "ends with its namespace"),
        ("web", "--fast-path off"),
        ("wire", "has no device"),
        ("host", "cannot be deleted"),
    ] {
        let refused = host.run(&format!("uswitch port del {port} --keep-device"));
        let said = refused.stderr.clone();
        refused.fails();
        assert!(said.contains(words) && said.lines().count() == 1, "{said}");
    }
    assert_eq!(host.run("uswitch port show --json").json().as_array().map(Vec::len), Some(4));
}

#[test]
fn device_in_a_container_outlives_the_switch() {
    for arguments in ["--ports 0", "--ports 0 --engine poll --workers 2"] {
        let host = Host::new();
        add_tap_container(&host, "web", "172.16.0.50/24");
        add_tap_container(&host, "db", "172.16.0.51/24");
        let start = || {
            host.run(&format!("uswitch start --detach {arguments}")).ok();
            for name in ["web", "db"] {
                let add = format!("uswitch port add --tap eth0 --netns {name}");
                // The kernel closes the queues of a killed switch some time later.
                wait_until("the device is free", || host.run(&add).succeeded());
            }
        };
        start();
        let [web, db] = ["web", "db"].map(|name| host.netns(name));
        let mut connection = Connection::open(&db, &web, "172.16.0.50");
        connection.exchange(&host, "one");
        host.run("pkill -KILL -x uswitch").ok();
        wait_until("the device has lost its queue", || {
            web.run("ip link show eth0").ok().contains("NO-CARRIER")
        });
        let address = web.run("ip -br address show eth0").ok();
        assert!(address.contains("172.16.0.50/24"), "{address}");
        start();
        connection.exchange(&host, "two");
        // The end of a named namespace is that of the port.
        host.run("ip netns del db").ok();
        let s = Uswitch::running(host);
        wait_until("the device is gone", || s.row("port show", "db")["operstate"] == "NOTPRESENT");
        s.host().run("uswitch port del db").ok();
        s.stop();
        let address = s.host().netns("web").run("ip -br address show eth0").ok();
        assert!(address.contains("172.16.0.50/24"), "{address}");
    }
}
