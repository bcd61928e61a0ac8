//! Completion of what only a running switch knows: names of switches and ports.
//!
//! The shell asks this program (`COMPLETE=bash uswitch -- WORDS`), so a completion is never older than the program.

use std::env;
use std::ffi::{OsStr, OsString};

use clap_complete::engine::CompletionCandidate;

use crate::control::client;
use crate::control::config::DEFAULT_NAME;
use crate::control::report::PortReport;
use crate::sys;

use super::target;

/// Names of the switches that run.
pub(super) fn switches(typed: &OsStr) -> Vec<CompletionCandidate> {
    let directory = sys::runtime_dir::path();
    candidates(client::names(&directory), typed)
}

/// Names of the ports of the switch that `--name` names on the line. The last of a list is completed.
pub(super) fn ports(typed: &OsStr) -> Vec<CompletionCandidate> {
    let words: Vec<OsString> = env::args_os().collect();
    let ports = target::client(&switch(&words))
        .ok()
        .and_then(|client| client.get::<Vec<PortReport>>("/v1/ports").ok());
    let ports = ports.into_iter().flatten().map(|port| port.ifname);
    let typed = typed.to_string_lossy();
    match typed.rsplit_once(',') {
        None => candidates(ports, typed.as_ref().as_ref()),
        Some((before, _)) => {
            candidates(ports.map(|port| format!("{before},{port}")), typed.as_ref().as_ref())
        }
    }
}

/// Names of the devices in this network namespace, which is the switch's if it runs as root.
pub(super) fn devices(typed: &OsStr) -> Vec<CompletionCandidate> {
    let entries = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    candidates(
        entries.filter_map(|entry| entry.file_name().into_string().ok()).filter(|name| name != "lo"),
        typed,
    )
}

/// The value of `--name` among the words.
fn switch(words: &[OsString]) -> String {
    let words: Vec<&str> = words.iter().filter_map(|word| word.to_str()).collect();
    let joined = words.iter().find_map(|word| word.strip_prefix("--name="));
    let apart = || words.windows(2).find(|pair| pair[0] == "--name").map(|pair| pair[1]);
    joined.or_else(apart).unwrap_or(DEFAULT_NAME).to_owned()
}

fn candidates(names: impl IntoIterator<Item = String>, typed: &OsStr) -> Vec<CompletionCandidate> {
    let typed = typed.to_string_lossy();
    let names = names.into_iter().filter(|name| name.starts_with(typed.as_ref()));
    names.map(CompletionCandidate::new).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn completes_ports_of_the_named_switch() {
        let of = |line: &str| switch(&line.split_whitespace().map(OsString::from).collect::<Vec<_>>());
        assert_eq!(of("uswitch -- uswitch exec"), "uswitch0");
        assert_eq!(of("uswitch -- uswitch exec --name lab cont"), "lab");
        assert_eq!(of("uswitch -- uswitch exec --name=lab"), "lab");
        assert_eq!(of("uswitch -- uswitch exec --name"), "uswitch0");
    }
}
