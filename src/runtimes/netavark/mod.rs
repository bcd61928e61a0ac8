//! The netavark plugin: attaches containers of podman to a running switch.
//!
//! Netavark, the network program of podman, runs the plugin that has the name of the network's driver. The command is
//! an argument, the configuration is JSON on standard input, and the result or the error is JSON on standard output
//! (`plugin-API.md` of netavark, version 1.0.0). Podman allocates the addresses.
//!
//! The plugin has no state: `teardown` finds a port by its labels ([`super::attachment`]).

mod error;
mod network;
mod operations;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};

use error::NetavarkError;

use super::PluginOutcome;
use crate::sys::runtime_dir::RuntimeDirError;

/// The version of the plugin API.
const API_VERSION: &str = "1.0.0";

/// Carries out the command of these arguments with this standard input. `runtime` is the directory of the switches'
/// sockets.
pub(crate) fn run(
    arguments: &[String],
    input: &[u8],
    runtime: &Result<PathBuf, RuntimeDirError>,
) -> PluginOutcome {
    match carry_out(arguments, input, runtime) {
        Ok(output) => PluginOutcome { output, succeeded: true },
        Err(error) => PluginOutcome { output: Some(error.report()), succeeded: false },
    }
}

fn carry_out(
    arguments: &[String],
    input: &[u8],
    runtime: &Result<PathBuf, RuntimeDirError>,
) -> Result<Option<Value>, NetavarkError> {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let runtime = || runtime.as_ref().map_err(|error| NetavarkError::RuntimeDir(error.to_string()));
    match arguments[..] {
        ["create"] => operations::create(parse(input)?, runtime()?).map(Some),
        ["setup", netns] => operations::setup(&parse(input)?, Path::new(netns), runtime()?).map(Some),
        ["teardown", netns] => {
            operations::teardown(&parse(input)?, Path::new(netns), runtime()?).map(|()| None)
        }
        ["info"] => Ok(Some(json!({ "version": env!("CARGO_PKG_VERSION"), "api_version": API_VERSION }))),
        _ => Err(NetavarkError::Arguments(arguments.join(" "))),
    }
}

fn parse<'a, T: Deserialize<'a>>(input: &'a [u8]) -> Result<T, NetavarkError> {
    serde_json::from_slice(input).map_err(|error| NetavarkError::Input(error.to_string()))
}
