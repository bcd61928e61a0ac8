//! A switch with hundreds of ports.

use crate::harness::{Host, HostSnapshot, Shell, TestSwitch, Uswitch, v4, v6};

#[test]
fn three_hundred_ports() {
    const PORTS: u16 = 300;
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let s = Uswitch::on(host, &format!("--ports {PORTS}"));
    let host = s.host();
    assert_eq!(host.run("ip netns list").ok().lines().count(), usize::from(PORTS));
    let first = host.netns("container1");
    for n in [2, 150, 253, 254, PORTS] {
        first.run(&format!("ping -n -c 1 -W 5 {}", v4(n))).ok();
        first.run(&format!("ping -n -c 1 -W 5 {}", v6(n))).ok();
    }
    host.run(&format!("ping -n -c 1 -W 5 {}", v4(PORTS))).ok();
    s.stop();
    before.assert_same(host);
}

/// The limit of neighbour table entries applies to the whole machine, so the test only changes what the switch reads.
#[test]
fn reports_more_ports_than_the_neighbour_tables_serve() {
    let host = Host::new();
    host.sh("mount -t tmpfs none /proc/sys/net/ipv4/neigh; cd /proc/sys/net/ipv4/neigh; mkdir default; echo 6 >default/gc_thresh3").ok();
    let start = host.run("uswitch start --detach --ports 3");
    assert_eq!(start.stderr, "", "enough for three ports");
    start.ok();
    host.run("uswitch stop").ok();
    let notice = host.run("uswitch start --detach --ports 4").stderr;
    assert_eq!(notice.lines().count(), 1, "{notice}");
    for words in ["4 active ports", "limit: 6 entries", "sysctl net.ipv4.neigh.default.gc_thresh3=16"] {
        assert!(notice.contains(words), "'{words}' is missing in: {notice}");
    }
    host.run("uswitch stop").ok();
    let doctor = host.run("uswitch doctor --json").json();
    let finding = doctor.as_array().unwrap().iter().find(|it| it["check"] == "neighbour tables").unwrap();
    assert_eq!(finding["what"], "6 entries on the whole machine are enough for 3 active ports");
}
