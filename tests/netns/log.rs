//! The log of a switch, and where it goes.

use crate::harness::{Host, HostSnapshot, Shell, TestSwitch, Uswitch, wait_until};

#[test]
fn detached_switch_logs_to_file() {
    let host = Host::new();
    let before = HostSnapshot::of(&host);
    let s = Uswitch::on(host, "--ports 1");
    let log = || s.host().run("cat /run/uswitch/uswitch0.log");
    assert!(!log().succeeded(), "logging is off by default");
    let changed = s.host().run("uswitch log info").ok();
    assert_eq!(changed.trim(), "info, to /run/uswitch/uswitch0.log");
    s.host().run("uswitch port add lab").ok();
    s.host().run("uswitch log debug").ok();
    s.host().run("uswitch port del lab").ok();
    wait_until("the line is written", || log().succeeded() && log().ok().contains("port deleted"));
    let text = log().ok();
    assert!(text.contains("INFO port added port=\"lab\""), "{text}");
    assert!(text.contains("method=DELETE") && !text.contains("method=POST"), "{text}");
    assert_eq!(s.host().run("stat -c %a /run/uswitch/uswitch0.log").ok().trim(), "600");
    assert!(s.host().run("uswitch log loud").fails().contains("loud"));
    s.stop();
    // The process removes its log after the response to `stop`.
    wait_until("the log is removed", || !log().succeeded());
    before.assert_same(s.host());
}

#[test]
fn foreground_switch_logs_to_stderr() {
    let host = Host::new();
    let script = "uswitch start --ports 1 -v 2>/run/stderr & uswitch=$!; \
        until uswitch status >/run/status 2>&1; do :; done; uswitch log; uswitch stop; wait $uswitch";
    let shown = host.sh(script).ok();
    assert!(shown.contains("info, to standard error"), "{shown}");
    let output = host.run("cat /run/stderr").ok();
    for line in ["port added port=\"container1\"", "switch started", "the switch stops why=\"API request\""] {
        assert!(output.contains(line), "no {line} in {output}");
    }
    host.run("test -e /run/uswitch/uswitch0.log").fails();
}
