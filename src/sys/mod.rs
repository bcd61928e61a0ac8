//! The kernel, made safe: TAP devices, namespaces, netlink, io_uring, capabilities. A leaf: it knows
//! nothing of the layers beside it, and it is the only place for `unsafe`.

pub mod append;
pub mod arena;
pub mod caps;
pub mod daemon;
pub mod hangup;
pub mod isolated;
pub mod limits;
pub mod link_monitor;
pub mod netlink;
pub mod netns;
pub mod netns_name_monitor;
pub mod packet;
pub mod process;
pub mod runtime_dir;
pub mod sandbox;
pub mod tap;
pub mod uring;
