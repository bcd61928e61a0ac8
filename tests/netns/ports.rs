//! Ports are added, deleted and lost while the switch runs.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::{Host, LossCheck, Process, Shell, TestNetns, TestSwitch, Uswitch, v4, v6, wait_until};

#[test]
fn adds_and_deletes_ports_without_loss() {
    let s = Uswitch::with("--ports 2");
    let [.., h3] = s.containers();
    let ping = LossCheck::start(&s);
    for _ in 0..20 {
        s.host().run("uswitch port add container3").ok();
        h3.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
        h3.run(&format!("ping -n -c 1 -W 5 {}", v6(2))).ok();
        s.host().run("uswitch port del container3").ok();
        let names = s.host().run("ip netns list").ok();
        assert!(!names.contains("container3"), "{names}");
    }
    ping.assert_nothing_lost();
}

#[test]
fn deleting_a_port_flushes_its_fdb_entries() {
    let s = Uswitch::start();
    let [.., h3] = s.containers();
    let mac = h3.mac();
    h3.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    assert_eq!(s.port_of(mac).as_deref(), Some("container3"));
    s.host().run("uswitch port del container3").ok();
    assert_eq!(s.port_of(mac), None);
    s.host().run("uswitch port del container3").fails();
}

/// A container of another tool ends and starts again under its name, in a new namespace.
#[test]
fn port_whose_device_is_gone_is_replaced() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    host.sh("ip netns add web; uswitch port add web --netns web --ip 172.16.0.50/24 --mac 02:00:5e:00:53:50")
        .ok();
    host.run("ip netns del web").ok();
    wait_until("the port shows that its device is gone", || is_gone(&s, "web"));
    host.sh("ip netns add web; ip netns add other").ok();
    let said = host.run("uswitch port add web --netns web").fails();
    assert!(said.contains("--replace") && said.contains("uswitch port del web"), "{said}");
    for taken in ["--ip 172.16.0.50/24", "--mac 02:00:5e:00:53:50"] {
        let said = host.run(&format!("uswitch port add other --netns other {taken}")).fails();
        assert!(said.contains("belongs to the port web, whose device is gone"), "{said}");
    }
    let port = host.run("uswitch port add web --netns web --replace --json").json();
    assert_eq!(
        (&port["addresses"][0], &port["address"]),
        (&"172.16.0.50/24".into(), &"02:00:5e:00:53:50".into())
    );
    host.run("ip netns exec container1 ping -n -c 1 -W 5 172.16.0.50").ok();
    // One that works is replaced too, as `podman run --replace` does.
    host.run("uswitch port add web --netns other --replace").ok();
    host.run("ip netns exec web ip link show eth0").fails();
    host.run("ip netns exec container1 ping -n -c 1 -W 5 172.16.0.50").ok();
    host.run("ip netns del other").ok();
    wait_until("the port shows that its device is gone", || is_gone(&s, "web"));
    host.run("uswitch port add new --netns web --ip 172.16.0.50/24 --replace").ok();
    assert!(!host.run("uswitch port show").ok().contains("gone"));
    let said = host.run("uswitch port add host --replace").fails();
    assert!(said.trim().lines().count() == 1, "{said}");
}

/// The namespace and what runs there stay, and end with the new port.
#[test]
fn container_of_the_switch_gets_another_device() {
    for (datapath, netns) in [("auto", ""), ("off", ""), ("auto", "--netns container1")] {
        let s = Uswitch::with(&format!("--ports 2 --fast-path {datapath}"));
        let [host, h1] = [s.host() as &dyn Shell, &s.host().netns("container1")];
        let said = host.run("uswitch port add container1 --netns container1 --replace").fails();
        assert!(said.contains("'container1' ends with the port that is replaced"), "{said}");
        let mut process = h1.spawn_sh("echo started; exec sleep 1000");
        process.line_with("started");
        h1.run("ip link del eth0").ok();
        wait_until("the port shows that its device is gone", || is_gone(&s, "container1"));
        host.run(&format!("uswitch port add container1 --replace {netns}")).ok();
        host.run("uswitch exec container1 -- ping -n -c 1 -W 5 172.16.0.3").ok();
        h1.run("ping -n -c 1 -W 5 172.16.0.3").ok();
        assert!(!is_gone(&s, "container1"));
        host.run("uswitch port del container1").ok();
        assert!(!host.run("ip netns list").ok().contains("container1"), "{datapath} {netns}");
        host.run("uswitch port add container1").ok();
    }
}

/// Waits until a container's neighbour cache has an address at this MAC, without asking for it.
fn wait_for_neighbour(h: &TestNetns, address: &str, mac: &str) {
    let what = format!("{} knows {address} at {mac}", h.name());
    wait_until(&what, || h.run(&format!("ip neigh show {address}")).ok().contains(mac));
}

/// A container has an address of a container that was deleted, and another MAC.
#[test]
fn new_port_announces_its_addresses() {
    const MAC: &str = "02:00:5e:00:53:99";
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    let h1 = host.netns("container1");
    for address in ["172.16.0.4", "fd00:172:16::4"] {
        h1.run(&format!("ip neigh replace {address} lladdr 02:00:5e:00:53:01 dev eth0 nud reachable")).ok();
        host.run(&format!("ip neigh replace {address} lladdr 02:00:5e:00:53:01 dev uswitch0 nud reachable"))
            .ok();
    }
    host.run(&format!("uswitch port add new --ip 172.16.0.4/24 --ip fd00:172:16::4/64 --mac {MAC}")).ok();
    for address in ["172.16.0.4", "fd00:172:16::4"] {
        wait_for_neighbour(&h1, address, MAC);
        wait_until("the host knows the new MAC", || {
            host.run(&format!("ip neigh show {address}")).ok().contains(MAC)
        });
    }
}

/// tcpdump runs on the host before the switch starts, so it misses nothing.
#[test]
fn start_announces_all_addresses() {
    let host = Host::new();
    let mut tcpdump = host.spawn_sh("exec tcpdump -l -n -i any -Q in 'arp or (icmp6 and ip6[40] == 136)'");
    tcpdump.line_with("listening on");
    let _s = Uswitch::on(host, "--ports 2");
    let announcements = (1..=2).flat_map(|n| {
        [
            format!("ARP, Request who-has {0} tell {0}", v4(n)),
            format!("ICMP6, neighbor advertisement, tgt is {}", v6(n)),
        ]
    });
    // Each is repeated once.
    let mut missing: Vec<String> = announcements.flat_map(|text| [text.clone(), text]).collect();
    while !missing.is_empty() {
        let line = tcpdump.line().unwrap_or_else(|| panic!("not announced: {missing:?}"));
        if let Some(at) = missing.iter().position(|text| line.contains(text)) {
            missing.remove(at);
        }
    }
}

#[test]
fn gateway_follows_the_mac_of_the_host_port() {
    const MAC: &str = "02:00:5e:00:53:77";
    let s = Uswitch::with("--ports 1");
    let (host, h1) = (s.host(), s.host().netns("container1"));
    for address in ["172.16.0.1", "fd00:172:16::1"] {
        h1.run(&format!("ping -n -c 1 -W 5 {address}")).ok();
    }
    host.run(&format!("ip link set uswitch0 address {MAC}")).ok();
    for address in ["172.16.0.1", "fd00:172:16::1"] {
        wait_for_neighbour(&h1, address, MAC);
        h1.run(&format!("ping -n -c 1 -W 5 {address}")).ok();
    }
    // To the host's kernel, which answers this on its own.
    h1.run("ping -n -c 1 -W 5 -s 2000 172.16.0.1").ok();
    assert_eq!(s.json("status")["gateway"]["mac"], MAC);
    assert_eq!(s.row("port show", "host")["address"], MAC);
    let permanent: Vec<_> = s.fdb().into_iter().filter(|entry| entry.state == "permanent").collect();
    assert_eq!(permanent.len(), 1);
    assert_eq!((permanent[0].mac.to_string().as_str(), permanent[0].ifname.as_str()), (MAC, "host"));
    assert!(h1.run("ip -6 route show default").ok().contains("fd00:172:16::1"), "it is still a router");
}

#[test]
fn port_show_follows_the_device() {
    let s = Uswitch::with("--ports 2");
    let host = s.host();
    let h1 = host.netns("container1");
    let shows = |key: &str, value: &str| {
        wait_until(&format!("port show has {key} {value}"), || {
            s.row("port show", "container1")[key] == value
        });
    };
    let assigned = h1.mac();
    h1.run("ip link set eth0 address 02:00:5e:00:53:01").ok();
    shows("address", "02:00:5e:00:53:01");
    h1.run("ip link set eth0 name lan0").ok();
    shows("link", "lan0");
    h1.run("ip address add 192.0.2.7/24 dev lan0").ok();
    wait_until("port show has the address", || {
        s.row("port show", "container1")["addresses"].to_string().contains("192.0.2.7/24")
    });
    host.run("ip netns add own").ok();
    h1.run("ip link set lan0 netns own").ok();
    shows("netns", "/run/netns/own");
    shows("operstate", "DOWN");
    let own = host.netns("own");
    own.sh(&format!("ip link set lan0 address {assigned} up; ip address add 172.16.0.2/24 dev lan0")).ok();
    shows("operstate", "UP");
    host.run("ip netns del container1").ok();
    host.run("ip netns exec container2 ping -n -c 1 -W 5 172.16.0.2").ok();
    let events = host.run("uswitch events --type port_changed").ok();
    for change in ["MAC: 02:00:5e:00:53:01", "name: lan0", "192.0.2.7/24", "namespace: /run/netns/own"] {
        assert!(events.contains(change), "no '{change}' in {events}");
    }
    host.run("uswitch port del container1").ok();
    own.run("ip link show lan0").fails();
}

/// The state of a port, as `bridge link` names it.
fn state(s: &Uswitch, port: &str) -> Value {
    s.row("port show", port)["state"].clone()
}

#[test]
fn link_down_and_up() {
    let s = Uswitch::start();
    let [h1, _, h3] = s.containers();
    let ping = LossCheck::start(&s);
    assert_eq!(state(&s, "container3"), "forwarding");
    h3.run("ip link set eth0 down").ok();
    wait_until("the port shows that its link is down", || state(&s, "container3") == "disabled");
    h1.run(&format!("ping -n -c 1 -W 1 {}", v4(3))).fails();
    h3.run("ip link set eth0 up").ok();
    wait_until("the port shows that its link is up", || state(&s, "container3") == "forwarding");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(3))).ok();
    ping.assert_nothing_lost();
}

/// The check that other tests use fails for a loss that no full queue explains.
#[test]
#[should_panic(expected = "and the queues lost only 0")]
fn loss_outside_queues_is_not_excused() {
    let s = Uswitch::start();
    let [h1, h2, _] = s.containers();
    let ping = LossCheck::start(&s);
    h2.run("ip link set eth0 down").ok();
    wait_until("the port shows that its link is down", || state(&s, "container2") == "disabled");
    // This waits for a second, in which the ping loses frames.
    h1.run(&format!("ping -n -c 1 -W 1 {}", v4(2))).fails();
    h2.run("ip link set eth0 up").ok();
    ping.assert_nothing_lost();
}

/// Sends datagrams to a container as fast as possible and ignores answers.
fn flood_udp(from: &TestNetns, to: &TestNetns, address: &str) -> Process {
    from.run(&format!("ip neigh replace {address} lladdr {} dev eth0 nud permanent", to.mac())).ok();
    let mut load =
        from.spawn_sh(&format!("exec socat -d -d -u -b 1400 OPEN:/dev/zero UDP-SENDTO:{address}:9"));
    load.line_with("starting data transfer");
    load
}

/// Waits until more traffic was sent to a port.
fn wait_for_traffic(s: &Uswitch, port: &str) {
    const MORE: u64 = 1_000_000;
    let before = s.count(port, "tx_bytes");
    wait_until(&format!("more traffic is sent to {port}"), || s.count(port, "tx_bytes") > before + MORE);
}

/// One port's link goes down and up while two others exchange traffic and a third sends to it.
#[test]
fn link_down_and_up_under_load() {
    let s = Uswitch::with("--ports 5");
    let [_, h2, h3] = s.containers();
    let [h4, h5] = [4, 5].map(|n| s.host().netns(&format!("container{n}")));
    let ping = LossCheck::start(&s);
    let mut server = h2.spawn("iperf3 -s --forceflush");
    server.line_with("Server listening");
    let stream = h5.spawn(&format!("iperf3 -c {} -t 60", v4(2)));
    let _load = flood_udp(&h4, &h3, &v4(3));
    for port in ["container2", "container3"] {
        wait_for_traffic(&s, port);
    }
    h3.run("ip link set eth0 down").ok();
    wait_until("the port shows that its link is down", || state(&s, "container3") == "disabled");
    // Its FDB entries are flushed: frames to it are flooded, but not to the link that is down.
    let flooded = || s.count("container4", "flooded");
    let (before, given) = (flooded(), s.count("container3", "tx_frames"));
    wait_until("frames to container3 are flooded", || flooded() > before + 100);
    assert_eq!(s.count("container3", "tx_frames"), given, "no frame is sent to a link that is down");
    wait_for_traffic(&s, "container2");
    h3.run("ip link set eth0 up").ok();
    for port in ["container2", "container3"] {
        wait_for_traffic(&s, port);
    }
    ping.assert_nothing_lost();
    stream.signal(Signal::SIGINT);
    let said = stream.wait().1;
    assert!(said.contains("interrupt"), "{said}");
}

/// Runs `command`, which destroys container3. The others must not lose frames, and the switch must not spin or leak.
#[track_caller]
fn survives_loss_of_port(command: &str) {
    let s = Uswitch::with("--ports 4");
    let [h1, h2, h3] = s.containers();
    let h4 = s.host().netns("container4");
    let before = open_files(&s);
    let ping = LossCheck::start(&s);
    let load = flood_udp(&h4, &h3, &v4(3));
    s.host().sh(command).ok();
    wait_until("the port shows that its device is gone", || is_gone(&s, "container3"));
    drop(load);
    ping.assert_nothing_lost();
    h2.run(&format!("ping -n -c 1 -W 5 {}", v4(4))).ok();
    assert_low_cpu(&s, &h1);
    s.host().run("uswitch port del container3").ok();
    assert!(open_files(&s) < before, "the queue of a port that is gone is still open");
    s.stop();
}

/// Whether the port's device is gone for good; a link that is only down is `DOWN`.
fn is_gone(s: &Uswitch, port: &str) -> bool {
    s.row("port show", port)["operstate"] == "NOTPRESENT"
}

/// Another namespace may have the container's name by now.
#[test]
fn exec_refuses_a_port_whose_device_is_gone() {
    let s = Uswitch::start();
    s.host().sh("ip netns del container3; ip netns add container3").ok();
    let said = s.host().run("uswitch exec container3 -- true").fails();
    assert!(said.contains("container3 is gone") && said.trim().lines().count() == 1, "{said}");
    s.host().run("ip -n container2 link del eth0").ok();
    wait_until("the port shows that its device is gone", || is_gone(&s, "container2"));
    let said = s.host().run("uswitch exec container2 -- true").fails();
    assert!(said.contains("container2 is gone") && said.trim().lines().count() == 1, "{said}");
    s.host().run("uswitch exec container1 -- true").ok();
    s.host().run("uswitch exec host -- true").ok();
}

/// Asserts that the switch uses little CPU time while it is almost idle. An engine that spins would use all of the
/// about 200 ticks (proc_pid_stat(5)) for which the 20 pings run.
#[track_caller]
fn assert_low_cpu(s: &Uswitch, h1: &TestNetns) {
    let before = cpu_ticks(s);
    h1.run(&format!("ping -n -c 20 -i 0.1 -W 5 {}", v4(2))).ok();
    let taken = cpu_ticks(s) - before;
    assert!(taken < 100, "{taken} ticks for 20 pings");
}

/// The switch's CPU time so far, in ticks.
pub fn cpu_ticks(s: &Uswitch) -> u64 {
    let stat = fs::read_to_string(s.host().path(&format!("/proc/{}/stat", s.pid()))).expect("it runs");
    let after_name = stat.rsplit(") ").next().expect("there is a name");
    let number = |at: usize| -> u64 {
        after_name.split(' ').nth(at).and_then(|word| word.parse().ok()).expect("proc_pid_stat(5)")
    };
    number(11) + number(12)
}

fn open_files(s: &Uswitch) -> usize {
    entries(s, "fd")
}

fn threads(s: &Uswitch) -> usize {
    entries(s, "task")
}

/// The number of entries in a directory of the process in proc(5).
fn entries(s: &Uswitch, directory: &str) -> usize {
    fs::read_dir(s.host().path(&format!("/proc/{}/{directory}", s.pid()))).expect("it runs").count()
}

#[test]
fn namespace_deleted_under_load() {
    survives_loss_of_port("ip netns del container3");
}

#[test]
fn device_deleted_under_load() {
    survives_loss_of_port("ip -n container3 link del eth0");
}

#[test]
fn ports_leak_no_files_or_threads() {
    let s = Uswitch::with("--ports 2 --workers 2");
    let once = || {
        s.host().run("uswitch port add container3").ok();
        s.host().run("uswitch port del container3").ok();
    };
    once();
    let (files, before) = (open_files(&s), threads(&s));
    for _ in 0..20 {
        once();
    }
    assert_eq!(open_files(&s), files);
    // A thread stays listed for a moment after its end.
    wait_until("there are as many threads as before", || threads(&s) <= before);
}

#[test]
fn idle_switch_uses_no_cpu() {
    let s = Uswitch::with("--ports 3 --workers 2");
    let [h1, ..] = s.containers();
    assert_low_cpu(&s, &h1);
}

#[test]
fn rejects_invalid_ports() {
    let s = Uswitch::with("--ports 1");
    let host: &Host = s.host();
    for (arguments, word) in [
        ("container1", "container1"),
        ("lab --netns no-such", "no-such"),
        ("lab --ip 172.16.0.2/24", "172.16.0.2"),
        ("lab --ip 172.16.0.1/24", "172.16.0.1"),
        ("lab --mac 01:00:5e:00:53:01", "01:00:5e:00:53:01"),
        ("lab --ifname a-name-that-is-too-long", "a-name-that-is-too-long"),
    ] {
        let said = host.run(&format!("uswitch port add {arguments}")).fails();
        assert!(said.trim().lines().count() == 1 && said.contains(word), "{arguments}: {said}");
    }
    assert_eq!(host.run("ip netns list").ok().lines().count(), 1);
}
