//! Tests on real traffic: namespaces, TAP devices, and programs that others wrote. Need root.
//!
//! Every test has a machine of its own ([`harness::Host`]), so they run beside each other. Names and actors of the
//! tests of behaviour are those of the kernel's own tests of its bridge
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
#![allow(unreachable_pub, reason = "nothing is exported; `pub` marks what the tests may use of the harness")]

mod accounting;
mod api;
mod basic;
mod behaviour;
mod bench;
mod capture;
mod doctor;
mod engines;
mod events;
mod harness;
mod labs;
mod lifecycle;
mod log;
mod metrics;
mod nat;
mod ports;
mod rootless;
mod scale;
mod security;
mod segmentation;
mod terminal;
mod trace;
mod traffic;
mod visibility;
mod watch;
