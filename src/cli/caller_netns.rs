//! The network namespace of the command line, where it is another than that of the switch.

use std::{fs, process};

use crate::control::client::ApiClient;

use super::error::CliError;

/// A path of this process's network namespace for the switch; `None`: it is the switch's own.
pub(super) fn caller_netns(client: &ApiClient) -> Result<Option<String>, CliError> {
    let switch = client.pid()?;
    let differs = |kind: &str| {
        let of = |process: String| fs::read_link(format!("/proc/{process}/ns/{kind}"));
        let both = of("self".to_owned()).and_then(|own| Ok(own != of(switch.to_string())?));
        both.map_err(CliError::io("find the network namespace of the switch"))
    };
    match (differs("net")?, differs("pid")?) {
        (false, _) => Ok(None),
        (true, false) => Ok(Some(format!("/proc/{}/ns/net", process::id()))),
        // There it would be the path of another process.
        (true, true) => Err(CliError::Usage(
            "--unmanaged: the switch runs in another container: choose the namespace with --netns".to_owned(),
        )),
    }
}
