//! `uswitch doctor`: what works on this machine, what does not, and what mends it.

use std::process::ExitCode;

use crate::control::doctor::{self, Facts, Finding, State};
use crate::control::{Config, Options};

use super::error::CliError;
use super::output;

/// Say what of this machine a switch can use, and which command mends the rest; changes nothing
#[derive(Debug, clap::Args)]
#[command(after_help = "Ends with 0 if `uswitch start --ports 3` would work for who asks, else with 1.")]
pub(super) struct Doctor {
    /// Of the start that is judged: as `uswitch start` has it
    #[arg(long, value_name = "CIDR")]
    subnet: Vec<String>,
    /// JSON instead of text: a list of {check, state, what, fix}
    #[arg(long)]
    json: bool,
}

/// The start that is judged.
const START: &str = "uswitch start --ports 3";

impl Doctor {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let start = self.subnet.iter().fold(START.to_owned(), |start, subnet| start + " --subnet " + subnet);
        let options = Options { ports: Some(3), subnet: self.subnet, ..Options::default() };
        let findings = doctor::run_checks(&Facts::gather(&Config::new(options, None)?, start)?);
        if self.json {
            output::json(&findings)?;
        } else {
            output::print(&text(&findings))?;
        }
        let blocked = findings.iter().any(|finding| finding.state == State::Problem);
        Ok(if blocked { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

fn text(findings: &[Finding]) -> String {
    findings.iter().map(lines).collect()
}

fn lines(finding: &Finding) -> String {
    let Finding { check, what, fix, .. } = finding;
    let state = match finding.state {
        State::Ok => "ok",
        State::Note => "note",
        State::Problem => "problem",
    };
    let fix = fix.iter().map(|command| format!("{:27}fix: {command}\n", ""));
    format!("{state:9}{check:18}{what}\n") + &fix.collect::<String>()
}
