//! The carrier of a port: cut by `port set --down`, or by another program.

use std::fs;

use crate::harness::{
    Host, Shell, TestNetns, TestSwitch, Uswitch, host_with_public_tun, run_as_user, v4, v6, wait_until,
};

/// Addresses and routes of a container, without what depends on the carrier.
fn addresses_and_routes(h: &TestNetns) -> String {
    let shown = h.sh("ip -o address show dev eth0 scope global; ip route; ip -6 route").ok();
    shown.replace(" linkdown", "").replace(" tentative", "")
}

fn carrier(h: &TestNetns) -> String {
    h.run("cat /sys/class/net/eth0/carrier").ok().trim().to_owned()
}

#[test]
fn port_set_down_keeps_addresses_and_routes() {
    let s = Uswitch::with("--ports 2");
    let (host, [h1, h2]) = (s.host(), [1, 2].map(|n| s.host().netns(&format!("container{n}"))));
    let before = addresses_and_routes(&h2);
    let shown = host.run("uswitch port set container2 --down").ok();
    assert!(shown.contains("down (set down)"), "{shown}");
    assert_eq!(carrier(&h2), "0");
    assert_eq!(addresses_and_routes(&h2), before);
    let port = s.row("port show", "container2");
    assert_eq!((&port["admin_state"], &port["operstate"]), (&"down".into(), &"DOWN".into()));
    assert_eq!((&port["state"], &port["flags"][0]), (&"disabled".into(), &"NO-CARRIER".into()));
    // A static entry is not flushed, so a frame is for the port, which does not get it.
    host.run(&format!("uswitch fdb add {} container2", h2.mac())).ok();
    h1.run(&format!("ip neigh replace {} lladdr {} dev eth0 nud permanent", v4(2), h2.mac())).ok();
    h1.run(&format!("ping -n -c 1 -W 1 {}", v4(2))).fails();
    assert_eq!(s.drops("container2", "egress_down"), 1);
    host.run("uswitch port set container2 --up").ok();
    assert_eq!(carrier(&h2), "1");
    assert_eq!(addresses_and_routes(&h2), before);
    for address in [v4(2), v6(2)] {
        h1.run(&format!("ping -n -c 1 -W 5 {address}")).ok();
    }
    let events = host.run("uswitch events container2 --type port_down,port_up --json").ok();
    assert!(events.contains(r#""type":"port_down","ifname":"container2","reason":"admin_down""#), "{events}");
    assert!(events.contains(r#""type":"port_up""#), "{events}");
}

#[test]
fn port_set_down_works_without_root() {
    let host = host_with_public_tun();
    run_as_user(&host, "uswitch start --detach --ports 2").ok();
    let shown = |what: &str| run_as_user(&host, &format!("uswitch exec container2 -- ip {what}")).ok();
    run_as_user(&host, "uswitch port set container2 --down").ok();
    assert!(shown("link show dev eth0").contains("NO-CARRIER"));
    assert!(shown("address show dev eth0").contains(&v4(2)));
    run_as_user(&host, &format!("uswitch exec container1 -- ping -n -c 1 -W 1 {}", v4(2))).fails();
    run_as_user(&host, "uswitch port set container2 --up").ok();
    run_as_user(&host, &format!("uswitch exec container1 -- ping -n -c 1 -W 5 {}", v4(2))).ok();
    run_as_user(&host, "uswitch stop").ok();
}

/// The host port loses its carrier too, and the host keeps the gateway's addresses.
#[test]
fn host_port_can_be_set_down() {
    let s = Uswitch::with("--ports 1");
    s.host().run("uswitch port set host --down").ok();
    assert!(s.host().run("ip -br address show dev uswitch0").ok().contains("172.16.0.1/24"));
    s.host().netns("container1").run("ping -n -c 1 -W 1 -s 2000 172.16.0.1").fails();
    s.host().run("uswitch port set host --up").ok();
    s.host().netns("container1").run("ping -n -c 1 -W 5 -s 2000 172.16.0.1").ok();
}

/// The container can turn the carrier of a TAP device off, and not that of a veth pair.
#[test]
fn carrier_changes_of_others_are_shown() {
    let s = Uswitch::with("--ports 2 --fast-path off");
    let (host, h1) = (s.host(), s.host().netns("container1"));
    let operstate = |value: &str| {
        wait_until(&format!("the port is {value}"), || {
            s.row("port show", "container1")["operstate"] == value
        });
    };
    h1.run("ip link set eth0 carrier off").ok();
    operstate("DOWN");
    assert!(host.run("uswitch port show container1").ok().contains("down (no carrier)"));
    let events = host.run("uswitch events container1 --type port_down").ok();
    assert!(events.contains("its device has no carrier"), "{events}");
    h1.run("ip link set eth0 carrier on").ok();
    operstate("UP");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
}

/// Else a container could undo what the user has set.
#[test]
fn container_cannot_turn_the_carrier_of_a_port_that_is_down_on() {
    let s = Uswitch::with("--ports 2 --fast-path off");
    let (host, h1) = (s.host(), s.host().netns("container1"));
    host.run("uswitch port set container1 --down").ok();
    h1.run("ip link set eth0 carrier on").ok();
    wait_until("the carrier is off again", || carrier(&h1) == "0");
    wait_until("the event is there", || {
        host.run("uswitch events container1 --type port_changed").ok().contains("restored: carrier")
    });
    h1.run(&format!("ping -n -c 1 -W 1 {}", v4(2))).fails();
    assert_eq!(s.row("port show", "container1")["admin_state"], "down");
}

#[test]
fn configuration_file_sets_ports_down() {
    let host = Host::new();
    let file = "ports = 2\n[port.container2]\nadmin-state = 'down'\n[port.later]\nadmin-state = 'down'\n";
    fs::write(host.path("/run/lab.toml"), file).expect("/run is writable");
    let s = Uswitch::on(host, "--config /run/lab.toml");
    let state = |port: &str| s.row("port show", port)["admin_state"].as_str().map(str::to_owned);
    assert_eq!(state("container1").as_deref(), Some("up"));
    assert_eq!(state("container2").as_deref(), Some("down"));
    s.host().run("uswitch port add later").ok();
    assert_eq!(state("later").as_deref(), Some("down"));
    assert_eq!(carrier(&s.host().netns("later")), "0");
}

#[test]
fn refuses_settings_without_changing_any() {
    let s = Uswitch::with("--ports 2");
    let host = s.host();
    let fails = |arguments: &str, message: &str| {
        let said = host.run(&format!("uswitch port set {arguments}")).fails();
        assert!(said.trim().lines().count() == 1 && said.contains(message), "{said}");
    };
    fails("container1", "missing an option that says what to change");
    fails("container1 --up --down", "--down");
    fails("container9 --down", "container9");
    fails("host --down --guard on", "the host port has no guard");
    assert_eq!(s.row("port show", "host")["admin_state"], "up");
    host.run("ip netns del container1").ok();
    wait_until("the device is gone", || s.row("port show", "container1")["operstate"] == "NOTPRESENT");
    fails("container1 --down --guard off", "is gone");
    assert_eq!(s.row("port show", "container1")["source_guard"], true);
}
