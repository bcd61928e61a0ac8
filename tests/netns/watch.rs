//! `uswitch watch` on a real terminal, which tmux(1) draws and types on.

use std::fs;

use uswitch::wire::Mac;

use crate::harness::{
    AS_USER, Host, Shell, TestSwitch, Uswitch, frame, host_with_public_tun, mac, v4, wait_until,
};

/// A terminal in which a shell runs `uswitch watch` and prints its exit code.
struct Screen<'a> {
    host: &'a Host,
    /// Prefix that runs a command as the user.
    user: &'a str,
    /// Working directory.
    directory: &'a str,
}

/// Script that runs in the terminal.
const SCRIPT: &str = "/run/look";
const LOOK: &str = r#"
uswitch watch
echo "ended with $?: $(stty -a | grep -ow -e -*icanon -e -*echo | xargs)"
exec sleep 1000
"#;
const TERMINAL: &str = "TERM=screen-256color LC_ALL=C.UTF-8";
const TMUX: &str = "tmux -f /dev/null -S";

impl<'a> Screen<'a> {
    fn open(host: &'a Host, user: &'a str) -> Screen<'a> {
        Screen::open_in(host, user, if user.is_empty() { "/run" } else { "/run/user/65534" })
    }

    fn open_in(host: &'a Host, user: &'a str, directory: &'a str) -> Screen<'a> {
        let screen = Screen { host, user, directory };
        fs::write(host.path(SCRIPT), LOOK).expect("the host has a /run");
        let (socket, how) = (screen.socket(), format!("-x 100 -y 30 -c {directory}"));
        host.run(&format!("{user} env {TERMINAL} {TMUX} {socket} new-session -d {how} sh {SCRIPT}")).ok();
        // The end of the gateway's MAC address.
        screen.wait_for(":00:00");
        screen
    }

    fn socket(&self) -> &'static str {
        if self.user.is_empty() { "/run/tmux" } else { "/run/user/65534/tmux" }
    }

    fn tmux(&self, command: &str) -> String {
        let (user, socket) = (self.user, self.socket());
        self.host.sh(&format!("{user} env {TERMINAL} {TMUX} {socket} {command}")).ok()
    }

    fn seen(&self) -> String {
        self.tmux("capture-pane -p")
    }

    fn keys(&self, keys: &str) {
        self.tmux(&format!("send-keys {keys}"));
    }

    #[track_caller]
    fn wait_for(&self, text: &str) {
        wait_until(&format!("'{text}' is on the screen"), || self.seen().contains(text));
    }

    #[track_caller]
    fn wait_until_gone(&self, text: &str) {
        wait_until(&format!("'{text}' is gone from the screen"), || !self.seen().contains(text));
    }

    /// Interface names of the ICMP packets in the capture of `what`, read by tshark(1).
    fn pings_in(&self, what: &str) -> Vec<String> {
        let file = format!("{}/uswitch0-{what}-*.pcapng", self.directory);
        let read = format!("tshark -n -r $(echo {file}) -Y icmp -T fields -e frame.interface_name");
        let read = self.host.sh(&read);
        let names = if read.succeeded() { read.ok() } else { String::new() };
        names.lines().map(str::to_owned).collect()
    }

    /// Waits until the program has exited with 0, and checks that the terminal is restored.
    #[track_caller]
    fn ends(&self) -> String {
        self.wait_for("ended with 0: icanon echo");
        let state = self.tmux("display-message -p '#{alternate_on} #{cursor_flag}'");
        assert_eq!(state.trim(), "0 1", "the other screen is left, and there is a cursor");
        self.seen()
    }
}

#[test]
fn shows_learned_entry_and_flushes() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let screen = Screen::open(s.host(), "");
    let address = mac(0x77).to_string();
    h1.send(&[frame(Mac::BROADCAST, mac(0x77), "I am new")]);
    screen.wait_for(&address);
    screen.wait_for("learned");
    screen.keys("'?'");
    screen.wait_for("Esc closes it");
    screen.keys("Escape");
    screen.wait_until_gone("Esc closes it");
    screen.keys("/ host Enter");
    screen.wait_until_gone(&address);
    screen.keys("Escape");
    screen.wait_for(&address);
    screen.keys("f");
    screen.wait_for("y/n");
    screen.keys("y");
    screen.wait_for("deleted");
    wait_until("the entry is deleted", || s.port_of(mac(0x77)).is_none());
    screen.keys("q");
    assert!(!screen.ends().contains("ports"), "{}", screen.seen());
}

#[test]
fn shows_rates_and_activity_of_ping() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let screen = Screen::open(s.host(), "");
    let _ping = h1.spawn(&format!("ping -n -i 0.2 -w 60 {}", v4(2)));
    // Five requests and five replies a second, of 98 bytes each, and IPv6 neighbor discovery at first.
    wait_until("both ports are active", || {
        let seen = screen.seen();
        let lit = |port: &str| seen.lines().any(|line| line.contains(&format!("● {port}")));
        lit("container1") && lit("container2") && seen.contains("kbit/s")
    });
    screen.tmux("resize-window -x 40 -y 10");
    screen.wait_for("too small");
    screen.tmux("resize-window -x 140 -y 40");
    screen.wait_for("container3");
    screen.keys("C-c");
    screen.ends();
}

#[test]
fn captures_selected_port() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let screen = Screen::open(s.host(), "");
    screen.wait_for("c capture all");
    screen.keys("Down Down");
    screen.wait_for("c capture container1");
    screen.keys("c");
    screen.wait_for("into uswitch0-container1-20");
    screen.wait_for("c end capture");
    h1.run(&format!("ping -n -c 3 -i 0.2 {}", v4(2))).ok();
    wait_until("three requests and three answers", || screen.pings_in("container1") == ["container1"; 6]);
    screen.keys("c");
    screen.wait_for("captured ");
    let seen = screen.seen();
    assert!(seen.contains("/run/uswitch0-container1-20") && seen.contains(", 0 lost"), "{seen}");
    h1.run(&format!("ping -n -c 1 {}", v4(2))).ok();
    screen.keys("q");
    let output = screen.ends();
    assert!(
        output.contains("uswitch: captured ") && output.contains("/run/uswitch0-container1-20"),
        "{output}"
    );
    assert_eq!(screen.pings_in("container1").len(), 6, "it had ended before");
}

#[test]
fn quitting_ends_capture_of_all_ports() {
    let s = Uswitch::start();
    let [h1, ..] = s.containers();
    let screen = Screen::open(s.host(), "");
    screen.keys("Down Tab c");
    screen.wait_for("into uswitch0-all-20");
    h1.run(&format!("ping -n -c 1 {}", v4(2))).ok();
    let crossings = ["container1", "container2", "container2", "container1"];
    wait_until("a request and an answer, in and out", || screen.pings_in("all") == crossings);
    screen.keys("q");
    assert!(screen.ends().contains("uswitch: captured "), "{}", screen.seen());
    assert_eq!(screen.pings_in("all"), crossings);
}

#[test]
fn capture_ends_when_port_is_deleted() {
    let s = Uswitch::start();
    let screen = Screen::open(s.host(), "");
    screen.keys("Down Down c");
    screen.wait_for("into uswitch0-container1-20");
    s.host().run("uswitch port del container1").ok();
    screen.wait_for("the port or the switch is gone");
    screen.keys("q");
    screen.ends();
}

#[test]
fn capture_ends_when_switch_stops() {
    let s = Uswitch::start();
    let screen = Screen::open(s.host(), "");
    screen.keys("c");
    screen.wait_for("into uswitch0-all-20");
    s.stop();
    let output = screen.ends();
    assert!(
        output.contains("uswitch: captured ") && output.contains("uswitch: the switch has stopped"),
        "{output}"
    );
    s.host().sh("tshark -r $(echo /run/uswitch0-all-*.pcapng)").ok();
}

#[test]
fn quits_when_switch_stops() {
    let s = Uswitch::start();
    let screen = Screen::open(s.host(), "");
    s.stop();
    assert!(screen.ends().contains("uswitch: the switch has stopped"));
}

#[test]
fn signals_restore_terminal() {
    let s = Uswitch::start();
    for signal in ["TERM", "HUP", "INT"] {
        let screen = Screen::open(s.host(), "");
        let watcher = s.host().run("pgrep -f ^uswitch.watch$").ok();
        s.host().run(&format!("kill -{signal} {}", watcher.trim())).ok();
        screen.ends();
        screen.tmux("kill-server");
    }
}

#[test]
fn refuses_to_run_without_terminal() {
    let s = Uswitch::start();
    let watch = s.host().run("uswitch watch");
    assert_eq!(watch.code, Some(1));
    let said = watch.fails();
    assert!(said.contains("terminal") && said.lines().count() == 1, "{said}");
}

#[test]
fn works_without_root() {
    let host = host_with_public_tun();
    let user = AS_USER;
    host.run(&format!("{user} uswitch start --detach --ports 2")).ok();
    let screen = Screen::open(&host, user);
    host.run(&format!("{user} uswitch exec container1 -- ping -n -c 1 -W 5 172.16.0.3")).ok();
    screen.wait_for("container2");
    screen.keys("c");
    screen.wait_for("into uswitch0-all-20");
    screen.keys("c");
    screen.wait_for("captured ");
    host.sh(&format!("{user} sh -c 'tshark -r $(echo {}/uswitch0-all-*.pcapng)'", screen.directory)).ok();
    host.run(&format!("{user} uswitch stop")).ok();
    assert!(screen.ends().contains("uswitch: the switch has stopped"));
}

#[test]
fn reports_unwritable_directory() {
    let host = host_with_public_tun();
    let user = AS_USER;
    host.run(&format!("{user} uswitch start --detach --ports 2")).ok();
    let screen = Screen::open_in(&host, user, "/run");
    screen.keys("c");
    screen.wait_for("cannot make /run/uswitch0-all-20");
    let seen = screen.seen();
    assert!(seen.contains("Permission denied") && seen.contains("container2"), "{seen}");
    screen.keys("Tab");
    screen.wait_for("c capture all");
    screen.keys("q");
    screen.ends();
}
