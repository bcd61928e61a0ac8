//! Engine selection, busy polling, CPU placement, and that an idle switch does nothing.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use uswitch::datapath::allowed_cpus;

use crate::harness::{Host, HostSnapshot, Shell, TestSwitch, Uswitch, v4};
use crate::lifecycle::assert_command_rejected;
use crate::ports::cpu_ticks;

/// Runs a command under a seccomp filter that forbids io_uring.
const FORBIDDING: &str = "python3 /run/no_io_uring.py";

fn machine() -> Host {
    let host = Host::new();
    fs::write(host.path("/run/no_io_uring.py"), include_str!("harness/no_io_uring.py"))
        .expect("the host's /run can be written");
    host
}

/// `auto` selects the poll engine, which forwards, and prints the reason in one line.
#[test]
fn auto_falls_back_to_poll_where_io_uring_is_forbidden() {
    let host = machine();
    let before = HostSnapshot::of(&host);
    let start = host.run(&format!("{FORBIDDING} uswitch start --detach --ports 3"));
    assert_eq!(start.stderr, "");
    let printed = start.ok();
    assert!(printed.contains("(poll, "), "{printed}");
    let why: Vec<&str> = printed.lines().filter(|line| line.contains("io_uring")).collect();
    assert!(matches!(why[..], [line] if line.contains("forbidden") && line.contains("seccomp")), "{printed}");
    let status = host.run("uswitch status --json").json();
    assert_eq!(status["engine"], "poll", "{status}");
    assert!(status["engine_note"].as_str().is_some_and(|note| why[0].contains(note)), "{status}");
    host.netns("container1").run(&format!("ping -n -c 3 -i 0.2 -W 5 {}", v4(2))).ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// `--engine uring` does not fall back to another engine.
#[test]
fn refuses_uring_where_io_uring_is_forbidden() {
    let start = format!("{FORBIDDING} uswitch start --detach --ports 3 --engine uring");
    assert_command_rejected(&machine(), &start, &["io_uring", "forbidden", "auto or poll"]);
}

/// Control case: where nothing forbids it, `auto` selects io_uring and prints no reason.
#[test]
fn auto_selects_io_uring_where_it_is_allowed() {
    let host = machine();
    let printed = host.run("uswitch start --detach --ports 3").ok();
    assert!(printed.contains("(io_uring, ") && !printed.contains("Not io_uring"), "{printed}");
}

/// With the longest `--busy-poll`, a worker does not sleep between the frames of a ping; without, before each.
#[test]
fn busy_poll_avoids_sleeping_between_frames() {
    for engine in ["uring", "poll"] {
        let sleeping = sleeps_during_a_ping(&format!("--ports 2 --fast-path off --engine {engine}"));
        let polling =
            sleeps_during_a_ping(&format!("--ports 2 --fast-path off --engine {engine} --busy-poll 1000000"));
        assert!(polling * 5 < sleeping, "{engine}: {polling} sleeps polling, {sleeping} otherwise");
    }
}

/// With `--busy-poll`, no CPU sleeps during request-response traffic, of the workers or of the fast path; without it,
/// there is no such request.
#[test]
fn busy_poll_keeps_cpus_awake() {
    for datapath in ["--fast-path off", "--fast-path on"] {
        if !keeps_cpus_awake(datapath) {
            return;
        }
    }
    assert!(!asks_for_latency(&Uswitch::with("--ports 2")));
}

const LATENCY: &str = "/dev/cpu_dma_latency";

fn asks_for_latency(s: &Uswitch) -> bool {
    s.host().open_files(s.pid()).iter().any(|file| file == Path::new(LATENCY))
}

/// False if this machine cannot.
fn keeps_cpus_awake(datapath: &str) -> bool {
    let host = Host::new();
    let start = host.run(&format!("uswitch start --detach --ports 2 --busy-poll 1000000 {datapath}"));
    if !Path::new(LATENCY).exists() {
        assert!(start.stderr.contains(LATENCY), "{}", start.stderr);
        return false;
    }
    assert_eq!(start.stderr, "");
    let s = Uswitch::running(host);
    assert!(asks_for_latency(&s));
    let awake = || {
        s.host().netns("container1").run(&format!("ping -n -c 300 -i 0.001 -W 5 {}", v4(2))).ok();
        fs::read(LATENCY).expect("root may read it") == [0; 4]
    };
    assert!((0..100).any(|_| awake()), "CPUs may sleep");
    true
}

/// How often the worker slept during 500 pings, one per millisecond.
fn sleeps_during_a_ping(arguments: &str) -> u64 {
    let s = Uswitch::with(arguments);
    let h1 = s.host().netns("container1");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let before = switches(&s, is_worker, &["voluntary_ctxt_switches"]);
    h1.run(&format!("ping -n -c 500 -i 0.001 -W 5 {}", v4(2))).ok();
    switches(&s, is_worker, &["voluntary_ctxt_switches"]) - before
}

/// Workers are pinned to different CPUs, to the CPUs of `--cpus`, or not at all with `--cpus any`.
#[test]
fn pins_workers_to_cpus() {
    let allowed = allowed_cpus();
    let last = allowed[allowed.len() - 1];
    let cpus_with = |arguments: &str| {
        let s = Uswitch::with(&format!("--ports 2 {arguments}"));
        let reported = s.host().run("uswitch status --json").json()["cpus"].clone();
        let printed = s.host().run("uswitch status").ok();
        (worker_cpus(&s), reported, printed)
    };
    let (seen, reported, printed) = cpus_with(&format!("--workers 2 --cpus {last}"));
    assert_eq!((seen, reported), (vec![last.to_string(); 2], json!([last, last])));
    assert!(printed.contains(&format!("2 workers on CPU {last}, {last}")), "{printed}");
    let (mut seen, reported, _) = cpus_with("--workers 2");
    assert_eq!(
        reported.as_array().map(|reported| reported.iter().map(Value::to_string).collect()),
        Some(seen.clone())
    );
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), allowed.len().min(2), "{seen:?}");
    let (seen, reported, printed) = cpus_with("--cpus any");
    assert_eq!(reported, json!([]), "{seen:?}");
    assert!(!printed.contains("on CPU"), "{printed}");
    let own = fs::read_to_string("/proc/self/status").expect("it is there");
    assert!(seen.iter().all(|cpus| cpus == field(&own, "Cpus_allowed_list")), "{seen:?}");
}

/// The limit of locked memory allows a ring, but not one for each worker.
#[test]
fn auto_falls_back_to_poll_where_the_limit_of_locked_memory_is_too_low_for_all_workers() {
    let host = Host::new();
    let limited = |engine: &str| {
        let few = "prlimit --memlock=409600 setpriv --bounding-set -ipc_lock --inh-caps -ipc_lock";
        host.run(&format!("{few} uswitch start --detach --ports 2 --workers 8 --engine {engine}"))
    };
    let refused = limited("uring").fails();
    assert!(refused.contains("ulimit -l"), "{refused}");
    limited("auto").ok();
    let s = Uswitch::running(host);
    let status = s.json("status");
    assert_eq!(status["engine"], "poll");
    assert!(status["engine_note"].to_string().contains("ulimit -l"), "{status}");
    s.host().netns("container1").run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
}

/// The CPUs on which each worker may run, in the order of the workers.
fn worker_cpus(s: &Uswitch) -> Vec<String> {
    let workers = statuses(s).into_iter().filter(|status| is_worker(field(status, "Name")));
    let mut workers: Vec<_> = workers
        .map(|status| (field(&status, "Name").to_owned(), field(&status, "Cpus_allowed_list").to_owned()))
        .collect();
    workers.sort();
    workers.into_iter().map(|(_, cpus)| cpus).collect()
}

/// Without frames no thread runs: no timer, no polling. Containers announce their multicast groups (RFC 3810) for some
/// seconds, so the test waits for the first window without activity. A periodic activity would occur in every window.
#[test]
fn idle_switch_runs_no_thread() {
    const WINDOW: Duration = Duration::from_secs(2);
    const WINDOWS: u32 = 60;
    for engine in ["uring", "poll"] {
        let s = Uswitch::with(&format!("--ports 3 --workers 2 --engine {engine} --ageing-time 10"));
        let [h1, ..] = s.containers();
        h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
        let still = (0..WINDOWS).any(|_| {
            let before = activity(&s);
            sleep(WINDOW);
            activity(&s) == before
        });
        assert!(still, "{engine}: something runs in every {WINDOW:?}");
    }
}

/// Context switches and CPU ticks of all its threads.
fn activity(s: &Uswitch) -> (u64, u64) {
    const EITHER: &[&str] = &["voluntary_ctxt_switches", "nonvoluntary_ctxt_switches"];
    (switches(s, |_| true, EITHER), cpu_ticks(s))
}

/// Counts of context switches (proc_pid_status(5)), summed over the threads whose name fits.
fn switches(s: &Uswitch, fits: impl Fn(&str) -> bool, counts: &[&str]) -> u64 {
    statuses(s)
        .iter()
        .filter(|status| fits(field(status, "Name")))
        .flat_map(|status| counts.iter().map(|count| field(status, count).parse::<u64>()).collect::<Vec<_>>())
        .sum::<Result<u64, _>>()
        .expect("proc_pid_status(5)")
}

/// proc_pid_status(5) of each of its threads, without those that end meanwhile.
fn statuses(s: &Uswitch) -> Vec<String> {
    let tasks = fs::read_dir(s.host().path(&format!("/proc/{}/task", s.pid()))).expect("it runs");
    tasks.filter_map(|task| fs::read_to_string(task.ok()?.path().join("status")).ok()).collect()
}

fn is_worker(thread: &str) -> bool {
    thread.starts_with("worker")
}

/// A line of `/proc/PID/status`.
fn field<'a>(status: &'a str, name: &str) -> &'a str {
    let found = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(":\t"));
    found.unwrap_or_else(|| panic!("no {name} in {status}"))
}
