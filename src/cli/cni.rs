//! `uswitch cni`: runs as a CNI plugin.

use std::env;
use std::process::ExitCode;

use crate::runtimes::cni;
use crate::sys;

use super::error::CliError;
use super::plugin;

/// Run as a CNI plugin, for podman, containerd or Kubernetes. Runtimes start it through a link named uswitch-cni
#[derive(Debug, clap::Args)]
pub(super) struct CniCommand {}

impl CniCommand {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let variables = env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        let outcome = cni::run(&variables.collect(), &plugin::read_input()?, &sys::runtime_dir::directory());
        plugin::finish(outcome.output.as_ref(), outcome.succeeded)
    }
}
