//! Tests with real traffic: namespaces, TAP devices, and common network programs. They need root.
//!
//! Each test has a private machine ([`harness::Host`]), so tests run in parallel. The behaviour tests use
//! the names and the hosts of the kernel's own tests of its bridge
//! (`tools/testing/selftests/net/forwarding/bridge_*.sh`):
//!
//! ```text
//!   h1 (container1)   h2 (container2)   h3 (container3)
//!       | eth0            | eth0            | eth0
//!   ----+-----------------+-----------------+----
//!   | swp1              swp2              swp3  |
//!   |        uswitch, or a Linux bridge         |
//!   --------------------+------------------------
//!                       | uswitch0, br0: 172.16.0.1, fd00:172:16::1
//!                     host ---- 203.0.113.0/24, 2001:db8::/64 ---- internet (nat)
//! ```
#![allow(unreachable_pub, reason = "nothing is exported; `pub` marks the interface of the harness")]

mod accounting;
mod address_clients;
mod api;
mod attach;
mod basic;
mod behaviour;
mod bench;
mod capture;
mod carrier;
mod cni;
mod cni_runtimes;
mod dhcp;
mod dhcp6;
mod dns;
mod docker;
mod docker_errors;
mod docker_ipv6;
mod docker_names;
mod docker_switches;
mod doctor;
mod engines;
mod events;
mod existing_devices;
mod existing_taps;
mod fast_path;
mod fdb;
mod handover;
mod harness;
mod impairment;
mod ipv6;
mod kathara;
mod labels;
mod labs;
mod layer2;
mod lifecycle;
mod limits;
mod log;
mod loops;
mod mac_prefix;
mod metrics;
mod mininet;
mod mirror;
mod multicast;
mod names;
mod nat;
mod neigh_suppress;
mod netavark;
mod ownership;
mod port_flags;
mod ports;
mod publish;
mod publish_loopback;
mod rootless;
mod rootless_taps;
mod router_advertisements;
mod scale;
mod security;
mod segmentation;
mod sockets;
mod stp;
mod terminal;
mod throttling;
mod trace;
mod traffic;
mod unmanaged_ports;
mod uplinks;
mod visibility;
mod vlan_routing;
mod vlan_states;
mod vlan_stats;
mod vlan_trunks;
mod vlans;
mod watch;
mod workers;
