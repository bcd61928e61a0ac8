//! `uswitch fdb` in the words of `bridge fdb`, with the Linux bridge as a control.

use serde_json::{Value, json};
use uswitch::wire::Mac;

use crate::harness::{LinuxBridge, Shell, TestSwitch, Uswitch, frame, mac, on_both, wait_until};

const A: Mac = mac(0x0a);

on_both!(
    static_entry_moves,
    sticky_entry_stays,
    sticky_learned_entry_stays,
    gets_an_entry,
    add_refuses_a_known_address
);

/// The command that edits the forwarding database, as both programs spell it.
trait FdbCommands: TestSwitch {
    /// Adds, replaces: `command`; `words`: kinds of entries.
    fn edit(&self, command: &str, mac: Mac, port: &str, words: &str) -> String;
    fn get(&self, mac: Mac) -> String;
}

impl FdbCommands for Uswitch {
    fn edit(&self, command: &str, mac: Mac, port: &str, words: &str) -> String {
        let options: String = words.split_whitespace().map(|word| format!(" --{word}")).collect();
        format!("uswitch fdb {command} {mac} {port}{options}")
    }
    fn get(&self, mac: Mac) -> String {
        format!("uswitch fdb get {mac} --json")
    }
}

impl FdbCommands for LinuxBridge {
    fn edit(&self, command: &str, mac: Mac, port: &str, words: &str) -> String {
        format!("bridge fdb {command} {mac} dev {port} master {words}")
    }
    fn get(&self, mac: Mac) -> String {
        format!("bridge -j fdb get {mac} br br0")
    }
}

/// The entry of an address, without what only one of the two shows.
fn entry<S: FdbCommands>(s: &S, mac: Mac) -> Value {
    let entries: Value = serde_json::from_str(&s.fdb_json()).expect("it is JSON");
    let found = entries.as_array().and_then(|all| all.iter().find(|entry| entry["mac"] == mac.to_string()));
    found.map_or(
        Value::Null,
        |entry| json!({ "ifname": entry["ifname"], "flags": entry["flags"], "state": entry["state"] }),
    )
}

fn entry_of(port: &str, state: &str, flags: &[&str]) -> Value {
    json!({ "ifname": port, "flags": flags, "state": state })
}

fn static_entry_moves<S: FdbCommands>() {
    let s = S::start();
    let [_, h2, _] = s.containers();
    s.host().run(&s.edit("add", A, "container1", "static")).ok();
    assert_eq!(entry(&s, A), entry_of("container1", "static", &[]));
    h2.send(&[frame(Mac::BROADCAST, A, "from elsewhere")]);
    wait_until("it has moved", || entry(&s, A) == entry_of("container2", "static", &[]));
}

/// Sends a frame from A on h2, and waits until the switch has handled it.
fn send_from_elsewhere<S: FdbCommands>(s: &S) {
    let [_, h2, _] = s.containers();
    let after = mac(0x0b);
    h2.send(&[frame(Mac::BROADCAST, A, "from elsewhere"), frame(Mac::BROADCAST, after, "and another")]);
    s.wait_until_learned(after, &h2);
}

fn sticky_entry_stays<S: FdbCommands>() {
    let s = S::start();
    s.host().run(&s.edit("add", A, "container1", "static sticky")).ok();
    send_from_elsewhere(&s);
    assert_eq!(entry(&s, A), entry_of("container1", "static", &["sticky"]));
    s.host().run(&s.edit("replace", A, "container1", "static")).ok();
    assert_eq!(entry(&s, A), entry_of("container1", "static", &[]));
}

fn sticky_learned_entry_stays<S: FdbCommands>() {
    let s = S::start();
    s.host().run(&s.edit("add", A, "container1", "dynamic sticky")).ok();
    send_from_elsewhere(&s);
    assert_eq!(entry(&s, A), entry_of("container1", "", &["sticky"]));
}

fn gets_an_entry<S: FdbCommands>() {
    let s = S::start();
    s.host().run(&s.get(A)).fails();
    s.host().run(&s.edit("add", A, "container1", "static")).ok();
    let found = s.host().run(&s.get(A)).json();
    assert_eq!((&found[0]["mac"], &found[0]["ifname"]), (&A.to_string().into(), &"container1".into()));
    assert_eq!(found[0]["state"], "static");
}

fn add_refuses_a_known_address<S: FdbCommands>() {
    let s = S::start();
    let [h1, ..] = s.containers();
    h1.send(&[frame(Mac::BROADCAST, A, "hello")]);
    s.wait_until_learned(A, &h1);
    s.host().run(&s.edit("add", A, "container2", "static")).fails();
    assert_eq!(entry(&s, A), entry_of("container1", "", &[]));
    s.host().run(&s.edit("replace", A, "container2", "static")).ok();
    assert_eq!(entry(&s, A), entry_of("container2", "static", &[]));
}

#[test]
fn flush_has_the_filters_of_the_bridge() {
    let s = Uswitch::start();
    let host = s.host();
    for (n, words) in [(1, "static"), (2, "static sticky"), (3, "dynamic"), (4, "dynamic sticky")] {
        host.run(&s.edit("add", mac(n), "container1", words)).ok();
    }
    host.run(&s.edit("add", mac(5), "host", "permanent")).ok();
    // The containers' own addresses may be learned at any time.
    let left_after = |words: &str| {
        host.run(&format!("uswitch fdb flush {words}")).ok();
        (1..=5).filter(|n| s.port_of(mac(*n)).is_some()).collect::<Vec<u8>>()
    };
    assert_eq!(left_after("container1 --dynamic --nosticky"), [1, 2, 4, 5]);
    assert_eq!(left_after("container2 --static"), [1, 2, 4, 5]);
    assert_eq!(left_after("--static --sticky"), [1, 4, 5]);
    assert_eq!(left_after("--local"), [1, 4]);
    assert_eq!(left_after("--vlan 7 --static"), [1, 4]);
    assert_eq!(left_after("--nostatic --nopermanent"), [1]);
    assert_eq!(left_after(""), [1]);
    assert_eq!(left_after("--static"), [] as [u8; 0]);
    let permanent = s.fdb().into_iter().filter(|entry| entry.state == "permanent").count();
    assert_eq!(permanent, 1, "the gateway's entry stays");
}

#[test]
fn refuses_entries_in_one_line() {
    let s = Uswitch::start();
    let fails = |command: &str, message: &str| {
        let said = s.host().run(&format!("uswitch fdb {command}")).fails();
        assert!(said.trim().lines().count() == 1 && said.contains(message), "{said}");
    };
    let gateway = s.json("status")["gateway"]["mac"].as_str().expect("a text").to_owned();
    fails(&format!("replace {gateway} container1"), "the gateway's own address");
    fails(&format!("del {gateway}"), "the gateway's own address");
    fails(&format!("add {A} container1 --permanent"), "its port is host");
    fails(&format!("add {A} container1 --static --dynamic"), "--dynamic");
    fails(&format!("del {A}"), "no entry for");
    s.host().run(&s.edit("add", A, "container1", "static")).ok();
    fails(&format!("add {A} container2"), "uswitch fdb replace");
    fails(&format!("del {A} container2"), "no entry for");
    s.host().run(&format!("uswitch fdb del {A} container1")).ok();
    fails("flush --static --nostatic", "--nostatic");
}

/// As `ip link set br0 type bridge ageing_time` does.
#[test]
fn ageing_time_changes_while_the_switch_runs() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    h1.send(&[frame(Mac::BROADCAST, A, "hello")]);
    s.wait_until_learned(A, &h1);
    s.host().run("uswitch set --ageing-time 1").ok();
    wait_until("it has expired", || s.port_of(A).is_none());
    assert_eq!(s.json("status")["ageing_time"], 1);
    let said = s.host().run("uswitch set --ageing-time 0").fails();
    assert!(said.contains("0 is out of range: choose 1 to 1000000"), "{said}");
    s.host().run("uswitch set").fails();
}

#[test]
fn port_learns_at_most_fdb_max_learned() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    s.host().run("uswitch port set container1 --fdb-max-learned 2").ok();
    s.host().run("uswitch fdb flush").ok();
    let frames: Vec<_> = (1..=5).map(|n| frame(Mac::BROADCAST, mac(n), "hello")).collect();
    h1.send(&frames);
    wait_until("three are refused", || s.count("container1", "fdb_refused") >= 3);
    let row = s.row("port show", "container1");
    assert_eq!((&row["fdb_n_learned"], &row["fdb_max_learned"]), (&2.into(), &2.into()));
    let events = s.host().run("uswitch events container1 --type refused").ok();
    assert!(events.contains("the port has the addresses that it may learn"), "{events}");
    let trace = s.host().run(&format!("uswitch trace container1 --src {} --dst {}", mac(9), mac(1))).ok();
    assert!(trace.contains("refused: container1 has the addresses that it may learn"), "{trace}");
    s.host().run("uswitch port set container1 --fdb-max-learned 0").ok();
    h1.send(&frames);
    wait_until("all are learned", || (1..=5).all(|n| s.port_of(mac(n)).is_some()));
    let said = s.host().run("uswitch port set container1 --fdb-max-learned 1048577").fails();
    assert!(said.contains("1048577 is out of range"), "{said}");
}
