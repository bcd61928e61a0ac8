//! Services for the hosts of a switch, beside its forwarding.

pub(crate) mod dhcp;
pub(crate) mod dns;
pub(crate) mod router_advertisements;
mod service_thread;
