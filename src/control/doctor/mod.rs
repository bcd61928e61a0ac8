//! What of this machine a switch needs, what it has, and what mends the rest.
//!
//! [`Facts::gather`] looks, and changes nothing; [`run_checks`] judges what was seen, and looks at nothing else.

mod checks;
mod facts;
mod network;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub(crate) use self::checks::run_checks;
pub(crate) use self::facts::Facts;

/// How a check went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// Nothing to be said.
    Ok,
    /// Less than there could be, or something to know.
    Note,
    /// A start fails.
    Problem,
}

/// What one check came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    pub(crate) check: &'static str,
    pub(crate) state: State,
    /// In a few words.
    pub(crate) what: String,
    /// The command that mends it, if one does.
    pub(crate) fix: Option<String>,
    #[serde(skip)]
    blocks: Blocks,
}

/// Whose start a finding makes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Blocks {
    Nobody,
    /// On the host itself.
    Root,
    /// In a sandbox.
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
    fn new(check: &'static str, state: State, what: impl Into<String>) -> Finding {
        Finding { check, state, what: what.into(), fix: None, blocks: Blocks::Nobody }
    }

    fn ok(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(check, State::Ok, what)
    }

    fn note(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(check, State::Note, what)
    }

    /// A problem, if it blocks whoever asks; [`run_checks`] decides.
    fn blocker(check: &'static str, blocks: Blocks, what: impl Into<String>) -> Finding {
        Finding { blocks, ..Finding::new(check, State::Note, what) }
    }

    fn fix(self, command: impl Into<String>) -> Finding {
        Finding { fix: Some(command.into()), ..self }
    }
}
