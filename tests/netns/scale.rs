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
