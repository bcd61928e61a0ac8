//! Reports for people: a table on the terminal, and a directory with samples, report and charts. They are
//! generated from [`Results`] alone, so the same samples always give the same report.

mod axis;
mod bar_chart;
mod format;
mod markdown;
mod round_trip_chart;
mod style;
mod svg;
mod terminal;
#[cfg(test)]
mod tests;

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::metric::Unit;
use super::results::Results;
use super::summary::{Summary, SummaryRow};
use format::MetricGroup;
pub use terminal::terminal;

/// File with the samples, as JSON.
pub const RESULTS: &str = "results.json";
/// File with the report.
const REPORT: &str = "report.md";

/// Samples and summary, for `--json`.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    #[serde(flatten)]
    results: &'a Results,
    summary: Summary,
}

impl<'a> Report<'a> {
    /// Creates the report of these results.
    pub fn new(results: &'a Results) -> Report<'a> {
        Report { results, summary: Summary::new(results) }
    }
}

/// Directory of a report, checked before the first measurement and written at the end.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// We created it, so it is removed again if it stays empty.
    made: bool,
}

/// Why no report can be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file with the name of one of ours exists.
    #[error("{} exists: choose another directory, or move the file", .0.display())]
    Exists(PathBuf),
    /// The file system returned an error.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /** Which file or directory. */
        path: PathBuf,
        /** Why. */
        source: io::Error,
    },
}

impl Directory {
    /// Checks that `path` is a writable directory without files that the report would overwrite. Creates it
    /// if it is missing, but not its parent.
    pub fn claim(path: &Path) -> Result<Directory, ReportError> {
        let made = match fs::create_dir(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(failed(path)(error)),
        };
        let directory = Directory { path: path.to_owned(), made };
        for name in FILES {
            let file = path.join(name);
            if file.try_exists().map_err(failed(&file))? {
                return Err(ReportError::Exists(file));
            }
        }
        directory.probe()?;
        Ok(directory)
    }

    /// Checks that files can be created now, instead of after minutes of measuring.
    fn probe(&self) -> Result<(), ReportError> {
        let file = self.path.join(RESULTS);
        File::create_new(&file).and_then(|_| fs::remove_file(&file)).map_err(failed(&file))
    }

    /// Writes the samples first, then everything that is generated from them.
    pub fn write(&self, results: &Results) -> Result<(), ReportError> {
        let json = serde_json::to_string_pretty(results).map_err(|e| failed(&self.path)(e.into()))?;
        self.create(RESULTS, &(json + "\n"))?;
        let summary = Summary::new(results);
        let charts = charts(results, &summary);
        self.create(REPORT, &markdown::report(results, &summary, &charts))?;
        charts.iter().try_for_each(|chart| self.create(chart.file, &chart.svg))
    }

    fn create(&self, name: &str, text: &str) -> Result<(), ReportError> {
        let path = self.path.join(name);
        File::create_new(&path).and_then(|mut file| file.write_all(text.as_bytes())).map_err(failed(&path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        if self.made {
            // This fails if the directory is not empty.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ReportError {
    let path = path.to_owned();
    move |source| ReportError::Io { path, source }
}

/// A chart and its file name.
struct Chart {
    family: MetricGroup,
    file: &'static str,
    svg: String,
}

/// Names of all files of a report.
const FILES: [&str; 6] = [
    RESULTS,
    REPORT,
    file(MetricGroup::Throughput),
    file(MetricGroup::FrameRate),
    file(MetricGroup::RoundTrip),
    file(MetricGroup::Cpu),
];

const fn file(family: MetricGroup) -> &'static str {
    match family {
        MetricGroup::Throughput => "throughput.svg",
        MetricGroup::FrameRate => "frame-rate.svg",
        MetricGroup::RoundTrip => "round-trip.svg",
        MetricGroup::Cpu => "cpu.svg",
    }
}

/// Charts of the families with samples.
fn charts(results: &Results, summary: &Summary) -> Vec<Chart> {
    let draw = |family: MetricGroup| match family {
        MetricGroup::RoundTrip => round_trip_chart::draw(&results.distributions, &summary.peers),
        MetricGroup::Throughput | MetricGroup::FrameRate | MetricGroup::Cpu => {
            let drawn =
                |row: &&SummaryRow| MetricGroup::of(&row.metric) == family && row.unit != Unit::Percent;
            let rows: Vec<&SummaryRow> = summary.rows.iter().filter(drawn).collect();
            bar_chart::draw(family.title(), &rows, &summary.peers)
        }
    };
    let chart = |family| draw(family).map(|svg| Chart { family, file: file(family), svg });
    MetricGroup::ALL.into_iter().filter_map(chart).collect()
}
