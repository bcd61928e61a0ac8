//! What of this machine a switch needs, what it has, and what mends the rest.
//!
//! [`Facts::gather`] looks, and changes nothing; [`examine`] judges what was seen, and looks at nothing else.

mod facts;
mod judge;
mod network;
#[cfg(test)]
mod tests;

use serde::Serialize;

pub(crate) use self::facts::Facts;
pub(crate) use self::judge::examine;

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
    pub(crate) mend: Option<String>,
    #[serde(skip)]
    stops: Stops,
}

/// Whose start a finding makes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stops {
    Nobody,
    /// On the host itself.
    Root,
    /// In a sandbox.
    Others,
    Everybody,
}

impl Stops {
    fn root(self) -> bool {
        matches!(self, Stops::Root | Stops::Everybody)
    }

    fn others(self) -> bool {
        matches!(self, Stops::Others | Stops::Everybody)
    }
}

impl Finding {
    fn new(check: &'static str, state: State, what: impl Into<String>) -> Finding {
        Finding { check, state, what: what.into(), mend: None, stops: Stops::Nobody }
    }

    fn ok(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(check, State::Ok, what)
    }

    fn note(check: &'static str, what: impl Into<String>) -> Finding {
        Finding::new(check, State::Note, what)
    }

    /// A problem, if it stops whoever asks; [`examine`] decides.
    fn stop(check: &'static str, stops: Stops, what: impl Into<String>) -> Finding {
        Finding { stops, ..Finding::new(check, State::Note, what) }
    }

    fn mend(self, command: impl Into<String>) -> Finding {
        Finding { mend: Some(command.into()), ..self }
    }
}
