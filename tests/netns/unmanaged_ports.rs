//! Ports whose devices another program moves and configures, as container runtimes do.

use serde_json::Value;

use crate::harness::{Shell, TestNetns, TestSwitch, Uswitch, v4, wait_until};

/// With the kernel fast path the device is the end of a veth pair, without it is a TAP device.
const BOTH: [&str; 2] = ["--ports 1", "--ports 1 --fast-path off"];

/// A port for an engine: its device is on the host, or where `arguments` say.
fn add(s: &Uswitch, arguments: &str) -> String {
    let port = s.host().run(&format!("uswitch port add web --unmanaged --json {arguments}")).json();
    assert_eq!((&port["unmanaged"], &port["operstate"]), (&true.into(), &"DOWN".into()), "{port}");
    port["link"].as_str().expect("a name").to_owned()
}

/// What an engine does with the device: it moves and renames it, gives it an address, and sets it up.
fn configure(s: &Uswitch, device: &str, container: &TestNetns, address: &str) {
    s.host().run(&format!("ip link set {device} netns {}", container.name())).ok();
    container.run(&format!("ip link set {device} name eth0")).ok();
    container.run(&format!("ip address add {address} dev eth0")).ok();
    container.run("ip link set eth0 up").ok();
    wait_until("the port is up, with the name and the address that the engine chose", || {
        let port = s.row("port show", "web");
        port["operstate"] == "UP" && port["link"] == "eth0" && port["addresses"][0] == address
    });
    container.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    wait_until("the device has no queueing discipline", || {
        container.run("tc qdisc show dev eth0").ok().starts_with("qdisc noqueue")
    });
}

fn new_netns(s: &Uswitch, name: &str) -> TestNetns {
    s.host().run(&format!("ip netns add {name}")).ok();
    s.host().netns(name)
}

#[test]
fn engine_moves_and_configures_the_device() {
    for arguments in BOTH {
        let s = Uswitch::with(arguments);
        let host = s.host();
        let device = add(&s, "");
        let port = s.row("port show", "web");
        assert_eq!(
            device,
            format!("us{}", port["address"].as_str().expect("a MAC address").replace(':', ""))
        );
        assert_eq!((&port["addresses"], &port["netns"]), (&Value::Array(Vec::new()), &Value::Null), "{port}");
        let link = host.run(&format!("ip -br link show {device}")).ok();
        assert!(link.contains(" DOWN "), "{link}");
        let container = new_netns(&s, "web");
        configure(&s, &device, &container, "172.16.0.50/24");
        host.run("uswitch port set web --down").ok();
        wait_until("the device has no carrier", || {
            container.run("ip link show eth0").ok().contains("NO-CARRIER")
        });
        assert!(
            container.run("ip address show eth0").ok().contains("172.16.0.50/24"),
            "it keeps its address"
        );
        host.run("uswitch port set web --up").ok();
        container.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
        // As Docker does when the container ends, and when it is started again.
        container.run("ip link set eth0 down").ok();
        container.run(&format!("ip link set eth0 name {device}")).ok();
        container.run(&format!("ip link set {device} netns 1")).ok();
        wait_until("the port is down", || s.row("port show", "web")["operstate"] == "DOWN");
        configure(&s, &device, &new_netns(&s, "again"), "172.16.0.51/24");
        assert_eq!(host.run("uswitch events --json --type port_gone").ok(), "");
        host.run("ip netns del again").ok();
        wait_until("the device is gone", || s.row("port show", "web")["operstate"] == "NOTPRESENT");
        host.run("uswitch port del web").ok();
        s.stop();
    }
}

#[test]
fn deleted_device_is_gone_and_replaced() {
    for arguments in BOTH {
        let s = Uswitch::with(arguments);
        let device = add(&s, "--ip 172.16.0.50/24 --guard");
        s.host().run("uswitch port set web --fdb-max-learned 7").ok();
        s.host().run(&format!("ip link del {device}")).ok();
        wait_until("the device is gone", || s.row("port show", "web")["operstate"] == "NOTPRESENT");
        // Its MAC address, and so the device's name, its addresses and its settings stay.
        assert_eq!(add(&s, "--replace"), device);
        let port = s.row("port show", "web");
        assert_eq!((&port["fdb_max_learned"], &port["source_guard"]), (&7.into(), &true.into()), "{port}");
        let container = new_netns(&s, "web");
        configure(&s, &device, &container, "172.16.0.50/24");
        container.run("ip address add 172.16.0.77/24 dev eth0").ok();
        container.run(&format!("ping -n -c 1 -W 1 -I 172.16.0.77 {}", v4(1))).fails();
        assert!(
            s.drops("web", "spoofed_ip") + s.drops("web", "spoofed_arp") > 0,
            "{}",
            s.row("stats", "web")
        );
        s.host().run("uswitch port del web").ok();
        container.run("ip link show eth0").fails();
    }
}

/// Another host still has the addresses at the MAC address of a container that ended.
#[test]
fn addresses_of_the_engine_are_announced() {
    for arguments in BOTH {
        let s = Uswitch::with(arguments);
        let (host, h1) = (s.host(), s.host().netns("container1"));
        let addresses = ["172.16.0.50", "fd00:172:16::50"];
        for address in addresses {
            h1.run(&format!("ip neigh replace {address} lladdr 02:00:5e:00:53:01 dev eth0 nud reachable"))
                .ok();
        }
        let device = add(&s, "--mac 02:00:5e:00:53:99");
        let container = new_netns(&s, "web");
        host.run(&format!("ip link set {device} netns web")).ok();
        container.run(&format!("ip address add 172.16.0.50/24 dev {device}")).ok();
        container.run(&format!("ip link set {device} up")).ok();
        container.run(&format!("ip address add fd00:172:16::50/64 dev {device} nodad")).ok();
        for address in addresses {
            wait_until("container1 knows the new MAC address", || {
                h1.run(&format!("ip neigh show {address}")).ok().contains("02:00:5e:00:53:99")
            });
        }
    }
}

/// The namespace is that of the command, or that of an engine that runs in another one.
#[test]
fn device_is_created_in_the_namespace_of_the_engine() {
    for arguments in BOTH {
        let s = Uswitch::with(arguments);
        let host = s.host();
        let engine = new_netns(&s, "engine");
        engine.run("uswitch port add one --unmanaged --ifname lan1").ok();
        host.run("uswitch port add two --unmanaged --ifname lan2 --netns engine").ok();
        host.run("uswitch port add three --unmanaged --ifname lan3 --netns 1").ok();
        assert_eq!(s.row("port show", "two")["netns"], "/run/netns/engine");
        assert_eq!(s.row("port show", "three")["netns"], Value::Null);
        for (place, device) in [(&engine as &dyn Shell, "lan1"), (&engine, "lan2"), (host, "lan3")] {
            let link = place.run(&format!("ip -br link show {device}")).ok();
            assert!(link.contains(" DOWN "), "{link}");
        }
        s.stop();
        assert!(!engine.run("ip link").ok().contains("lan"));
        assert!(!host.run("ip link").ok().contains("lan"));
    }
}

#[test]
fn refused_device_leaves_nothing() {
    for arguments in BOTH {
        let s = Uswitch::with(arguments);
        let host = s.host();
        host.run("ip tuntap add taken mode tap").ok();
        new_netns(&s, "engine").run("ip tuntap add taken mode tap").ok();
        let before = (s.json("port show"), host.run("ip -br link").ok());
        for (wrong, words) in [
            ("--ifname taken", "a device named 'taken' already exists on this host: choose another --ifname"),
            ("--ifname taken --netns engine", "'taken' already exists in /run/netns/engine"),
            ("--ifname a/b", "cannot name a network device"),
            ("--netns nowhere", "nowhere"),
            ("--mac 01:00:5e:00:00:01", "group address"),
            (&format!("--ip {}/24", v4(1)), "in use by container1"),
            ("--device lo", "cannot be combined with"),
        ] {
            let said = host.run(&format!("uswitch port add web --unmanaged {wrong}")).fails();
            assert!(said.contains(words) && said.trim().lines().count() == 1, "{wrong}: {said}");
        }
        assert_eq!((s.json("port show"), host.run("ip -br link").ok()), before);
    }
}
