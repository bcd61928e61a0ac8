//! Tests of the API over a real socket, with a switch on the fake network.

use std::collections::BTreeSet;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::ApiSocket;
use super::connection::MAX_CONNECTIONS;
use super::test_server;
use crate::control::client::{self, ApiClient, ClientError};
use crate::control::log::{LogLevel, LogReport};
use crate::control::report::{FdbReport, FlushReport, PortReport, PortStats, Status, StopReport};
use crate::control::running::fake::{FakeControl, config};
use crate::control::service::{ServiceError, ServiceOutcome, exit_reason_path, write_exit_reason};
use crate::control::topology::LinkChange;
use crate::wire::Mac;

/// A running switch, as a client sees it.
struct TestServer {
    fake: FakeControl,
    runtime: PathBuf,
}

impl TestServer {
    fn client(&self) -> ApiClient {
        ApiClient::new("uswitch0", &self.runtime).unwrap()
    }

    fn socket(&self) -> PathBuf {
        self.runtime.join("uswitch0.sock")
    }

    /// Sends `request` unchanged. Returns status line, headers and body of the response.
    fn raw(&self, request: &str) -> String {
        let mut stream = UnixStream::connect(self.socket()).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        match stream.read_to_end(&mut answer) {
            // The server answers an oversized body without reading it to its end, then closes.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
            read => _ = read.unwrap(),
        }
        String::from_utf8(answer).unwrap()
    }

    /// Sends a request. Returns the response's status code and JSON body.
    fn request(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let answer = self.raw(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ));
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let value = || serde_json::from_str(body).unwrap_or_else(|_| body.into());
        (status, if body.is_empty() { Value::Null } else { value() })
    }
}

/// Runs a switch with two containers and `test` on a second thread. Stops the switch when `test`
/// returns.
fn with_switch(test: impl FnOnce(&TestServer) + Send + 'static) -> ServiceOutcome {
    test_server::with_switch(config(|_| {}), |fake, runtime| test(&TestServer { fake, runtime }))
}

/// Each (method, path) of the OpenAPI document.
fn documented(switch: &TestServer) -> BTreeSet<(String, String)> {
    let (status, document) = switch.request("GET", "/openapi.json", "");
    assert_eq!((status, document["openapi"].as_str()), (200, Some("3.1.0")));
    let paths = document["paths"].as_object().unwrap().iter();
    paths
        .flat_map(|(path, methods)| {
            methods.as_object().unwrap().keys().map(move |method| (method.to_uppercase(), path.clone()))
        })
        .collect()
}

/// All routes.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "/openapi.json"),
    ("GET", "/v1/status"),
    ("GET", "/v1/health"),
    ("GET", "/v1/ports"),
    ("POST", "/v1/ports"),
    ("GET", "/v1/ports/{name}"),
    ("PATCH", "/v1/ports/{name}"),
    ("DELETE", "/v1/ports/{name}"),
    ("POST", "/v1/ports/{name}/published"),
    ("DELETE", "/v1/ports/{name}/published"),
    ("GET", "/v1/dhcp/leases"),
    ("GET", "/v1/fdb"),
    ("POST", "/v1/fdb"),
    ("PUT", "/v1/fdb"),
    ("DELETE", "/v1/fdb"),
    ("POST", "/v1/fdb/flush"),
    ("PATCH", "/v1/settings"),
    ("GET", "/v1/mdb"),
    ("POST", "/v1/mdb"),
    ("DELETE", "/v1/mdb"),
    ("GET", "/v1/mirrors"),
    ("POST", "/v1/mirrors"),
    ("DELETE", "/v1/mirrors"),
    ("GET", "/v1/vlans"),
    ("GET", "/v1/vlans/stats/ports"),
    ("POST", "/v1/vlans"),
    ("PATCH", "/v1/vlans"),
    ("DELETE", "/v1/vlans"),
    ("GET", "/v1/vlans/stats"),
    ("POST", "/v1/handover"),
    ("GET", "/v1/stats"),
    ("GET", "/v1/stp"),
    ("GET", "/v1/metrics"),
    ("GET", "/metrics"),
    ("GET", "/v1/log"),
    ("PUT", "/v1/log"),
    ("GET", "/v1/events"),
    ("GET", "/v1/capture"),
    ("GET", "/v1/trace"),
    ("POST", "/v1/trace"),
    ("POST", "/v1/stop"),
];

#[test]
fn openapi_lists_every_route_and_each_responds() {
    with_switch(|switch| {
        let documented = documented(switch);
        let routes = ROUTES.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned()));
        assert_eq!(documented, routes.collect());
        let (stop, others): (Vec<_>, Vec<_>) = documented.iter().partition(|(_, path)| path == "/v1/stop");
        for (method, path) in others.into_iter().chain(stop) {
            let path = path.replace("{name}", "host");
            // Without these limits the response would not end.
            let request = match (method.as_str(), path.as_str()) {
                ("GET", "/v1/trace") => "/v1/trace?limit=0",
                ("GET", "/v1/capture") => "/v1/capture?direction=up",
                (_, path) => path,
            };
            let (status, answer) = switch.request(method, request, "");
            assert!(status != 404 && status != 405 && status < 500, "{method} {path}: {status} {answer}");
        }
    });
}

#[test]
fn openapi_defines_every_referenced_schema() {
    with_switch(|switch| {
        let (_, document) = switch.request("GET", "/openapi.json", "");
        let text = document.to_string();
        let mentioned: BTreeSet<&str> =
            text.split("\"#/components/schemas/").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        assert!(!mentioned.is_empty());
        for name in mentioned {
            assert!(schemas.contains_key(name), "{name}");
        }
        let port = &schemas["PortReport"].to_string();
        assert!(port.contains("operstate") && port.contains("BridgePort"), "{port}");
    });
}

#[test]
fn socket_mode_is_0600() {
    with_switch(|switch| {
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&switch.socket()), mode(&switch.runtime)), (0o600, 0o700));
    });
}

#[test]
fn adds_shows_and_removes_ports() {
    with_switch(|switch| {
        let (status, made) = switch.request("POST", "/v1/ports", r#"{"name":"web","ip":["172.16.0.50/24"]}"#);
        assert_eq!((status, &made["ifname"]), (201, &json!("web")));
        assert_eq!(switch.request("GET", "/v1/ports/web", ""), (200, made));
        assert_eq!(switch.request("POST", "/v1/ports", r#"{"name":"web"}"#).0, 409);
        assert_eq!(switch.request("DELETE", "/v1/ports/web", ""), (204, Value::Null));
        assert_eq!(switch.request("DELETE", "/v1/ports/web", "").0, 404);
        assert_eq!(switch.request("DELETE", "/v1/ports/host", "").0, 409);
        assert_eq!(switch.request("GET", "/v1/ports/%2e%2e", "").0, 404);
    });
}

#[test]
fn refuses_mirrors_with_matching_status() {
    with_switch(|switch| {
        assert_eq!(switch.request("POST", "/v1/mirrors", r#"{"to":"container2"}"#).0, 204);
        for (method, path, body, expected) in [
            ("POST", "/v1/mirrors", r#"{"from":["container1"]}"#, 400),
            ("POST", "/v1/mirrors", r#"{"from":["container1"],"to":"container3","direction":"up"}"#, 400),
            ("POST", "/v1/mirrors", r#"{"from":["container1"],"to":"container3","snaplen":13}"#, 400),
            ("POST", "/v1/mirrors", r#"{"from":["container1"],"to":"container3","vlan":[10]}"#, 400),
            ("POST", "/v1/mirrors", r#"{"from":["container1"],"to":"container1"}"#, 400),
            ("POST", "/v1/mirrors", r#"{"from":["nowhere"],"to":"container1"}"#, 404),
            ("POST", "/v1/mirrors", r#"{"to":"host"}"#, 409),
            ("DELETE", "/v1/mirrors?to=container1", "", 404),
            ("POST", "/v1/mirrors", r#"{"to":"container2"}"#, 409),
        ] {
            let (status, answer) = switch.request(method, path, body);
            assert_eq!(status, expected, "{method} {path} {answer}");
            assert!(answer["error"].as_str().is_some_and(|error| !error.contains('\n')), "{answer}");
        }
        assert_eq!(switch.request("GET", "/v1/mirrors", "").1.as_array().map(Vec::len), Some(1));
        assert_eq!(switch.request("DELETE", "/v1/mirrors?to=container2", "").0, 204);
    });
}

#[test]
fn errors_are_json_with_matching_status() {
    with_switch(|switch| {
        let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(200_000));
        for (method, path, body, expected) in [
            ("GET", "/v1/nonesuch", "", 404),
            ("PATCH", "/v1/status", "", 405),
            ("POST", "/v1/ports", "{", 400),
            ("POST", "/v1/ports", "", 400),
            ("POST", "/v1/ports", "[]", 400),
            ("POST", "/v1/ports", "null", 400),
            ("POST", "/v1/fdb", r#"["02:00:00:00:00:01","container1",null,"static"]"#, 400),
            ("POST", "/v1/trace", r#"{"ifname":"container1","icmp":[null,"172.16.0.3"]}"#, 400),
            ("PUT", "/v1/log", r#"["debug"]"#, 400),
            ("GET", "/v1/ports/%ff", "", 400),
            ("POST", "/v1/ports", r#"{"nmae":"x"}"#, 400),
            ("POST", "/v1/ports", r#"{"ip":["here"]}"#, 400),
            ("POST", "/v1/ports", r#"{"mtu":1}"#, 400),
            ("POST", "/v1/ports", &long, 413),
            ("GET", "/v1/fdb?mac=here", "", 400),
            ("GET", "/v1/fdb?nonesuch=1", "", 400),
            ("POST", "/v1/fdb", r#"{"mac":"01:00:5e:00:00:01","ifname":"host"}"#, 400),
            ("POST", "/v1/fdb", r#"{"mac":"02:00:00:00:00:01","ifname":"nowhere"}"#, 404),
            ("POST", "/v1/fdb", r#"{"mac":"02:00:00:00:00:01","ifname":"host","vlan":65535}"#, 400),
            ("DELETE", "/v1/fdb?mac=02:00:00:00:00:01&vlan=1", "", 400),
            ("DELETE", "/v1/fdb?mac=02:00:00:00:00:01", "", 404),
            ("PUT", "/v1/fdb", r#"{"mac":"02:00:00:00:00:01","ifname":"container1","state":"local"}"#, 400),
            ("PATCH", "/v1/settings", r#"{"ageing_time":0}"#, 400),
            ("PATCH", "/v1/settings", r#"{"aging_time":1}"#, 400),
            ("POST", "/v1/fdb/flush?ifname=nowhere", "", 404),
            ("PUT", "/v1/log", r#"{"level":"loud"}"#, 400),
            ("POST", "/v1/trace", r#"{"ifname":"nowhere","dst":"gateway"}"#, 404),
            ("POST", "/v1/trace", r#"{"ifname":"host"}"#, 400),
        ] {
            let (status, answer) = switch.request(method, path, body);
            assert_eq!(status, expected, "{method} {path} {answer}");
            assert!(answer["error"].as_str().is_some_and(|error| !error.contains('\n')), "{answer}");
        }
    });
}

#[test]
fn client_reads_what_server_sends() {
    with_switch(|switch| {
        let client = switch.client();
        assert_eq!(client.pid().unwrap(), std::process::id());
        let status: Status = client.get("/v1/status").unwrap();
        assert_eq!((status.name.as_str(), status.ports, status.ports_up), ("uswitch0", 3, 3));
        let entry = json!({"mac": "02:00:00:00:00:09", "ifname": "container1"});
        client.post::<()>("/v1/fdb", &entry).unwrap();
        let entries: Vec<FdbReport> = client.get("/v1/fdb?ifname=container1").unwrap();
        assert_eq!(entries[0].state, "static");
        client.delete("/v1/fdb?mac=02:00:00:00:00:09").unwrap();
        let flushed: FlushReport = client.post("/v1/fdb/flush", &()).unwrap();
        assert_eq!(flushed.flushed, 0);
        assert_eq!(client.get::<Vec<PortStats>>("/v1/stats").unwrap().len(), 3);
        let error = client.delete("/v1/ports/nowhere").unwrap_err().to_string();
        assert!(error.contains("no port named nowhere"), "{error}");
    });
}

/// More entries than a page has slots, some of them deleted.
#[test]
fn fdb_of_several_pages_is_one_array() {
    with_switch(|switch| {
        let client = switch.client();
        let address = |n: u32| {
            let [a, b, c, d] = n.to_be_bytes();
            Mac([2, 0, a, b, c, d])
        };
        for n in 0..3000 {
            let entry = json!({"mac": address(n), "ifname": "container1", "state": "dynamic"});
            client.post::<()>("/v1/fdb", &entry).unwrap();
        }
        (0..3000).step_by(3).for_each(|n| client.delete(&format!("/v1/fdb?mac={}", address(n))).unwrap());
        let entries: Vec<FdbReport> = client.get("/v1/fdb?ifname=container1").unwrap();
        let mut listed: Vec<Mac> = entries.into_iter().map(|entry| entry.mac).collect();
        listed.sort_unstable();
        assert_eq!(listed, (0..3000).filter(|n| n % 3 != 0).map(address).collect::<Vec<_>>());
        let one: Vec<FdbReport> = client.get(&format!("/v1/fdb?mac={}", address(2999))).unwrap();
        assert_eq!(one.len(), 1);
        assert_eq!(client.get::<Vec<FdbReport>>("/v1/fdb?ifname=container2").unwrap(), []);
    });
}

#[test]
fn log_level_can_be_changed() {
    with_switch(|switch| {
        let client = switch.client();
        assert_eq!(client.get::<LogReport>("/v1/log").unwrap().level, LogLevel::Off);
        let changed: LogReport = client.put("/v1/log", &json!({"level": "debug"})).unwrap();
        assert_eq!((changed.level, changed.to.as_str()), (LogLevel::Debug, "standard error"));
        assert_eq!(client.get::<LogReport>("/v1/log").unwrap(), changed);
    });
}

#[test]
fn shows_port_notpresent_when_device_is_deleted() {
    with_switch(|switch| {
        switch.fake.change("container1", LinkChange::Gone);
        let client = switch.client();
        let gone = || client.get::<PortReport>("/v1/ports/container1").unwrap().operstate == "NOTPRESENT";
        let deadline = Instant::now() + Duration::from_secs(30);
        while !gone() {
            assert!(Instant::now() < deadline, "the port does not show that its device is gone");
            std::thread::yield_now();
        }
    });
}

/// More clients than connections, none of which completes its request.
#[test]
fn idle_clients_do_not_stop_forwarding() {
    with_switch(|switch| {
        let connect = || {
            let mut stream = UnixStream::connect(switch.socket()).unwrap();
            stream.write_all(b"GET /v1/status HT").unwrap();
            stream
        };
        let clients: Vec<UnixStream> =
            std::iter::repeat_with(connect).take(2 * MAX_CONNECTIONS as usize).collect();
        let (from, to) = (switch.fake.peer("container1"), switch.fake.peer("container2"));
        let mut frame = [0xff; 60];
        frame[6..14].copy_from_slice(&[2, 0, 0, 0, 0, 9, 0x88, 0xb5]);
        from.send(&frame).unwrap();
        let mut received = [0; 100];
        assert_eq!(to.recv(&mut received).unwrap(), 60);
        drop(clients);
        // The client that waited is served now.
        assert_eq!(switch.client().get::<Status>("/v1/status").unwrap().ports, 3);
    });
}

#[test]
fn stop_responds_after_teardown() {
    let outcome = with_switch(|switch| {
        let stopped: StopReport = switch.client().post("/v1/stop", &()).unwrap();
        assert_eq!(stopped.errors, [""; 0]);
        assert_eq!(switch.fake.log().last().map(String::as_str), Some("teardown"));
        assert!(!switch.socket().exists());
        let error = switch.client().get::<Status>("/v1/status").unwrap_err();
        assert!(matches!(error, ClientError::NotRunning { .. }), "{error}");
    });
    assert!(outcome.error.is_none() && outcome.left.is_empty());
}

#[test]
fn stop_reports_teardown_errors() {
    let outcome = with_switch(|switch| {
        switch.fake.fail_teardown();
        let stopped: StopReport = switch.client().post("/v1/stop", &()).unwrap();
        assert_eq!(stopped.errors.len(), 1);
    });
    assert_eq!(outcome.left.len(), 1);
}

#[test]
fn detects_and_replaces_socket_of_killed_switch() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lab.sock");
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert_eq!(client::names(directory.path()), ["lab"]);
    let killed = ApiClient::new("lab", directory.path()).unwrap().get::<Status>("/v1/status").unwrap_err();
    assert!(matches!(killed, ClientError::Killed(_)), "{killed}");
    let other =
        ApiClient::new("uswitch0", directory.path()).unwrap().get::<Status>("/v1/status").unwrap_err();
    let other = other.to_string();
    assert!(
        other.starts_with("no switch named uswitch0 is running (running: lab): choose one with --name"),
        "{other}"
    );
    let executor = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let _entered = executor.enter();
    drop(ApiSocket::bind(&path).unwrap());
    assert!(!path.exists());
}

/// A detached switch has no terminal to write its error to.
#[test]
fn not_running_error_quotes_exit_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = exit_reason_path(directory.path(), "lab");
    write_exit_reason(&path, &ServiceOutcome::default());
    assert!(!path.exists(), "it was requested to stop");
    write_exit_reason(&path, &ServiceError::Worker("the ring broke".to_owned()).into());
    let ask = |name| ApiClient::new(name, directory.path()).unwrap().get::<Status>("/v1/status");
    let said = ask("lab").unwrap_err().to_string();
    assert!(said.starts_with("no switch named lab is running") && said.ends_with("the ring broke"), "{said}");
    assert!(!ask("other").unwrap_err().to_string().contains("broke"));
}
