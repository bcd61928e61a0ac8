//! Translators between container runtimes and the API of the switches.

mod attachment;
pub(crate) mod cni;
pub(crate) mod docker;
pub(crate) mod netavark;
mod port_mapping;

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What a plugin that is run for each operation writes to standard output, and whether the operation succeeded.
#[derive(Debug, PartialEq)]
pub(crate) struct PluginOutcome {
    /// JSON; `None`: nothing.
    pub(crate) output: Option<Value>,
    /// Whether the exit code is 0.
    pub(crate) succeeded: bool,
}

/// In Go, what is not there can be null.
fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}
