//! A switch in the foreground: the line that is kept up to date on a terminal, and Ctrl-C.

use std::fs;

use nix::sys::signal::Signal;

use crate::harness::{Host, HostSnapshot, Process, Shell, wait_until};

/// Runs a command on a terminal of its own (pty(7)); it ends with the command's exit code.
const ON_A_TERMINAL: &str =
    "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))";
/// What is typed there, and what is seen.
const KEYBOARD: &str = "/run/keyboard";
const SCREEN: &str = "/run/screen";
/// What the line says of the two containers and the host port.
const LINE: &str = "3 of 3 ports up";

/// The terminal's programs hold both ends of the keyboard, so that opening it does not wait.
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
    // Over itself: from the left edge, in the same row.
    let seen = screen(&host);
    let rows: Vec<&str> = seen.lines().filter(|row| row.contains(LINE)).collect();
    assert!(matches!(rows[..], [row] if row.matches(&format!("\r{LINE}")).count() >= 2), "{seen:?}");
    const CTRL_C: &str = "\x03";
    fs::write(host.path(KEYBOARD), CTRL_C).expect("the terminal listens");
    terminal.ok();
    before.assert_same(&host);
}

/// A program that reads what the switch prints is spared the line.
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

/// A terminal shows no pcapng.
#[test]
fn refuses_capture_to_a_terminal() {
    let host = Host::new();
    host.sh(&format!("mkfifo {KEYBOARD}; touch {SCREEN}")).ok();
    let (status, _) = on_a_terminal(&host, "uswitch capture -w -").wait();
    assert_eq!(status.code(), Some(2));
    let seen = screen(&host);
    assert!(seen.contains("standard output is a terminal") && seen.trim().lines().count() == 1, "{seen}");
}
