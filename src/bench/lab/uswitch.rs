//! This program, started as a user starts it.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::super::error::BenchError;
use super::super::plan::{BenchPlan, MTU, TXQUEUELEN};
use super::{CONTAINERS, HOST, Lab, LabEndpoint, LabSwitch, SUBNET};
use crate::control::client::{ApiClient, ClientError};
use crate::control::config::DEFAULT_NAME;
use crate::control::format::counted;
use crate::control::report::Status;
use crate::sys::netns::{self, Netns};
use crate::sys::runtime_dir;

/// The running program, even if its file was replaced.
const PROGRAM: &str = "/proc/self/exe";

/// `options`: more options of `uswitch start`.
pub(super) fn build(plan: &BenchPlan, options: &[&str]) -> Result<Lab, BenchError> {
    let mut child = start(plan).args(options).spawn().map_err(BenchError::io("run uswitch"))?;
    let stdout = child.stdout.take().map(BufReader::new);
    // It prints a line when it forwards.
    let mut first = String::new();
    let read = stdout.map(|mut stdout| stdout.read_line(&mut first).map(|_| stdout)).transpose();
    read.map_err(BenchError::io("read the output of uswitch"))?;
    if first.is_empty() {
        let output = child.wait_with_output().map_err(BenchError::io("read the errors of uswitch"))?;
        return Err(BenchError::program("uswitch", &output.stderr));
    }
    let switch = LabSwitch { children: vec![child], ..LabSwitch::default() };
    let status = status()?;
    let endpoint = |number: usize| {
        let netns = Netns::open(&netns::path(&format!("container{}", number + 1)))?;
        LabEndpoint::existing(netns, "eth0", CONTAINERS[number])
    };
    let endpoints = [endpoint(0)?, endpoint(1)?];
    Ok(Lab { endpoints, host: Some(HOST), switch, detail: Some(detail(&status)) })
}

/// The state of the switch, from its API.
fn status() -> Result<Status, BenchError> {
    let client = ApiClient::new(DEFAULT_NAME, &runtime_dir::path());
    let status = client.map_err(BenchError::io("start an event loop"))?.get("/v1/status");
    status.map_err(|error: ClientError| BenchError::program("uswitch", error.to_string().as_bytes()))
}

/// Engine and workers.
fn detail(status: &Status) -> String {
    let fast_path = if status.fast_path { ", fast path" } else { "" };
    format!("{}, {}{fast_path}", status.engine, counted(status.workers, "worker"))
}

fn start(plan: &BenchPlan) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg0("uswitch").args(["start", "--ports", "2", "--subnet", &SUBNET.to_string()]);
    // A chosen prefix would be kept in a file.
    command.args(["--mac-prefix", "02:be:9c:00"]);
    command.args(["--mtu", &MTU.to_string(), "--txqueuelen", &TXQUEUELEN.to_string()]);
    command.args(["--engine", &plan.engine.to_string()]);
    if let Some(time) = plan.busy_poll {
        command.args(["--busy-poll", &time.to_string()]);
    }
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}
