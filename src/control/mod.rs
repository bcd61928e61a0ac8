//! The control plane: configuration, topology, the running switch and its API. No frame passes through
//! it.

pub mod address_pool;
pub mod addressing;
pub mod capture;
pub(crate) mod client;
pub mod config;
pub(crate) mod doctor;
pub mod event;
pub(crate) mod format;
pub mod log;
pub(crate) mod metrics;
pub mod options;
pub(crate) mod private_socket;
pub mod report;
pub(crate) mod running;
mod server;
pub(crate) mod service;
mod services;
pub(crate) mod signals;
pub(crate) mod subscription;
pub mod topology;
pub mod trace;

pub use config::{Choose, Config, ConfigError, EngineChoice, FastPathChoice, StpMode};
pub use options::{Options, OptionsFile};
#[cfg(test)]
pub(crate) use server::test_server;
