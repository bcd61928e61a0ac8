//! The command line without root: help, errors, exit codes, completions, manual pages.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// Result of a run.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn uswitch(arguments: &str) -> Run {
    run(Command::new(env!("CARGO_BIN_EXE_uswitch")).args(arguments.split_whitespace()))
}

fn run(command: &mut Command) -> Run {
    let output: Output = command.stdin(Stdio::null()).output().expect("the program runs");
    Run {
        code: output.status.code().expect("it ends by itself"),
        stdout: String::from_utf8(output.stdout).expect("UTF-8"),
        stderr: String::from_utf8(output.stderr).expect("UTF-8"),
    }
}

/// Asserts that the arguments are refused with exit code 2 and one line that contains `why`.
#[track_caller]
fn assert_usage_error(arguments: &str, why: &str) {
    refused(&uswitch(arguments), 2, why);
}

#[track_caller]
fn refused(run: &Run, code: i32, why: &str) {
    assert_eq!(run.code, code, "{}", run.stderr);
    assert_eq!(run.stdout, "");
    assert_eq!(run.stderr.lines().count(), 1, "not one line: {}", run.stderr);
    assert!(run.stderr.starts_with("uswitch: ") && run.stderr.contains(why), "no '{why}' in: {}", run.stderr);
}

#[test]
fn help_lists_every_command() {
    let help = uswitch("--help");
    assert_eq!((help.code, help.stderr.as_str()), (0, ""));
    let commands = "start doctor stop status ls exec port fdb stats stp log events capture trace bench watch cni docker-plugin netavark completions man";
    for command in commands.split(' ') {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "no {command} in {}", help.stdout);
        assert_eq!(uswitch(&format!("{command} --help")).code, 0);
    }
    for command in [
        "port show",
        "port add",
        "port del",
        "fdb show",
        "fdb get",
        "fdb add",
        "fdb replace",
        "fdb del",
        "fdb flush",
        "stp show",
    ] {
        assert_eq!(uswitch(&format!("{command} --help")).code, 0, "{command}");
    }
}

#[test]
fn start_help_lists_flags() {
    let help = uswitch("start --help").stdout;
    for flag in [
        "--name",
        "--ports",
        "--prefix",
        "--subnet",
        "--nat",
        "--internal",
        "--mtu",
        "--workers",
        "--cpus",
        "--engine",
        "--no-offload",
        "--busy-poll",
        "--ageing-time",
        "--fdb-max",
        "--txqueuelen",
        "--gso-max-size",
        "--detach",
        "--config",
    ] {
        assert!(help.contains(flag), "no {flag} in {help}");
    }
}

#[test]
fn version() {
    let version = uswitch("--version");
    assert_eq!(
        (version.code, version.stdout.as_str()),
        (0, concat!("uswitch ", env!("CARGO_PKG_VERSION"), "\n"))
    );
}

#[test]
fn no_arguments_print_help() {
    let run = uswitch("");
    assert_eq!(run.code, 2);
    assert!(run.stderr.contains("Usage: uswitch"), "{}", run.stderr);
}

#[test]
fn rejects_unknown_words() {
    assert_usage_error("start --prots 3", "'--prots' is not an option here, did you mean '--ports'?");
    assert_usage_error("strat", "'strat' is not a subcommand, did you mean 'start'");
    assert_usage_error("start --engine dpdk", "--engine: 'dpdk' is not one of auto, uring, poll");
    assert_usage_error("start --mtu big", "--mtu: 'big' is not a number");
    assert_usage_error("start --ports", "--ports");
    assert_usage_error("start --ports 2 --ports 3", "--ports");
    refused(&uswitch("exec container1"), 125, "missing <COMMAND>...");
    assert_usage_error("fdb add 02:00:00:00:00:01", "<PORT>");
}

#[test]
fn rejects_values_out_of_range() {
    assert_usage_error("start --ports 4096", "--ports: 4096 is out of range: choose 0 to 4095");
    assert_usage_error("start --mtu 65522", "65521 (the kernel's maximum for a TAP device)");
    assert_usage_error("start --mtu 1000", "(the minimum of IPv6; 68 without IPv6)");
    assert_usage_error("start --workers 0", "--workers: 0 is out of range: choose 1 to 64");
    assert_usage_error(
        "start --cpus 1-",
        "--cpus: '1-' is not a list of CPUs: write one like 1 or 2-5,8, or 'any'",
    );
    assert_usage_error("start --cpus 1023", "--cpus: CPU 1023 is not available: this process may use ");
    assert_usage_error("start --busy-poll 2000000", "--busy-poll: ");
    assert_usage_error("start --ageing-time 0", "--ageing-time: ");
    assert_usage_error("start --fdb-max 1", "--fdb-max: ");
    assert_usage_error("start --txqueuelen 0", "--txqueuelen: ");
    assert_usage_error("start --gso-max-size 65535", "--gso-max-size: ");
    assert_usage_error(
        "start --gso-max-size 65536 --fast-path off",
        "--gso-max-size: it needs the fast path",
    );
    assert_usage_error("start --name a/b", "--name: 'a/b' cannot name a network device");
    assert_usage_error("start --name 0123456789abcdef", "--name: ");
    assert_usage_error("start --prefix a/b", "--prefix: ");
    assert_usage_error("start --nat --internal", "--nat: NAT needs the host port");
    assert_usage_error("start --nat=maybe", "--nat");
}

/// Commands whose next argument is hostile, and never valid.
const BEFORE_HOSTILE: [&str; 38] = [
    "start --ports",
    "start --name",
    "start --subnet",
    "start --mtu",
    "start --engine",
    "start --cpus",
    "start --metrics",
    "start --config",
    "start --fdb-max",
    "stop --name",
    "status --name",
    "port add --mac",
    "port add --ip",
    "port add",
    "port del",
    "fdb add",
    "fdb get",
    "set --ageing-time",
    "port set container1 --fdb-max-learned",
    "port set container1 --storm-broadcast",
    "port set container1 --ingress-rate",
    "port set container1 --delay",
    "port set container1 --loss",
    "port set container1 --rate",
    "port set container1 --delay 1ms --direction",
    "fdb show --mac",
    "fdb show --vlan",
    "events --type",
    "events -n",
    "capture -c",
    "trace container1 --icmp",
    "trace container1 --limit",
    "log",
    "bench --peers",
    "bench --repeat",
    "completions",
    "exec",
    "",
];

/// Each gets one line of bounded length without control characters, or the usage.
#[test]
fn hostile_arguments_get_one_short_line() {
    let long = "x".repeat(100_000);
    let hostile = ["", "\n", "a\nb", "\x1b[31m", "ü", "../..", "/", "-", "-1", "\u{202e}", &long];
    for command in BEFORE_HOSTILE {
        for word in hostile {
            let directory = tempfile::tempdir().expect("a directory");
            let run = run(without_switches(directory.path()).args(command.split_whitespace()).arg(word));
            let what = format!("{command} {word:.20}");
            assert!(run.code != 0 && run.stdout.is_empty(), "{what}: {} {}", run.code, run.stdout);
            let line = run.stderr.trim_end_matches('\n');
            if !line.contains("Usage: ") {
                let is_plain = line.chars().count() < 700 && !line.contains(char::is_control);
                assert!(is_plain && line.starts_with("uswitch: "), "{what}: {line:.900}");
            }
        }
    }
}

#[test]
fn rejects_invalid_subnets() {
    assert_usage_error(
        "start --ports 3 --subnet 10.0.0.0/30",
        "has 1 address besides the gateway's, for 3 containers: use 10.0.0.0/29",
    );
    assert_usage_error("start --subnet 10.0.0.5/24", "write its subnet, 10.0.0.0/24");
    assert_usage_error("start --subnet here", "'here' is not a subnet");
    assert_usage_error("start --subnet 10.0.0.0/8 --subnet 10.1.0.0/16", "overlap");
    assert_usage_error("start --subnet 127.0.0.0/8", "has addresses that hosts cannot have");
    assert_usage_error("doctor --subnet 10.0.0.5/24", "write its subnet, 10.0.0.0/24");
}

#[test]
fn rejects_invalid_bench_arguments() {
    assert_usage_error(
        "bench --peers uswitch,hub",
        "--peers: 'hub' is not one of uswitch, uswitch-fast, uswitch-big, uswitch-tap, linux-bridge, veth, ovs, ovs-tso, vde, \
         naive",
    );
    assert_usage_error(
        "bench --tests icmp",
        "--tests: 'icmp' is not one of rtt, rtt-tcp, ping, tcp, tcp4, bidir, host, udp, pps, broadcast, rtt-load",
    );
    assert_usage_error("bench --repeat 0", "--repeat: 0 is out of range: choose 1 to 1000");
    assert_usage_error("bench --duration 61", "--duration: 61 is out of range: choose 1 to 60");
    assert_usage_error("bench --busy-poll 1000001", "--busy-poll: 1000001 is out of range");
    let out = uswitch("bench --out /proc/nowhere");
    refused(&out, 1, "cannot write /proc/nowhere");
}

#[test]
fn rejects_invalid_names_and_addresses() {
    assert_usage_error("status --name a/b", "cannot name a network device");
    assert_usage_error("stop a/b", "cannot name a network device");
    assert_usage_error(
        "port add --ip 172.16.0.9",
        "'172.16.0.9' is not an address with prefix length: write one like 172.16.0.9/24",
    );
    assert_usage_error("port add --mac 2:0:0:0:0:1", "is not a MAC address");
    assert_usage_error("port add host", "'host' cannot name a container");
    assert_usage_error("port add --guard off", "--guard off: write --guard=off");
    assert_usage_error("port del a/b", "cannot name a container");
    assert_usage_error("fdb add here container1", "is not a MAC address");
    assert_usage_error("fdb show --vlan 4095", "4095");
    refused(&uswitch("exec ../etc true"), 125, "cannot name a container");
}

#[test]
fn rejects_invalid_trace_arguments() {
    assert_usage_error("trace --dst gateway", "missing <PORT>");
    assert_usage_error(
        "trace container1",
        "no frame to trace: give --icmp, --arp-for, --hex or --pcap, or only --dst",
    );
    assert_usage_error("trace container1 --hex 00 --arp-for 10.0.0.1", "cannot be combined with");
    assert_usage_error("trace container1 --pcap f --icmp 10.0.0.1", "cannot be combined with");
    assert_usage_error("trace container1 --hex 00 --dst gateway", "cannot be combined with");
    assert_usage_error("trace container1 --hex 00 --vlan 5", "cannot be combined with");
    assert_usage_error("trace container1 --arp-for there", "--arp-for: 'there' is not an IP address");
    assert_usage_error("trace container1 --dst gateway --vlan 4095", "4095");
    assert_usage_error("trace container1 --pcap f --limit 0", "--limit");
    assert_usage_error("trace --follow --arp-for 10.0.0.1", "cannot be combined with");
    assert_usage_error("trace container1 --dst gateway --drops", "cannot be combined with");
    assert_usage_error("trace container1 --drops", "missing --follow");
    assert_usage_error("trace a/b --dst gateway", "cannot name a container");
}

/// A configuration file with `text`, and the result of `start` with it.
fn with_file(text: &str, arguments: &str) -> (String, Run) {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("lab.toml");
    fs::write(&file, text).expect("the file is written");
    let mut command = Command::new(env!("CARGO_BIN_EXE_uswitch"));
    let run = run(command.arg("start").arg("--config").arg(&file).args(arguments.split_whitespace()));
    (file.display().to_string(), run)
}

#[track_caller]
fn bad_file(text: &str, why: &str) {
    let (file, run) = with_file(text, "");
    refused(&run, 2, &format!("{file}:{why}"));
}

#[test]
fn configuration_error_names_file_line_and_key() {
    bad_file("ports = 3\nmtu = 'big'\n", "2: mtu: 'big' is not a number");
    bad_file("ports = 3\nprots = 3\n", "2: 'prots' is not an option, did you mean 'ports'?");
    bad_file("ports = 3\n\nports = 4\n", "3: ports: duplicate key");
    bad_file("ports = = 3\n", "1: ports: ");
    bad_file("# a lab\nports = 5000\n", "2: ports: 5000 is out of range: choose 0 to 4095");
    bad_file("subnet = ['10.0.0.0/30']\nports = 3\n", "1: subnet: 10.0.0.0/30 has 1 address");
    bad_file("engine = 'dpdk'\n", "1: engine: 'dpdk' is not one of auto, uring, poll");
    assert_usage_error(
        "start --config /nonexistent/lab.toml",
        "/nonexistent/lab.toml: No such file or directory",
    );
}

#[test]
fn flags_override_file() {
    let (_, run) = with_file("mtu = 9000\n", "--mtu 3");
    refused(&run, 2, "--mtu: 3 is out of range");
}

/// The program without any running switch: with another runtime directory, which for root is `/run`.
fn without_switches(directory: &Path) -> Command {
    let program = env!("CARGO_BIN_EXE_uswitch");
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("unshare");
        command.args([
            "--mount",
            "--net",
            "sh",
            "-c",
            "mount -t tmpfs none /run && exec \"$0\" \"$@\"",
            program,
        ]);
        command
    } else {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", directory);
        command
    }
}

/// Commands for a switch that must be running.
const COMMANDS_FOR_LAB: &[&str] = &[
    "status --name lab",
    "stats --name lab",
    "mdb show --name lab",
    "stp show --name lab",
    "dhcp show --name lab",
    "fdb show --name lab",
    "fdb add --name lab 02:00:00:00:00:01 web",
    "fdb del --name lab 02:00:00:00:00:01",
    "fdb flush --name lab",
    "fdb get --name lab 02:00:00:00:00:01",
    "set --name lab --ageing-time 5",
    "trace --name lab container1 --dst gateway",
    "trace --name lab --follow",
    "port show --name lab",
    "port add --name lab",
    "port del --name lab web",
    "events --name lab",
    "events --name lab --follow",
    "capture --name lab",
    "log --name lab",
];

#[test]
fn reports_switch_that_is_not_running() {
    let directory = tempfile::tempdir().expect("a directory");
    let say = |words: &str| run(without_switches(directory.path()).args(words.split_whitespace()));
    for words in COMMANDS_FOR_LAB {
        let advice = "no switch named lab is running: start it with `uswitch start --name lab`";
        refused(&say(words), 1, advice);
        if words.starts_with("stats") || words.starts_with("events") || words.starts_with("port") {
            refused(
                &say(
                    &format!("{words} --json").replace("del --name lab web --json", "show --name lab --json")
                ),
                1,
                advice,
            );
        }
    }
    let nothing = "no switch named lab is running, and none left anything behind";
    refused(&say("stop --name lab"), 1, nothing);
    refused(&say("stop lab"), 1, nothing);
    refused(&say("exec --name lab container1 -- true"), 125, "no switch named lab is running");
    refused(&say("status"), 1, "no switch named uswitch0 is running");
    let list = say("ls --json");
    assert_eq!((list.code, list.stdout.as_str()), (0, "[]\n"));
}

#[test]
fn writes_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = uswitch(&format!("completions {shell}"));
        assert_eq!(script.code, 0, "{shell}");
        assert!(script.stdout.contains("COMPLETE"), "{shell}: {}", script.stdout);
    }
    assert_usage_error("completions tcsh", "'tcsh' is not one of bash, elvish, fish, powershell, zsh");
}

/// Bash's completions of the line.
fn bash_completes(line: &str) -> Vec<String> {
    let program = env!("CARGO_BIN_EXE_uswitch");
    let words: Vec<&str> = line.split(' ').collect();
    let script = format!(
        "source <('{program}' completions bash); COMP_WORDS=({}); COMP_CWORD={}; COMP_TYPE=9; \
         _clap_complete_uswitch uswitch \"${{COMP_WORDS[COMP_CWORD]}}\"; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
        words.len() - 1
    );
    let run = run(Command::new("bash").args(["-c", &script]));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""), "{line}");
    run.stdout.lines().map(|word| word.trim().to_owned()).collect()
}

#[test]
fn bash_completes_commands_and_options() {
    assert_eq!(bash_completes("uswitch capt"), ["capture"]);
    assert_eq!(bash_completes("uswitch start --ageing"), ["--ageing-time"]);
    assert_eq!(bash_completes("uswitch start --engine ur"), ["uring"]);
    assert!(bash_completes("uswitch fdb ").contains(&"flush".to_owned()));
}

#[test]
fn writes_manual_page_for_every_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let written = uswitch(&format!("man {}", directory.path().display()));
    assert_eq!((written.code, written.stderr.as_str()), (0, ""));
    for page in ["uswitch", "uswitch-start", "uswitch-exec", "uswitch-port-add", "uswitch-fdb-show"] {
        let page = directory.path().join(format!("{page}.1"));
        assert!(page.exists(), "no {}", page.display());
    }
    let start = fs::read_to_string(directory.path().join("uswitch-start.1")).expect("the page is read");
    assert!(start.contains("ageing"), "{start}");
    let exec = fs::read_to_string(directory.path().join("uswitch-exec.1")).expect("the page is read");
    for section in [".SH EXIT STATUS", ".SH ENVIRONMENT", ".SH FILES", ".SH EXAMPLES", ".B 125"] {
        assert!(exec.contains(section), "no {section} in {exec}");
    }
    let lint = run(Command::new("sh")
        .arg("-c")
        .arg(format!("mandoc -T lint -W all {}/*.1", directory.path().display())));
    assert_eq!((lint.code, lint.stdout.as_str(), lint.stderr.as_str()), (0, "", ""));
    refused(
        &uswitch("man /nonexistent"),
        1,
        "cannot write /nonexistent/uswitch.1: No such file or directory",
    );
}

#[test]
fn closed_pipe_is_not_an_error() {
    let mut uswitch = Command::new(env!("CARGO_BIN_EXE_uswitch"));
    let mut child = uswitch
        .args(["completions", "bash"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program runs");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("it ends");
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
}
