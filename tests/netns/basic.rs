//! The first steps of a new user.

use crate::harness::{GATEWAY_V4, GATEWAY_V6, Host, Shell, TestSwitch, Uswitch, on_both, v4, v6};

on_both!(
    ping_between_containers,
    ping_the_gateway,
    ping_the_host_and_back,
    arping_the_gateway,
    tcp_between_container_and_host,
);

/// Asserts that the address answers to ping; `-W` bounds the wait.
#[track_caller]
fn ping(from: &impl Shell, address: &str) {
    from.run(&format!("ping -n -c 3 -i 0.2 -W 5 {address}")).ok();
}

fn ping_between_containers<S: TestSwitch>() {
    let s = S::start();
    let [h1, h2, h3] = s.containers();
    for (from, to) in [(&h1, 2), (&h1, 3), (&h2, 1), (&h2, 3), (&h3, 1), (&h3, 2)] {
        ping(from, &v4(to));
        ping(from, &v6(to));
    }
}

fn ping_the_gateway<S: TestSwitch>() {
    let s = S::start();
    for h in s.containers() {
        ping(&h, GATEWAY_V4);
        ping(&h, GATEWAY_V6);
    }
}

/// The host has other addresses than the gateway's; containers reach them by their default route.
fn ping_the_host_and_back<S: TestSwitch>() {
    let s = S::start();
    s.host().run("ip addr add 192.0.2.1/32 dev lo").ok();
    s.host().run("ip addr add 2001:db8::1/128 dev lo").ok();
    let [h1, ..] = s.containers();
    ping(&h1, "192.0.2.1");
    ping(&h1, "2001:db8::1");
    for n in 1..=3 {
        ping(s.host(), &v4(n));
        ping(s.host(), &v6(n));
    }
}

/// The gateway replies with the MAC address of its device on the host.
fn arping_the_gateway<S: TestSwitch>() {
    let s = S::start();
    let [h1, ..] = s.containers();
    let mac = s.host().run(&format!("cat /sys/class/net/{}/address", S::DEVICE)).ok();
    let said = h1.run(&format!("arping -c 1 -w 5 -I eth0 {GATEWAY_V4}")).ok().to_lowercase();
    assert!(said.contains(&format!("[{}]", mac.trim())), "{mac} does not answer in {said}");
    // Duplicate address detection (RFC 5227) fails, because the gateway has the address.
    h1.run(&format!("arping -D -c 1 -w 5 -I eth0 {GATEWAY_V4}")).fails();
}

fn tcp_between_container_and_host<S: TestSwitch>() {
    let s = S::start();
    let [h1, ..] = s.containers();
    let fetch = |server: &dyn Shell, client: &dyn Shell, address: &str| {
        let mut listener = server.spawn_sh("exec socat -d -d TCP-LISTEN:5000 'SYSTEM:echo hello'");
        listener.line_with("listening on");
        client.run(&format!("socat -u TCP:{address}:5000 STDOUT")).ok()
    };
    assert_eq!(fetch(&h1, s.host(), &v4(1)), "hello\n");
    assert_eq!(fetch(s.host(), &h1, GATEWAY_V4), "hello\n");
}

/// The output lists the next commands.
#[test]
fn start_lists_what_it_created() {
    let host = Host::new();
    let said = host.run("uswitch start --detach --ports 3").ok();
    for word in ["container1", "container3", "172.16.0.4", "fd00:172:16::4", "172.16.0.1", "uswitch exec"] {
        assert!(said.contains(word), "nothing of '{word}' in {said}");
    }
}

/// The commands in the output work.
#[test]
fn exec_runs_in_a_container() {
    let s = Uswitch::start();
    let said = s.host().run("uswitch exec container1 -- ip -4 -o addr show dev eth0").ok();
    assert!(said.contains("172.16.0.2/24"), "{said}");
    s.host().run("uswitch exec container1 -- ping -n -c 1 -W 5 172.16.0.3").ok();
    assert_eq!(s.host().sh("uswitch exec container1 -- sh -c 'exit 7'").code, Some(7));
    s.host().run("uswitch exec container9 -- true").fails();
}
