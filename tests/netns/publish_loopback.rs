//! Published ports open nothing at 127.0.0.1 of the host, whatever its kernel would accept (`route_localnet`).

use etherparse::PacketBuilder;
use uswitch::wire::Mac;

use crate::harness::{Frame, FrozenThread, Shell, TestSwitch};
use crate::publish::{on_the_internet, refused, seen_from, serve};

/// Sends packets to 127.0.0.1 out of a device, with the MAC address of its gateway.
const TO_LOOPBACK_OF_GATEWAY: &str = "
sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.eth0.route_localnet=1
ip addr flush dev lo
ip route add 127.0.0.1 via GATEWAY dev eth0";

/// `route_localnet` does not make 127.0.0.1 of the host reachable: neither services nor ports that are published there.
#[test]
fn loopback_of_the_host_is_not_reachable_from_elsewhere() {
    let (s, internet) = on_the_internet("--publish 127.0.0.1:8080:container1:80");
    let [h1, h2, _] = s.containers();
    let mut service =
        s.host().spawn("socat -d -d TCP-LISTEN:5432,bind=127.0.0.1,fork,reuseaddr SYSTEM:hostname");
    service.line_with("listening on");
    let _servers = serve(&h1, 80);
    for (client, gateway) in [(&h2, "172.16.0.1"), (&internet, "203.0.113.1")] {
        client.sh(&TO_LOOPBACK_OF_GATEWAY.replace("GATEWAY", gateway)).ok();
        let sent = client.run("ip route get 127.0.0.1").ok();
        assert!(sent.contains("dev eth0"), "{sent}");
        refused(client, "127.0.0.1:5432");
        refused(client, "127.0.0.1:8080");
    }
    s.host().run("socat -u TCP:127.0.0.1:5432 STDOUT").ok();
    assert_eq!(seen_from(s.host(), "TCP", "127.0.0.1:8080"), "172.16.0.1");
}

/// Prints the senders of packets to port 7000 of the host.
const LISTEN: &str = "
from socket import *
s = socket(AF_INET, SOCK_DGRAM)
s.bind(('0.0.0.0', 7000))
print('listening')
while True: print(*s.recvfrom(99))";

/// Sends to 127.0.0.1 of the host, and from an address that looks like one of its own, again and again.
const SEND_BY_LOOPBACK: &str = "
from socket import *
to, own = socket(AF_INET, SOCK_DGRAM), socket(AF_INET, SOCK_DGRAM)
own.bind(('127.0.0.2', 0))
print('sending')
while True:
    to.sendto(b'to', ('127.0.0.1', 7000))
    own.sendto(b'from', ('172.16.0.1', 7000))";

#[test]
fn loopback_of_the_host_stays_closed_while_ports_are_published_and_withdrawn() {
    let (s, _internet) = on_the_internet("--guard off --publish 9000:container2:80");
    let [_, h2, _] = s.containers();
    s.host()
        .sh(&format!(
            "cat > /run/listen.py <<END{LISTEN}\nEND\ncat > /run/send.py <<END{SEND_BY_LOOPBACK}\nEND"
        ))
        .ok();
    let mut service = s.host().spawn("python3 -u /run/listen.py");
    service.line_with("listening");
    h2.sh(&TO_LOOPBACK_OF_GATEWAY.replace("GATEWAY", "172.16.0.1")).ok();
    h2.run("ip addr add 127.0.0.2/32 dev eth0").ok();
    let mut sender = h2.spawn("python3 -u /run/send.py");
    sender.line_with("sending");
    for _ in 0..10 {
        s.host().run("uswitch port publish container1 127.0.0.1:8080:80").ok();
        s.host().run("uswitch port unpublish container1 127.0.0.1:8080:80").ok();
    }
    s.host().sh("echo own | socat -u STDIN UDP:127.0.0.1:7000").ok();
    let first = service.line();
    assert!(first.as_ref().is_some_and(|line| line.contains("own")), "{first:?}");
}

/// A datagram to port 7000.
fn datagram([from, to]: [Mac; 2], [source, destination]: [[u8; 4]; 2], text: &str) -> Frame {
    let mut frame = Vec::new();
    let headers = PacketBuilder::ethernet2(from.0, to.0).ipv4(source, destination, 64).udp(7000, 7000);
    headers.write_to_vec(&mut frame, text.as_bytes()).expect("it is short");
    frame
}

/// Another program has flushed the rules, and the switch, which is stopped here, has not restored them yet.
fn stays_closed_without_the_rules(fast_path: &str) {
    const OWN: [u8; 4] = [172, 16, 0, 3];
    const GATEWAY: [u8; 4] = [172, 16, 0, 1];
    let options = format!("--guard off --publish 127.0.0.1:8080:container1:80 --fast-path {fast_path}");
    let (s, _internet) = on_the_internet(&options);
    let [_, h2, _] = s.containers();
    s.host().sh(&format!("cat > /run/listen.py <<END{LISTEN}\nEND")).ok();
    let mut service = s.host().spawn("python3 -u /run/listen.py");
    service.line_with("listening");
    let gateway = s.host().run("cat /sys/class/net/uswitch0/address").ok().trim().parse().expect("a MAC");
    let own = datagram([h2.mac(), gateway], [OWN, GATEWAY], "own");
    let martians = [gateway, Mac::BROADCAST].map(|to| {
        let pairs = [[OWN, [127, 0, 0, 1]], [[127, 0, 0, 2], GATEWAY]];
        pairs.map(|addresses| datagram([h2.mac(), to], addresses, "martian"))
    });
    let _control = FrozenThread::freeze(&s, "uswitch");
    s.host().run("nft flush ruleset").ok();
    // After the first round the fast path knows both ports.
    for _ in 0..3 {
        h2.send(&[&martians.concat()[..], std::slice::from_ref(&own)].concat());
        let first = service.line();
        assert!(first.as_ref().is_some_and(|line| line.contains("own")), "{first:?}");
    }
}

#[test]
fn loopback_of_the_host_stays_closed_without_the_rules() {
    stays_closed_without_the_rules("off");
}

#[test]
fn fast_path_keeps_loopback_of_the_host_closed_without_the_rules() {
    stays_closed_without_the_rules("on");
}
