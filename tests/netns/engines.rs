//! What moves the frames: which engine, how long it stays awake, and that it rests when there are none.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use serde_json::{Value, json};
use uswitch::datapath::allowed_cpus;

use crate::harness::{Host, Shell, Snapshot, Subject, Uswitch, v4};
use crate::lifecycle::assert_command_rejected;
use crate::ports::cpu_ticks;

/// A machine on which io_uring is forbidden to what is run through this command.
const FORBIDDING: &str = "python3 /run/no_io_uring.py";

fn machine() -> Host {
    let host = Host::new();
    fs::write(host.path("/run/no_io_uring.py"), include_str!("harness/no_io_uring.py"))
        .expect("the host's /run can be written");
    host
}

/// `auto` takes the other engine, which carries everything, and says why in one line.
#[test]
fn auto_falls_back_to_poll_where_io_uring_is_forbidden() {
    let host = machine();
    let before = Snapshot::of(&host);
    let start = host.run(&format!("{FORBIDDING} uswitch start --detach --ports 3"));
    assert_eq!(start.stderr, "");
    let said = start.ok();
    assert!(said.contains("(poll, "), "{said}");
    let why: Vec<&str> = said.lines().filter(|line| line.contains("io_uring")).collect();
    assert!(matches!(why[..], [line] if line.contains("forbidden") && line.contains("seccomp")), "{said}");
    let status = host.run("uswitch status --json").json();
    assert_eq!(status["engine"], "poll", "{status}");
    assert!(status["engine_note"].as_str().is_some_and(|note| why[0].contains(note)), "{status}");
    host.netns("container1").run(&format!("ping -n -c 3 -i 0.2 -W 5 {}", v4(2))).ok();
    host.run("uswitch stop").ok();
    before.assert_same(&host);
}

/// Who asks for io_uring by name gets nothing else.
#[test]
fn refuses_uring_where_io_uring_is_forbidden() {
    let start = format!("{FORBIDDING} uswitch start --detach --ports 3 --engine uring");
    assert_command_rejected(&machine(), &start, &["--engine uring", "forbidden", "--engine poll"]);
}

/// Control: where nothing forbids it, `auto` takes io_uring and has nothing to explain.
#[test]
fn auto_selects_io_uring_where_it_is_allowed() {
    let host = machine();
    let said = host.run("uswitch start --detach --ports 3").ok();
    assert!(said.contains("(io_uring, ") && !said.contains("Not io_uring"), "{said}");
}

/// With the longest `--busy-poll`, a worker does not sleep between the frames of a ping; without, before each.
#[test]
fn busy_poll_avoids_sleeping_between_frames() {
    for engine in ["uring", "poll"] {
        let sleeping = sleeps_during_a_ping(&format!("--ports 2 --engine {engine}"));
        let polling = sleeps_during_a_ping(&format!("--ports 2 --engine {engine} --busy-poll 1000000"));
        assert!(polling * 5 < sleeping, "{engine}: {polling} sleeps polling, {sleeping} otherwise");
    }
}

/// While a worker looks for the frames of a talk, no CPU sleeps; without `--busy-poll` nothing asks for that.
#[test]
fn busy_poll_keeps_cpus_awake() {
    const LATENCY: &str = "/dev/cpu_dma_latency";
    let asks = |s: &Uswitch| s.host().run(&format!("ls -l /proc/{}/fd", s.pid())).ok().contains(LATENCY);
    let host = Host::new();
    let start = host.run("uswitch start --detach --ports 2 --busy-poll 1000000");
    if !Path::new(LATENCY).exists() {
        assert!(start.stderr.contains(LATENCY), "{}", start.stderr);
        return;
    }
    assert_eq!(start.stderr, "");
    let s = Uswitch::running(host);
    assert!(asks(&s));
    let awake = || {
        s.host().netns("container1").run(&format!("ping -n -c 5 -i 0.001 -W 5 {}", v4(2))).ok();
        fs::read(LATENCY).expect("all may read it that are root") == [0; 4]
    };
    assert!((0..100).any(|_| awake()), "CPUs may sleep");
    assert!(!asks(&Uswitch::with("--ports 2")));
}

/// How often the worker slept while 500 pings crossed it, one each millisecond.
fn sleeps_during_a_ping(arguments: &str) -> u64 {
    let s = Uswitch::with(arguments);
    let h1 = s.host().netns("container1");
    h1.run(&format!("ping -n -c 1 -W 5 {}", v4(2))).ok();
    let before = switches(&s, is_worker, &["voluntary_ctxt_switches"]);
    h1.run(&format!("ping -n -c 500 -i 0.001 -W 5 {}", v4(2))).ok();
    switches(&s, is_worker, &["voluntary_ctxt_switches"]) - before
}

/// Each worker stays on one CPU, and two on two of them; or where a person wants them; or nowhere.
#[test]
fn pins_workers_to_cpus() {
    let allowed = allowed_cpus();
    let last = allowed[allowed.len() - 1];
    let kept = |arguments: &str| {
        let s = Uswitch::with(&format!("--ports 2 {arguments}"));
        let told = s.host().run("uswitch status --json").json()["cpus"].clone();
        let said = s.host().run("uswitch status").ok();
        (worker_cpus(&s), told, said)
    };
    let (seen, told, said) = kept(&format!("--workers 2 --cpus {last}"));
    assert_eq!((seen, told), (vec![last.to_string(); 2], json!([last, last])));
    assert!(said.contains(&format!("2 workers on CPU {last}, {last}\n")), "{said}");
    let (mut seen, told, _) = kept("--workers 2");
    assert_eq!(told.as_array().map(|told| told.iter().map(Value::to_string).collect()), Some(seen.clone()));
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), allowed.len().min(2), "{seen:?}");
    let (seen, told, said) = kept("--cpus any");
    assert_eq!(told, json!([]), "{seen:?}");
    assert!(!said.contains("on CPU"), "{said}");
    let own = fs::read_to_string("/proc/self/status").expect("it is there");
    assert!(seen.iter().all(|cpus| cpus == field(&own, "Cpus_allowed_list")), "{seen:?}");
}

/// On which CPUs each worker may run, the first worker first.
fn worker_cpus(s: &Uswitch) -> Vec<String> {
    let workers = statuses(s).into_iter().filter(|status| is_worker(field(status, "Name")));
    let mut workers: Vec<_> = workers
        .map(|status| (field(&status, "Name").to_owned(), field(&status, "Cpus_allowed_list").to_owned()))
        .collect();
    workers.sort();
    workers.into_iter().map(|(_, cpus)| cpus).collect()
}

/// Without frames no thread of it runs: no timer, no polling. Containers announce their multicast groups (RFC 3810) for
/// some seconds, so it is the first still window that counts; whatever came round in less than that would keep it from
/// coming.
#[test]
fn idle_switch_runs_no_thread() {
    const WINDOW: Duration = Duration::from_secs(2);
    const WINDOWS: u32 = 20;
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

/// All that its threads have done: how often they left a CPU, and for how many ticks they had one.
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

/// proc_pid_status(5) of each of its threads. One that has ended meanwhile has none.
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
