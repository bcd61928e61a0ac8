//! The program as a person meets it, as far as that needs no root: help, mistakes, exit codes.

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

/// What a run of the program came to.
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

/// Asserts that the words are refused with exit code 2 and one line that starts with the program's name and says `why`.
#[track_caller]
fn mistake(arguments: &str, why: &str) {
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
    for command in [
        "start", "doctor", "stop", "status", "ls", "exec", "port", "fdb", "stats", "log", "events",
        "capture", "trace", "bench",
    ] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "no {command} in {}", help.stdout);
        assert_eq!(uswitch(&format!("{command} --help")).code, 0);
    }
    for command in ["port show", "port add", "port del", "fdb show", "fdb add", "fdb del", "fdb flush"] {
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
    mistake("start --prots 3", "unexpected argument '--prots' found; a similar argument exists: '--ports'");
    mistake("strat", "unrecognized subcommand 'strat'");
    mistake("start --engine dpdk", "[possible values: auto, uring, poll]");
    mistake("start --mtu big", "invalid value 'big' for '--mtu <BYTES>'");
    mistake("start --ports", "--ports");
    mistake("start --ports 2 --ports 3", "--ports");
    mistake("exec container1", "<COMMAND>");
    mistake("fdb add 02:00:00:00:00:01", "<PORT>");
}

#[test]
fn rejects_values_out_of_range() {
    mistake("start --ports 4096", "--ports: 4096 is out of range: choose 0 to 4095");
    mistake("start --mtu 65522", "65521 (the most that the kernel gives a TAP device)");
    mistake("start --mtu 1000", "(the least that IPv6 needs; IPv4 alone takes 68)");
    mistake("start --workers 0", "--workers: 0 is out of range: choose 1 to 64");
    mistake("start --cpus 1-", "--cpus: '1-' names no CPUs: write some like 1 or 2-5,8, or 'any'");
    mistake("start --cpus 1023", "--cpus: CPU 1023 is none of those that this process may use: ");
    mistake("start --busy-poll 2000000", "--busy-poll: ");
    mistake("start --ageing-time 0", "--ageing-time: ");
    mistake("start --fdb-max 1", "--fdb-max: ");
    mistake("start --txqueuelen 0", "--txqueuelen: ");
    mistake("start --name a/b", "--name: 'a/b' cannot name a network device");
    mistake("start --name 0123456789abcdef", "--name: ");
    mistake("start --prefix a/b", "--prefix: ");
    mistake("start --nat --internal", "--nat: there is no way out to masquerade without a host port");
    mistake("start --nat=maybe", "--nat");
}

#[test]
fn rejects_invalid_subnets() {
    mistake(
        "start --ports 3 --subnet 10.0.0.0/30",
        "room for 1 beside the gateway, and 3 are asked for: use 10.0.0.0/29",
    );
    mistake("start --subnet 10.0.0.5/24", "write the subnet, 10.0.0.0/24");
    mistake("start --subnet here", "'here' is not a subnet");
    mistake("start --subnet 10.0.0.0/8 --subnet 10.1.0.0/16", "overlap");
    mistake("start --subnet 127.0.0.0/8", "is not for stations");
    mistake("doctor --subnet 10.0.0.5/24", "write the subnet, 10.0.0.0/24");
}

#[test]
fn rejects_invalid_bench_arguments() {
    mistake(
        "bench --peers uswitch,hub",
        "[possible values: uswitch, linux-bridge, veth, ovs, ovs-tso, vde, naive]",
    );
    mistake("bench --tests ping", "[possible values: rtt, tcp, tcp4, bidir, host, udp, pps, rtt-load]");
    mistake("bench --repeat 0", "0 is not in 1..=1000");
    mistake("bench --duration 61", "61 is not in 1..=60");
    mistake("bench --busy-poll 1000001", "1000001 is not in");
    let out = uswitch("bench --out /proc/nowhere");
    refused(&out, 1, "cannot write /proc/nowhere");
}

#[test]
fn rejects_invalid_names_and_addresses() {
    mistake("status --name a/b", "cannot name a network device");
    mistake("stop a/b", "cannot name a network device");
    mistake("port add --ip 172.16.0.9", "write an address and its prefix length, like 172.16.0.9/24");
    mistake("port add --mac 2:0:0:0:0:1", "is not a MAC address");
    mistake("port add host", "'host' cannot name a container");
    mistake("port del a/b", "cannot name a container");
    mistake("fdb add here container1", "is not a MAC address");
    mistake("fdb show --vlan 4095", "4095");
    mistake("exec ../etc true", "cannot name a container");
}

#[test]
fn rejects_invalid_trace_arguments() {
    mistake("trace --dst gateway", "--in <PORT>");
    mistake("trace --in container1", "no frame: give --arp-for, --icmp, --hex or --pcap, or --dst alone");
    mistake("trace --in container1 --hex 00 --arp-for 10.0.0.1", "cannot be used with");
    mistake("trace --in container1 --pcap f --icmp 10.0.0.1", "cannot be used with");
    mistake("trace --in container1 --hex 00 --dst gateway", "cannot be used with");
    mistake("trace --in container1 --hex 00 --vlan 5", "cannot be used with");
    mistake("trace --in container1 --arp-for there", "invalid value 'there' for '--arp-for <IP>'");
    mistake("trace --in container1 --dst gateway --vlan 4095", "4095");
    mistake("trace --in container1 --pcap f --limit 0", "--limit");
    mistake("trace --follow --in container1", "cannot be used with");
    mistake("trace --follow --arp-for 10.0.0.1", "cannot be used with");
    mistake("trace --in container1 --dst gateway --drops", "cannot be used with");
    mistake("trace --port container1", "--follow");
    mistake("trace --in a/b --dst gateway", "cannot name a container");
}

/// A configuration file with `text`, and what the program says of it.
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
    bad_file("ports = 3\nmtu = 'big'\n", "2: mtu: invalid type: string \"big\"");
    bad_file("ports = 3\nprots = 3\n", "2: prots: unknown field `prots`, expected one of `name`, `ports`");
    bad_file("ports = 3\n\nports = 4\n", "3: ports: duplicate key");
    bad_file("ports = = 3\n", "1: ports: ");
    bad_file("# a lab\nports = 5000\n", "2: ports: 5000 is out of range: choose 0 to 4095");
    bad_file("subnet = ['10.0.0.0/30']\nports = 3\n", "1: subnet: 10.0.0.0/30 has room for 1");
    bad_file(
        "engine = 'dpdk'\n",
        "1: engine: unknown variant `dpdk`, expected one of `auto`, `uring`, `poll`",
    );
    mistake("start --config /nonexistent/lab.toml", "/nonexistent/lab.toml: No such file or directory");
}

#[test]
fn flags_override_file() {
    let (_, run) = with_file("mtu = 9000\n", "--mtu 3");
    refused(&run, 2, "--mtu: 3 is out of range");
}

/// The program where no switch runs. A user's own directory says so; root's is fixed, so root gets another `/run`.
fn without_switches(directory: &Path) -> Command {
    let program = env!("CARGO_BIN_EXE_uswitch");
    if nix::unistd::geteuid().is_root() {
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", "mount -t tmpfs none /run && exec \"$0\" \"$@\"", program]);
        command
    } else {
        let mut command = Command::new(program);
        command.env("XDG_RUNTIME_DIR", directory);
        command
    }
}

#[test]
fn reports_switch_that_is_not_running() {
    let directory = tempfile::tempdir().expect("a directory");
    let say = |words: &str| run(without_switches(directory.path()).args(words.split_whitespace()));
    for words in [
        "status --name lab",
        "stop lab",
        "stop --name lab",
        "stats --name lab",
        "fdb show --name lab",
        "fdb add --name lab 02:00:00:00:00:01 web",
        "fdb del --name lab 02:00:00:00:00:01",
        "fdb flush --name lab",
        "trace --name lab --in container1 --dst gateway",
        "trace --name lab --follow",
        "port show --name lab",
        "port add --name lab",
        "port del --name lab web",
        "exec --name lab container1 -- true",
    ] {
        refused(&say(words), 1, "no switch named lab is running: start it with `uswitch start --name lab`");
    }
    refused(&say("status"), 1, "no switch named uswitch0 is running");
    let list = say("ls --json");
    assert_eq!((list.code, list.stdout.as_str()), (0, "[]\n"));
}

#[test]
fn writes_completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let completions = uswitch(&format!("completions {shell}"));
        assert_eq!(completions.code, 0, "{shell}");
        for word in ["ageing-time", "busy-poll", "flush"] {
            assert!(completions.stdout.contains(word), "no {word} for {shell}");
        }
    }
}

#[test]
fn writes_manual_page_for_every_command() {
    let directory = tempfile::tempdir().expect("a directory");
    let run = uswitch(&format!("man {}", directory.path().display()));
    assert_eq!((run.code, run.stderr.as_str()), (0, ""));
    for page in ["uswitch", "uswitch-start", "uswitch-exec", "uswitch-port-add", "uswitch-fdb-show"] {
        let page = directory.path().join(format!("{page}.1"));
        assert!(page.exists(), "no {}", page.display());
    }
    let start = fs::read_to_string(directory.path().join("uswitch-start.1")).expect("the page is read");
    assert!(start.contains("ageing"), "{start}");
    refused(&uswitch("man /nonexistent"), 1, "write manual pages into /nonexistent");
}

/// `uswitch completions bash | head -1`, and a reader that has gone altogether.
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
