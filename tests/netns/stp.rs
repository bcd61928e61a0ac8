//! The spanning tree with the kernel's own bridge at the other end of two cables.

use serde_json::Value;

use crate::harness::{Shell, TestSwitch, Uswitch, v4, wait_until};

/// The shortest times of the standard, so that STP takes 8 s.
const START: &str = "--ports 3 --guard off --stp --hello-time 1 --forward-delay 4 --max-age 6";
/// The container with the bridge, and the port of its second device.
const FIRST: &str = "container3";
const SECOND: &str = "second";

/// A switch, and a bridge with STP and this priority over both devices of container3.
fn with_bridge(options: &str, priority: u32) -> Uswitch {
    let s = Uswitch::with(&format!("{START} {options}"));
    let h3 = s.host().netns(FIRST);
    s.host().run(&format!("uswitch port add {SECOND} --netns {FIRST} --shared-netns --ifname eth1")).ok();
    h3.sh(&format!(
        "ip link add br9 type bridge stp_state 1 priority {priority} hello_time 100 forward_delay 400 max_age 600
ip address flush dev eth0
ip address flush dev eth1
ip address add {}/24 dev br9
ip link set eth0 master br9
ip link set eth1 master br9
ip link set br9 up",
        v4(3)
    ))
    .ok();
    s
}

fn stp(s: &Uswitch, port: &str) -> Value {
    let report = s.json("stp show");
    let ports = report[0]["ports"].as_array().expect("ports");
    ports.iter().find(|row| row["ifname"] == port).expect("the port").clone()
}

fn role_and_state(s: &Uswitch, port: &str) -> [String; 2] {
    let row = stp(s, port);
    ["role", "state"].map(|key| row[key].as_str().expect("a text").to_owned())
}

fn kernel_state(s: &Uswitch, device: &str) -> String {
    let links = s.host().netns(FIRST).run("bridge -j link show").json();
    let links = links.as_array().expect("links").clone();
    let link = links.iter().find(|link| link["ifname"] == device).expect("the device");
    link["state"].as_str().expect("a state").to_owned()
}

fn wait_for_ping(s: &Uswitch) {
    let [h1, ..] = s.containers();
    wait_until("the bridge is reached", || h1.run(&format!("ping -n -c 1 -W 1 {}", v4(3))).succeeded());
}

#[test]
fn kernel_bridge_as_root() {
    let s = with_bridge("", 4096);
    wait_until("the root port forwards", || role_and_state(&s, FIRST) == ["root", "forwarding"]);
    assert_eq!(role_and_state(&s, SECOND), ["alternate", "blocking"]);
    let report = s.json("stp show");
    assert_eq!((&report[0]["root_port"], &report[0]["root_path_cost"]), (&FIRST.into(), &100.into()));
    // The kernel speaks only STP. A port finds that out after the migration delay of three seconds.
    wait_until("the port speaks STP", || stp(&s, FIRST)["protocol"] == "stp");
    assert_eq!(s.row("port show", SECOND)["state"], "blocking");
    wait_for_ping(&s);
    // The cable of the root port is cut: the other port takes over at once.
    s.host().run(&format!("uswitch port set {FIRST} --down")).ok();
    assert_eq!(role_and_state(&s, SECOND), ["root", "forwarding"]);
    wait_for_ping(&s);
    s.host().run(&format!("uswitch port set {FIRST} --up")).ok();
    wait_until("it is the root port again", || role_and_state(&s, FIRST) == ["root", "forwarding"]);
    assert_eq!(role_and_state(&s, SECOND), ["alternate", "blocking"]);
    wait_for_ping(&s);
    let events = s.host().run("uswitch events --type stp_root,stp_state,topology_change").ok();
    assert!(events.contains("forwarding") && events.contains("cost 100"), "{events}");
}

#[test]
fn kernel_bridge_not_as_root() {
    let s = with_bridge("--priority 4096", 32768);
    wait_until("the bridge blocks a port", || kernel_state(&s, "eth1") == "blocking");
    wait_until("the other one forwards", || kernel_state(&s, "eth0") == "forwarding");
    assert!(s.json("stp show")[0].get("root_port").is_none(), "this switch is the root");
    for port in [FIRST, SECOND] {
        wait_until("both forward", || role_and_state(&s, port) == ["designated", "forwarding"]);
    }
    wait_for_ping(&s);
    s.host().run(&format!("uswitch port set {FIRST} --down")).ok();
    wait_until("the other one forwards", || kernel_state(&s, "eth1") == "forwarding");
    wait_for_ping(&s);
}

/// Two ports of one bridge without STP that forwards BPDUs: the switch hears itself.
#[test]
fn blocks_a_loop_through_a_bridge_without_stp() {
    let s = with_bridge("", 32768);
    s.host().netns(FIRST).run("ip link set br9 type bridge stp_state 0").ok();
    wait_until("one port is backup", || {
        let mut roles = [FIRST, SECOND].map(|port| role_and_state(&s, port));
        roles.sort();
        roles == [["backup", "blocking"], ["designated", "forwarding"]]
    });
    wait_for_ping(&s);
}

#[test]
fn guards_and_settings() {
    let s = with_bridge("", 4096);
    wait_until("the root port forwards", || role_and_state(&s, FIRST) == ["root", "forwarding"]);
    s.host().run(&format!("uswitch port set {FIRST} --cost 200")).ok();
    wait_until("the cheaper port is root", || role_and_state(&s, SECOND)[0] == "root");
    s.host().run(&format!("uswitch port set {SECOND} --root-block on")).ok();
    wait_until("it may not be", || stp(&s, SECOND)["root_blocked"] == true);
    assert_eq!(role_and_state(&s, FIRST)[0], "root");
    s.host().run(&format!("uswitch port set {FIRST} --bpdu-guard on")).ok();
    wait_until("a BPDU disables it", || stp(&s, FIRST)["guard_tripped"] == true);
    assert_eq!(s.row("port show", FIRST)["state"], "disabled");
    let table = s.host().run("uswitch stp show").ok();
    assert!(table.contains("disabled by BPDU guard") && table.contains("blocked by root guard"), "{table}");
    for (setting, error) in [
        ("--cost 0", "path cost 0 is not in the range 1 to 200000000"),
        ("--priority 3", "port priority 3 is not a multiple of 4 from 0 to 60"),
    ] {
        let said = s.host().run(&format!("uswitch port set {FIRST} {setting} --bpdu-guard off")).fails();
        assert!(said.contains(error), "{said}");
        assert_eq!(stp(&s, FIRST)["guard"], true, "nothing is changed");
    }
}

#[test]
fn shows_that_it_is_off() {
    let s = Uswitch::start();
    let said = s.host().run("uswitch stp show").fails();
    assert!(said.contains("the spanning tree is off"), "{said}");
    let said = s.host().run("uswitch start --name lab2 --priority 4096").fails();
    assert!(said.contains("--priority") && said.contains("no effect without the spanning tree"), "{said}");
    let said = s.host().run("uswitch start --name lab2 --stp --forward-delay 4").fails();
    assert!(said.contains("max age 20 needs to be between 6"), "{said}");
}
