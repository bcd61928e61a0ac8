//! Programs on a terminal: the status line of a switch, Ctrl-C, `exec`, completion.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Host, HostSnapshot, Process, Shell, wait_until};

/// Runs a command on a pseudoterminal (pty(7)), and exits with its exit code.
const ON_A_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
/// A FIFO for the input of the terminal, and a file with its output.
const KEYBOARD: &str = "/run/keyboard";
const SCREEN: &str = "/run/screen";
/// The beginning of the status line.
const LINE: &str = "3 of 3 ports up";

/// Opens both ends of the FIFO, so that opening does not block.
fn on_a_terminal(host: &Host, command: &str) -> Process {
    host.spawn_sh(&format!("exec python3 -c '{ON_A_TERMINAL}' {command} <>{KEYBOARD} >{SCREEN}"))
}

fn screen(host: &Host) -> String {
    fs::read_to_string(host.path(SCREEN)).expect("it was made")
}

#[test]
fn updates_status_line() {
    let host = Host::new();
    host.sh(&format!("mkfifo {KEYBOARD}; touch {SCREEN}")).ok();
    let before = HostSnapshot::of(&host);
    let mut terminal = on_a_terminal(&host, "uswitch start --ports 2");
    wait_until("the line was written twice", || {
        screen(&host).matches(LINE).count() >= 2 || terminal.has_ended()
    });
    // The line overwrites itself, from the left edge of its row.
    let seen = screen(&host);
    let rows: Vec<&str> = seen.lines().filter(|row| row.contains(LINE)).collect();
    assert!(matches!(rows[..], [row] if row.matches(&format!("\r{LINE}")).count() >= 2), "{seen:?}");
    const CTRL_C: &str = "\x03";
    fs::write(host.path(KEYBOARD), CTRL_C).expect("the terminal listens");
    terminal.ok();
    before.assert_same(&host);
}

#[test]
fn no_status_line_on_a_pipe() {
    let host = Host::new();
    let mut switch = host.spawn("uswitch start --ports 2");
    wait_until("it has run long enough for two lines", || {
        let status = host.run("uswitch status --json");
        switch.has_ended() || status.succeeded() && status.json()["uptime"].as_u64() >= Some(3)
    });
    switch.signal(Signal::SIGINT);
    let said = switch.ok();
    assert!(said.contains("uswitch stop") && !said.contains(LINE) && !said.contains('\r'), "{said:?}");
}

#[test]
fn refuses_capture_to_a_terminal() {
    let host = Host::new();
    host.sh(&format!("mkfifo {KEYBOARD}; touch {SCREEN}")).ok();
    let (status, _) = on_a_terminal(&host, "uswitch capture -w -").wait();
    assert_eq!(status.code(), Some(2));
    let seen = screen(&host);
    assert!(seen.contains("standard output is a terminal") && seen.trim().lines().count() == 1, "{seen}");
}

/// What a bash script prints on a terminal, where `$c1` is `uswitch exec container1 --`.
fn typed(host: &Host, script: &str) -> String {
    fs::write(host.path("/run/typed.sh"), format!("c1='uswitch exec container1 --'\n{script}\n"))
        .expect("it is made");
    on_a_terminal(host, "bash /run/typed.sh").wait();
    screen(host)
}

fn two_containers() -> Host {
    let host = Host::new();
    host.sh(&format!("mkfifo {KEYBOARD}; touch {SCREEN}")).ok();
    host.run("uswitch start --detach --ports 2").ok();
    host
}

#[test]
fn exec_has_distinct_exit_codes() {
    let host = two_containers();
    for (arguments, code) in [
        ("container1 -- sh -c 'exit 7'", 7),
        ("container1 -- /proc", 126),
        ("container1 -- /nonexistent", 127),
        ("container9 -- true", 125),
        ("--name lab container1 -- true", 125),
        ("container1", 125),
        ("--prot container1 -- true", 125),
    ] {
        let run = host.sh(&format!("uswitch exec {arguments}"));
        assert_eq!(run.code, Some(code), "{arguments}: {run}");
    }
    let seen = typed(&host, "$c1 sh -c 'exit 7'; echo rc=$?; $c1 sh -c 'kill -TERM $$'; echo rc=$?");
    assert!(seen.contains("rc=7\r\n") && seen.contains("rc=143\r\n"), "{seen}");
    host.run("uswitch stop").ok();
}

#[test]
fn exec_passes_on_no_inherited_descriptors() {
    let host = two_containers();
    let list = "exec 9</etc/passwd; ls /proc/self/fd; echo; uswitch exec container1 -- ls /proc/self/fd";
    let lists = host.sh(list).ok();
    let (ours, theirs) = lists.split_once("\n\n").expect("two lists");
    assert!(ours.lines().any(|number| number == "9"), "the shell has it: {lists}");
    // The fourth is the directory that ls reads.
    assert_eq!(theirs.lines().collect::<Vec<_>>(), ["0", "1", "2", "3"]);
    let seen = typed(&host, "exec 9</etc/passwd; $c1 sh -c 'ls /proc/self/fd | xargs echo list'");
    assert!(!seen.contains('9') && seen.contains("list 0 1 2"), "{seen}");
    host.run("uswitch stop").ok();
}

/// Types a command by TIOCSTI into its terminal, as an attacker would who waits for the caller's shell.
const TYPE: &str = "
import fcntl, os, termios
terminal = os.open('/dev/tty', os.O_RDWR)
for c in b'echo typed\\n': fcntl.ioctl(terminal, termios.TIOCSTI, bytes([c]))
";

#[test]
fn exec_cannot_type_into_the_callers_terminal() {
    let host = two_containers();
    fs::write(host.path("/run/type.py"), TYPE).expect("it is made");
    let pending = "read -t 0 && echo input is pending || echo no input is pending";
    let control = typed(&host, &format!("python3 /run/type.py; {pending}"));
    if !control.contains("\ninput is pending") {
        // Linux 6.2 has a switch for it (dev.tty.legacy_tiocsti): then no program can type.
        assert!(control.contains("Errno 5") || control.contains("Input/output error"), "{control}");
    }
    let seen = typed(&host, &format!("tty; $c1 tty; $c1 python3 /run/type.py; {pending}"));
    assert!(seen.contains("no input is pending"), "{seen}");
    let terminals: Vec<&str> = seen.lines().filter(|line| line.starts_with("/dev/pts/")).collect();
    assert!(matches!(terminals[..], [caller, program] if caller != program), "{seen}");
    let without = typed(&host, &format!("$c1 python3 /run/type.py </dev/null 2>&1 | tail -n 1; {pending}"));
    assert!(
        without.contains("No such device or address") && without.contains("no input is pending"),
        "{without}"
    );
    host.run("uswitch stop").ok();
}

#[test]
fn exec_runs_shell_with_job_control() {
    let host = two_containers();
    let terminal = on_a_terminal(&host, "uswitch exec container1 -- bash --norc -i");
    let mut keys = fs::File::options().write(true).open(host.path(KEYBOARD)).expect("the terminal listens");
    let mut enter = |text: &str, shown: &str| {
        std::io::Write::write_all(&mut keys, text.as_bytes()).expect("the terminal takes it");
        wait_until(&format!("'{shown}' is shown"), || screen(&host).contains(shown));
    };
    enter("stty -echo; PS1=; echo on $(hostname -I | cut -d. -f1-3)\n", "on 172.16.0");
    enter("sleep 271828; echo stopped with $?\n", "");
    wait_until("it sleeps", || host.run("pgrep -f ^sleep.271828$").succeeded());
    const CTRL_Z: &str = "\x1a";
    enter(CTRL_Z, "stopped with 148");
    enter("fg\n", "");
    const CTRL_C: &str = "\x03";
    wait_until("it goes on", || {
        let state = host.run("ps -o stat= -p $(pgrep -f ^sleep.271828$)");
        !state.succeeded() || !state.ok().starts_with('T')
    });
    enter(CTRL_C, "");
    wait_until("it has ended", || !host.run("pgrep -f ^sleep.271828$").succeeded());
    enter("echo ended with $?\n", "ended with 130");
    enter("exit 0\n", "exit");
    terminal.ok();
    host.run("uswitch stop").ok();
}

#[test]
fn bash_completes_switches_and_ports() {
    let host = two_containers();
    let completes = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (count, last) = (words.len() - 1, words.last().expect("a word"));
        fs::write(
            host.path("/run/complete.sh"),
            format!(
                "source <(uswitch completions bash); COMP_WORDS=({line}); COMP_CWORD={count}; COMP_TYPE=9\n\
                 _clap_complete_uswitch uswitch '{last}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
            ),
        )
        .expect("it is made");
        let lines = host.run("bash /run/complete.sh").ok();
        lines.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(completes("uswitch exec cont"), ["container1", "container2"]);
    assert_eq!(completes("uswitch stats container1,h"), ["container1,host"]);
    assert_eq!(completes("uswitch trace h"), ["host"]);
    assert_eq!(completes("uswitch status --name us"), ["uswitch0"]);
    assert_eq!(completes("uswitch exec --name lab cont"), [""]);
    host.run("uswitch stop").ok();
}

#[test]
fn every_subcommand_accepts_ports_as_arguments() {
    let host = two_containers();
    host.run("uswitch fdb add 02:00:00:00:00:09 container2").ok();
    let ports = |command: &str, field: &str| {
        let json = host.run(&format!("uswitch {command} --json")).json();
        let ports = json
            .as_array()
            .expect("a list")
            .iter()
            .map(|port| port[field].as_str().expect("a name").to_owned());
        ports.collect::<Vec<_>>()
    };
    assert_eq!(ports("port show container2 host", "ifname"), ["host", "container2"]);
    assert_eq!(ports("stats container1,container2", "ifname"), ["container1", "container2"]);
    assert_eq!(ports("fdb show container2 --mac 02:00:00:00:00:09", "ifname"), ["container2"]);
    assert!(host.run("uswitch events container1,container2 --type port_added").ok().lines().count() >= 2);
    assert!(host.run("uswitch stats container1 container2").ok().contains("\n\ncontainer2\n"));
    host.run("uswitch fdb flush container1 container2").ok();
    for command in
        ["stats", "fdb show", "fdb flush", "port show", "port del", "capture", "trace --icmp 172.16.0.3"]
    {
        let said = host.run(&format!("uswitch {command} nobody")).fails();
        let expected = if command.starts_with("trace") {
            "--icmp: 'nobody' is not an IP address"
        } else {
            "no port named nobody"
        };
        assert!(said.contains(expected) && said.lines().count() == 1, "{command}: {said}");
    }
    host.run("uswitch port del container1,container2").ok();
    assert_eq!(ports("port show", "ifname"), ["host"]);
    host.run("uswitch stop").ok();
}

/// A switch that is stopped by a signal answers nothing: each command says so, and none waits for it.
#[test]
fn commands_report_a_suspended_switch() {
    let host = two_containers();
    let pid = host.run("uswitch status --json").json()["pid"].as_u64().expect("a PID");
    host.run(&format!("kill -STOP {pid}")).ok();
    let expected =
        format!("uswitch0 does not answer: its process {pid} is stopped; `kill -CONT {pid}` continues it");
    for command in ["stop", "status", "port add", "fdb flush"] {
        let said = host.run(&format!("uswitch {command}")).fails();
        assert!(said.contains(&expected) && said.lines().count() == 1, "{command}: {said}");
    }
    assert_eq!(host.run("uswitch exec container1 -- true").code, Some(125));
    host.run(&format!("kill -CONT {pid}")).ok();
    assert_eq!(
        host.run("uswitch port show --json").json().as_array().map(Vec::len),
        Some(3),
        "nothing was sent"
    );
    host.run("uswitch stop").ok();
}
