//! The environment variables of an operation (section "Parameters").

use std::collections::HashMap;
use std::path::PathBuf;

use super::error::CniError;
use crate::wire::Mac;

/// An operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Operation {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Operation {
    /// The operation in `CNI_COMMAND`.
    pub(super) fn of(variables: &HashMap<String, String>) -> Result<Operation, CniError> {
        match variable(variables, "CNI_COMMAND") {
            "ADD" => Ok(Operation::Add),
            "DEL" => Ok(Operation::Del),
            "CHECK" => Ok(Operation::Check),
            "GC" => Ok(Operation::Gc),
            "STATUS" => Ok(Operation::Status),
            "VERSION" => Ok(Operation::Version),
            "" => Err(CniError::Environment(
                "CNI_COMMAND is not set: container runtimes run this plugin, not users".to_owned(),
            )),
            other => Err(CniError::Environment(format!(
                "CNI_COMMAND: '{other}' is not one of ADD, DEL, CHECK, GC, STATUS, VERSION"
            ))),
        }
    }

    /// Whether it needs to know only what to remove, so that nothing else may keep it from that.
    pub(super) fn only_removes(self) -> bool {
        matches!(self, Operation::Del | Operation::Gc)
    }

    /// Whether it is about one container.
    fn has_container(self) -> bool {
        matches!(self, Operation::Add | Operation::Del | Operation::Check)
    }
}

/// The parameters of an operation.
#[derive(Debug)]
pub(super) struct CniParameters {
    pub(super) operation: Operation,
    pub(super) container: String,
    pub(super) ifname: String,
    /// `None`: the container has ended (DEL).
    pub(super) netns: Option<PathBuf>,
    pub(super) args: Args,
    /// Where IPAM plugins are.
    pub(super) path: Vec<PathBuf>,
}

/// What of `CNI_ARGS` this plugin honours.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Args {
    pub(super) mac: Option<Mac>,
    /// As typed: an IPAM plugin accepts it without a prefix length.
    pub(super) ip: Option<String>,
}

impl CniParameters {
    pub(super) fn parse(
        operation: Operation,
        variables: &HashMap<String, String>,
    ) -> Result<CniParameters, CniError> {
        let needed = |name: &'static str, needed: bool| match variable(variables, name) {
            "" if needed => Err(CniError::Environment(format!("{name} is not set"))),
            value => Ok(value.to_owned()),
        };
        let container = needed("CNI_CONTAINERID", operation.has_container())?;
        let is_id = container.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'));
        if !is_id || container.starts_with(['_', '.', '-']) {
            return Err(CniError::Environment(format!(
                "CNI_CONTAINERID: '{container}' is not a container ID"
            )));
        }
        let netns = needed("CNI_NETNS", matches!(operation, Operation::Add | Operation::Check))?;
        if !netns.is_empty() && !netns.starts_with('/') {
            return Err(CniError::Environment(format!("CNI_NETNS: '{netns}' is not an absolute path")));
        }
        let path = variable(variables, "CNI_PATH");
        Ok(CniParameters {
            operation,
            container,
            ifname: needed("CNI_IFNAME", operation.has_container())?,
            netns: (!netns.is_empty()).then(|| PathBuf::from(netns)),
            args: match Args::parse(variable(variables, "CNI_ARGS")) {
                Err(_) if operation.only_removes() => Args::default(),
                args => args?,
            },
            path: path.split(':').filter(|directory| !directory.is_empty()).map(PathBuf::from).collect(),
        })
    }
}

impl Args {
    /// Parses `KEY=VALUE;KEY=VALUE`. `IgnoreUnknown=1` allows other keys.
    fn parse(text: &str) -> Result<Args, CniError> {
        let wrong = |what: String| CniError::Environment(format!("CNI_ARGS: {what}"));
        let (mut args, mut ignore, mut unknown) = (Args::default(), false, None);
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            let (key, value) =
                pair.split_once('=').ok_or_else(|| wrong(format!("'{pair}' is not KEY=VALUE")))?;
            match key {
                "MAC" => {
                    let mac = value.parse().map_err(|_| wrong(format!("'{value}' is not a MAC address")))?;
                    args.mac = Some(mac);
                }
                "IP" => args.ip = Some(value.to_owned()),
                "IgnoreUnknown" => ignore = matches!(value, "1" | "true" | "True" | "TRUE"),
                other => unknown = Some(other),
            }
        }
        match unknown.filter(|_| !ignore) {
            Some(key) => Err(wrong(format!("'{key}' is not supported: add IgnoreUnknown=1 to ignore it"))),
            None => Ok(args),
        }
    }
}

fn variable<'a>(variables: &'a HashMap<String, String>, name: &str) -> &'a str {
    variables.get(name).map_or("", String::as_str)
}
