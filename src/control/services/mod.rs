//! Services for the hosts of a switch, beside its forwarding.

pub(crate) mod dhcp;
pub(crate) mod dns;
mod service_thread;
