//! Open vSwitch with its userspace datapath. An internal port of it is a TAP device that ovs-vswitchd holds.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use super::super::error::BenchError;
use super::super::peer::command;
use super::{HOST, Lab, Switch, create_endpoints, link};

/// All its files, in the cell's own `/run`.
const DIRECTORY: &str = "/run/ovs";
const SCHEMA: &str = "/usr/share/openvswitch/vswitch.ovsschema";
/// The bridge, and its own port, which is the host's.
const BRIDGE: &str = "ovsbr0";

/// `tso`: `true` or `false`, as `userspace-tso-enable` takes it.
pub(super) fn build(tso: &str) -> Result<Lab, BenchError> {
    const DEVICES: [&str; 2] = ["tap1", "tap2"];
    fs::create_dir_all(DIRECTORY).map_err(BenchError::io("make a directory for Open vSwitch"))?;
    run(ours("ovsdb-tool").args(["create", &format!("{DIRECTORY}/conf.db"), SCHEMA]))?;
    let remote = format!("--remote=punix:{DIRECTORY}/db.sock");
    let database = start(ours("ovsdb-server").args([&format!("{DIRECTORY}/conf.db"), &remote]))?;
    wait_for_database();
    vsctl(&["--no-wait", "init"])?;
    vsctl(&["--no-wait", "set", "Open_vSwitch", ".", &format!("other_config:userspace-tso-enable={tso}")])?;
    let daemon = start(ours("ovs-vswitchd").arg(format!("unix:{DIRECTORY}/db.sock")))?;
    // Returns when the daemon has done so.
    vsctl(&["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=netdev"])?;
    for device in DEVICES {
        vsctl(&["add-port", BRIDGE, device, "--", "set", "interface", device, "type=internal"])?;
    }
    link::wait_for(DEVICES)?;
    link::set_up(BRIDGE, Some(HOST))?;
    let switch = Switch { children: vec![database, daemon], ..Switch::default() };
    Ok(Lab { endpoints: create_endpoints(DEVICES)?, host: Some(HOST), switch, detail: None })
}

/// A program of Open vSwitch that keeps to our directory.
fn ours(program: &str) -> Command {
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

/// The database opens its socket when it serves.
fn wait_for_database() {
    const STEP: Duration = Duration::from_millis(20);
    const STEPS: u32 = 250;
    // If there is none after all, the next command says so.
    let steps = (0..STEPS).take_while(|_| !Path::new(DIRECTORY).join("db.sock").exists());
    steps.for_each(|_| sleep(STEP));
}

fn vsctl(words: &[&str]) -> Result<(), BenchError> {
    let database = format!("--db=unix:{DIRECTORY}/db.sock");
    run(ours("ovs-vsctl").args([&database, "--timeout=10", "-vsyslog:off"]).args(words))
}

/// Runs a program to its end.
fn run(command: &mut Command) -> Result<(), BenchError> {
    let program = command.get_program().display().to_string();
    let output = command.output().map_err(BenchError::io(format!("run {program}")))?;
    if output.status.success() { Ok(()) } else { Err(BenchError::program(&program, &output.stderr)) }
}
