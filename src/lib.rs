//! uswitch: an Ethernet switch in user space for Linux containers.
//!
//! The modules are the layers, and dependencies point down only:
//!
//! ```text
//! cli       the command line: one file per subcommand
//!  |
//! bench     measures the switch and others side by side, and reports
//! tui       the screen of `uswitch watch`: draws the data that the API returns
//! runtimes  translates what container runtimes ask into requests of the API
//!  |
//! control   configuration, topology, the API on a Unix socket. Not on the frame path
//!  |
//! datapath  moves frames: workers, buffer pools, the io_uring and poll engines
//!  |
//! switch    forwarding decisions: FDB, ports, flooding, gateway. Pure: no device, clock or thread
//!  |
//! wire      bytes <-> types: Ethernet, ARP, IP, ND, virtio-net header, checksums, segmentation
//!
//! sys       the kernel's interfaces (TAP, netns, netlink, io_uring). Depends only on wire's types; the only place for unsafe
//! ```
//!
//! The frame path, by name: `datapath::Worker::run` -> `datapath::Engine::turn` ->
//! [`switch::Switch::process`] -> `admission::admit` -> [`switch::Fdb::learn`] -> `forward::choose` ->
//! `Worker::dispatch`. A frame for the switch itself leaves at `choose` into [`switch::gateway`].

pub mod bench;
pub mod cli;
pub mod control;
pub mod datapath;
pub mod fastpath;
mod runtimes;
pub mod switch;
#[allow(unsafe_code, reason = "the kernel's interfaces are unsafe; this module is where they become safe")]
pub mod sys;
mod tui;
pub mod wire;
