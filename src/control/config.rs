//! What a person asked for, checked: a [`Config`] that exists is valid in itself.

use std::time::Duration;

use ipnet::IpNet;

/// Which engine to move frames with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EngineChoice {
    /// io_uring where the kernel has what it needs, else poll.
    #[default]
    Auto,
    /// io_uring or nothing.
    Uring,
    /// epoll with read and write.
    Poll,
}

/// A switch to be started. Every value was checked by the constructor (that is to come).
#[derive(Debug, Clone)]
pub struct Config {
    /// The switch's name, and its host port's device (an interface name: at most 15 bytes).
    pub name: String,
    /// How many containers to make.
    pub ports: u16,
    /// Containers are `<prefix>1`, `<prefix>2`, ...
    pub prefix: String,
    /// The gateway has the first address of each; container N the (N+1)th.
    pub subnets: Vec<IpNet>,
    /// Masquerade what leaves the host.
    pub nat: bool,
    /// No host port.
    pub internal: bool,
    /// MTU of every device, 68 (IPv4; 1280 with IPv6 subnets) to 65521 (the kernel's limit for a TAP).
    pub mtu: u32,
    /// Worker threads.
    pub workers: usize,
    /// Engine to use.
    pub engine: EngineChoice,
    /// Super-frames and unfinished checksums may cross.
    pub offload: bool,
    /// How long a worker polls after the last frame before it sleeps.
    pub busy_poll: Duration,
    /// How long a learned address lives without a frame from it.
    pub ageing_time: Duration,
    /// Most entries in the forwarding database.
    pub fdb_max: usize,
    /// The devices' transmit queue length; the kernel's default if none.
    pub txqueuelen: Option<u32>,
}
