//! Which running switch a command is for.

use crate::control::client::ApiClient;
use crate::control::config::{self, DEFAULT_NAME, InvalidValue};
use crate::sys;

use super::error::CliError;

/// Which running switch.
#[derive(Debug, clap::Args)]
pub(super) struct Target {
    /// Name of the switch
    #[arg(long, default_value = DEFAULT_NAME, value_parser = switch_name)]
    name: String,
}

/// A name that a switch can have.
pub(super) fn switch_name(name: &str) -> Result<String, InvalidValue> {
    config::device_name(name).map(|()| name.to_owned())
}

impl Target {
    /// Speaks to it.
    pub(super) fn client(&self) -> Result<ApiClient, CliError> {
        client(&self.name)
    }
}

/// Speaks to the switch called `name`.
pub(super) fn client(name: &str) -> Result<ApiClient, CliError> {
    ApiClient::new(name, &sys::runtime_dir::directory()?).map_err(CliError::io("start an event loop"))
}
