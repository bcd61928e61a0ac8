//! Mininet with the classes of docs/mininet.py.

use std::fs;

use crate::harness::{Host, HostSnapshot, Shell};

/// A host with the classes. After an error `mn` removes files in /tmp.
fn host() -> Host {
    let host = Host::new();
    host.run("mount -t tmpfs tmpfs /tmp").ok();
    fs::write(host.path("/run/mininet.py"), include_str!("../../docs/mininet.py")).expect("root can write");
    host
}

fn mn(host: &Host, arguments: &str) -> String {
    let options = "--custom /run/mininet.py --switch uswitch --controller none";
    let output = host.run(&format!("/usr/bin/python3 /usr/bin/mn {options} {arguments}"));
    let said = output.to_string();
    output.ok();
    said
}

/// Between all hosts of three switches in a row.
fn ping_all(link: &str) {
    let host = host();
    let before = HostSnapshot::of(&host);
    let said = mn(&host, &format!("{link} --topo linear,3,2 --test pingall"));
    assert!(said.contains("Results: 0% dropped (30/30 received)"), "{said}");
    before.assert_same(&host);
}

#[test]
fn hosts_are_connected_by_the_switchs_own_links() {
    ping_all("--link uswitch");
}

#[test]
fn hosts_are_connected_by_veth_pairs() {
    ping_all("--link default");
}

/// As `mn> link h1 s1 down` does.
#[test]
fn links_go_down_and_up() {
    let host = host();
    host.sh("printf 'link h1 s1 down\nsh uswitch port show --name s1\npingall\nlink h1 s1 up\npingall\n' > /run/script").ok();
    let said = mn(&host, "--link uswitch --test none --post /run/script");
    assert!(said.contains("down (set down)"), "{said}");
    assert!(said.contains("100% dropped") && said.contains("0% dropped (2/2 received)"), "{said}");
}
