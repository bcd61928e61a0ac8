//! The kernel, made safe: TAP devices, namespaces, netlink, io_uring, capabilities. A leaf: it knows
//! nothing of the layers beside it, and it is the only place for `unsafe`.

pub mod arena;
pub mod tap;
pub mod uring;
