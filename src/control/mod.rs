//! What should exist, and keeping it so: configuration, topology, the API. Never on a frame's way.

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
pub mod report;
pub(crate) mod running;
mod server;
pub(crate) mod service;
pub(crate) mod signals;
pub(crate) mod subscription;
pub mod topology;
pub mod trace;

pub use config::{Config, ConfigError, EngineChoice};
pub use options::{Options, OptionsFile};
