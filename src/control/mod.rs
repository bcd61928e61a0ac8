//! What should exist, and keeping it so: configuration, topology, the API. Never on a frame's way.

pub mod config;
pub mod topology;

pub use config::{Config, EngineChoice};
