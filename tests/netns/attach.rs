//! Existing namespaces become containers of the switch.

use nix::sys::signal::Signal;

use crate::harness::{Host, Shell, TestSwitch, Uswitch, v4};

#[test]
fn attaches_to_a_named_netns() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    host.run("ip netns add own").ok();
    let own = host.netns("own");
    host.run("uswitch port add lab --netns own --ip 172.16.0.50/24 --mac 02:00:5e:00:53:50 --ifname lan0")
        .ok();
    let link = own.run("ip -o link show lan0").ok();
    assert!(link.contains("02:00:5e:00:53:50"), "{link}");
    own.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
    host.run("ping -n -c 1 -W 5 172.16.0.50").ok();
    host.run("uswitch port del lab").ok();
    own.run("ip link show lan0").fails();
    host.run("uswitch port add lab --netns /run/netns/own --ip 172.16.0.51/24").ok();
    host.run("ping -n -c 1 -W 5 172.16.0.51").ok();
    s.stop();
    assert!(host.run("ip netns list").ok().contains("own"), "the namespace was not ours to take away");
    own.run("ip link show eth0").fails();
}

/// The process runs in a namespace without a name, as containers of other tools do.
#[test]
fn attaches_to_the_netns_of_a_process() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    let mut process = host.spawn_sh("exec unshare --net sh -c 'echo $$; exec sleep infinity'");
    let pid: u32 = process.line_with("").trim().parse().expect("a shell prints its own number");
    host.run(&format!("uswitch port add lab --netns {pid} --ip 172.16.0.60/24")).ok();
    host.run("ping -n -c 1 -W 5 172.16.0.60").ok();
    host.run(&format!("nsenter --target {pid} --net ip link show eth0")).ok();
}

/// As with `ip link set netns`.
#[test]
fn netns_name_takes_precedence_over_pid() {
    let s = Uswitch::with("--ports 1");
    s.host().run("ip netns add 1").ok();
    s.host().run("uswitch port add lab --netns 1 --ip 172.16.0.60/24").ok();
    s.host().netns("1").run("ip link show eth0").ok();
    let said = s.host().run("uswitch port add own --netns /proc/self/ns/net").fails();
    assert!(said.contains("/proc/self/ns/net") && said.trim().lines().count() == 1, "{said}");
}

/// The host's namespace has the host port. A second one would give the host another address and default route.
#[test]
fn rejects_the_namespace_of_the_host() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    let before = host.sh("ip -br address; ip route").ok();
    host.sh("touch /run/netns/here; mount --bind /proc/self/ns/net /run/netns/here").ok();
    let process = host.spawn_sh("exec sleep infinity");
    for netns in ["1", "/proc/1/ns/net", "here", &s.pid().to_string()] {
        let said = host.run(&format!("uswitch port add lab --netns {netns}")).fails();
        assert!(
            said.contains("namespace of the host") && said.trim().lines().count() == 1,
            "{netns}: {said}"
        );
    }
    drop(process);
    assert_eq!(host.sh("ip -br address; ip route").ok(), before);
    assert_eq!(s.json("port show").as_array().map(Vec::len), Some(2));
}

#[test]
fn rejects_second_port_in_a_namespace_unless_asked() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    host.run("ip netns add own").ok();
    host.run("uswitch port add lab --netns own").ok();
    for (netns, port) in [("own", "lab"), ("/run/netns/own", "lab"), ("container1", "container1")] {
        let said = host.run(&format!("uswitch port add other --netns {netns} --ifname lan1")).fails();
        assert!(said.contains(&format!("already has the port {port}")), "{said}");
    }
    host.run("uswitch port add other --netns own --ifname lan1 --shared-netns").ok();
    host.run("uswitch port del lab").ok();
    host.run("uswitch port del other").ok();
    host.run("uswitch port add lab --netns own").ok();
}

/// The container has so many routes that the kernel lists them in a hundred datagrams of each family.
#[test]
fn attaching_does_not_list_the_routes_of_the_container() {
    const MOST_DATAGRAMS: usize = 40;
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    host.run("ip netns add own").ok();
    let own = host.netns("own");
    own.sh("ip link set lo up; for a in $(seq 0 199); do for b in $(seq 0 249); do \
            echo route add unreachable 10.$a.$b.0/24; echo route add unreachable 2001:db8:$a:$b::/64; \
            done; done | ip -batch -")
        .ok();
    let mut strace = host.spawn_sh(&format!("exec strace -f -e trace=recvfrom -p {}", s.pid()));
    strace.line_with("attached");
    host.run("uswitch port add lab --netns own --ip 172.16.0.50/24 --ip fd00:172:16::50/64").ok();
    strace.signal(Signal::SIGINT);
    let (_, calls) = strace.wait();
    let datagrams = calls.lines().filter(|line| line.contains("recvfrom(")).count();
    assert!((1..MOST_DATAGRAMS).contains(&datagrams), "{datagrams} datagrams");
    assert!(own.run("ip route show default").ok().contains("via 172.16.0.1"));
    assert!(own.run("ip -6 route show default").ok().contains("via fd00:172:16::1"));
    own.run(&format!("ping -n -c 1 -W 5 {}", v4(1))).ok();
}

/// A default route of the container stays, whatever its metric.
#[test]
fn attaching_keeps_default_routes() {
    let s = Uswitch::with("--ports 1");
    let host = s.host();
    host.run("ip netns add own").ok();
    let own = host.netns("own");
    own.sh("ip link set lo up; ip link add up0 type veth peer name down0; ip link set down0 up; \
            ip addr add 10.0.0.2/24 dev up0; ip addr add fd00:10::2/64 dev up0 nodad; ip link set up0 up; \
            ip route add 0.0.0.0/8 via 10.0.0.3; ip route add default via 10.0.0.1 metric 500; \
            ip route add default via fd00:10::1 metric 500")
        .ok();
    let said = host.sh("uswitch port add lab --netns own 2>&1").ok();
    for family in ["IPv4", "IPv6"] {
        assert!(said.contains(&format!("already has an {family} default route, which is kept")), "{said}");
    }
    let routes = own.sh("ip route show default; ip -6 route show default").ok();
    assert!(!routes.contains("172.16") && routes.lines().count() == 2, "{routes}");
}

/// Where IPv6 is disabled, a port and the host port get only IPv4 addresses, and a notice says so.
#[test]
fn port_without_ipv6_where_it_is_disabled() {
    let host = Host::new();
    let disable = "sysctl -q -w net.ipv6.conf.all.disable_ipv6=1";
    host.sh(&format!("{disable}; ip netns add lab; ip netns exec lab {disable}")).ok();
    let done = host.run("uswitch start --detach --ports 1");
    assert!(
        done.succeeded() && done.stderr.contains("IPv6 is disabled in the namespace of uswitch0"),
        "{done}"
    );
    let done = host.run("uswitch port add lab --netns lab");
    assert!(done.succeeded() && done.stderr.contains("IPv6 is disabled in the namespace of eth0"), "{done}");
    let ports = host.run("uswitch port show --json").json();
    let lab = ports.as_array().and_then(|ports| ports.iter().find(|port| port["ifname"] == "lab"));
    assert_eq!(lab.map(|lab| &lab["addresses"]), Some(&serde_json::json!(["172.16.0.3/24"])));
    host.run("ip netns exec lab ping -n -c 1 -W 5 172.16.0.2").ok();
    host.run("ip netns exec container1 ping -n -c 1 -W 5 fd00:172:16::1").ok();
    host.run("uswitch port del lab").ok();
    let said = host.run("uswitch port add lab --netns lab --ip fd00:172:16::9/64").fails();
    assert!(said.trim().lines().count() == 1 && said.contains("disable_ipv6=0`"), "{said}");
    let said = host.run("ip -n lab link show").ok();
    assert!(!said.contains("eth0"), "{said}");
    // The command that the error names.
    host.run("ip netns exec lab sysctl -w net.ipv6.conf.all.disable_ipv6=0").ok();
    host.run("uswitch port add lab --netns lab").ok();
    host.run("ip netns exec lab ping -n -c 1 -W 5 fd00:172:16::2").ok();
    host.run("uswitch stop").ok();
}
