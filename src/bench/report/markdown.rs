//! `report.md`: what was measured, where, how, and how reliable it is.

use std::iter;

use super::Chart;
use super::format::{self, MetricGroup, factor, one_line, readable, title};
use crate::bench::results::{BASELINE, Results, SUBJECT};
use crate::bench::summary::{Comparison, Summary, SummaryCell, SummaryRow};

/// The whole file.
pub(super) fn report(results: &Results, summary: &Summary, charts: &[Chart]) -> String {
    let mut parts = vec![
        "# uswitch compared with other switches".to_owned(),
        format!("uswitch {}, measured on {}.", results.uswitch, results.started),
    ];
    parts.extend(summary_section(summary));
    parts.extend(bullet_list(summary.remarks.iter().chain(&results.notes)));
    parts.extend(MetricGroup::ALL.into_iter().flat_map(|family| section(family, summary, charts)));
    parts.extend(["## Switches".to_owned(), peers(results)]);
    parts.extend(["## Machine and method".to_owned(), machine(results), method(results)]);
    parts.join("\n\n") + "\n"
}

/// The subject beside the baseline.
fn summary_section(summary: &Summary) -> Vec<String> {
    let row = |row: &SummaryRow| {
        let subject = row.cell(SUBJECT)?;
        let unit = readable(row.unit).0;
        let baseline = row.cell(BASELINE);
        Some(vec![
            format!("{}, {unit}", title(&row.metric)),
            format::value(subject, row.unit),
            baseline.map_or_else(dash, |cell| format::value(cell, row.unit)),
            // A noisy ratio does not belong in the summary.
            if is_noise(subject) { dash() } else { ratio(subject) },
            verdict_text(subject).to_owned(),
        ])
    };
    let rows: Vec<Vec<String>> = summary.rows.iter().filter_map(row).collect();
    if rows.is_empty() || summary.baseline.is_none() {
        return Vec::new();
    }
    let heading = ["", SUBJECT, BASELINE, "ratio", "uswitch is"].map(str::to_owned).to_vec();
    vec!["## Summary".to_owned(), table(heading, rows)]
}

fn verdict_text(cell: &SummaryCell) -> &'static str {
    match cell.ratio.as_ref().map(|ratio| ratio.verdict) {
        Some(Comparison::Better) => "**better**",
        Some(Comparison::Worse) => "worse",
        Some(Comparison::Alike) => "no difference: the repetitions do not agree",
        Some(Comparison::TooNoisy) => "unknown: too noisy",
        Some(Comparison::OneSample) => "unknown: one repetition",
        None => "-",
    }
}

/// `0.99 [0.95-1.02], near 1.01`: the ratio, its range over the repetitions, and the ratio of samples from
/// near CPUs.
fn ratio(cell: &SummaryCell) -> String {
    let Some(ratio) = &cell.ratio else { return dash() };
    let mark = if is_noise(cell) { "~" } else { "" };
    let of_medians = factor(ratio.of_medians);
    let paired = ratio.paired.filter(|_| cell.samples > 1);
    let range = paired.map(|paired| format!(" [{}-{}]", factor(paired.min), factor(paired.max)));
    let near = ratio.near.map(|near| format!(", near {}", factor(near)));
    [Some(format!("{mark}{of_medians}")), range, near].into_iter().flatten().collect()
}

fn is_noise(cell: &SummaryCell) -> bool {
    cell.ratio.as_ref().is_some_and(|ratio| ratio.verdict == Comparison::TooNoisy)
}

fn dash() -> String {
    "-".to_owned()
}

/// A family of metrics: explanation, chart, all values, all ratios.
fn section(family: MetricGroup, summary: &Summary, charts: &[Chart]) -> Vec<String> {
    let rows: Vec<&SummaryRow> =
        summary.rows.iter().filter(|row| MetricGroup::of(&row.metric) == family).collect();
    let chart = charts.iter().find(|chart| chart.family == family);
    if rows.is_empty() && chart.is_none() {
        return Vec::new();
    }
    let mut parts = vec![format!("## {}", family.title()), family.meaning().to_owned()];
    parts.extend(chart.map(|chart| format!("![{}]({})", family.title(), chart.file)));
    if rows.is_empty() {
        return parts;
    }
    let value = |row: &SummaryRow, cell: &SummaryCell| format::value(cell, row.unit);
    parts.push(cells(&rows, summary, "", value));
    if rows.iter().flat_map(|row| &row.cells).any(|cell| cell.ratio.is_some()) {
        parts.push(format!("Ratio to {BASELINE}:"));
        parts.push(cells(&rows, summary, "ratio", |_, cell| ratio(cell)));
    }
    parts
}

/// A table with a row for each metric and a column for each peer.
fn cells(
    rows: &[&SummaryRow],
    summary: &Summary,
    corner: &str,
    show: impl Fn(&SummaryRow, &SummaryCell) -> String,
) -> String {
    let shown = |peer: &&String| corner != "ratio" || *peer != BASELINE;
    let peers: Vec<&String> = summary.peers.iter().filter(shown).collect();
    let row = |row: &&SummaryRow| {
        let name = match corner {
            "ratio" => title(&row.metric),
            _ => format!("{}, {}", title(&row.metric), readable(row.unit).0),
        };
        let of_peer = |peer: &&String| row.cell(peer).map_or_else(dash, |cell| show(row, cell));
        iter::once(name).chain(peers.iter().map(of_peer)).collect()
    };
    let heading = iter::once(corner.to_owned()).chain(peers.iter().map(|peer| (*peer).clone())).collect();
    table(heading, rows.iter().map(row))
}

fn peers(results: &Results) -> String {
    let rows = results.peers.iter().map(|peer| {
        let version = peer.version.clone().unwrap_or_else(dash);
        let measured = match &peer.skipped {
            Some(why) => format!("skipped: {why}"),
            None => "yes".to_owned(),
        };
        vec![peer.name.clone(), peer.what.clone(), version, measured]
    });
    table(["switch", "what it is", "version", "measured"].map(str::to_owned).to_vec(), rows)
}

fn machine(results: &Results) -> String {
    let machine = &results.machine;
    let gibibytes = machine.memory_bytes as f64 / f64::from(1 << 30);
    let virtualised = machine.virtualised.clone().unwrap_or_else(|| "none detected".to_owned());
    let options = &results.options;
    let txqueuelen = options.txqueuelen.map_or_else(|| "the kernel's default".to_owned(), |n| n.to_string());
    let rows = [
        ("hypervisor", virtualised),
        ("CPU", format!("{} x {}", machine.cpus, machine.cpu_model)),
        ("memory", format!("{} GiB", format::number(gibibytes))),
        ("kernel", format!("Linux {}", machine.kernel)),
        ("default congestion control", machine.congestion_control.clone()),
        ("engine of uswitch", options.engine.clone()),
        ("busy polling of uswitch", options.busy_poll.map_or("adaptive".to_owned(), |us| format!("{us} us"))),
        ("MTU", options.mtu.to_string()),
        ("txqueuelen", txqueuelen),
        ("tests", options.tests.join(", ")),
        ("repetitions", options.repeat.to_string()),
        ("duration of a throughput or rate measurement", format!("{} s", options.duration)),
    ];
    table(
        vec![String::new(), String::new()],
        rows.into_iter().map(|(name, value)| vec![name.to_owned(), value]),
    )
}

fn method(results: &Results) -> String {
    let limit = crate::bench::summary::NOISE_LIMIT * 100.0;
    format!(
        "The {} repetitions are interleaved: each measures every switch once, so that a temporary slowdown of the \
         machine affects all switches. A figure is the median of the repetitions, with the minimum and maximum in \
         brackets. A spread of more than {limit:.0}% of the median (marked with ~) means that the machine was busy with \
         other work, so the figure is unreliable. A ratio is the ratio of the medians, with the minimum and maximum ratio \
         within one repetition in brackets. \"near\" is the ratio of the samples taken while the CPUs, which the \
         hypervisor moves, were near each other. \"Better\" and \"worse\" require that every repetition agrees. \
         Ratios are comparable between machines, absolute figures are not.\n\nEvery sample is in \
         [results.json](results.json).",
        results.options.repeat
    )
}

fn bullet_list<'a>(sentences: impl Iterator<Item = &'a String>) -> Option<String> {
    let lines: Vec<String> = sentences.map(|sentence| format!("- {}", escape(sentence))).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

fn table(heading: Vec<String>, rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let rule = vec!["---".to_owned(); heading.len()].join("|");
    let line = |cells: Vec<String>| {
        let cells: Vec<String> = cells.iter().map(|cell| escape(cell)).collect();
        format!("| {} |", cells.join(" | "))
    };
    let mut lines = vec![line(heading), format!("|{rule}|")];
    lines.extend(rows.into_iter().map(line));
    lines.join("\n")
}

/// Output of other programs must not end a table cell or be read as markup.
fn escape(text: &str) -> String {
    one_line(text).replace('|', "\\|").replace('<', "&lt;")
}
