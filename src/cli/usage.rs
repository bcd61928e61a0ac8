//! Usage errors: what clap reports in several lines becomes one line, with the nearest word and the help to read.

use std::error::Error as _;
use std::ffi::OsString;

use clap::error::{ContextKind, ContextValue, ErrorKind};

/// Most words that an error suggests.
const MAX_SUGGESTIONS: usize = 3;

/// The error as one line; `args` are the arguments as typed, program name included.
pub(super) fn message(error: &clap::Error, args: &[OsString]) -> String {
    let mistake = mistake(error).unwrap_or_else(|| rendered(error));
    format!("{mistake}: see `{} --help`", command_path(args).join(" "))
}

/// The program and the subcommands that were typed.
pub(super) fn command_path(args: &[OsString]) -> Vec<String> {
    let root = super::command();
    let mut path = vec![root.get_name().to_owned()];
    let mut command = &root;
    for word in args.iter().skip(1).filter_map(|arg| arg.to_str()) {
        match command.find_subcommand(word) {
            Some(found) => {
                path.push(found.get_name().to_owned());
                command = found;
            }
            None if word.starts_with('-') => {}
            None => break,
        }
    }
    path
}

fn mistake(error: &clap::Error) -> Option<String> {
    let text = |kind| context(error, kind).into_iter().next();
    let argument = || text(ContextKind::InvalidArg).map(|argument| flag(&argument));
    Some(match error.kind() {
        ErrorKind::InvalidSubcommand => {
            let typed = text(ContextKind::InvalidSubcommand)?;
            let similar = context(error, ContextKind::SuggestedSubcommand);
            format!("'{typed}' is not a subcommand{}", did_you_mean(&typed, similar))
        }
        ErrorKind::UnknownArgument => {
            let typed = text(ContextKind::InvalidArg)?;
            let similar = context(error, ContextKind::SuggestedArg);
            let what = if typed.starts_with('-') { "an option here" } else { "expected here" };
            format!("'{typed}' is not {what}{}", did_you_mean(&typed, similar))
        }
        ErrorKind::InvalidValue => {
            let typed = text(ContextKind::InvalidValue)?;
            let valid = context(error, ContextKind::ValidValue);
            if typed.is_empty() {
                let choices =
                    if valid.is_empty() { String::new() } else { format!(": {}", valid.join(" or ")) };
                return Some(format!("{} needs a value{choices}", argument()?));
            }
            let nearest = did_you_mean(&typed, context(error, ContextKind::SuggestedValue));
            format!("{}: '{typed}' is not one of {}{nearest}", argument()?, valid.join(", "))
        }
        ErrorKind::ValueValidation => {
            let why = error.source()?.to_string();
            format!("{}: {}", argument()?, value_error(&text(ContextKind::InvalidValue)?, &why))
        }
        ErrorKind::MissingRequiredArgument => {
            format!("missing {}", missing(&context(error, ContextKind::InvalidArg)))
        }
        ErrorKind::ArgumentConflict => conflict(&argument()?, &context(error, ContextKind::PriorArg)),
        _ => return None,
    })
}

/// Missing arguments. Of a long list of options, of which one is missing, the help has the names.
fn missing(arguments: &[String]) -> String {
    const FEW: usize = 4;
    let (lists, names): (Vec<&String>, Vec<&String>) =
        arguments.iter().partition(|argument| argument.matches('|').count() >= FEW);
    let names = names.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(" ");
    match (names.as_str(), lists.is_empty()) {
        (_, true) => names,
        ("", false) => "an option that says what to change".to_owned(),
        (_, false) => format!("{names} and an option that says what to change"),
    }
}

fn conflict(this: &str, others: &[String]) -> String {
    match others {
        [other] if flag(other) == this => format!("{this} is given twice"),
        [] => format!("{this} cannot be combined with the other options"),
        others => {
            let others: Vec<String> = others.iter().map(|other| flag(other)).collect();
            format!("{this} cannot be combined with {}", others.join(", "))
        }
    }
}

/// The strings of one kind of context.
fn context(error: &clap::Error, kind: ContextKind) -> Vec<String> {
    match error.get(kind) {
        Some(ContextValue::String(text)) => vec![text.clone()],
        Some(ContextValue::Strings(texts)) => texts.clone(),
        _ => Vec::new(),
    }
}

/// `--mtu` of `--mtu <BYTES>`; a positional argument as it is.
fn flag(argument: &str) -> String {
    let word = argument.split(['=', ' ', '[']).next().unwrap_or(argument);
    if word.starts_with('-') { word.to_owned() } else { argument.to_owned() }
}

/// clap sorts by similarity, the most similar last.
fn did_you_mean(typed: &str, mut similar: Vec<String>) -> String {
    similar.sort_by_key(|word| strsim::damerau_levenshtein(typed, word));
    similar.truncate(MAX_SUGGESTIONS);
    match similar.as_slice() {
        [] => String::new(),
        words => {
            let words: Vec<String> = words.iter().map(|word| format!("'{word}'")).collect();
            format!(", did you mean {}?", words.join(" or "))
        }
    }
}

/// What is wrong with a value: the standard library's and clap's words in plain ones.
fn value_error(typed: &str, why: &str) -> String {
    let digits = typed.strip_prefix(['-', '+']).unwrap_or(typed);
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    match why {
        "invalid digit found in string" | "cannot parse integer from empty string" => match is_number {
            true => format!("{typed} is out of range: it must not be negative"),
            false => format!("'{typed}' is not a number"),
        },
        "number too large to fit in target type" | "number too small to fit in target type" => {
            format!("{typed} is out of range")
        }
        "invalid IP address syntax" => format!("'{typed}' is not an IP address"),
        _ => match why
            .split_once(" is not in ")
            .and_then(|(value, range)| Some((value, range.split_once("..")?)))
        {
            Some((value, (from, to))) => {
                let to = to.strip_prefix('=').map_or_else(|| exclusive(to), str::to_owned);
                match to.as_str() {
                    to if to.parse::<u64>().is_ok_and(|to| to > NO_LIMIT) => {
                        format!("{value} is out of range: choose {from} or more")
                    }
                    "" => format!("{value} is out of range: choose {from} or more"),
                    to => format!("{value} is out of range: choose {from} to {to}"),
                }
            }
            None => why.to_owned(),
        },
    }
}

/// A range that ends beyond this has no end that matters.
const NO_LIMIT: u64 = 1 << 62;

/// The last number of a range that ends before `end`.
fn exclusive(end: &str) -> String {
    end.parse::<u64>().map_or_else(|_| end.to_owned(), |end| end.saturating_sub(1).to_string())
}

/// clap's own text of the other errors, without its usage and its advice.
fn rendered(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let mistake = text.split("Usage: ").next().unwrap_or_default();
    let words = mistake.split_whitespace().collect::<Vec<_>>().join(" ");
    let mistake = words.strip_prefix("error: ").unwrap_or(&words).replace(" tip: ", "; ");
    mistake.split(" For more information").next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(words: &str) -> String {
        let args: Vec<OsString> = words.split_whitespace().map(OsString::from).collect();
        message(&super::super::parse(&args).map(drop).expect_err("it is wrong"), &args)
    }

    #[test]
    fn usage_error_is_one_line_with_advice() {
        assert_eq!(
            line("uswitch start --prots 3"),
            "'--prots' is not an option here, did you mean '--ports'?: see `uswitch start --help`"
        );
        assert_eq!(
            line("uswitch start --engine dpdk"),
            "--engine: 'dpdk' is not one of auto, uring, poll: see `uswitch start --help`"
        );
        assert_eq!(line("uswitch exec"), "missing <PORT> <COMMAND>...: see `uswitch exec --help`");
        let unchanged = "missing an option that says what to change: see `uswitch port set --help`";
        assert_eq!(line("uswitch port set container1"), unchanged);
        assert_eq!(
            line("uswitch port set"),
            "missing <PORT> and an option that says what to change: see `uswitch port set --help`"
        );
        assert_eq!(
            line("uswitch trace container1 --hex 00 --vlan 5"),
            "--hex cannot be combined with --vlan: see `uswitch trace --help`"
        );
    }

    #[test]
    fn suggests_nearest_word_first() {
        assert!(line("uswitch strat").starts_with("'strat' is not a subcommand, did you mean 'start'"));
        assert!(line("uswitch satts").starts_with("'satts' is not a subcommand, did you mean 'stats'"));
        assert!(line("uswitch fdb shwo").contains("did you mean 'show'"), "{}", line("uswitch fdb shwo"));
        assert!(line("uswitch start --engine urin").contains("did you mean 'uring'?"));
    }

    #[test]
    fn settings_are_on_or_off() {
        let expected = "expected on or off, not \"yes\"";
        let help = "see `uswitch start --help`";
        assert_eq!(line("uswitch start --guard yes"), format!("--guard: {expected}: {help}"));
        assert_eq!(line("uswitch start --nat=yes"), format!("--nat: {expected}: {help}"));
        let flag = line("uswitch port set host --mcast-flood yes");
        assert!(flag.starts_with(&format!("--mcast-flood: {expected}: ")), "{flag}");
        assert_eq!(
            line("uswitch port set host --hub"),
            "--hub needs a value: on or off: see `uswitch port set --help`"
        );
        for words in [
            "start --nat --guard --hub=off",
            "start --nat=false",
            "port add a --guard",
            "port set a --hub on",
        ] {
            let args: Vec<OsString> = format!("uswitch {words}").split(' ').map(OsString::from).collect();
            assert!(super::super::parse(&args).is_ok(), "{words}");
        }
    }

    #[test]
    fn says_that_a_number_is_not_a_number() {
        let help = ": see `uswitch start --help`";
        assert_eq!(line("uswitch start --ports three"), format!("--ports: 'three' is not a number{help}"));
        assert_eq!(
            line("uswitch start --ports -1"),
            format!("--ports: -1 is out of range: it must not be negative{help}")
        );
        assert_eq!(
            line("uswitch start --ports 99999999999999999999"),
            format!("--ports: 99999999999999999999 is out of range{help}")
        );
        assert_eq!(line("uswitch start --ports"), format!("--ports needs a value{help}"));
        let bench = line("uswitch bench --repeat 0");
        assert!(bench.starts_with("--repeat: 0 is out of range: choose 1 to 1000"), "{bench}");
        let count = line("uswitch capture -c 0");
        assert!(count.starts_with("--count: 0 is out of range: choose 1 or more"), "{count}");
        let vlan = line("uswitch fdb show --vlan 4095");
        assert!(vlan.starts_with("--vlan: 4095 is out of range: choose 0 to 4094"), "{vlan}");
        let address = line("uswitch trace container1 --arp-for there");
        assert!(address.starts_with("--arp-for: 'there' is not an IP address"), "{address}");
    }
}
