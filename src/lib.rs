//! uswitch: an Ethernet switch in user space for Linux containers.
//!
//! The modules are the layers, and dependencies point down only:
//!
//! ```text
//! cli       what a person types and sees: one file per subcommand
//!  |
//! bench     measures the switch beside others, and tells
//! tui       the screen of `uswitch watch`: draws what the API says
//!  |
//! control   what should exist: config, topology, the API on a Unix socket. Never on a frame's way
//!  |
//! datapath  moves frames: workers, buffer pools, the io_uring and poll engines
//!  |
//! switch    decides: FDB, ports, flooding, gateway. Pure: no device, clock or thread of its own
//!  |
//! wire      bytes <-> types: Ethernet, ARP, IP, ND, virtio-net header, checksums, segmentation
//!
//! sys       a leaf beside them: the kernel (TAP, netns, netlink, io_uring). The only place for unsafe
//! ```
//!
//! A frame's way, by name: `datapath::Worker::run` -> `datapath::Engine::turn` ->
//! [`switch::Switch::process`] -> `forward::admit` -> [`switch::Fdb::learn`] -> `forward::choose` ->
//! `Worker::dispatch`. A frame for the switch itself leaves at `choose` into [`switch::gateway`].

pub mod bench;
pub mod cli;
pub mod control;
pub mod datapath;
pub mod switch;
#[allow(unsafe_code, reason = "the kernel's interfaces are unsafe; this module is where they become safe")]
pub mod sys;
mod tui;
pub mod wire;
