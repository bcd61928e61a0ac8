//! What should exist, and keeping it so: configuration, topology, the API. Never on a frame's way.

pub mod addressing;
pub mod config;
pub mod options;
pub mod topology;

pub use config::{Config, ConfigError, EngineChoice};
pub use options::{Options, OptionsFile};
