//! Compares reports of fixed samples with the files in `golden`. `UPDATE_GOLDEN=1 cargo test --lib report`
//! updates them.

use std::collections::BTreeMap;
use std::path::Path;

use super::*;
use crate::bench::metric::{Metric, RoundTrip};
use crate::bench::results::{BASELINE, Results, RoundTripPercentiles, SUBJECT, Sample, fixture};

const METRICS: [&str; 25] = [
    "tcp.bbr",
    "tcp.cubic",
    "tcp4.bbr",
    "tcp4.cubic",
    "bidir.bbr",
    "bidir.cubic",
    "host.cubic",
    "udp",
    "udp.loss",
    "pps.64",
    "pps.128",
    "pps.256",
    "pps.512",
    "pps.1024",
    "pps.1280",
    "pps.1518",
    "rfc2544.64",
    "rfc2544.1518",
    "rtt.p50",
    "rtt.p99",
    "rtt-load.p50",
    "tcp.cubic.cpu.switch",
    "tcp.cubic.cpu.machine",
    "tcp.bbr.cpu.switch",
    "tcp.bbr.cpu.machine",
];

/// Peers with the throughput of a stream in Gbit/s, the frame rate of small frames, and the round-trip time
/// in microseconds.
const PEERS: [(&str, f64, f64, f64); 7] = [
    (BASELINE, 26.5, 531e3, 8.0),
    (SUBJECT, 24.4, 705e3, 40.0),
    ("veth", 31.5, 897e3, 6.0),
    ("ovs", 1.7, 370e3, 75.0),
    ("ovs-tso", 15.1, 346e3, 83.0),
    ("vde", 1.5, 437e3, 41.0),
    ("naive", 3.1, 619e3, 43.0),
];

/// A pseudo-random share that is the same in every run.
fn pseudo_random(of: (u32, usize, usize), most: f64) -> f64 {
    let (repetition, peer, metric) = of;
    let mixed = (u64::from(repetition) * 7919 + peer as u64 * 104_729 + metric as u64 * 1_299_709) % 1000;
    1.0 + (mixed as f64 / 1000.0 - 0.5) * most
}

/// A value that JSON represents without loss.
fn rounded(value: f64) -> f64 {
    (value * 1e4).round() / 1e4
}

fn typical(metric: &Metric, (_, gbits, frames, rtt): (&str, f64, f64, f64)) -> f64 {
    match metric {
        Metric::Tcp(_) => gbits,
        Metric::Udp => gbits / 5.0,
        Metric::UdpLoss => 40.0 / gbits,
        Metric::FrameRate(size) | Metric::BroadcastRate(size) => frames * (1.0 - f64::from(*size) / 8000.0),
        Metric::LossFreeRate(_) => frames * 0.7,
        Metric::Rtt(RoundTrip::Udp | RoundTrip::Tcp, of) => rtt * (of.percent() / 40.0),
        Metric::Rtt(RoundTrip::Ping, of) => rtt * (of.percent() / 80.0),
        Metric::Rtt(RoundTrip::UdpUnderLoad, of) => 60.0 + rtt * (of.percent() / 4.0),
        Metric::Cpu(..) => 0.9 / gbits,
    }
}

fn measure(results: &mut Results, repetitions: u32, metrics: &[&str], peers: &[(&str, f64, f64, f64)]) {
    for repetition in 1..=repetitions {
        for (p, peer) in peers.iter().enumerate() {
            for (m, metric) in metrics.iter().enumerate() {
                let metric: Metric = metric.parse().unwrap();
                let noise = if m % 4 == 0 { 0.4 } else { 0.1 };
                let value = rounded(typical(&metric, *peer) * pseudo_random((repetition, p, m), noise));
                results.samples.extend(Sample::new(repetition, peer.0, metric, value));
            }
            for (load, factor) in [(RoundTrip::Udp, 1.0), (RoundTrip::UdpUnderLoad, 4.0)] {
                let time = |percent: f64| {
                    factor * peer.3 * (1.0 + (1.0 / (1.0 - percent / 100.0)).ln().powi(2) / 4.0)
                };
                let percents = [0.0, 10.0, 25.0, 50.0, 75.0, 90.0, 95.0, 99.0, 99.5, 99.9, 99.99];
                let mut percentiles: Vec<_> =
                    percents.map(|percent| (percent, rounded(time(percent)))).to_vec();
                percentiles.push((100.0, 1e6));
                let peer = peer.0.to_owned();
                results.distributions.push(RoundTripPercentiles {
                    repetition,
                    peer,
                    metric: load,
                    percentiles,
                });
            }
        }
    }
}

/// Two peers, one of them the bridge, with few metrics.
fn two_peers() -> Results {
    let mut results = fixture::empty([SUBJECT, BASELINE]);
    measure(&mut results, 3, &["tcp.cubic", "udp", "udp.loss", "pps.64", "rtt.p50", "rtt.p99"], &PEERS[..2]);
    results
}

/// All metrics and peers.
fn seven_peers() -> Results {
    let mut results =
        fixture::empty(PEERS.map(|peer| peer.0).into_iter().chain(["another-peer-of-long-name"]));
    measure(&mut results, 5, &METRICS, &PEERS);
    results.samples.retain(|sample| sample.peer != "veth" || !sample.metric.to_string().starts_with("host"));
    for sample in &mut results.samples {
        sample.cpu_distance_ns = Some(if sample.repetition == 4 { 152.0 } else { 27.0 });
    }
    results.options.repeat = 5;
    results.machine.virtualised = Some("kvm".to_owned());
    results.notes.push("No bbr in this kernel.".to_owned());
    for (peer, version) in
        results.peers.iter_mut().zip([None, Some("0.1.0"), None, Some("3.1 <a|b>\n\u{1b}")])
    {
        peer.version = version.map(str::to_owned);
    }
    results.peers[7].skipped = Some("ovs-vsctl is not installed (Debian: openvswitch-switch)".to_owned());
    results
}

fn without_bridge() -> Results {
    let mut results = fixture::empty([SUBJECT, "vde"]);
    measure(&mut results, 1, &["tcp.cubic", "rtt.p50"], &[PEERS[1], PEERS[5]]);
    results.distributions.clear();
    results
}

/// All peers were skipped.
fn nothing() -> Results {
    let mut results = fixture::empty([SUBJECT, BASELINE]);
    for peer in &mut results.peers {
        peer.skipped = Some("/dev/net/tun is missing".to_owned());
    }
    results
}

/// All texts of a report by file name.
fn texts(results: &Results) -> BTreeMap<&'static str, String> {
    let summary = Summary::new(results);
    let charts = charts(results, &summary);
    let report = markdown::report(results, &summary, &charts);
    let words = [("terminal.txt", terminal(results)), (REPORT, report)];
    words.into_iter().chain(charts.into_iter().map(|chart| (chart.file, chart.svg))).collect()
}

fn golden(case: &str, results: &Results) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bench/report/golden").join(case);
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    if update {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
    }
    for (name, text) in texts(results) {
        let path = folder.join(name);
        if update {
            fs::write(&path, &text).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(text == expected, "{} differs:\n{text}", path.display());
    }
}

#[test]
fn reports_match_golden_files() {
    golden("small", &two_peers());
    golden("seven", &seven_peers());
    golden("without-bridge", &without_bridge());
    golden("nothing", &nothing());
}

/// Bounding box of a text: left, top, right, bottom.
fn bounds(text: &roxmltree::Node) -> [f64; 4] {
    let number = |name: &str| text.attribute(name).unwrap().parse::<f64>().unwrap();
    let (x, y, size) = (number("x"), number("y"), number("font-size"));
    let weight = if text.has_attribute("font-weight") { svg::Weight::Bold } else { svg::Weight::Regular };
    let style = svg::Style { size, weight, ..style::LABEL };
    let width = svg::width(text.text().unwrap_or_default(), &style);
    let before = match text.attribute("text-anchor") {
        Some("end") => width,
        Some("middle") => width / 2.0,
        _ => 0.0,
    };
    match text.has_attribute("transform") {
        true => [x - size * 0.8, y - width + before, x + size * 0.2, y + before],
        false => [x - before, y - size * 0.8, x - before + width, y + size * 0.2],
    }
}

/// The chart is valid XML, and no texts overlap or leave the drawing.
#[track_caller]
fn legible(chart: &str) {
    let document = roxmltree::Document::parse(chart).expect("a chart is XML");
    let size = |name: &str| document.root_element().attribute(name).unwrap().parse::<f64>().unwrap();
    let (width, height) = (size("width"), size("height"));
    let texts: Vec<_> = document.descendants().filter(|node| node.has_tag_name("text")).collect();
    let boxes: Vec<_> = texts.iter().map(bounds).collect();
    for (i, a) in boxes.iter().enumerate() {
        let inside = a[0] >= 0.0 && a[1] >= 0.0 && a[2] <= width && a[3] <= height;
        assert!(inside, "{:?} leaves the drawing", texts[i].text());
        for (j, b) in boxes.iter().enumerate().skip(i + 1) {
            let apart = a[2] <= b[0] || b[2] <= a[0] || a[3] <= b[1] || b[3] <= a[1];
            assert!(apart, "{:?} and {:?} overlap", texts[i].text(), texts[j].text());
        }
    }
    assert!(texts.len() > 5, "{} texts", texts.len());
}

#[test]
fn chart_labels_do_not_overlap() {
    for results in [two_peers(), seven_peers(), without_bridge()] {
        let charts = charts(&results, &Summary::new(&results));
        assert!(!charts.is_empty());
        charts.iter().for_each(|chart| legible(&chart.svg));
    }
}

#[test]
fn tables_fit_120_columns() {
    for results in [two_peers(), seven_peers(), without_bridge(), nothing()] {
        let text = terminal(&results);
        let longest = text.lines().max_by_key(|line| line.chars().count()).unwrap();
        assert!(longest.chars().count() <= 120, "{longest}");
    }
}

#[test]
fn results_file_round_trips() {
    let folder = tempfile::tempdir().unwrap();
    let results = seven_peers();
    Directory::claim(folder.path()).unwrap().write(&results).unwrap();
    let text = fs::read_to_string(folder.path().join(RESULTS)).unwrap();
    assert!(serde_json::from_str::<Results>(&text).unwrap() == results);
    for name in FILES {
        assert!(folder.path().join(name).exists(), "{name} is missing");
    }
}

#[test]
fn json_has_samples_and_summary() {
    let json = serde_json::to_value(Report::new(&two_peers())).unwrap();
    assert_eq!(json["samples"][0]["metric"], "tcp.cubic");
    let cell = &json["summary"]["rows"][0]["cells"][0];
    assert_eq!((cell["peer"].as_str(), cell["samples"].as_u64()), (Some(SUBJECT), Some(3)));
    assert!(cell["median"].is_f64() && cell["ratio"]["paired"]["min"].is_f64());
    assert_eq!(json["summary"]["baseline"], BASELINE);
}

#[test]
fn refuses_existing_files() {
    for name in FILES {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(name), "mine").unwrap();
        let error = Directory::claim(folder.path()).unwrap_err().to_string();
        let path = folder.path().join(name);
        assert_eq!(error, format!("{} exists: choose another directory, or move the file", path.display()));
    }
}

/// Files created during the measurement are not overwritten either.
#[test]
fn refuses_files_created_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let directory = Directory::claim(folder.path()).unwrap();
    fs::write(folder.path().join(RESULTS), "another's").unwrap();
    assert!(directory.write(&two_peers()).is_err());
    assert_eq!(fs::read_to_string(folder.path().join(RESULTS)).unwrap(), "another's");
}

#[test]
fn removes_unused_directory() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("report");
    drop(Directory::claim(&path).unwrap());
    assert!(!path.exists());
    drop(Directory::claim(folder.path()).unwrap());
    assert!(folder.path().exists(), "it was there before");
    Directory::claim(&path).unwrap().write(&two_peers()).unwrap();
    assert!(path.join(REPORT).exists());
}

#[test]
fn refuses_unwritable_directory() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    for path in [file, folder.path().join("missing/report")] {
        let error = Directory::claim(&path).unwrap_err().to_string();
        assert!(error.starts_with("cannot write ") && error.lines().count() == 1, "{error}");
    }
}
