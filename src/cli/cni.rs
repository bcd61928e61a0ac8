//! `uswitch cni`: runs as a CNI plugin.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use crate::runtimes::cni;
use crate::sys;

use super::error::CliError;

/// Run as a CNI plugin, for podman, containerd or Kubernetes. Runtimes start it through a link named uswitch-cni
#[derive(Debug, clap::Args)]
pub(super) struct CniCommand {}

/// The name under which a container runtime runs the program: the `type` of a network.
const PLUGIN: &str = "uswitch-cni";

/// Longest configuration of a network, in bytes.
const LONGEST_INPUT: u64 = 1 << 20;

/// The arguments, with the subcommand if a runtime runs the program by the name of the plugin.
pub(super) fn with_plugin_name(args: Vec<OsString>) -> Vec<OsString> {
    let program = args.first().and_then(|program| Path::new(program).file_name());
    if program == Some(OsStr::new(PLUGIN)) { vec!["uswitch".into(), "cni".into()] } else { args }
}

impl CniCommand {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let mut input = Vec::new();
        let variables = env::vars_os()
            .filter_map(|(key, value)| Some((key.into_string().ok()?, value.into_string().ok()?)));
        let variables = variables.collect();
        // A user who tries the command gets the error at once.
        if !io::stdin().is_terminal() {
            let stdin = io::stdin().take(LONGEST_INPUT).read_to_end(&mut input);
            stdin.map_err(CliError::io("read the configuration of the network"))?;
        }
        let outcome = cni::run(&variables, &input, &sys::runtime_dir::directory());
        if let Some(output) = &outcome.output {
            writeln!(io::stdout(), "{output}").map_err(CliError::io("write the result"))?;
        }
        Ok(if outcome.succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}
