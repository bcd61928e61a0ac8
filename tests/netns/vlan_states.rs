//! The state of a port in a VLAN. This kernel's bridge has no VLANs: `make kernels` compares with one that has.

use serde_json::json;
use uswitch::wire::Mac;

use crate::harness::{
    Frame, Host, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch, end_marker, frame, mac, tagged,
};

const A: Mac = mac(0xa);
const B: Mac = mac(0xb);

/// container1 is in VLAN 10, container2 in VLAN 20. container3 is a trunk of both.
fn lab() -> (Uswitch, [TestNetns; 3]) {
    let s = Uswitch::with("--ports 3 --guard off --vlan-filtering");
    s.host().run("uswitch port set container1 --access 10").ok();
    s.host().run("uswitch port set container2 --access 20").ok();
    s.host().run("uswitch port set container3 --trunk 10,20").ok();
    let containers = s.containers();
    (s, containers)
}

fn set(s: &Uswitch, port: &str, vlan: &str, state: &str) {
    s.host().run(&format!("uswitch vlan set {port} {vlan} --state {state}")).ok();
}

/// In both directions, and the other VLAN of the trunk works on.
#[test]
fn blocks_one_vlan_of_a_trunk() {
    let (s, [h1, h2, h3]) = lab();
    let broadcast = |text: &str| frame(Mac::BROADCAST, A, text);
    let (ten, twenty) = (broadcast("in 10"), broadcast("in 20"));
    set(&s, "container3", "10", "blocking");
    let (access10, access20) = (h1.capture("eth0", TEST_FRAMES), h2.capture("eth0", TEST_FRAMES));
    let last = end_marker();
    h3.send(&[tagged(&ten, 10), tagged(&twenty, 20), tagged(&last, 20)]);
    assert_eq!(access20.until(&last), [twenty]);
    assert_eq!(s.drops("container3", "ingress_vlan_state"), 1);
    let learned_in = |vid: u16| s.json(&format!("fdb show --mac {A} --vlan {vid}")).as_array().map(Vec::len);
    assert_eq!((learned_in(10), learned_in(20)), (Some(0), Some(1)));
    // The other direction: not a frame of VLAN 10 between those of VLAN 20.
    let trunk = h3.capture("eth0", TEST_FRAMES);
    h1.send(&[frame(Mac::BROADCAST, B, "in 10")]);
    s.wait_until_learned(B, &h1);
    let last = end_marker();
    h2.send(std::slice::from_ref(&last));
    assert_eq!(trunk.until(&tagged(&last, 20)), Vec::<Frame>::new());
    // Nothing was flooded to the access port but what follows.
    set(&s, "container3", "10", "forwarding");
    h3.send(&[tagged(&last, 10)]);
    assert_eq!(access10.until(&last), Vec::<Frame>::new());
}

/// A port that only learns, in the table, JSON, trace, events and metrics.
#[test]
fn states_are_shown_explained_and_reported() {
    let (s, [_, _, h3]) = lab();
    set(&s, "container3", "20", "learning");
    h3.send(&[tagged(&frame(Mac::BROADCAST, A, "learned"), 20)]);
    s.wait_until_learned(A, &h3);
    assert_eq!(
        s.json("vlan show container3"),
        json!([{"ifname": "container3", "vlans": [{"vlan": 10}, {"vlan": 20, "state": "learning"}]}])
    );
    let table = s.host().run("uswitch vlan show container3").ok();
    assert!(table.contains("STATE") && table.contains("20                    learning"), "{table}");
    let trace = s.host().run("uswitch trace container3 --dst broadcast --vlan 20").ok();
    assert!(
        trace.contains("dropped: the port does not forward in the frame's VLAN (ingress_vlan_state"),
        "{trace}"
    );
    let trace = s.host().run(&format!("uswitch trace container2 --dst {A}")).ok();
    assert!(trace.contains("the port does not forward in the frame's VLAN (egress_vlan_state"), "{trace}");
    let events = s.host().run("uswitch events container3 --type port_changed").ok();
    assert!(events.contains("VLANs: 10, 20 learning"), "{events}");
}

#[test]
fn bad_states_change_nothing() {
    let (s, _) = lab();
    let before = s.json("vlan show");
    for (command, words) in [
        ("vlan set container3 10-20 --state blocking", "container3 is not a member of VLAN 11"),
        ("vlan set container1 4095 --state blocking", "VLAN 4095 does not exist"),
        ("vlan set container1 10 --state open", "'open' is not one of disabled, listening"),
        ("vlan set nobody 10 --state blocking", "no port named nobody"),
    ] {
        let error = s.host().run(&format!("uswitch {command}")).fails();
        assert!(error.contains(words), "{command}: {error}");
    }
    assert_eq!(s.json("vlan show"), before);
    s.stop();
    let s = Uswitch::with("--ports 1 --vlan-filtering --stp rstp");
    let error = s.host().run("uswitch vlan set container1 1 --state blocking").fails();
    assert!(
        error.contains("the spanning tree sets the states of ports") && error.lines().count() == 1,
        "{error}"
    );
}

#[test]
fn configuration_file_has_states() {
    let host = Host::new();
    let file = |state: &str| {
        format!(
            "printf '%s\\n' 'ports = 2' 'vlan-filtering = true' '[port.container1]' \
             'vlan = {{ trunk = [\"10-20\"], state = {{ {state} }} }}' > /run/lab.toml"
        )
    };
    host.sh(&file("\"21\" = \"blocking\"")).ok();
    let error = host.run("uswitch start --detach --config /run/lab.toml").fails();
    assert!(error.contains("the port is not a member of VLAN 21: omit its state there"), "{error}");
    host.sh(&file("\"10-12\" = \"blocking\", \"20\" = \"learning\"")).ok();
    let error = host.run("uswitch start --detach --config /run/lab.toml --stp stp").fails();
    assert!(error.contains("the spanning tree sets the states of ports"), "{error}");
    host.run("uswitch start --detach --config /run/lab.toml").ok();
    let s = Uswitch::running(host);
    assert_eq!(
        s.json("vlan show container1")[0]["vlans"],
        json!([
            {"vlan": 10, "vlanEnd": 12, "state": "blocking"},
            {"vlan": 13, "vlanEnd": 19},
            {"vlan": 20, "state": "learning"},
        ])
    );
}
