//! `uswitch start`: creates a switch and runs it.

use std::env;
use std::io::{self, IsTerminal, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use crate::control::config::{DEFAULT_NAME, is_host_port};
use crate::control::log::{self, Log, LogDestination};
use crate::control::report::{PortReport, Status};
use crate::control::service::{self, ServiceOutcome, ServiceOutputs, StartedSwitch};
use crate::control::topology::Environment;
use crate::control::{Config, Options, OptionsFile};
use crate::sys::confine;
use crate::sys::daemon::{self, DaemonRole, ReadyNotifier};

use super::error::{CliError, with_advice};
use super::options::StartOptions;
use super::output::{counted, joined, table};
use super::status_line::StatusLine;

/// Create containers and a switch that connects them
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Runs until Ctrl-C or `uswitch stop`. Without root, everything is in a user namespace: `uswitch exec` enters it."
)]
pub(super) struct StartCommand {
    #[command(flatten)]
    options: StartOptions,
    /// TOML file with these options as keys (ports = 3); options given here override it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

impl StartCommand {
    pub(super) fn run(self) -> Result<ExitCode, CliError> {
        let file = self.config.as_deref().map(OptionsFile::read).transpose()?;
        let options = Options::from(self.options);
        let detach = options.detach.or(file.as_ref().and_then(|file| file.options.detach));
        let config = Config::new(options, file)?;
        let waiting = match detach.unwrap_or(false) {
            false => None,
            true => match daemon::detach().map_err(CliError::io("go into the background"))? {
                DaemonRole::Parent(code) => return Ok(ExitCode::from(code)),
                DaemonRole::Child(ready) => Some(ready),
            },
        };
        // Before the sandbox, whose loopback is another: the metrics are for the user's.
        let metrics = config.metrics.map(listen).transpose()?;
        let environment = Environment::prepare()?;
        confine::restrict_process().map_err(|error| CliError::io("drop privileges")(error.into()))?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(CliError::io("start an event loop"))?;
        let log_path = log::path(&environment.runtime, &config.name);
        let log = Log::start(config.log, destination(waiting.is_some(), &log_path))
            .map_err(CliError::io("start a log"))?;
        log.install();
        let outputs = ServiceOutputs { metrics, log: log.clone() };
        let mut live = None;
        let outcome = runtime.block_on(service::run(config, &environment, outputs, |started| {
            live = announce(started, waiting)?;
            Ok(())
        }));
        if let Some(live) = live {
            live.finish();
        }
        log.flush();
        if outcome.error.is_none() {
            log::remove(&log_path);
        }
        ended(&outcome)
    }
}

/// Destination of the log: standard error, or a file for a switch in the background.
fn destination(detached: bool, path: &Path) -> LogDestination {
    match detached {
        true => LogDestination::File(path.to_owned()),
        false if io::stdout().is_terminal() && io::stderr().is_terminal() => LogDestination::LiveTerminal,
        false => LogDestination::Stderr,
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, CliError> {
    TcpListener::bind(address).map_err(CliError::io(format!("serve metrics on {address}")))
}

/// Prints what was created; then starts the status line, or reports to the process that waits for a detached switch.
fn announce(started: StartedSwitch, waiting: Option<ReadyNotifier>) -> io::Result<Option<StatusLine>> {
    for notice in &started.notices {
        let _ = writeln!(io::stderr(), "uswitch: {notice}");
    }
    // A closed standard output does not stop the switch.
    let text = summary(&started.status, &started.ports, &program(), waiting.is_some());
    let _ = super::output::print(&text);
    match waiting {
        Some(ready) => ready.notify().map(|()| None),
        None if io::stdout().is_terminal() => StatusLine::show(started.handle).map(Some),
        None => Ok(None),
    }
}

fn ended(outcome: &ServiceOutcome) -> Result<ExitCode, CliError> {
    let error = outcome.error.iter().map(|error| with_advice(error, error.code()));
    let left = outcome.left.iter().map(|error| format!("not removed: {error}"));
    let lines: Vec<String> = error.chain(left).collect();
    if lines.is_empty() { Ok(ExitCode::SUCCESS) } else { Err(CliError::Several(lines)) }
}

/// How the user calls this program: by its name if it is in PATH, otherwise by its path.
fn program() -> String {
    let directories = env::var_os("PATH").unwrap_or_default();
    if env::split_paths(&directories).any(|directory| directory.join(NAME).is_file()) {
        return NAME.to_owned();
    }
    let Ok(path) = env::current_exe() else { return NAME.to_owned() };
    let below = env::current_dir().ok().and_then(|here| Some(path.strip_prefix(here).ok()?.to_owned()));
    match below {
        Some(below) if below.components().count() == 1 => format!("./{}", below.display()),
        Some(below) => below.display().to_string(),
        None => path.display().to_string(),
    }
}

/// Name of the program.
const NAME: &str = "uswitch";

/// What was created, and commands to try next.
fn summary(status: &Status, ports: &[PortReport], program: &str, detached: bool) -> String {
    let containers: Vec<&PortReport> = ports.iter().filter(|port| !is_host_port(&port.ifname)).collect();
    let mut text = format!(
        "{} forwards between {} ({}, {}).\n",
        status.name,
        counted(containers.len(), "container"),
        status.engine,
        counted(status.workers, "worker")
    );
    if let Some(note) = &status.engine_note {
        text += &format!("Not io_uring: {note}.\n");
    }
    if status.sandboxed {
        text += "It runs without root, in a user namespace of its own, which is also its \"host\".\n";
    }
    if status.nat {
        text += "Packets to other networks are masqueraded (NAT).\n";
    }
    let row = |name: &str, mac: String, addresses: String| [name.to_owned(), mac, addresses];
    let gateway = row("gateway", status.gateway.mac.to_string(), joined(&status.gateway.addresses));
    let of_vlans = status.vlan_gateways.iter().map(|gateway| {
        row(&format!("VLAN {}", gateway.vlan), gateway.mac.to_string(), joined(&gateway.addresses))
    });
    let listed = containers.iter().take(MOST_LISTED);
    let rows = listed.map(|port| row(&port.ifname, port.address.to_string(), joined(&port.addresses)));
    text += &format!("\n{}", table(["CONTAINER", "MAC", "ADDRESSES"], rows.chain([gateway]).chain(of_vlans)));
    if containers.len() > MOST_LISTED {
        text += &format!("and {} more: {program} port show\n", containers.len() - MOST_LISTED);
    }
    text + "\n" + &next_steps(status, &containers, program) + if detached { "\n" } else { " (or Ctrl-C)\n" }
}

/// Most containers that the summary lists.
const MOST_LISTED: usize = 16;

fn next_steps(status: &Status, containers: &[&PortReport], program: &str) -> String {
    let name = if status.name == DEFAULT_NAME { String::new() } else { format!(" --name {}", status.name) };
    let mut text = "Try:\n".to_owned();
    let target = containers.get(1).and_then(|port| port.addresses.first()).map(ipnet::IpNet::addr);
    let target = target.or_else(|| status.gateway.addresses.first().copied());
    if let (Some(first), Some(target)) = (containers.first(), target) {
        text += &format!("  {program} exec{name} {} -- ping -c 3 {target}\n", first.ifname);
    }
    text + &format!("  {program} fdb show{name}\n  {program} stats{name}\n  {program} stop{name}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::config::Labels;
    use crate::control::report::{GatewayReport, SwitchState};
    use crate::wire::Mac;

    #[allow(clippy::too_many_lines, reason = "a line for each field")]
    fn status() -> Status {
        let addresses = vec!["172.16.0.1".parse().unwrap()];
        let gateway = GatewayReport { mac: Mac([2, 0, 0, 0, 0, 0]), addresses };
        Status {
            name: "uswitch0".into(),
            version: "0".into(),
            pid: 7,
            uptime: 0,
            vlan_filtering: false,
            vlan_stats_per_port: false,
            sandboxed: false,
            engine: "io_uring".into(),
            engine_note: None,
            fast_path: false,
            fast_path_note: None,
            workers: 1,
            cpus: vec![1],
            subnets: vec!["172.16.0.0/24".parse().unwrap()],
            gateway,
            vlan_gateways: Vec::new(),
            labels: Labels::new(),
            mac_prefix: "02:00:00:00".to_owned(),
            nat: false,
            internal: false,
            dhcp: None,
            dns: None,
            router_advertisements: None,
            guard: true,
            guard_off: 0,
            guard_off_ports: Vec::new(),
            loop_detection: true,
            mtu: 1500,
            ports: 3,
            ports_up: 3,
            fdb: 1,
            fdb_max: 8192,
            ageing_time: 300,
            rx_frames: 0,
            rx_bytes: 0,
            lost_notices: 0,
            state: SwitchState::Running,
            stalled_workers: Vec::new(),
            nat_fault: None,
            lost_events: 0,
        }
    }

    #[test]
    fn start_summary_lists_containers_and_next_commands() {
        let text = summary(&status(), &[PortReport::example(1), PortReport::example(2)], "uswitch", false);
        assert_eq!(
            text,
            "uswitch0 forwards between 2 containers (io_uring, 1 worker).\n\
             \n\
             CONTAINER   MAC                ADDRESSES\n\
             container1  02:00:00:00:00:01  172.16.0.2/24\n\
             container2  02:00:00:00:00:02  172.16.0.3/24\n\
             gateway     02:00:00:00:00:00  172.16.0.1\n\
             \n\
             Try:\n  \
             uswitch exec container1 -- ping -c 3 172.16.0.3\n  \
             uswitch fdb show\n  \
             uswitch stats\n  \
             uswitch stop (or Ctrl-C)\n"
        );
    }

    #[test]
    fn next_commands_name_a_switch_that_is_not_the_default() {
        let named = Status { name: "lab".into(), ..status() };
        let text = summary(&named, &[PortReport::example(1)], "./uswitch", true);
        assert!(text.contains("  ./uswitch exec --name lab container1 -- ping -c 3 172.16.0.1\n"), "{text}");
        assert!(text.ends_with("  ./uswitch stop --name lab\n"), "{text}");
    }

    #[test]
    fn start_summary_truncates_long_lists() {
        let many: Vec<PortReport> = (1..=100).map(PortReport::example).collect();
        let text = summary(&status(), &many, "uswitch", false);
        assert!(text.contains("container16 ") && !text.contains("container17 "), "{text}");
        assert!(text.contains("and 84 more"), "{text}");
    }
}
