//! TCP and UDP streams with iperf3.

use std::io::{self, BufRead, BufReader};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::thread;

use serde::Deserialize;

use super::error::BenchError;
use super::lab::LabEndpoint;
use super::peer::command;

const PROGRAM: &str = "iperf3";

/// An iperf3 server for one client. Dropping it kills the server.
#[derive(Debug)]
pub(super) struct Server(Child);

impl Server {
    /// Starts the server with `spawn`, which selects the namespace, and returns when it listens.
    pub(super) fn start(
        spawn: impl FnOnce(&mut Command) -> Result<Child, BenchError>,
    ) -> Result<Server, BenchError> {
        let mut command = command(PROGRAM);
        command.args(["-s", "-1", "--forceflush"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Server(spawn(&mut command)?);
        let stdout = server.0.stdout.take().ok_or(io::ErrorKind::BrokenPipe);
        let mut stdout = BufReader::new(stdout.map_err(BenchError::io("read the output of iperf3"))?).lines();
        if !stdout.by_ref().map_while(Result::ok).any(|line| line.contains("listening")) {
            return Err(BenchError::program(PROGRAM, b"the server does not listen"));
        }
        // Drains the rest of the output. Otherwise the server would block on a full pipe.
        let drain = move || stdout.for_each(drop);
        thread::Builder::new().spawn(drain).map_err(BenchError::io("start a thread"))?;
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Usually it has exited already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running iperf3 client.
#[derive(Debug)]
pub(super) struct IperfClient(Child);

/// Result of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct StreamResult {
    /// Received payload, both directions together, in Gbit/s.
    pub(super) gbits: f64,
    /// Received payload in gigabits.
    pub(super) gigabits: f64,
    /// Lost datagrams in percent. `None` for TCP.
    pub(super) loss: Option<f64>,
}

impl IperfClient {
    /// Starts a client at an endpoint, with additional arguments such as `-P 4`.
    pub(super) fn start(
        from: &LabEndpoint,
        to: Ipv4Addr,
        seconds: u64,
        arguments: &[&str],
    ) -> Result<IperfClient, BenchError> {
        let mut command = command(PROGRAM);
        command.args(["-J", "--connect-timeout", "5000", "-c", &to.to_string(), "-t", &seconds.to_string()]);
        command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::null());
        from.spawn(&mut command).map(IperfClient)
    }

    /// Waits for the client and reads its result.
    pub(super) fn finish(self) -> Result<StreamResult, BenchError> {
        let output = self.0.wait_with_output().map_err(BenchError::io("wait for iperf3"))?;
        read(&output.stdout)
    }
}

/// The part of iperf3's JSON output that is needed.
#[derive(Debug, Deserialize)]
struct Output {
    error: Option<String>,
    #[serde(default)]
    end: End,
}

#[derive(Debug, Default, Deserialize)]
struct End {
    sum_received: Option<IperfSum>,
    sum_received_bidir_reverse: Option<IperfSum>,
}

#[derive(Debug, Deserialize)]
struct IperfSum {
    bytes: f64,
    bits_per_second: f64,
    /// Only for UDP.
    lost_percent: Option<f64>,
}

fn read(text: &[u8]) -> Result<StreamResult, BenchError> {
    let fault = |fault: String| BenchError::InvalidOutput { program: PROGRAM, fault };
    let answer: Output = serde_json::from_slice(text).map_err(|error| fault(error.to_string()))?;
    if let Some(error) = answer.error {
        return Err(BenchError::program(PROGRAM, error.as_bytes()));
    }
    let there =
        answer.end.sum_received.ok_or_else(|| fault("the sum of received bytes is missing".to_owned()))?;
    let back = answer.end.sum_received_bidir_reverse;
    let both = |value: fn(&IperfSum) -> f64| value(&there) + back.as_ref().map_or(0.0, value);
    Ok(StreamResult {
        gbits: both(|sum| sum.bits_per_second) / 1e9,
        gigabits: both(|sum| sum.bytes) * 8.0 / 1e9,
        loss: there.lost_percent,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Output of iperf 3.12, without streams and intervals.
    const TCP: &str = r#"{ "start": { "version": "iperf 3.12" }, "intervals": [], "end": {
        "sum_sent": { "start": 0, "end": 1.000292, "seconds": 1.000292, "bytes": 3158835200,
            "bits_per_second": 25263304715.023212, "retransmits": 1, "sender": true },
        "sum_received": { "start": 0, "end": 1.000836, "seconds": 1.000836, "bytes": 3158835200,
            "bits_per_second": 25249572957.00794, "sender": true },
        "cpu_utilization_percent": { "host_total": 64.45, "remote_total": 41.96 },
        "sender_tcp_congestion": "cubic", "receiver_tcp_congestion": "cubic" } }"#;
    const BIDIR: &str = r#"{ "end": {
        "sum_sent": { "bytes": 1186070528, "bits_per_second": 9487463678.21333, "retransmits": 6 },
        "sum_received": { "bytes": 1182269440, "bits_per_second": 9427187210.0151, "sender": true },
        "sum_sent_bidir_reverse": { "bytes": 2382888960, "bits_per_second": 19060900615.5286 },
        "sum_received_bidir_reverse": { "bytes": 2381709312, "bits_per_second": 18991288114.543724 } } }"#;
    const UDP: &str = r#"{ "end": {
        "sum": { "bytes": 124911616, "bits_per_second": 999185016.01827, "lost_packets": 11, "packets": 3812,
            "lost_percent": 0.2885624344176285, "sender": true },
        "sum_received": { "bytes": 124551168, "bits_per_second": 996017908.961778, "jitter_ms": 0.011109944601481316,
            "lost_packets": 11, "packets": 3812, "lost_percent": 0.2885624344176285, "sender": false } } }"#;
    const REFUSED: &str = r#"{ "start": { "connected": [] }, "intervals": [], "end": { },
        "error": "unable to connect to server: Connection refused" }"#;

    #[track_caller]
    fn result(text: &str) -> StreamResult {
        read(text.as_bytes()).unwrap()
    }

    #[test]
    fn reads_received_tcp_throughput() {
        let tcp = result(TCP);
        assert!((tcp.gbits - 25.249_572_957).abs() < 1e-6, "{tcp:?}");
        assert!((tcp.gigabits - 25.270_681_6).abs() < 1e-6, "{tcp:?}");
        assert_eq!(tcp.loss, None);
    }

    #[test]
    fn adds_both_directions() {
        let bidir = result(BIDIR);
        assert!((bidir.gbits - 28.418_475_324).abs() < 1e-6, "{bidir:?}");
        assert!((bidir.gigabits - 28.511_830_016).abs() < 1e-6, "{bidir:?}");
    }

    #[test]
    fn reads_udp_loss() {
        let udp = result(UDP);
        assert!((udp.gbits - 0.996_017_909).abs() < 1e-6, "{udp:?}");
        assert_eq!(udp.loss, Some(0.288_562_434_417_628_5));
    }

    #[test]
    fn reports_iperf3_errors() {
        let error_of = |text: &str| read(text.as_bytes()).unwrap_err().to_string();
        assert_eq!(error_of(REFUSED), "iperf3 failed: unable to connect to server: Connection refused");
        assert!(error_of("").starts_with("cannot parse the output of iperf3: "));
        assert!(error_of(r#"{ "end": {} }"#).ends_with("the sum of received bytes is missing"));
    }
}
