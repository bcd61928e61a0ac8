//! The labs in docs/labs, and what README.md shows, done as their reader does them: each command is typed when the one before has shown all that the page says
//! that it shows.
//!
//! A `console` block has commands, after `# ` (or `$ ` where root is not needed), and what each shows. An `sh` block is typed as it is, and shows nothing.
//! [`shown`] says how what is seen is compared with the page.

mod page;
mod shown;

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use crate::harness::{AS_USER, Host, HostSnapshot, Process, Shell, host_with_public_tun};
use page::Step;
use shown::Stations;

const LABS: &str = "docs/labs";
const BASH: &str = "bash --norc";

fn in_project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn read(page: &str) -> String {
    fs::read_to_string(in_project(page)).expect("the page is there")
}

/// Does a lab, as root of a machine.
fn lab(page: &str) {
    lab_in(page, &Host::new(), BASH);
}

/// `shell` as for [`Terminal::on`].
fn lab_in(page: &str, host: &Host, shell: &str) {
    let page = format!("{LABS}/{page}");
    does(&page, &read(&page), host, shell);
}

/// Does what README.md shows.
fn readme(host: &Host, shell: &str) {
    does("README.md", &page::part(&read("README.md"), "## What you will see"), host, shell);
}

/// Does a page on a machine, which then is as it was.
fn does(page: &str, text: &str, host: &Host, shell: &str) {
    let before = (HostSnapshot::of(host), processes(host));
    let mut terminal = Terminal::on(host, shell);
    let mut stations = Stations::default();
    for step in page::steps(text) {
        terminal.enter(&step);
        let seen = terminal.seen(&step, &stations);
        assert!(
            stations.shown(&step.shown, &seen),
            "{page}:{}: `{}` should show\n{}\nbut shows\n{}",
            step.line,
            step.command,
            step.shown.join("\n"),
            seen.join("\n")
        );
    }
    terminal.close();
    before.0.assert_same(host);
    assert_eq!(processes(host), before.1, "{page} leaves programs behind");
}

/// By their names, but for those that only wait to be reaped.
fn processes(host: &Host) -> Vec<String> {
    let all = host.run("ps -e -o stat=,comm= --sort=comm").ok();
    all.lines()
        .filter(|line| !line.starts_with('Z'))
        .filter_map(|line| line.split_whitespace().nth(1).map(str::to_owned))
        .collect()
}

/// A shell that runs what is typed, in a directory of its own.
struct Terminal {
    keyboard: File,
    shell: Process,
}

impl Terminal {
    const KEYBOARD: &str = "/run/keyboard";
    /// Shown after each command.
    const PROMPT: &str = "-- next --";

    /// The command `shell` starts a bash that reads commands.
    fn on(host: &Host, shell: &str) -> Terminal {
        host.sh(&format!("mkdir -m 777 /run/lab; mkfifo -m 666 {}", Terminal::KEYBOARD)).ok();
        let shell = host.spawn_sh(&format!("cd /run/lab; exec < {}; exec {shell}", Terminal::KEYBOARD));
        // For both ways, because to open for one waits for who opens for the other.
        let keyboard = File::options().read(true).write(true).open(host.path(Terminal::KEYBOARD));
        Terminal { keyboard: keyboard.expect("it was made"), shell }
    }

    fn enter(&mut self, step: &Step) {
        let typed = format!("{}\necho '{}'\n", step.command, Terminal::PROMPT);
        self.keyboard.write_all(typed.as_bytes()).expect("the shell listens");
    }

    /// What is seen until the next prompt; of a command in the background, until all that it should show has come.
    fn seen(&mut self, step: &Step, stations: &Stations) -> Vec<String> {
        let mut seen = Vec::new();
        let mut prompted = false;
        while !prompted || step.in_background() && !stations.clone().shown(&step.shown, &seen) {
            match self.shell.line() {
                Some(line) if line == Terminal::PROMPT => prompted = true,
                Some(line) => seen.push(line),
                None => break,
            }
        }
        seen
    }

    fn close(mut self) {
        self.keyboard.write_all(b"exit\n").expect("the shell listens");
        assert_eq!(self.shell.ok(), "", "something is shown after the last step");
    }
}

#[test]
fn readme_session_works_as_root() {
    readme(&Host::new(), BASH);
}

#[test]
fn readme_session_works_without_root() {
    readme(&host_with_public_tun(), &format!("{AS_USER} {BASH}"));
}

#[test]
fn lab_1_one_container() {
    lab("1-one-container.md");
}

#[test]
fn lab_2_switch_learns() {
    lab("2-the-switch-learns.md");
}

#[test]
fn lab_3_internet() {
    lab("3-out-to-the-internet.md");
}

#[test]
fn lab_4_flooding_ageing_attack() {
    lab("4-flooding-ageing-and-an-attack.md");
}

#[test]
fn lab_5_loop() {
    lab("5-a-loop.md");
}

#[test]
fn lab_6_linux_bridge() {
    lab("6-against-the-linux-bridge.md");
}

/// The one that changes most of its machine.
#[test]
fn lab_works_in_private_namespace() {
    let index = page::part(&read(&format!("{LABS}/README.md")), "## A private namespace");
    let [room] = &page::steps(&index)[..] else { panic!("one command makes the room") };
    let host = Host::new();
    // The room has a /run of its own, so the program is on the path in another place.
    host.sh("mount -t tmpfs tmpfs /mnt; touch /mnt/uswitch; mount --bind /run/bin/uswitch /mnt/uswitch").ok();
    let shell = room.command.replace("sudo", "env PATH=/mnt:$PATH");
    lab_in("3-out-to-the-internet.md", &host, &shell);
}

#[test]
fn every_lab_has_a_test() {
    let own = include_str!("labs.rs");
    for entry in fs::read_dir(in_project(LABS)).expect("docs/labs can be listed") {
        let page = entry.expect("docs/labs can be listed").file_name().into_string().expect("a plain name");
        assert!(page == "README.md" || own.contains(&format!("lab(\"{page}\")")), "no test does {page}");
    }
}
