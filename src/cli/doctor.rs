//! `uswitch doctor`: checks whether a switch can start on this machine.

use std::process::ExitCode;

use crate::control::doctor::{self, CheckState, Facts, Finding};
use crate::control::{Config, Options};

use super::error::CliError;
use super::output;

/// Check whether a switch can start on this machine, and suggest fixes
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Changes nothing. Exit code 0 if `uswitch start --ports 3` would work for the current user, else 1."
)]
pub(super) struct DoctorCommand {
    /// Subnet of the start to check, as in `uswitch start`
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// Print JSON: a list of {check, state, what, fix}
    #[arg(long)]
    json: bool,
}

/// The start that is checked.
const START: &str = "uswitch start --ports 3";

impl DoctorCommand {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let start = self.subnet.iter().fold(START.to_owned(), |start, subnet| start + " --subnet " + subnet);
        let options = Options { ports: Some(3), subnet: self.subnet, ..Options::default() };
        let findings = doctor::run_checks(&Facts::gather(&Config::new(options, None)?, start)?);
        if self.json {
            output::json(&findings)?;
        } else {
            output::print(&text(&findings))?;
        }
        let blocked = findings.iter().any(|finding| finding.state == CheckState::Problem);
        Ok(if blocked { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn text(findings: &[Finding]) -> String {
    findings.iter().map(lines).collect()
}

fn lines(finding: &Finding) -> String {
    let Finding { check, what, fix, .. } = finding;
    let state = match finding.state {
        CheckState::Ok => "ok",
        CheckState::Note => "note",
        CheckState::Problem => "problem",
    };
    let fix = fix.iter().map(|command| format!("{:27}fix: {command}\n", ""));
    format!("{state:9}{check:18}{what}\n") + &fix.collect::<String>()
}
