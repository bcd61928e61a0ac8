//! Worker threads: what they may do, and what happens if one does not respond.

use nix::sys::signal::Signal;
use serde_json::json;

use crate::harness::{
    FrozenThread, Host, HostSnapshot, Shell, TestSwitch, Uswitch, thread_status, v4, wait_until,
};

const ENGINES: [&str; 2] = ["uring", "poll"];
const CURL: &str = "curl -s -w %{http_code} --unix-socket /run/uswitch/uswitch0.sock http://uswitch";

/// The state is shown everywhere, requests are answered, and the worker is used again after it recovers.
#[test]
fn frozen_worker_degrades_the_switch() {
    for engine in ENGINES {
        let s = Uswitch::with(&format!("--ports 3 --workers 2 --engine {engine}"));
        let host = s.host();
        let health = || host.run(&format!("{CURL}/v1/health")).ok();
        assert_eq!(health(), r#"{"state":"running","stalled_workers":[]}200"#);
        let frozen = FrozenThread::freeze(&s, "worker1");

        let refused = host.run("uswitch port add late").fails();
        assert!(refused.contains("worker 1 of the switch does not respond"), "{refused}");
        let status = s.json("status");
        assert_eq!([&status["state"], &status["stalled_workers"]], [&json!("degraded"), &json!([1])]);
        let text = host.run("uswitch status").ok();
        assert!(text.contains("degraded: worker 1 does not respond"), "{text}");
        assert!(host.run("uswitch ls").ok().contains("degraded"));
        assert_eq!(health(), r#"{"state":"degraded","stalled_workers":[1]}503"#);
        let metrics = host.run(&format!("{CURL}/metrics")).ok();
        let stalled: Vec<char> = metrics
            .lines()
            .filter(|line| line.starts_with("uswitch_worker_stalled{"))
            .filter_map(|line| line.chars().last())
            .collect();
        assert_eq!(stalled, ['0', '1'], "{metrics}");
        host.run("uswitch port del container3").ok();

        drop(frozen);
        wait_until("the worker is used again", || s.json("status")["state"] == "running");
        let events = host.run("uswitch events --json --type worker_stalled,worker_recovered").ok();
        assert!(events.contains("worker_stalled") && events.contains("worker_recovered"), "{events}");
        host.run("uswitch port add late").ok();
        let [h1, ..] = s.containers();
        h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    }
}

#[test]
fn stops_with_a_frozen_worker() {
    for engine in ENGINES {
        for signal in [None, Some(Signal::SIGTERM)] {
            let host = Host::new();
            let before = HostSnapshot::of(&host);
            let command = format!("uswitch start --ports 2 --nat --workers 2 --engine {engine}");
            let mut start = host.spawn(&command);
            start.line_with("Ctrl-C");
            let s = Uswitch::running(host);
            let frozen = FrozenThread::freeze(&s, "worker0");
            match signal {
                Some(signal) => start.signal(signal),
                None => s.stop(),
            }
            // Until its frozen thread is released, the process is a zombie.
            let states = || s.host().run("ps -C uswitch -o stat=").stdout;
            wait_until("the switch ends", || states().lines().all(|state| state.starts_with('Z')));
            // The kernel closes the queues of the frozen thread a moment later.
            wait_until("the host port is gone", || !s.host().run("ip link show uswitch0").succeeded());
            before.assert_same(s.host());
            drop(frozen);
        }
    }
}

/// Workers have no capabilities and a seccomp filter. Control keeps some capabilities, without a way to get more.
#[test]
fn workers_are_confined_and_control_has_few_capabilities() {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    const CAP_SYS_MODULE: u64 = 1 << 16;
    // With CAP_SYS_ADMIN.
    const EFFECTIVE: u64 = CAP_NET_ADMIN | 1 << 21;
    // With CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_NET_BIND_SERVICE, CAP_NET_RAW and CAP_SYS_PTRACE.
    const PERMITTED: u64 = EFFECTIVE | 1 << 1 | 1 << 2 | 1 << 10 | 1 << 13 | 1 << 19;
    for engine in ENGINES {
        let s = Uswitch::with(&format!("--ports 2 --workers 2 --dns --dhcp --engine {engine}"));
        for worker in ["worker0", "worker1"] {
            for set in ["CapInh", "CapPrm", "CapEff", "CapAmb"] {
                assert_eq!(capabilities(&s, worker, set), 0, "{worker} {set}");
            }
            assert_eq!(thread_status(&s, worker, "Seccomp"), "2", "a filter");
        }
        let bounding = capabilities(&s, "uswitch", "CapBnd");
        assert_eq!(bounding & (CAP_NET_ADMIN | CAP_SYS_MODULE), CAP_NET_ADMIN, "{bounding:x}");
        assert_eq!(capabilities(&s, "uswitch", "CapPrm"), PERMITTED);
        assert_eq!(capabilities(&s, "uswitch", "CapEff"), EFFECTIVE);
        assert_eq!(capabilities(&s, "log", "CapPrm"), 0);
        assert_eq!(capabilities(&s, "dns", "CapPrm"), 0);
        assert_eq!(capabilities(&s, "dhcp", "CapPrm"), 0);
        for thread in ["uswitch", "log", "worker0"] {
            assert_eq!(thread_status(&s, thread, "NoNewPrivs"), "1", "{thread}");
        }
        let [h1, ..] = s.containers();
        h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
        // What needs capabilities that are lowered between operations.
        let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups";
        let mut other =
            s.host().spawn_sh(&format!("exec {nobody} unshare -rn sh -c 'echo $$; exec sleep 100'"));
        let pid = other.line().expect("its process ID");
        s.host().run(&format!("uswitch port add late --netns {pid}")).ok();
        s.host().run("uswitch port add later").ok();
        s.host().run("uswitch port del later").ok();
    }
}

fn capabilities(s: &Uswitch, thread: &str, set: &str) -> u64 {
    u64::from_str_radix(&thread_status(s, thread, set), 16).expect("the kernel prints a hexadecimal number")
}
