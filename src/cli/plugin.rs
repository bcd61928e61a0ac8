//! The program as a plugin of a container runtime, which starts it through a link with the plugin's name.

use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal, Read, Write};
use std::path::Path;
use std::process::ExitCode;

use serde_json::Value;

use super::error::CliError;

/// The names of the links and their subcommands.
const PLUGINS: [(&str, &str); 2] = [("uswitch-cni", "cni"), ("uswitch-netavark", "netavark")];

/// Longest input of a plugin, in bytes.
const LONGEST_INPUT: u64 = 1 << 20;

/// The arguments, with the subcommand if a runtime runs the program by the name of a plugin.
pub(super) fn with_subcommand(mut args: Vec<OsString>) -> Vec<OsString> {
    let program = args.first().and_then(|program| Path::new(program).file_name());
    let plugin = PLUGINS.into_iter().find(|(name, _)| program == Some(OsStr::new(name)));
    if let Some((_, subcommand)) = plugin {
        args.splice(..1, ["uswitch".into(), subcommand.into()]);
    }
    args
}

/// Reads standard input. A user who tries the command on a terminal gets the error at once.
pub(super) fn read_input() -> Result<Vec<u8>, CliError> {
    let mut input = Vec::new();
    if !io::stdin().is_terminal() {
        let failed = CliError::io("read the configuration of the network");
        match io::stdin().take(LONGEST_INPUT + 1).read_to_end(&mut input) {
            Ok(length) if length as u64 > LONGEST_INPUT => {
                return Err(failed(io::Error::other("it is longer than 1 MiB")));
            }
            read => read.map_err(failed)?,
        };
    }
    Ok(input)
}

/// Writes the result or the error, if there is one.
pub(super) fn finish(output: Option<&Value>, succeeded: bool) -> Result<ExitCode, CliError> {
    if let Some(output) = output {
        writeln!(io::stdout(), "{output}").map_err(CliError::io("write the result"))?;
    }
    Ok(if succeeded { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
