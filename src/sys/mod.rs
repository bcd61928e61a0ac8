//! Safe wrappers of the kernel's interfaces: TAP devices, namespaces, netlink, io_uring, capabilities. This
//! module does not depend on the other layers, and it is the only one that uses `unsafe`.

pub mod append;
pub mod arena;
pub mod bpf;
pub mod caps;
pub mod confine;
pub mod daemon;
mod datagram_relay;
pub mod datagram_socket;
pub mod ethtool;
pub mod existing_tap;
pub mod fd_passing;
pub mod frame_socket;
pub mod hangup;
pub mod icmp;
pub mod isolated;
pub mod limits;
pub mod link_monitor;
pub mod netlink;
pub mod netns;
pub mod netns_exec;
pub mod netns_name_monitor;
pub mod nftables_monitor;
pub mod packet;
pub mod packet_message;
pub mod packet_port;
pub mod process;
pub mod queue;
pub mod runtime_dir;
pub mod sandbox;
pub mod state_dir;
pub mod stream_relay;
pub mod tap;
pub mod tap_handle;
pub mod terminal;
pub mod uring;
pub mod userns;
