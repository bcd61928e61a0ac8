//! VLANs: access ports, trunks, priority tags, and the commands that show and change them. Not every kernel has VLAN
//! devices, so the frames of the trunk are raw ones.

use serde_json::json;
use uswitch::wire::Mac;

use crate::harness::{
    Frame, GATEWAY_V4, Host, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch, end_marker, frame, mac,
    tagged, v4, wait_until,
};

const A: Mac = mac(0xa);
const B: Mac = mac(0xb);

/// container1 is in VLAN 10, container2 in VLAN 20. container3 is a trunk of both.
fn lab(arguments: &str) -> (Uswitch, [TestNetns; 3]) {
    let s = Uswitch::with(&format!("--ports 3 --guard off --vlan-filtering {arguments}"));
    s.host().run("uswitch port set container1 --access 10").ok();
    s.host().run("uswitch port set container2 --access 20").ok();
    s.host().run("uswitch port set container3 --trunk 10,20").ok();
    let containers = s.containers();
    (s, containers)
}

/// Sends frames from a trunk, and a last one in each VLAN. Returns what the access ports of the VLANs get before it.
fn seen_from_trunk(trunk: &TestNetns, frames: &[Frame], ports: [(&TestNetns, u16); 2]) -> [Vec<Frame>; 2] {
    let captures = ports.map(|(port, _)| port.capture("eth0", TEST_FRAMES));
    let last = end_marker();
    trunk.send(&[frames, &ports.map(|(_, vid)| tagged(&last, vid))].concat());
    captures.each_ref().map(|capture| capture.until(&last))
}

/// What the trunk gets of frames from an access port of this VLAN.
fn seen_on_trunk(port: &TestNetns, frames: &[Frame], trunk: &TestNetns, vid: u16) -> Vec<Frame> {
    let capture = trunk.capture("eth0", TEST_FRAMES);
    let last = end_marker();
    port.send(&[frames, std::slice::from_ref(&last)].concat());
    capture.until(&tagged(&last, vid))
}

fn keeps_vlans_apart(engine: &str) {
    let (s, [h1, h2, h3]) = lab(engine);
    let broadcast = |text: &str| frame(Mac::BROADCAST, A, text);
    let [ten, twenty, thirty, none] = ["in 10", "in 20", "in 30", "in none"].map(broadcast);
    let sent = [tagged(&ten, 10), tagged(&twenty, 20), tagged(&thirty, 30), none.clone(), tagged(&none, 0)];
    assert_eq!(seen_from_trunk(&h3, &sent, [(&h1, 10), (&h2, 20)]), [vec![ten.clone()], vec![twenty]]);
    assert_eq!(s.drops("container3", "vlan_not_member"), 1);
    // The container sends frames of its own.
    assert!(s.drops("container3", "no_pvid") >= 2);
    assert_eq!(seen_on_trunk(&h1, std::slice::from_ref(&ten), &h3, 10), [tagged(&ten, 10)]);
    // A priority tag, and the tag of another VLAN.
    let sent = [tagged(&ten, 0xe000), tagged(&ten, 20)];
    assert_eq!(seen_on_trunk(&h1, &sent, &h3, 10), [tagged(&ten, 0xe00a)]);
    assert_eq!(s.drops("container1", "vlan_not_member"), 1);
}

#[test]
fn keeps_vlans_apart_with_io_uring() {
    keeps_vlans_apart("--engine auto");
}

#[test]
fn keeps_vlans_apart_with_poll() {
    keeps_vlans_apart("--engine poll");
}

#[test]
fn floods_a_frame_with_and_without_its_tag() {
    let (s, [h1, _, h3]) = lab("");
    for port in ["four", "five"] {
        s.host().run(&format!("uswitch port add {port} --access 10")).ok();
    }
    let [h4, h5] = ["four", "five"].map(|name| s.host().netns(name));
    let captures = [&h1, &h4, &h5].map(|h| h.capture("eth0", TEST_FRAMES));
    let frames: Vec<Frame> = (0..100).map(|n| frame(Mac::BROADCAST, A, &format!("frame {n}"))).collect();
    let sent: Vec<Frame> = frames.iter().map(|frame| tagged(frame, 10)).collect();
    let last = end_marker();
    h3.send(&[&sent[..], &[tagged(&last, 10)]].concat());
    for capture in captures {
        assert_eq!(capture.until(&last), frames);
    }
    let trunk = h3.capture("eth0", TEST_FRAMES);
    let access = h4.capture("eth0", TEST_FRAMES);
    let last = end_marker();
    h1.send(&[&frames[..], std::slice::from_ref(&last)].concat());
    assert_eq!(trunk.until(&tagged(&last, 10)), sent);
    assert_eq!(access.until(&last), frames);
}

#[test]
fn an_address_has_an_entry_in_each_vlan() {
    let (s, [h1, h2, h3]) = lab("");
    h3.send(&[tagged(&frame(Mac::BROADCAST, A, "here"), 20)]);
    s.wait_until_learned(A, &h3);
    h1.send(&[frame(Mac::BROADCAST, A, "and here")]);
    let entries = || s.json(&format!("fdb show --mac {A}"));
    wait_until("both are there", || entries().as_array().is_some_and(|all| all.len() == 2));
    let vlans = |vid: u16| s.json(&format!("fdb show --mac {A} --vlan {vid}"))[0]["ifname"].clone();
    assert_eq!([vlans(10), vlans(20)], ["container1", "container3"]);
    let to_a = frame(A, B, "to the one in 20");
    assert_eq!(seen_on_trunk(&h2, std::slice::from_ref(&to_a), &h3, 20), [tagged(&to_a, 20)]);
    // The entry is flushed with the membership.
    s.host().run("uswitch vlan del container3 20").ok();
    assert_eq!(entries().as_array().map(Vec::len), Some(1));
    let table = s.host().run("uswitch fdb show container1").ok();
    assert!(table.starts_with("MAC                PORT        VLAN  STATE"), "{table}");
    s.host().run(&format!("uswitch fdb add {B} container1")).ok();
    let error = s.host().run(&format!("uswitch fdb add {B} container1 --vlan 20")).fails();
    assert!(error.contains("container1 is not a member of VLAN 20"), "{error}");
    assert_eq!(s.json(&format!("fdb show --mac {B} container1"))[0]["vlan"], 10);
}

#[test]
fn gateway_is_in_the_vlan_of_the_host_port() {
    let (s, [h1, h2, _]) = lab("");
    h1.run(&format!("ping -n -c 1 -W 1 {GATEWAY_V4}")).fails();
    s.host().run("uswitch port set host --access 10").ok();
    h1.run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
    s.host().run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    h2.run(&format!("ping -n -c 1 -W 1 {GATEWAY_V4}")).fails();
    let entries = s.json("fdb show host");
    let permanent: Vec<_> = entries
        .as_array()
        .into_iter()
        .flatten()
        .filter(|entry| entry["state"] == "permanent")
        .map(|entry| entry["vlan"].clone())
        .collect();
    assert_eq!(permanent, [json!(10)]);
    s.host().run("uswitch port set host --access 20").ok();
    h2.run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
}

#[test]
fn containers_of_a_vlan_reach_each_other() {
    let (s, [h1, _, _]) = lab("");
    s.host().run("uswitch port add four --access 10").ok();
    let h4 = s.host().netns("four");
    let address = h4.run("ip -o -4 addr show dev eth0").ok();
    let address = address.split_whitespace().nth(3).and_then(|cidr| cidr.split('/').next());
    h1.run(&format!("ping -n -c 1 -W 5 {}", address.expect("it has one"))).ok();
    h1.run(&format!("ping -n -c 1 -W 1 {}", v4(2))).fails();
}

/// Not for a moment: container1 floods another VLAN all the time.
#[test]
fn new_port_is_in_no_other_vlan() {
    let s = Uswitch::with("--ports 1 --guard off --vlan-filtering");
    let _flood = s.host().netns("container1").spawn("ping -q -b -i 0.0005 172.16.0.255");
    wait_until("the flood has begun", || s.count("container1", "rx_frames") > 100);
    for n in 0..20 {
        let port = format!("new{n}");
        s.host().run(&format!("uswitch port add {port} --access 20")).ok();
        assert_eq!(s.count(&port, "tx_frames"), s.count(&port, "injected"), "{port}");
        s.host().run(&format!("uswitch port del {port}")).ok();
    }
}

#[test]
fn vlan_show_has_the_format_of_bridge() {
    let (s, _) = lab("--vlan-default-pvid 5");
    let access = |vid: u16| json!([{"vlan": vid, "flags": ["PVID", "Egress Untagged"]}]);
    let expected = json!([
        {"ifname": "host", "vlans": access(5)},
        {"ifname": "container1", "vlans": access(10)},
        {"ifname": "container2", "vlans": access(20)},
        {"ifname": "container3", "vlans": [{"vlan": 10}, {"vlan": 20}]},
    ]);
    assert_eq!(s.json("vlan show"), expected);
    s.host().run("uswitch vlan add container3 30-4094").ok();
    s.host().run("uswitch vlan add container3 7 --pvid --untagged").ok();
    s.host().run("uswitch vlan del container3 31-4093").ok();
    assert_eq!(
        s.host().run("uswitch vlan show container3").ok(),
        "PORT        VLAN  PVID  UNTAGGED\n\
         container3  7     yes   yes\n            \
         10\n            20\n            30\n            4094\n"
    );
    assert_eq!(s.json("vlan show --vid 20").as_array().map(Vec::len), Some(2));
    let events = s.host().run("uswitch events container3 --type port_changed").ok();
    assert!(events.contains("VLANs: 7 PVID Egress Untagged, 10, 20, 30, 4094"), "{events}");
}

/// The counters of a VLAN: in the JSON of `bridge -s -j vlan show`, as a table, and as metrics.
#[test]
fn counts_frames_of_each_vlan() {
    let (s, [h1, _, h3]) = lab("");
    let counts = |port: usize, vid: u16| {
        let report = s.json("vlan show --statistics");
        let vlans = report[port]["vlans"].as_array().expect("its VLANs").clone();
        let of = vlans.iter().find(|vlan| vlan["vid"] == vid).expect("it is a member").clone();
        ["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"].map(|key| of[key].as_u64().expect("a number"))
    };
    let (before, frames) = (counts(3, 20), 100);
    let broadcast = frame(Mac::BROADCAST, A, "counted");
    let sent: Vec<Frame> = (0..frames).map(|_| tagged(&broadcast, 20)).collect();
    h3.send(&sent);
    wait_until("all are counted", || counts(3, 20)[0] >= before[0] + frames);
    let (now, bytes) = (counts(3, 20), broadcast.len() as u64 * frames);
    assert!(now[1] >= before[1] + bytes && now[2] >= before[2] + frames && now[3] >= before[3] + bytes);
    let table = s.host().run("uswitch vlan show container3 -s").ok();
    assert!(table.starts_with("VLAN  PORTS  RX FRAMES"), "{table}");
    let answered = counts(0, 1);
    s.host().run("uswitch port set container1 --access 1").ok();
    h1.run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
    // A request for the address and an echo request, and the replies to them.
    let now = counts(0, 1);
    assert!(now[0] >= answered[0] + 2 && now[2] >= answered[2] + 2, "{answered:?} {now:?}");
}

#[test]
fn bad_values_change_nothing() {
    let (s, _) = lab("");
    let before = s.json("vlan show");
    for (command, words) in [
        ("vlan add container1 4095", "VLAN 4095 does not exist: use a number from 1 to 4094"),
        ("vlan add container1 0", "VLAN 0 does not exist"),
        ("vlan add container1 20-10", "the VLAN range 20-10 is inverted: use 10-20"),
        ("vlan add container1 ten", "'ten' is not a VLAN"),
        ("vlan add container1 30-40 --pvid", "a port has one PVID, not VLANs 30-40"),
        ("vlan add nobody 30", "no port named nobody"),
        ("port set container1 --access 30 --trunk 40", "cannot be combined with"),
        ("port set container1 --trunk 30,50-40", "the VLAN range 50-40 is inverted"),
        ("port set container1 --access 30 --mtu 1", ""),
        ("port add four --access 4095", "VLAN 4095 does not exist"),
    ] {
        let error = s.host().run(&format!("uswitch {command}")).fails();
        assert!(error.contains(words) && error.lines().count() == 1, "{command}: {error}");
    }
    assert_eq!(s.json("vlan show"), before);
}

#[test]
fn without_filtering_there_are_no_vlans() {
    let s = Uswitch::with("--ports 2");
    for command in ["vlan add container1 10", "port set container1 --access 10", "port add four --trunk 10"] {
        let error = s.host().run(&format!("uswitch {command}")).fails();
        assert!(
            error.contains("this switch does not filter VLANs: start it with --vlan-filtering"),
            "{error}"
        );
    }
    assert!(!s.host().run("uswitch fdb show").ok().contains("VLAN"));
    assert_eq!(s.json("vlan show")[1], json!({"ifname": "container1", "vlans": []}));
}

#[test]
fn configuration_file_has_the_vlans_of_ports() {
    let host = Host::new();
    host.sh("printf '%s\\n' 'ports = 2' 'vlan-filtering = true' '[port.host]' 'vlan = { access = 10 }' \
         '[port.container1]' 'vlan = { access = 10 }' \
         '[port.container2]' 'vlan = { trunk = [\"20-21\", 30], native = 10 }' > /run/lab.toml")
        .ok();
    host.run("uswitch start --detach --config /run/lab.toml").ok();
    let s = Uswitch::running(host);
    let access = json!({"vlan": 10, "flags": ["PVID", "Egress Untagged"]});
    let trunk = json!([access, {"vlan": 20, "vlanEnd": 21}, {"vlan": 30}]);
    assert_eq!(
        s.json("vlan show container1,container2"),
        json!([
            {"ifname": "container1", "vlans": [access]},
            {"ifname": "container2", "vlans": trunk},
        ])
    );
    s.host().netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    s.host().netns("container2").run(&format!("ping -n -c 1 -W 5 {GATEWAY_V4}")).ok();
    s.stop();
    s.host().sh("sed -i 's/vlan-filtering = true//' /run/lab.toml").ok();
    let error = s.host().run("uswitch start --detach --config /run/lab.toml").fails();
    assert!(error.contains("VLANs need vlan-filtering"), "{error}");
}

#[test]
fn trace_and_capture_show_vlans_and_tags() {
    let (s, [h1, _, _]) = lab("");
    let trace = s.host().run("uswitch trace container1 --dst broadcast").ok();
    for line in ["├─ VLAN 10: container1 is a member", "container3: sent, with a VLAN tag"] {
        assert!(trace.contains(line), "{trace}");
    }
    assert!(!trace.contains("container2"), "{trace}");
    let trace = s.host().run("uswitch trace container3 --dst broadcast --vlan 10").ok();
    assert!(trace.contains("container1: sent, without its VLAN tag"), "{trace}");
    let trace = s.host().run("uswitch trace container1 --dst broadcast --vlan 20").ok();
    assert!(trace.contains("dropped: the port is not a member of VLAN 20 (vlan_not_member"), "{trace}");
    let mut capture = s.host().spawn_sh("uswitch capture container3 --direction out --count 1 2>&1");
    capture.line_with("capturing");
    h1.send(&[frame(Mac::BROADCAST, A, "broadcast")]);
    let line = capture.line_with("88b5");
    assert!(line.contains("vlan 10"), "{line}");
}
