//! vde_switch with a TAP device for each container.

use std::process::Stdio;

use super::super::error::BenchError;
use super::super::peer::command;
use super::{Lab, LabSwitch, create_endpoints, link};

pub(super) fn build() -> Result<Lab, BenchError> {
    const DEVICES: [&str; 2] = ["tap1", "tap2"];
    let mut command = command("vde_switch");
    command.args(["-sock", "/run/vde", "-tap", DEVICES[0], "-tap", DEVICES[1]]);
    // It exits when its standard input closes. The pipe stays open as long as `child`.
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().map_err(BenchError::io("run vde_switch"))?;
    link::wait_for(DEVICES)?;
    let switch = LabSwitch { children: vec![child], ..LabSwitch::default() };
    Ok(Lab { endpoints: create_endpoints(DEVICES)?, host: None, switch, detail: None })
}
