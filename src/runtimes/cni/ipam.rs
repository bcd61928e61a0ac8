//! Runs the IPAM plugin of a network (section "Plugin Delegation"), such as host-local. It gets the same environment
//! and the same configuration.

use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{fs, io};

use serde::Deserialize;

use super::operations::CniRequest;
use super::result::CniResult;

/// Why an IPAM plugin failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum IpamError {
    #[error(
        "no IPAM plugin '{plugin}' in CNI_PATH ({path}): install it, for example with the package containernetworking-plugins"
    )]
    Missing { plugin: String, path: String },
    #[error("cannot run the IPAM plugin {plugin}: {source}")]
    Run { plugin: String, source: io::Error },
    /// What the plugin reports.
    #[error("{plugin}: {message}")]
    Refused { plugin: String, code: u32, message: String },
    #[error("the IPAM plugin {plugin} failed: {message}")]
    Failed { plugin: String, message: String },
}

/// An IPAM plugin's error.
#[derive(Debug, Deserialize)]
struct PluginError {
    code: u32,
    msg: String,
    #[serde(default)]
    details: String,
}

impl IpamError {
    pub(super) fn code(&self) -> u32 {
        match self {
            IpamError::Missing { .. } => 7,
            IpamError::Refused { code, .. } => *code,
            IpamError::Run { .. } | IpamError::Failed { .. } => 5,
        }
    }
}

/// Allocates addresses. A network without IPAM has those that the runtime asks for.
pub(super) fn add(request: &CniRequest<'_>) -> Result<CniResult, IpamError> {
    let output = run(request, "ADD")?;
    let failed = |error: serde_json::Error| IpamError::Failed {
        plugin: plugin(request).to_owned(),
        message: format!("its result is not valid: {error}"),
    };
    serde_json::from_slice(&output).map_err(failed)
}

/// Runs another operation.
pub(super) fn delegate(request: &CniRequest<'_>, command: &str) -> Result<(), IpamError> {
    if is_configured(request) { run(request, command).map(|_| ()) } else { Ok(()) }
}

/// Whether the network has an IPAM plugin.
pub(super) fn is_configured(request: &CniRequest<'_>) -> bool {
    !plugin(request).is_empty()
}

fn plugin<'a>(request: &'a CniRequest<'_>) -> &'a str {
    &request.config.fields.ipam.plugin
}

fn run(request: &CniRequest<'_>, command: &str) -> Result<Vec<u8>, IpamError> {
    let plugin = plugin(request).to_owned();
    let program = find(&plugin, &request.parameters.path)?;
    let failed = |source| IpamError::Run { plugin: plugin.clone(), source };
    let mut child = Command::new(program)
        .env_clear()
        .envs(request.variables)
        .env("CNI_COMMAND", command)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // It may end without reading, and then says why.
        let _ = stdin.write_all(request.input);
    }
    let output = child.wait_with_output().map_err(failed)?;
    // Its log. If standard error is closed, it is lost.
    let _ = io::stderr().write_all(&output.stderr);
    if output.status.success() {
        return Ok(output.stdout);
    }
    Err(match serde_json::from_slice::<PluginError>(&output.stdout) {
        Ok(PluginError { code, msg, details }) => {
            let details = if details.is_empty() { details } else { format!(": {details}") };
            IpamError::Refused { plugin, code, message: format!("{msg}{details}") }
        }
        Err(_) => {
            let message = String::from_utf8_lossy(&output.stderr).trim().replace('\n', "; ");
            IpamError::Failed { plugin, message }
        }
    })
}

/// The plugin's program: the first of its name in `CNI_PATH`.
fn find(plugin: &str, path: &[PathBuf]) -> Result<PathBuf, IpamError> {
    let is_program = |path: &Path| {
        fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    };
    // A path would name a program elsewhere.
    let mut candidates = path.iter().map(|directory| directory.join(plugin));
    let found = candidates.find(|candidate| !plugin.contains('/') && is_program(candidate));
    found.ok_or_else(|| {
        let path: Vec<String> = path.iter().map(|directory| directory.display().to_string()).collect();
        IpamError::Missing { plugin: plugin.to_owned(), path: path.join(":") }
    })
}
