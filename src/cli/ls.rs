//! `uswitch ls`: lists the switches of this user.

use crate::control::client::{self, ApiClient, ClientError};
use crate::control::report::Status;
use crate::sys;

use super::error::CliError;
use super::output::{self, duration, joined, table};

/// List the running switches
#[derive(Debug, clap::Args)]
pub(super) struct LsCommand {
    /// Print JSON: a list of what `uswitch status --json` prints
    #[arg(long)]
    json: bool,
}

impl LsCommand {
    pub(super) fn run(self) -> Result<(), CliError> {
        let runtime = sys::runtime_dir::directory()?;
        let mut found = Vec::new();
        for name in client::names(&runtime) {
            let client = ApiClient::new(&name, &runtime).map_err(CliError::io("start an event loop"))?;
            match client.get::<Status>("/v1/status") {
                // It has stopped since its socket was listed.
                Err(ClientError::NotRunning { .. }) => {}
                answer => found.push((name, answer)),
            }
        }
        if self.json {
            let running: Vec<&Status> = found.iter().filter_map(|(_, answer)| answer.as_ref().ok()).collect();
            return output::json(&running);
        }
        let rows = found.iter().map(|(name, answer)| match answer {
            Ok(status) => row(status),
            Err(error) => {
                let [state, ports, engine, uptime] = Default::default();
                [name.clone(), state, ports, engine, uptime, error.to_string()]
            }
        });
        output::print(&table(["NAME", "STATE", "PORTS", "ENGINE", "UP FOR", "SUBNETS"], rows))
    }
}

fn row(status: &Status) -> [String; 6] {
    [
        status.name.clone(),
        status.state.to_string(),
        status.ports.to_string(),
        status.engine.clone(),
        duration(status.uptime),
        joined(&status.subnets),
    ]
}
