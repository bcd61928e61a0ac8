//! Metrics, as Prometheus scrapes them.

use crate::harness::{Host, Shell, TestSwitch, Uswitch, v4, wait_until};
use crate::lifecycle::assert_start_rejected;

const URL: &str = "http://127.0.0.1:9477";

fn scrape(s: &Uswitch) -> String {
    s.host().run(&format!("curl -sS --fail {URL}/metrics")).ok()
}

/// The value of a series.
#[track_caller]
fn sample(text: &str, series: &str) -> u64 {
    let found = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok());
    found.unwrap_or_else(|| panic!("no {series} in {text}"))
}

#[test]
fn scraped_metrics_equal_stats() {
    let s = Uswitch::with("--ports 3 --metrics 127.0.0.1:9477");
    let [h1, ..] = s.containers();
    h1.run(&format!("ping -n -c 5 -i 0.01 -W 5 {}", v4(2))).ok();
    let series = [
        ("rx_frames", "uswitch_port_frames_total{port=\"container1\",direction=\"rx\"}"),
        ("tx_bytes", "uswitch_port_bytes_total{port=\"container1\",direction=\"tx\"}"),
        ("forwarded", "uswitch_port_forwarded_frames_total{port=\"container1\"}"),
        ("flood_copies", "uswitch_port_flood_copies_total{port=\"container1\"}"),
        ("fdb_learned", "uswitch_fdb_learned_total{port=\"container1\"}"),
        ("queue_dropped", "uswitch_port_queue_dropped_frames_total{port=\"container1\"}"),
    ];
    let mut text = String::new();
    // A scrape may be a quarter of a second old, and containers still announce themselves.
    wait_until("a scrape has the counters of the statistics", || {
        let port = s.row("stats", "container1");
        text = scrape(&s);
        series.iter().all(|(counter, series)| Some(sample(&text, series)) == port[*counter].as_u64())
    });
    let engine = s.json("status")["engine"].as_str().expect("a name").to_owned();
    let worker = |metric: &str| sample(&text, &format!("{metric}{{worker=\"0\",engine=\"{engine}\"}}"));
    assert!(worker("uswitch_worker_frames_total") > 0 && worker("uswitch_worker_turns_total") > 0);
    assert!(worker("uswitch_worker_system_calls_total") >= worker("uswitch_worker_turns_total"));
    let free = worker("uswitch_worker_free_buffers");
    assert_eq!(free, worker("uswitch_worker_buffers"), "an idle switch holds no frame");
    let socket =
        s.host().run("curl -sS --unix-socket /run/uswitch/uswitch0.sock http://uswitch/v1/metrics").ok();
    assert!(socket.contains("# TYPE uswitch_port_frames_total counter"), "{socket}");
}

#[test]
fn metrics_listener_serves_only_metrics() {
    let s = Uswitch::with("--ports 1 --metrics 127.0.0.1:9477");
    let status =
        |request: &str| s.host().run(&format!("curl -sS -o /dev/null -w %{{http_code}} {request}")).ok();
    assert_eq!(status(&format!("{URL}/metrics")), "200");
    assert_eq!(status(&format!("{URL}/v1/status")), "404");
    assert_eq!(status(&format!("-X POST {URL}/v1/stop")), "404");
    assert_eq!(status(&format!("-X POST {URL}/metrics")), "405");
    let head = s.host().run(&format!("curl -sSI {URL}/metrics")).ok();
    assert!(head.contains("text/plain; version=0.0.4"), "{head}");
}

#[test]
fn refuses_unusable_metrics_address() {
    let host = Host::new();
    assert_start_rejected(&host, "--metrics 0.0.0.0:9477", &["--metrics: ", "127.0.0.1:9477"]);
    let mut other = host.spawn_sh("exec socat -d -d TCP-LISTEN:9477,bind=127.0.0.1 PIPE");
    other.line_with("listening on");
    assert_start_rejected(&host, "--metrics 127.0.0.1:9477", &["cannot serve metrics on 127.0.0.1:9477"]);
}

/// Idle clients beyond the connection limit affect nothing else.
#[test]
fn idle_metrics_clients_stop_nothing_else() {
    let s = Uswitch::with("--ports 3 --metrics 127.0.0.1:9477");
    let mut clients = s.host().spawn_sh(
        "exec python3 -uc 'import signal, socket
all = [socket.create_connection((\"127.0.0.1\", 9477)) for _ in range(100)]
print(\"connected\")
signal.pause()'",
    );
    clients.line_with("connected");
    s.host().run("uswitch status").ok();
    s.containers()[0].run(&format!("ping -n -c 2 -i 0.1 -W 5 {}", v4(2))).ok();
    drop(clients);
    wait_until("a connection is free", || s.host().run(&format!("curl -sS -m 5 {URL}/metrics")).succeeded());
}
