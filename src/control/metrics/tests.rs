//! Tests that Prometheus can parse the text and that docs/METRICS.md matches it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::{SharedMetrics, escaped, render};
use crate::control::report::{
    DhcpReport, DnsReport, PortVlanStats, RouterAdvertisementReport, UplinkReport, VlanStats,
};
use crate::control::running::Handle;
use crate::control::running::fake::{config, running};
use crate::switch::vlan::{Vid, VlanCounts};

/// A parsed metric.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ParsedMetric {
    pub(crate) kind: String,
    pub(crate) help: String,
    /// Values by labels.
    pub(crate) samples: BTreeMap<Vec<(String, String)>, u64>,
}

impl ParsedMetric {
    fn labels(&self) -> BTreeSet<&str> {
        self.samples.keys().flatten().map(|(name, _)| name.as_str()).collect()
    }
}

fn is_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// Parses labels up to the closing brace. Returns them and the rest.
fn labels(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut labels = Vec::new();
    loop {
        let (name, value) = rest.split_once("=\"").expect("a label has a quoted value");
        assert!(is_name(name), "{name}");
        let (mut text, mut chars) = (String::new(), value.char_indices());
        let end = loop {
            match chars.next().expect("a value has an end") {
                (at, '"') => break at,
                (_, '\\') => match chars.next().expect("a backslash is before something").1 {
                    'n' => text.push('\n'),
                    c @ ('\\' | '"') => text.push(c),
                    c => panic!("\\{c} is not an escape sequence"),
                },
                (_, c) => text.push(c),
            }
        };
        labels.push((name.to_owned(), text));
        rest = match value[end + 1..].strip_prefix(',') {
            Some(more) => more,
            None => return (labels, value[end + 1..].strip_prefix('}').expect("labels end with a brace")),
        };
    }
}

/// Parses the text format strictly: each metric once, help and type before its samples, no duplicate
/// series.
pub(crate) fn parse_metrics(text: &str) -> BTreeMap<String, ParsedMetric> {
    let mut metrics: BTreeMap<String, ParsedMetric> = BTreeMap::new();
    let mut open = String::new();
    assert!(text.ends_with('\n'), "the last line has an end");
    for line in text.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, help) = help.split_once(' ').expect("a text");
            assert!(is_name(name) && name.starts_with("uswitch_") && !help.contains('\\'), "{line}");
            open = name.to_owned();
            let read = ParsedMetric { help: help.to_owned(), ..ParsedMetric::default() };
            assert!(metrics.insert(open.clone(), read).is_none(), "twice: {line}");
            continue;
        }
        let metric = metrics.get_mut(&open).expect("help comes first");
        if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert!(name == open && metric.kind.is_empty() && metric.samples.is_empty(), "{line}");
            assert!(["counter", "gauge"].contains(&kind), "{line}");
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
            metric.kind = kind.to_owned();
            continue;
        }
        let (labels, value) = match line.strip_prefix(&open).expect("a sample of this metric").split_at(1) {
            ("{", rest) => labels(rest),
            (" ", _) => (Vec::new(), &line[open.len()..]),
            _ => panic!("another metric: {line}"),
        };
        let names: BTreeSet<&str> = labels.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.len(), labels.len(), "a label twice: {line}");
        let value = value.strip_prefix(' ').expect("a blank").parse().expect("a number");
        assert!(!metric.kind.is_empty(), "a type comes first: {line}");
        assert!(metric.samples.insert(labels, value).is_none(), "a series twice: {line}");
    }
    metrics
}

/// The rows of the table in docs/METRICS.md: name, type, labels, help.
fn documented() -> BTreeSet<[String; 4]> {
    let rows =
        include_str!("../../../docs/METRICS.md").lines().filter(|line| line.starts_with("| `uswitch_"));
    rows.map(|row| {
        let cells: Vec<String> =
            row.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        cells.try_into().expect("four columns")
    })
    .collect()
}

#[tokio::test]
async fn metrics_match_the_documentation() {
    let (_bench, mut running) = running(config(|_| {})).await;
    let mut snapshot = running.snapshot();
    let counts = VlanCounts { rx_packets: 1, ..VlanCounts::default() };
    snapshot.vlans = vec![VlanStats::new(Vid::DEFAULT, counts)];
    snapshot.port_vlans = vec![PortVlanStats { ifname: "container1".into(), vlans: snapshot.vlans.clone() }];
    let uplink = UplinkReport { learned: 1, ..UplinkReport::default() };
    snapshot.uplinks = vec![("wlan0".into(), uplink)];
    snapshot.status.dhcp = Some(DhcpReport::default());
    snapshot.status.dns = Some(DnsReport::default());
    snapshot.status.router_advertisements = Some(RouterAdvertisementReport::default());
    let metrics = parse_metrics(&render(&snapshot));
    let row = |(name, metric): (&String, &ParsedMetric)| {
        let labels = metric.labels().into_iter().collect::<Vec<_>>().join(", ");
        let help = metric.help.trim_end_matches('.').to_owned();
        [name.clone(), metric.kind.clone(), labels, help]
    };
    let measured: BTreeSet<[String; 4]> = metrics.iter().map(row).collect();
    let lines = |rows: &BTreeSet<[String; 4]>| -> Vec<String> {
        rows.iter()
            .map(|[name, kind, labels, help]| format!("| `{name}` | {kind} | {labels} | {help} |"))
            .collect()
    };
    assert_eq!(
        lines(&documented()),
        lines(&measured),
        "the table should be:\n{}",
        lines(&measured).join("\n")
    );
}

#[test]
fn escapes_label_values() {
    let value = "a\"b\\c\nd";
    let text = format!("port=\"{}\",direction=\"rx\"}} 1", escaped(value));
    let (labels, rest) = labels(&text);
    assert_eq!(labels[0].1, value);
    assert_eq!((labels.len(), rest), (2, " 1"));
}

/// Clients at about the same time share a text, and unread responses hold few texts.
#[tokio::test(start_paused = true)]
async fn shares_rendered_text() {
    let (_fake, mut running) = running(config(|_| {})).await;
    let (handle, mut commands) = Handle::new();
    let test = async {
        let metrics = SharedMetrics::new(handle);
        let text = async || metrics.text().await.unwrap();
        let later = || tokio::time::sleep(Duration::from_secs(1));
        let first = text().await;
        assert!(Arc::ptr_eq(&first, &text().await));
        later().await;
        let mut held = vec![first];
        for _ in 0..10 {
            held.push(text().await);
            later().await;
        }
        held.dedup_by(|a, b| Arc::ptr_eq(a, b));
        assert_eq!(held.len(), 4);
        held.clear();
        assert!(
            !Arc::ptr_eq(&text().await, &{
                later().await;
                text().await
            }),
            "a new text once there is room"
        );
    };
    tokio::select! {
        end = running.serve(&mut commands, std::future::pending()) => panic!("{end:?}"),
        () = test => {}
    }
}
