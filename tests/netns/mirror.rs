//! Port mirroring: what an analyser sees, compared with `tc mirred` on a Linux bridge.

use std::fs;

use serde_json::{Value, json};
use uswitch::wire::Mac;

use crate::harness::{
    Frame, GATEWAY_V4, Host, LinuxBridge, Shell, TEST_FRAMES, TestNetns, TestSwitch, Uswitch, end_marker,
    frame, frames_seen, mac, tagged, v4, v6, wait_until,
};
use crate::traffic::iperf3;

const A: Mac = mac(0xa);
const B: Mac = mac(0xb);
const NOTHING: [Frame; 0] = [];

/// A switch whose frames of container1 can be mirrored to container3.
trait Mirrors: TestSwitch {
    /// Mirrors the frames of container1 in this direction: `rx`, `tx` or `both`.
    fn mirror(&self, direction: &str);
}

impl Mirrors for Uswitch {
    fn mirror(&self, direction: &str) {
        add(self, &format!("--from container1 --to container3 --direction {direction}"));
    }
}

/// The destination is not a port of the bridge any more.
impl Mirrors for LinuxBridge {
    fn mirror(&self, direction: &str) {
        self.host().sh("ip link set container3 nomaster; tc qdisc add dev container1 clsact").ok();
        // What a port of the switch receives, its device receives.
        for hook in [("rx", "ingress"), ("tx", "egress")] {
            if direction == hook.0 || direction == "both" {
                let all = "protocol all bpf bytecode '1,6 0 0 4294967295,'";
                let copy = "action mirred egress mirror dev container3";
                self.host().sh(&format!("tc filter add dev container1 {} {all} {copy}", hook.1)).ok();
            }
        }
    }
}

fn add(s: &Uswitch, options: &str) {
    s.host().run(&format!("uswitch mirror add {options}")).ok();
}

/// What the analyser sees of two frames: one from container1 to container2, one in the other direction.
fn seen<S: Mirrors>(direction: &str, [last, echo]: &[Frame; 2]) -> Vec<Frame> {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    for (host, h) in [(A, &h1), (B, &h2)] {
        h.send(&[frame(Mac::BROADCAST, host, "I am here")]);
        s.wait_until_learned(host, h);
    }
    s.mirror(direction);
    let capture = h3.capture("eth0", TEST_FRAMES);
    let other = h2.capture("eth0", TEST_FRAMES);
    h1.send(&[frame(B, A, "from A"), last.clone()]);
    other.until(last);
    let answers = h1.capture("eth0", TEST_FRAMES);
    h2.send(&[frame(A, B, "from B"), echo.clone()]);
    answers.until(echo);
    let end = if direction == "rx" { last } else { echo };
    [capture.until(end), vec![end.clone()]].concat()
}

#[test]
fn analyser_sees_what_tc_mirred_copies() {
    let ends = [end_marker(), end_marker()];
    let [last, echo] = ends.clone();
    let (received, sent) = (vec![frame(B, A, "from A"), last], vec![frame(A, B, "from B"), echo]);
    for (direction, expected) in
        [("rx", received.clone()), ("tx", sent.clone()), ("both", [received, sent].concat())]
    {
        assert_eq!(seen::<LinuxBridge>(direction, &ends), expected, "tc mirred, {direction}");
        assert_eq!(seen::<Uswitch>(direction, &ends), expected, "uswitch, {direction}");
    }
}

/// Neither a flood nor unicast to an address that was learned there; and nothing leaves it.
fn destination_is_reserved(engine: &str) {
    let s = Uswitch::with(&format!("--ports 4 --guard off {engine}"));
    let [h1, h2, h3] = s.containers();
    let h4 = s.host().netns("container4");
    h3.send(&[frame(Mac::BROADCAST, B, "I am here")]);
    s.wait_until_learned(B, &h3);
    add(&s, "--from container1 --to container3");
    assert_eq!(s.port_of(B), None);
    let capture = h3.capture("eth0", TEST_FRAMES);
    // Only the broadcast at the end leaves on container1.
    let (not_mirrored, last) = (frame(B, A, "not mirrored"), end_marker());
    let [at_4] = frames_seen(&h2, &[not_mirrored.clone(), last.clone()], [&h4]);
    assert_eq!(at_4, [not_mirrored.clone(), last.clone()], "flooded: B is not known any more");
    assert_eq!(capture.until(&last), [not_mirrored], "the flood to container1");
    h3.send(&[frame(Mac::BROADCAST, B, "from the analyser")]);
    wait_until("it is dropped", || s.drops("container3", "ingress_mirror") > 0);
    assert_eq!(frames_seen(&h1, &[], [&h2, &h4]), [NOTHING, NOTHING]);
    s.host().run("uswitch mirror del container3").ok();
    let again = [frame(Mac::BROADCAST, B, "again")];
    assert_eq!(frames_seen(&h3, &again, [&h1, &h2]), [&again, &again]);
}

#[test]
fn destination_is_reserved_with_io_uring() {
    destination_is_reserved("--engine auto");
}

#[test]
fn destination_is_reserved_with_poll() {
    destination_is_reserved("--engine poll");
}

/// tcpdump on the analyser sees requests and replies, also those of the gateway.
#[test]
fn analyser_sees_pings() {
    let s = Uswitch::with("--ports 3");
    let [h1, _, h3] = s.containers();
    add(&s, "--from container1 --to container3");
    for (address, filter) in [
        (v4(2), "icmp"),
        (v6(2), "icmp6 and (ip6[40]==128 or ip6[40]==129)"),
        (GATEWAY_V4.to_owned(), "icmp"),
    ] {
        let mut dump = h3.spawn(&format!("tcpdump -i eth0 -Q in -n -l -c 6 {filter}"));
        dump.line_with("listening on");
        h1.run(&format!("ping -n -c 3 -i 0.05 -W 10 {address}")).ok();
        let seen = dump.ok();
        let count = |what: &str| seen.lines().filter(|line| line.contains(what)).count();
        assert_eq!((count("echo request"), count("echo reply")), (3, 3), "{seen}");
    }
}

/// SPAN copies a frame before any check.
#[test]
fn analyser_sees_frames_that_the_guard_drops() {
    let s = Uswitch::with("--ports 3");
    let [h1, _, h3] = s.containers();
    add(&s, "--from container1 --to container3 --direction rx");
    let capture = h3.capture("eth0", TEST_FRAMES);
    let spoofed = frame(Mac::BROADCAST, A, "spoofed");
    let last = end_marker();
    h1.send(&[spoofed.clone(), last.clone()]);
    assert_eq!(capture.until(&last), [spoofed]);
    wait_until("both are dropped", || s.drops("container1", "spoofed_mac") >= 2);
    let trace = s.host().run("uswitch trace container1 --dst broadcast").ok();
    assert!(trace.contains("container3: mirrored\n"), "{trace}");
}

fn assert_balanced(s: &Uswitch) {
    wait_until("the counters balance", || {
        let rows = s.json("stats");
        let rows: Vec<&Value> = rows.as_array().into_iter().flatten().collect();
        let total = |counter: &str| -> u64 { rows.iter().filter_map(|row| row[counter].as_u64()).sum() };
        let begun = ["forwarded", "flood_copies", "answered", "injected", "mirrored", "segments"];
        let begun: u64 = begun.iter().map(|counter| total(counter)).sum();
        let dropped: u64 = uswitch::switch::DropReason::ALL
            .iter()
            .filter(|reason| reason.side() == uswitch::switch::Side::Egress)
            .flat_map(|reason| rows.iter().filter_map(|row| row["drops"][reason.name()].as_u64()))
            .sum();
        begun == total("segmented") + total("tx_frames") + dropped
    });
}

/// Bulk TCP arrives at its destination, and its GSO packets at the analyser: as they are, truncated, or in segments.
fn mirrors_tcp(arguments: &str) {
    let s = Uswitch::with(&format!("--ports 2 {arguments}"));
    s.host().run("uswitch port add whole").ok();
    s.host().run("uswitch port add plain --no-offload").ok();
    s.host().run("uswitch port add short").ok();
    let [h1, h2] = [1, 2].map(|n| s.host().netns(&format!("container{n}")));
    for options in ["--to whole", "--to plain", "--to short --snaplen 100"] {
        add(&s, &format!("--from container1 --direction rx {options}"));
    }
    let longest = |name: &str| {
        let h = s.host().netns(name);
        h.spawn(&format!(
            "tcpdump -i eth0 -Q in -n -l -e -c 200 --snapshot-length=128 tcp and src host {}",
            v4(1)
        ))
    };
    let mut dumps = ["whole", "plain", "short"].map(longest);
    dumps.iter_mut().for_each(|dump| _ = dump.line_with("listening on"));
    iperf3(&h1, &h2, &format!("{} -n 50M", v4(2)));
    let [whole, plain, short] = dumps.map(|dump| {
        let seen = dump.ok();
        let lengths = seen
            .lines()
            .filter_map(|line| line.split("length ").nth(1)?.split(':').next()?.parse::<u32>().ok());
        lengths.max().unwrap_or_else(|| panic!("no frame in {seen}"))
    });
    assert!(whole > 1514 && plain <= 1514 && short <= 100, "{whole} {plain} {short}");
    assert_balanced(&s);
    assert!(s.count("plain", "segments") > s.count("plain", "mirrored"));
}

#[test]
fn mirrors_tcp_with_io_uring() {
    mirrors_tcp("--engine auto");
}

#[test]
fn mirrors_tcp_with_poll() {
    mirrors_tcp("--engine poll");
}

#[test]
fn mirrors_tcp_with_two_workers() {
    mirrors_tcp("--workers 2");
}

/// A destination that takes nothing costs the others no frame.
#[test]
fn dead_analyser_does_not_disturb_the_others() {
    let s = Uswitch::with("--ports 3");
    let [h1, h2, h3] = s.containers();
    add(&s, "--from container1 --to container3");
    h3.run("ip link set eth0 down").ok();
    wait_until("the port is down", || s.row("port show", "container3")["operstate"] == "DOWN");
    iperf3(&h1, &h2, &format!("{} -n 1M", v4(2)));
    assert_balanced(&s);
    let dropped = |port: &str| s.drops(port, "egress_down");
    assert!(dropped("container3") > 0 && dropped("container1") == 0 && dropped("container2") == 0);
    // Containers send something now and then.
    let before = dropped("container3");
    let shown = s.json("mirror show")[0]["dropped"].as_u64().expect("a count");
    assert!((before..=dropped("container3")).contains(&shown));
}

#[test]
fn mirrors_vlans() {
    let s = Uswitch::with("--ports 4 --guard off --vlan-filtering");
    for (port, vlans) in [(1, "--access 10"), (2, "--access 20"), (3, "--trunk 10,20")] {
        s.host().run(&format!("uswitch port set container{port} {vlans}")).ok();
    }
    let [h1, h2, h3] = s.containers();
    let h4 = s.host().netns("container4");
    add(&s, "--to container4 --vlan 10");
    let capture = h4.capture("eth0", TEST_FRAMES);
    let trunk = h3.capture("eth0", TEST_FRAMES);
    let [ten, twenty] = ["in 10", "in 20"].map(|text| frame(Mac::BROADCAST, A, text));
    let last = end_marker();
    h2.send(&[twenty.clone(), last.clone()]);
    trunk.until(&tagged(&last, 20));
    h1.send(std::slice::from_ref(&ten));
    let last = end_marker();
    h3.send(&[tagged(&twenty, 20), tagged(&ten, 10), tagged(&last, 10)]);
    assert_eq!(capture.until(&tagged(&last, 10)), [ten.clone(), tagged(&ten, 10)]);
    // As they leave on the trunk, with their tags.
    s.host().run("uswitch mirror del container4").ok();
    add(&s, "--from container3 --to container4 --direction tx");
    let capture = h4.capture("eth0", TEST_FRAMES);
    let last = end_marker();
    h1.send(&[ten.clone(), last.clone()]);
    assert_eq!(capture.until(&tagged(&last, 10)), [tagged(&ten, 10)]);
}

/// The kernel fast path leaves the frames of mirrored ports to the workers.
#[test]
fn mirrored_ports_leave_the_fast_path() {
    let s = Uswitch::with("--ports 4 --fast-path on");
    let [h1, h2, h3] = s.containers();
    let ping = |h: &TestNetns, address: &str| {
        h.run(&format!("ping -n -c 5 -i 0.05 -W 10 {address}")).ok();
    };
    ping(&h1, &v4(2));
    assert!(s.count("container1", "fast") > 0);
    add(&s, "--from container1 --to container4");
    let before = s.count("container1", "fast");
    let mut dump = s.host().netns("container4").spawn("tcpdump -i eth0 -Q in -n -l -c 10 icmp");
    dump.line_with("listening on");
    ping(&h1, &v4(2));
    dump.ok();
    assert_eq!(s.count("container1", "fast"), before);
    ping(&h3, &v4(2));
    assert!(s.count("container3", "fast") > 0, "other ports stay in the kernel");
    s.host().run("uswitch mirror del container4").ok();
    wait_until("the kernel forwards again", || {
        ping(&h2, &v4(1));
        s.count("container1", "fast") > before
    });
}

#[test]
fn shows_mirrors_and_follows_the_ports() {
    let host = Host::new();
    let file = "ports = 4\n[[mirror]]\nto = 'container3'\nfrom = ['container1', 'container2']\n\
                direction = 'rx'\nsnaplen = 64\n";
    fs::write(host.path("/run/lab.toml"), file).expect("/run is writable");
    let s = Uswitch::on(host, "--config /run/lab.toml");
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 3 -i 0.05 -W 10 {}", v4(2))).ok();
    let mirror = s.json("mirror show")[0].clone();
    assert!(mirror["mirrored"].as_u64() >= Some(6), "{mirror}");
    assert_eq!(
        (&mirror["to"], &mirror["from"], &mirror["direction"], &mirror["snaplen"]),
        (&json!("container3"), &json!(["container1", "container2"]), &json!("rx"), &json!(64))
    );
    assert_eq!(
        s.row("port show", "container1")["mirroring"],
        json!({"destination": false, "to": ["container3"]})
    );
    let ports = s.host().run("uswitch port show").ok();
    assert!(ports.contains("container1: mirrored to container3\n"), "{ports}");
    assert!(ports.contains("container3: destination of a mirror\n"), "{ports}");
    s.host().run("uswitch port del container1").ok();
    assert_eq!(s.json("mirror show")[0]["from"], json!(["container2"]));
    s.host().run("uswitch port del container2").ok();
    assert_eq!(s.json("mirror show"), json!([]), "it has no source any more");
    add(&s, "--to container4");
    s.host().run("uswitch port del container4").ok();
    assert_eq!(s.json("mirror show"), json!([]), "it has no destination any more");
    let events = s.host().run("uswitch events container3 --type port_changed").ok();
    assert!(events.contains("mirror: none"), "{events}");
}

#[test]
fn refuses_mirrors_in_one_line() {
    let s = Uswitch::with("--ports 12");
    let fails = |options: &str, message: &str| {
        let said = s.host().run(&format!("uswitch mirror {options}")).fails();
        assert!(said.trim().lines().count() == 1 && said.contains(message), "{said}");
    };
    add(&s, "--from container1 --to container3");
    let mirrors = || s.json("mirror show").as_array().map_or(0, Vec::len);
    fails("add --from container1 --to container3", "container3 is the destination of a mirror already");
    fails("add --from container2 --to container2", "container2 cannot be mirrored to itself");
    fails("add --from container3 --to container2", "container3 is the destination of a mirror");
    fails("add --from container2 --to container1", "container1 is mirrored to container3");
    fails("add --from container1 --to nowhere", "no port named nowhere");
    fails("add --from nowhere --to container2", "no port named nowhere");
    fails("add --from container1 --to host", "the host port cannot be the destination of a mirror");
    fails("add --from container1 --to container4 --snaplen 13", "13");
    fails("add --from container1 --to container4 --snaplen 65536", "65536");
    fails("add --from container1 --to container4 --vlan 10", "VLANs need vlan-filtering");
    fails("add --from container1 --to container4 --direction up", "up");
    fails("add --from container1", "--to");
    fails("del container4", "container4 is not the destination of a mirror");
    assert_eq!(mirrors(), 1, "nothing is changed");
    (4..=10).for_each(|n| add(&s, &format!("--from container1 --to container{n}")));
    fails("add --from container1 --to container11", "8 mirrors exist, which is the maximum");
}
