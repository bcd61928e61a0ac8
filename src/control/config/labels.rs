//! Labels KEY=VALUE of a switch or a port, for users and other programs. The switch ignores them.

use std::collections::BTreeMap;

use super::InvalidValue;

/// Labels by their key.
pub type Labels = BTreeMap<String, String>;

/// Changes of labels by their key. `None` removes the label, as in a JSON merge patch (RFC 7396).
pub type LabelChanges = BTreeMap<String, Option<String>>;

/// Label of a port that has more names of its container, separated by commas.
pub(crate) const ALIAS_LABEL: &str = "alias";

/// Most labels of a switch or a port.
pub(super) const MOST_LABELS: usize = 32;
/// Longest key, in bytes.
pub(super) const LONGEST_KEY: usize = 128;
/// Longest value, in bytes.
pub(crate) const LONGEST_VALUE: usize = 1024;

/// Parses KEY=VALUE.
///
/// # Errors
/// It has no `=`, or not a valid key and value.
pub fn label(text: &str) -> Result<(String, String), InvalidValue> {
    let (key, value) = text.split_once('=').ok_or_else(|| InvalidValue::LabelSyntax(text.to_owned()))?;
    check(key, value)?;
    Ok((key.to_owned(), value.to_owned()))
}

/// Checks labels.
///
/// # Errors
/// A key or a value is not valid, or there are too many.
pub fn check_labels(labels: &Labels) -> Result<(), InvalidValue> {
    labels.iter().try_for_each(|(key, value)| check(key, value))?;
    if labels.len() > MOST_LABELS { Err(InvalidValue::TooManyLabels(labels.len())) } else { Ok(()) }
}

/// The labels after these changes.
///
/// # Errors
/// They are not valid.
pub fn changed_labels(labels: &Labels, changes: &LabelChanges) -> Result<Labels, InvalidValue> {
    let mut labels = labels.clone();
    for (key, value) in changes {
        match value {
            Some(value) => labels.insert(key.clone(), value.clone()),
            None => labels.remove(key),
        };
    }
    check_labels(&labels).map(|()| labels)
}

/// Whether a label is there: KEY with any value, or KEY=VALUE.
pub fn has_label(labels: &Labels, wanted: &str) -> bool {
    match wanted.split_once('=') {
        Some((key, value)) => labels.get(key).is_some_and(|found| found == value),
        None => labels.contains_key(wanted),
    }
}

/// Control characters would split a line of output.
fn check(key: &str, value: &str) -> Result<(), InvalidValue> {
    let is_key = (1..=LONGEST_KEY).contains(&key.len())
        && !key.contains(|c: char| c == '=' || c.is_whitespace() || c.is_control());
    let is_value = value.len() <= LONGEST_VALUE && !value.contains(char::is_control);
    if is_key && is_value { Ok(()) } else { Err(InvalidValue::LabelSyntax(format!("{key}={value}"))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(texts: &[&str]) -> Labels {
        texts.iter().map(|text| label(text).unwrap()).collect()
    }

    #[test]
    fn label_is_a_key_and_a_value() {
        assert_eq!(labels(&["a=b", "c=", "d=e=f"])["d"], "e=f");
        let container = format!("container={}", "f".repeat(64));
        assert_eq!(labels(&[&container])["container"].len(), 64);
        let long = [format!("{}=v", "k".repeat(129)), format!("k={}", "v".repeat(1025))];
        for wrong in ["", "a", "=b", "a b=c", "a\n=b", "a=b\nc", &long[0], &long[1]] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn changes_add_replace_and_remove_up_to_the_limit() {
        let changes = |texts: &[(&str, Option<&str>)]| -> LabelChanges {
            texts.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect()
        };
        let before = labels(&["a=1", "b=2"]);
        let after = changed_labels(&before, &changes(&[("a", None), ("b", Some("3")), ("c", Some("4"))]));
        assert_eq!(after, Ok(labels(&["b=3", "c=4"])));
        let keys: Vec<String> = (0..MOST_LABELS).map(|n| format!("k{n}")).collect();
        let most: LabelChanges = keys.iter().map(|key| (key.clone(), Some(String::new()))).collect();
        let full = changed_labels(&Labels::new(), &most).unwrap();
        assert_eq!(
            changed_labels(&full, &changes(&[("a", Some("1"))])),
            Err(InvalidValue::TooManyLabels(33))
        );
        assert!(changed_labels(&full, &changes(&[("a", Some("1")), ("k0", None)])).is_ok());
    }

    #[test]
    fn selects_by_key_or_by_key_and_value() {
        let found = labels(&["a=1", "b=x=y"]);
        assert!(["a", "a=1", "b=x=y"].iter().all(|wanted| has_label(&found, wanted)));
        assert!(!["c", "a=", "a=2", "b=x"].iter().any(|wanted| has_label(&found, wanted)));
    }
}
