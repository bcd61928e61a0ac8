//! Options about labels.

use crate::control::config::{self, LabelChanges, Labels};

/// Changes of labels.
#[derive(Debug, clap::Args)]
pub(super) struct LabelArgs {
    /// Set a label; may be repeated
    #[arg(long, value_name = "KEY=VALUE", value_parser = config::label)]
    label: Vec<(String, String)>,
    /// Remove a label; may be repeated
    #[arg(long, value_name = "KEY")]
    no_label: Vec<String>,
}

impl From<LabelArgs> for LabelChanges {
    fn from(LabelArgs { label, no_label }: LabelArgs) -> LabelChanges {
        let removed = no_label.into_iter().map(|key| (key, None));
        removed.chain(label.into_iter().map(|(key, value)| (key, Some(value)))).collect()
    }
}

/// The labels in one line.
pub(super) fn listed(labels: &Labels) -> String {
    labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(", ")
}
