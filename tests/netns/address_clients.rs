//! `--ra --dhcp`: clients that use router advertisements and both versions of DHCP together, as distributions set them
//! up.

use crate::harness::{GATEWAY_V4, GATEWAY_V6, Process, Shell, TestNetns, TestSwitch, Uswitch, wait_until};

/// systemd-networkd without systemd: it needs its directories and a read-only `/sys`, as in a container without udev.
const NETWORKD: &str = "
mkdir -p /run/systemd/network /run/systemd/netif
chown -R systemd-network: /run/systemd/netif
cat >/run/systemd/network/eth0.network <<'END'
[Match]
Name=eth0
[Network]
DHCP=yes
IPv6AcceptRA=yes
[DHCPv4]
ClientIdentifier=mac
[DHCPv6]
DUIDType=link-layer
END
mount -o remount,ro /sys
exec /lib/systemd/systemd-networkd";

const DHCPCD: &str = "
cat >/run/dhcpcd.conf <<'END'
duid ll
slaac hwaddr
ipv6rs
ia_na
option domain_name_servers, domain_name, domain_search, interface_mtu
END
exec dhcpcd --nobackground --config /run/dhcpcd.conf --script /bin/true eth0";

fn switch() -> (Uswitch, TestNetns) {
    let s = Uswitch::with("--ports 1 --ra --dhcp --dns --domain lab.test");
    s.host().run("uswitch port add web --ip none").ok();
    let web = s.host().netns("web");
    (s, web)
}

/// Waits for the leased addresses and the one that the client makes, and checks that the guard lets all of them pass.
fn check(s: &Uswitch, web: &TestNetns, _client: &Process) {
    let has =
        |address: &str| web.run("ip -o addr show dev eth0 scope global -tentative").ok().contains(address);
    let made = uswitch::switch::guard::autoconfigured([0xfd00, 0x172, 0x16, 0, 0, 0, 0, 0].into(), web.mac());
    for address in ["172.16.0.3/24", "fd00:172:16::3/", &format!("{made}/64")] {
        wait_until(&format!("the client has {address}"), || has(address));
    }
    wait_until("there are default routes", || {
        ["-4", "-6"].iter().all(|family| !web.run(&format!("ip {family} route show default")).ok().is_empty())
    });
    for (source, target) in
        [("172.16.0.3", GATEWAY_V4), ("fd00:172:16::3", GATEWAY_V6), (made.to_string().as_str(), GATEWAY_V6)]
    {
        web.run(&format!("ping -n -c 1 -W 20 -I {source} {target}")).ok();
    }
    for reason in ["spoofed_ip", "spoofed_nd", "spoofed_arp", "spoofed_mac"] {
        assert_eq!(s.drops("web", reason), 0, "{reason}");
    }
}

#[test]
fn systemd_networkd_configures_a_container() {
    let (s, web) = switch();
    let networkd = web.spawn_sh(NETWORKD);
    check(&s, &web, &networkd);
}

#[test]
fn dhcpcd_configures_a_container() {
    let (s, web) = switch();
    let dhcpcd = web.spawn_sh(DHCPCD);
    check(&s, &web, &dhcpcd);
}
