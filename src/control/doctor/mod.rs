//! Checks whether a switch can start on this machine, and suggests how to fix what prevents it.
//!
//! [`Facts::gather`] reads the machine and changes nothing. [`run_checks`] uses only these facts.

mod checks;
mod facts;
mod network;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub(crate) use self::checks::run_checks;
pub(crate) use self::facts::Facts;

/// Result of a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum CheckState {
    /// As it should be.
    Ok,
    /// A limitation, or something worth knowing.
    Note,
    /// A start would fail.
    Problem,
}

/// The result of one check, with an explanation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) state: CheckState,
    /// A short explanation.
    pub(crate) what: String,
    /// A command that fixes it, if there is one.
    pub(crate) fix: Option<String>,
    #[serde(skip)]
    blocks: Blocks,
}

/// The users whose start fails because of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocks {
    Nothing,
    /// Root, whose switch runs on the host itself.
    Root,
    /// Other users, whose switch runs in a sandbox.
    Others,
    Everybody,
}

impl Blocks {
    fn root(self) -> bool {
        matches!(self, Blocks::Root | Blocks::Everybody)
    }

    fn others(self) -> bool {
        matches!(self, Blocks::Others | Blocks::Everybody)
    }
}

impl Finding {
    fn new(check: &'static str, state: CheckState, what: impl Into<String>) -> Finding {
        Finding { check, state, what: what.into(), fix: None, blocks: Blocks::Nothing }
    }

    fn ok(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(check, CheckState::Ok, what)
    }

    fn note(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(check, CheckState::Note, what)
    }

    /// A problem if it concerns the current user; [`run_checks`] decides.
    fn blocker(check: &'static str, blocks: Blocks, what: impl Into<String>) -> Finding {
        Finding { blocks, ..Finding::new(check, CheckState::Note, what) }
    }

    fn fix(self, command: impl Into<String>) -> Finding {
        Finding { fix: Some(command.into()), ..self }
    }
}
