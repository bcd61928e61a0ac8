//! The CNI plugin: attaches containers of podman, containerd and Kubernetes to a running switch.
//!
//! A container runtime runs a plugin for each operation. The operation and the container are environment variables, the
//! configuration of the network is JSON on standard input, and the result or the error is JSON on standard output (the
//! Container Network Interface Specification, versions 0.4.0, 1.0.0 and 1.1.0).
//!
//! The plugin has no state: the other operations find a port by its labels ([`super::attachment`]). IPAM plugins
//! allocate addresses ([`ipam`]). The switch creates the device in the container's namespace, and the plugin configures
//! it there.

mod config;
mod error;
mod ipam;
mod operations;
mod parameters;
mod result;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use config::NetworkConfig;
use error::CniError;
use parameters::{CniParameters, Operation};
use result::SpecVersion;

use super::PluginOutcome;
use crate::sys::runtime_dir::RuntimeDirError;

/// Carries out the operation that these environment variables and this standard input describe. `runtime` is the
/// directory of the switches' sockets.
pub(crate) fn run(
    variables: &HashMap<String, String>,
    input: &[u8],
    runtime: &Result<PathBuf, RuntimeDirError>,
) -> PluginOutcome {
    match carry_out(variables, input, runtime) {
        Ok(output) => PluginOutcome { output, succeeded: true },
        Err(error) => {
            let version = config::version_of(input).unwrap_or_else(|| SpecVersion::LATEST.to_string());
            PluginOutcome { output: Some(error.report(&version)), succeeded: false }
        }
    }
}

fn carry_out(
    variables: &HashMap<String, String>,
    input: &[u8],
    runtime: &Result<PathBuf, RuntimeDirError>,
) -> Result<Option<Value>, CniError> {
    let operation = Operation::of(variables)?;
    if operation == Operation::Version {
        return Ok(Some(versions(input)));
    }
    let config = NetworkConfig::parse(operation, input)?;
    let parameters = CniParameters::parse(operation, variables)?;
    let runtime = runtime.as_ref().map_err(|error| CniError::Io(error.to_string()))?;
    operations::run(&operations::CniRequest { parameters, config, input, variables, runtime })
}

/// The answer to VERSION, in the version that the runtime uses.
fn versions(input: &[u8]) -> Value {
    json!({
        "cniVersion": config::version_of(input).unwrap_or_else(|| SpecVersion::LATEST.to_string()),
        "supportedVersions": SpecVersion::ALL.map(|version| version.to_string()),
    })
}

/// A value as JSON.
fn to_json(value: impl Serialize) -> Result<Value, CniError> {
    serde_json::to_value(value).map_err(|error| CniError::Io(format!("cannot write JSON: {error}")))
}
