//! Results on a terminal: a row for each metric, a column for each peer.

use comfy_table::{ContentArrangement, Table, presets};

use super::format::{one_line, ratio, readable, value};
use crate::bench::results::Results;
use crate::bench::summary::{Summary, SummaryRow};

/// Width of the widest table, in characters.
const WIDTH: usize = 120;

/// Tables of at most 120 columns, with remarks.
pub fn terminal(results: &Results) -> String {
    let summary = Summary::new(results);
    let mut text = tables(&summary);
    let skipped = results.peers.iter().filter_map(|peer| Some((&peer.name, peer.skipped.as_ref()?)));
    let mut remarks: Vec<String> = skipped.map(|(name, why)| format!("{name} was skipped: {why}")).collect();
    remarks.extend(legend(&summary));
    remarks.extend(summary.remarks);
    remarks.extend(results.notes.iter().cloned());
    text.push(remarks.iter().map(|line| one_line(line) + "\n").collect());
    text.retain(|part| !part.is_empty());
    text.join("\n")
}

fn legend(summary: &Summary) -> Option<String> {
    let baseline = summary.baseline.filter(|_| !summary.rows.is_empty())?;
    Some(format!("Median [minimum-maximum], and the ratio to {baseline}."))
}

/// Splits the peers into tables that fit.
fn tables(summary: &Summary) -> Vec<String> {
    let mut tables = Vec::new();
    let mut peers = summary.peers.as_slice();
    while !peers.is_empty() {
        let narrower = (1..=peers.len()).rev().map(|count| (count, table(&peers[..count], &summary.rows)));
        let fits = |text: &str| text.lines().all(|line| line.chars().count() <= WIDTH);
        let Some((count, table)) = narrower.into_iter().find(|(count, text)| *count == 1 || fits(text))
        else {
            break;
        };
        tables.push(table);
        peers = &peers[count..];
    }
    tables
}

fn table(peers: &[String], rows: &[SummaryRow]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    let heading = ["METRIC".to_owned(), "UNIT".to_owned()].into_iter();
    table.set_header(heading.chain(peers.iter().flat_map(|peer| [peer.to_uppercase(), String::new()])));
    for row in rows {
        let cells = peers.iter().flat_map(|peer| cell(row, peer));
        let named = [row.metric.to_string(), readable(row.unit).0.to_owned()];
        table.add_row(named.into_iter().chain(cells));
    }
    for (i, column) in table.column_iter_mut().enumerate() {
        // A ratio is placed close to its value.
        let is_value = i > 1 && i % 2 == 0;
        column.set_padding((0, if is_value { 1 } else { 2 }));
    }
    table.trim_fmt() + "\n"
}

/// A value and its ratio.
fn cell(row: &SummaryRow, peer: &str) -> [String; 2] {
    match row.cell(peer) {
        Some(cell) => [value(cell, row.unit), cell.ratio.as_ref().map(ratio).unwrap_or_default()],
        None => ["-".to_owned(), String::new()],
    }
}
