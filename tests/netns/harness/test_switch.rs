//! The switches under test: uswitch, and the Linux bridge as a control.

use std::ops::RangeInclusive;

use serde::Deserialize;
use serde_json::Value;
use uswitch::wire::Mac;

use super::host::{Host, TestNetns};
use super::shell::Shell;
use super::wait_until;

/// The gateway's IPv4 address by default.
pub const GATEWAY_V4: &str = "172.16.0.1";
/// The gateway's IPv6 address by default.
pub const GATEWAY_V6: &str = "fd00:172:16::1";

/// A container's IPv4 address by default.
pub fn v4(container: u16) -> String {
    let [high, low] = (container + 1).to_be_bytes();
    format!("172.16.{high}.{low}")
}

/// A container's IPv6 address by default.
pub fn v6(container: u16) -> String {
    format!("fd00:172:16::{:x}", container + 1)
}

/// An entry of a forwarding database, as `bridge -j fdb show` prints it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct BridgeFdbEntry {
    /// The MAC address.
    pub mac: Mac,
    /// The port.
    pub ifname: String,
    /// `static`, `permanent`, or empty for a learned entry.
    #[serde(default)]
    pub state: String,
}

/// A running switch with three containers, which have the same names and addresses with every switch. A port
/// has the name of its container.
pub trait TestSwitch {
    /// Its device on the host.
    const DEVICE: &str;
    /// Last octets of the group addresses 01-80-C2-00-00-XX that it does not forward.
    const RESERVED: RangeInclusive<u8>;

    /// Starts it on a new host.
    fn start() -> Self;
    /// Starts it with this ageing time, in seconds.
    fn with_ageing_time(seconds: u32) -> Self;
    /// The host that it runs on.
    fn host(&self) -> &Host;
    /// The forwarding database, in the format of `bridge -j fdb show`.
    fn fdb_json(&self) -> String;
    /// The ports, in the format of `bridge -j -d link show`.
    fn link_json(&self) -> String;

    /// The containers: h1, h2, h3.
    fn containers(&self) -> [TestNetns; 3] {
        [1, 2, 3].map(|n| self.host().netns(&format!("container{n}")))
    }

    /// The forwarding database.
    fn fdb(&self) -> Vec<BridgeFdbEntry> {
        let json = self.fdb_json();
        serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error} in {json}"))
    }

    /// The port of a MAC address, if it is known.
    fn port_of(&self, mac: Mac) -> Option<String> {
        self.fdb().into_iter().find(|entry| entry.mac == mac).map(|entry| entry.ifname)
    }

    /// Waits until a MAC address is learned on a container's port.
    fn wait_until_learned(&self, mac: Mac, port: &TestNetns) {
        let what = format!("{mac} is learned on {}", port.name());
        wait_until(&what, || self.port_of(mac).as_deref() == Some(port.name()));
    }
}

/// The program under test.
pub struct Uswitch {
    host: Host,
}

impl Uswitch {
    /// Starts it on a new host, in the background. It forwards when this returns.
    pub fn with(arguments: &str) -> Uswitch {
        Uswitch::on(Host::new(), arguments)
    }

    /// Starts it on this host.
    pub fn on(host: Host, arguments: &str) -> Uswitch {
        host.run(&format!("uswitch start --detach {arguments}")).ok();
        Uswitch::running(host)
    }

    /// The switch that already runs on a host.
    pub fn running(host: Host) -> Uswitch {
        Uswitch { host }
    }

    /// The output of a subcommand with `--json`.
    #[track_caller]
    pub fn json(&self, subcommand: &str) -> Value {
        self.host.run(&format!("uswitch {subcommand} --json")).json()
    }

    /// A port's entry in `uswitch port show` or `uswitch stats`.
    #[track_caller]
    pub fn row(&self, subcommand: &str, port: &str) -> Value {
        let rows = self.json(subcommand);
        let found = rows.as_array().and_then(|rows| rows.iter().find(|row| row["ifname"] == port));
        found.unwrap_or_else(|| panic!("no row of {port} in {rows}")).clone()
    }

    /// The value of a port's counter.
    #[track_caller]
    pub fn count(&self, port: &str, counter: &str) -> u64 {
        let row = self.row("stats", port);
        row[counter].as_u64().unwrap_or_else(|| panic!("no count {counter} in {row}"))
    }

    /// The number of frames that were dropped at a port for this reason.
    #[track_caller]
    pub fn drops(&self, port: &str, reason: &str) -> u64 {
        let row = self.row("stats", port);
        row["drops"][reason].as_u64().unwrap_or_else(|| panic!("no drop reason {reason} in {row}"))
    }

    /// Stops it.
    #[track_caller]
    pub fn stop(&self) {
        self.host.run("uswitch stop").ok();
    }

    /// Its PID.
    pub fn pid(&self) -> u32 {
        let pids = self.host.run("pgrep -x uswitch").ok();
        pids.trim().parse().unwrap_or_else(|_| panic!("not one process: {pids}"))
    }
}

impl TestSwitch for Uswitch {
    const DEVICE: &str = "uswitch0";
    const RESERVED: RangeInclusive<u8> = 0x01..=0x0f;

    // The tests that run on both switches send frames from made-up addresses.
    fn start() -> Uswitch {
        Uswitch::with("--ports 3 --guard off")
    }
    fn with_ageing_time(seconds: u32) -> Uswitch {
        Uswitch::with(&format!("--ports 3 --guard off --ageing-time {seconds}"))
    }
    fn host(&self) -> &Host {
        &self.host
    }
    fn fdb_json(&self) -> String {
        self.host.run("uswitch fdb show --json").ok()
    }
    fn link_json(&self) -> String {
        self.host.run("uswitch port show --json").ok()
    }
}

/// The kernel's bridge, with a veth pair for each container.
pub struct LinuxBridge {
    host: Host,
}

const BRIDGE: &str = "
ip link add br0 type bridge
ip addr add 172.16.0.1/24 dev br0
ip addr add fd00:172:16::1/64 dev br0 nodad
ip link set br0 up
for n in 1 2 3; do
    c=container$n i=$((n + 1))
    ip netns add $c
    ip link add $c type veth peer name eth0 netns $c
    ip link set $c master br0 up
    ip -n $c link set lo up
    ip -n $c link set eth0 up
    ip -n $c addr add 172.16.0.$i/24 dev eth0
    ip -n $c addr add fd00:172:16::$i/64 dev eth0 nodad
    ip -n $c route add default via 172.16.0.1
    ip -n $c -6 route add default via fd00:172:16::1
done";

impl TestSwitch for LinuxBridge {
    const DEVICE: &str = "br0";
    /// Without spanning tree it forwards the bridge group address, -00 (`net/bridge/br_input.c`,
    /// `br_handle_frame`).
    const RESERVED: RangeInclusive<u8> = 0x01..=0x0f;

    fn start() -> LinuxBridge {
        let host = Host::new();
        host.sh(BRIDGE).ok();
        LinuxBridge { host }
    }
    /// The unit of the bridge's option is 0.01 s.
    fn with_ageing_time(seconds: u32) -> LinuxBridge {
        let bridge = LinuxBridge::start();
        bridge.host.run(&format!("ip link set br0 type bridge ageing_time {}", seconds * 100)).ok();
        bridge
    }
    fn host(&self) -> &Host {
        &self.host
    }
    fn fdb_json(&self) -> String {
        self.host.run("bridge -j fdb show br br0").ok()
    }
    fn link_json(&self) -> String {
        self.host.run("bridge -j -d link show").ok()
    }
}
