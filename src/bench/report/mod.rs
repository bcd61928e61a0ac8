//! What a run says, for people: a table on the terminal, and a directory with the samples, a report and its charts.
//! Everything is made from [`Results`] alone, so that the same samples always give the same words and drawings.

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
use format::Family;
pub use terminal::terminal;

/// The samples, as JSON.
pub const RESULTS: &str = "results.json";
/// The words.
const REPORT: &str = "report.md";

/// The samples and what they say, for `--json`.
#[derive(Debug, Serialize)]
pub struct Report<'a> {
    #[serde(flatten)]
    results: &'a Results,
    summary: Summary,
}

impl<'a> Report<'a> {
    /// Of these samples.
    pub fn new(results: &'a Results) -> Report<'a> {
        Report { results, summary: Summary::new(results) }
    }
}

/// Where a report is to go: claimed before anything is measured, written at the end.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    /// We made it, so it goes again if nothing comes into it.
    made: bool,
}

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// There is a file of the name of one of ours.
    #[error("{} exists: choose another directory for --out, or move it away", .0.display())]
    Exists(PathBuf),
    /// The file system's word.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /** Which file or directory. */
        path: PathBuf,
        /** Why. */
        source: io::Error,
    },
}

impl Directory {
    /// Makes sure that `path` is a directory that takes a report and overwrites nothing; makes it if it is missing. Its
    /// parent must be there.
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

    /// Better now than after minutes of measuring.
    fn probe(&self) -> Result<(), ReportError> {
        let file = self.path.join(RESULTS);
        File::create_new(&file).and_then(|_| fs::remove_file(&file)).map_err(failed(&file))
    }

    /// Writes the samples first, then all that is made from them.
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
            // The kernel refuses if there is anything in it.
            let _ = fs::remove_dir(&self.path);
        }
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> ReportError {
    let path = path.to_owned();
    move |source| ReportError::Io { path, source }
}

/// A drawing and where it goes.
struct Chart {
    family: Family,
    file: &'static str,
    svg: String,
}

/// All files that there may be.
const FILES: [&str; 6] = [
    RESULTS,
    REPORT,
    file(Family::Throughput),
    file(Family::FrameRate),
    file(Family::RoundTrip),
    file(Family::Cpu),
];

const fn file(family: Family) -> &'static str {
    match family {
        Family::Throughput => "throughput.svg",
        Family::FrameRate => "frame-rate.svg",
        Family::RoundTrip => "round-trip.svg",
        Family::Cpu => "cpu.svg",
    }
}

/// Those for which there are samples.
fn charts(results: &Results, summary: &Summary) -> Vec<Chart> {
    let draw = |family: Family| match family {
        Family::RoundTrip => round_trip_chart::draw(&results.distributions, &summary.peers),
        Family::Throughput | Family::FrameRate | Family::Cpu => {
            let drawn = |row: &&SummaryRow| Family::of(&row.metric) == family && row.unit != Unit::Percent;
            let rows: Vec<&SummaryRow> = summary.rows.iter().filter(drawn).collect();
            bar_chart::draw(family.title(), &rows, &summary.peers)
        }
    };
    let chart = |family| draw(family).map(|svg| Chart { family, file: file(family), svg });
    Family::ALL.into_iter().filter_map(chart).collect()
}
