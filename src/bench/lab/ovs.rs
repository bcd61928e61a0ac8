//! Open vSwitch with its userspace datapath. An internal port is a TAP device that ovs-vswitchd holds.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::super::error::BenchError;
use super::super::peer::command;
use super::{HOST, Lab, LabSwitch, create_endpoints, link};

/// Directory of all its files, in the `/run` of the isolated process.
const DIRECTORY: &str = "/run/ovs";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The bridge, and its internal port, which is the host's device.
const BRIDGE: &str = "ovsbr0";

/// `tso` is `true` or `false`, the value of `userspace-tso-enable`.
pub(super) fn build(tso: &str) -> Result<Lab, BenchError> {
    const DEVICES: [&str; 2] = ["tap1", "tap2"];
    fs::create_dir_all(DIRECTORY).map_err(BenchError::io("create a directory for Open vSwitch"))?;
    run(ovs_command("ovsdb-tool").args(["create", &format!("{DIRECTORY}/conf.db"), SCHEMA]))?;
    let remote = format!("--remote=punix:{DIRECTORY}/db.sock");
    let database = start(ovs_command("ovsdb-server").args([&format!("{DIRECTORY}/conf.db"), &remote]))?;
    wait_for_database();
    vsctl(&["--no-wait", "init"])?;
    vsctl(&["--no-wait", "set", "Open_vSwitch", ".", &format!("other_config:userspace-tso-enable={tso}")])?;
    let daemon = start(ovs_command("ovs-vswitchd").arg(format!("unix:{DIRECTORY}/db.sock")))?;
    // Returns when the daemon has created the bridge.
    vsctl(&["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"])?;
    for device in DEVICES {
        vsctl(&["add-port", BRIDGE, device, "--", "set", "interface", device, "type=internal"])?;
    }
    link::wait_for(DEVICES)?;
    link::set_up(BRIDGE, Some(HOST))?;
    let switch = LabSwitch { children: vec![database, daemon], ..LabSwitch::default() };
    Ok(Lab { endpoints: create_endpoints(DEVICES)?, host: Some(HOST), switch, detail: None })
}

/// A program of Open vSwitch that uses our directory.
fn ovs_command(program: &str) -> Command {
    let mut command = command(program);
    for variable in ["OVS_RUNDIR", "OVS_LOGDIR", "OVS_DBDIR", "OVS_SYSCONFDIR"] {
        command.env(variable, DIRECTORY);
    }
    command.stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Starts a daemon in the foreground.
fn start(command: &mut Command) -> Result<Child, BenchError> {
    let program = command.get_program().display().to_string();
    command.args(["-vsyslog:off", "-vfile:off", "-vconsole:off"]).stderr(Stdio::null());
    command.spawn().map_err(BenchError::io(format!("run {program}")))
}

/// Waits for the socket of the database.
fn wait_for_database() {
    const STEP: Duration = Duration::from_millis(20);
    const STEPS: u32 = 250;
    // If it never appears, the next command reports an error.
    let steps = (0..STEPS).take_while(|_| !Path::new(DIRECTORY).join("db.sock").exists());
    steps.for_each(|_| sleep(STEP));
}

fn vsctl(words: &[&str]) -> Result<(), BenchError> {
    let database = format!("--db=unix:{DIRECTORY}/db.sock");
    run(ovs_command("ovs-vsctl").args([&database, "--timeout=10", "-vsyslog:off"]).args(words))
}

/// Runs a program and waits for it.
fn run(command: &mut Command) -> Result<(), BenchError> {
    let program = command.get_program().display().to_string();
    let output = command.output().map_err(BenchError::io(format!("run {program}")))?;
    if output.status.success() { Ok(()) } else { Err(BenchError::program(&program, &output.stderr)) }
}
