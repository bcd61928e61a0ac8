//! `uswitch events` with real traffic.

use nix::sys::signal::Signal;
use serde_json::Value;
use uswitch::wire::Mac;

use crate::harness::{Frame, Shell, TestSwitch, Uswitch, frame, mac, v4, wait_until};

/// The kept events, as JSON.
fn events(s: &Uswitch, arguments: &str) -> Vec<Value> {
    let lines = s.host().run(&format!("uswitch events --json {arguments}")).ok();
    lines
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}")))
        .collect()
}

/// Whether an event of this type has these fields.
fn has_event(s: &Uswitch, kind: &str, fields: &[(&str, &str)]) -> bool {
    let fits = |event: &Value| fields.iter().all(|(key, value)| event[*key] == *value);
    events(s, &format!("--type {kind}")).iter().any(fits)
}

#[track_caller]
fn wait_for(s: &Uswitch, kind: &str, fields: &[(&str, &str)]) {
    wait_until(&format!("{kind} of {fields:?} is recorded"), || has_event(s, kind, fields));
}

/// Broadcast frames from `count` MAC addresses.
fn broadcast_frames(count: u32) -> Vec<Frame> {
    let mac = |n: u32| {
        let [a, b, c, d] = n.to_be_bytes();
        Mac([0x02, 0x5e, a, b, c, d])
    };
    (0..count).map(|n| frame(Mac::BROADCAST, mac(n), "one of many")).collect()
}

/// A ping is learned; the same MAC address on another port is a move.
#[test]
fn learned_and_moved() {
    let s = Uswitch::start();
    let [h1, h2, h3] = s.containers();
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    for h in [&h1, &h2] {
        wait_for(&s, "learned", &[("ifname", h.name()), ("mac", &h.mac().to_string())]);
    }
    let address = mac(1).to_string();
    h2.send(&[frame(Mac::BROADCAST, mac(1), "here")]);
    wait_for(&s, "learned", &[("ifname", "container2"), ("mac", &address)]);
    h3.send(&[frame(Mac::BROADCAST, mac(1), "there")]);
    wait_for(&s, "moved", &[("ifname", "container3"), ("mac", &address), ("other", "container2")]);
    let lines = s.host().run("uswitch events container3 --type moved --last 1").ok();
    assert!(lines.ends_with(&format!("moved         container3  {address}  from container2\n")), "{lines}");
    assert_eq!(events(&s, "--port container1 --type moved"), [Value::Null; 0]);
}

#[test]
fn aged() {
    let s = Uswitch::with_ageing_time(1);
    let [h1, ..] = s.containers();
    h1.send(&[frame(Mac::BROADCAST, mac(1), "once")]);
    wait_for(&s, "aged", &[("ifname", "container1"), ("mac", &mac(1).to_string())]);
}

#[test]
fn flooded_and_dropped() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    h1.send(&[frame(mac(0x99), mac(1), "who knows?")]);
    wait_for(&s, "flooded", &[("ifname", "container1"), ("mac", &mac(0x99).to_string())]);
    let gateway = s.host().run("cat /sys/class/net/uswitch0/address").ok().trim().parse().expect("a MAC");
    h1.send(&vec![frame(Mac::BROADCAST, gateway, "I am the gateway"); 100]);
    let spoofed = || {
        let dropped = events(&s, "--type dropped --port container1");
        let spoofed = dropped.iter().filter(|event| event["reason"] == "spoofed_gateway");
        spoofed.filter_map(|event| event["count"].as_u64()).collect::<Vec<_>>()
    };
    wait_until("all drops are reported", || spoofed().iter().sum::<u64>() == 100);
    assert!(spoofed().len() <= 2, "{:?}", spoofed());
}

#[test]
fn port_events() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    for port in ["host", "container1", "container2", "container3"] {
        assert!(has_event(&s, "port_added", &[("ifname", port)]), "{port}");
    }
    h1.run("ip link set eth0 down").ok();
    wait_for(&s, "port_down", &[("ifname", "container1")]);
    h1.run("ip link set eth0 up").ok();
    wait_for(&s, "port_up", &[("ifname", "container1")]);
    h2.run("ip link del eth0").ok();
    wait_for(&s, "port_gone", &[("ifname", "container2")]);
    s.host().run("uswitch port del container3").ok();
    assert!(has_event(&s, "port_removed", &[("ifname", "container3")]));
}

/// Changes that a user makes to the forwarding database are events too.
#[test]
fn admin_fdb_changes_emit_events() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let address = mac(1).to_string();
    let mut follower = s.host().spawn("uswitch events --follow --type fdb_added,fdb_removed,fdb_flushed");
    s.host().run(&format!("uswitch fdb add {address} container2")).ok();
    s.host().run(&format!("uswitch fdb del {address}")).ok();
    h1.send(&[frame(Mac::BROADCAST, mac(2), "here")]);
    wait_for(&s, "learned", &[("mac", &mac(2).to_string())]);
    s.host().run("uswitch fdb flush container1").ok();
    s.host().run("uswitch fdb flush").ok();
    wait_for(&s, "fdb_added", &[("ifname", "container2"), ("mac", &address), ("state", "static")]);
    wait_for(&s, "fdb_removed", &[("ifname", "container2"), ("mac", &address)]);
    let flushed = events(&s, "--type fdb_flushed");
    let [one, all] = &flushed[..] else { panic!("{flushed:?}") };
    assert!(one["ifname"] == "container1" && one["count"].as_u64() > Some(0), "{one}");
    assert!(all["ifname"].is_null() && all["count"].is_u64(), "{all}");
    for text in ["static entry", &address, "deleted", "fdb_flushed   -"] {
        follower.line_with(text);
    }
}

/// One port sends from more MAC addresses than the database holds. Its events are limited and counted,
/// and another port's events are complete.
#[test]
fn bounds_events_of_a_mac_flood() {
    const ADDRESSES: u32 = 20_000;
    let s = Uswitch::with("--ports 3 --guard off --fdb-max 64");
    let [h1, h2, _] = s.containers();
    let mut follower = s.host().spawn("uswitch events --json --follow --last 0 --type moved");
    // The test's socket queue is short.
    broadcast_frames(ADDRESSES).chunks(200).for_each(|part| h1.send(part));
    h2.send(&[frame(Mac::BROADCAST, mac(1), "quiet")]);
    wait_for(&s, "learned", &[("ifname", "container2"), ("mac", &mac(1).to_string())]);
    follower.line_with(r#""type":"lost","ifname":"container1""#);
    wait_until("lost events are counted", || s.json("status")["lost_events"].as_u64() > Some(0));
    assert!(!events(&s, "--type evicted --port container1").is_empty());
    let count = events(&s, "").len();
    assert!(count <= 1024, "{count}");
    let lost = |port| events(&s, &format!("--type lost --port {port}")).len();
    assert_eq!(lost("container2"), 0);
    h2.run(&format!("ping -n -c 1 -W 5 {}", v4(3))).ok();
}

/// Followers that do not read block neither the switch nor each other. Further ones are refused.
#[test]
fn blocked_followers_stop_nothing_else() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let curl = "curl --silent --no-buffer --unix-socket /run/uswitch/uswitch0.sock \
                'http://localhost/v1/events?follow=true' | { head -n 1; sleep 60; }";
    let followers = [(); 16].map(|()| {
        let mut follower = s.host().spawn_sh(curl);
        follower.line_with("port_added");
        follower
    });
    let output = s.host().run("uswitch events --follow").fails();
    assert!(output.contains("the switch serves 16 streams"), "{output}");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    s.host().run("uswitch status").ok();
    s.stop();
    drop(followers);
}

/// `--follow` ends after Ctrl-C, when its reader closes, and with the switch; a killed switch is an
/// error.
#[test]
fn follow_ends_on_signal_reader_and_stop() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let follow = || {
        let mut follower = s.host().spawn("uswitch events --follow");
        follower.line_with("port_added");
        follower
    };
    let interrupted = follow();
    interrupted.signal(Signal::SIGINT);
    interrupted.ok();
    // It ends although no further port is added.
    let mut enough = s.host().spawn_sh("uswitch events --follow --type port_added | head -n 1");
    enough.line_with("port_added");
    enough.ok();
    s.host().run("uswitch status").ok();
    let mut stopped = follow();
    h1.send(&[frame(Mac::BROADCAST, mac(1), "live")]);
    stopped.line_with(&mac(1).to_string());
    s.stop();
    let output = stopped.ok();
    assert!(output.ends_with("uswitch: the switch has stopped"), "{output}");
    s.host().run("uswitch start --detach --ports 1").ok();
    let killed = follow();
    s.host().run(&format!("kill -9 {}", s.json("status")["pid"])).ok();
    let (status, output) = killed.wait();
    assert!(status.code() == Some(1) && output.ends_with("removes what it left behind"), "{output}");
}
