//! Bar charts: one panel for each metric, with one bar for each peer, all panels at the same scale.

use super::axis::Linear;
use super::format::{factor, number, readable, title};
use super::style::{
    self, AXIS, GRID, HEADER_HEIGHT, LABEL, MARGIN, PANEL_TITLE, REFERENCE, TICK, WHISKER, WIDTH,
};
use super::svg::{self, Anchor, Drawing, Point, Style};
use crate::bench::metric::Better;
use crate::bench::results::BASELINE;
use crate::bench::summary::{Comparison, SummaryCell, SummaryRow};

/// Distance between panels, in pixels.
const GAP: f64 = 26.0;
/// Distance between bars, in pixels.
const PITCH: f64 = 21.0;
/// Thickness of a bar, in pixels.
const THICK: f64 = 14.0;
/// Width of the label behind the longest bar, in pixels.
const WORDS: f64 = 88.0;
/// Height of the panel title above the bars, in pixels.
const ABOVE: f64 = 22.0;
/// Height of ticks and unit below the bars, in pixels.
const BELOW: f64 = 58.0;

/// Layout of the panels.
struct BarLayout<'a> {
    peers: &'a [String],
    axis: Linear,
    unit: &'static str,
    scale: f64,
    /// Width of the peer names.
    names: f64,
    panel: f64,
}

/// A chart of `rows`, which share a unit. `None` without rows.
pub(super) fn draw(heading: &str, rows: &[&SummaryRow], peers: &[String]) -> Option<String> {
    let first = rows.first()?;
    let layout = BarLayout::new(rows, peers, first);
    let columns = columns(rows.len());
    let lines = rows.len().div_ceil(columns);
    let height = HEADER_HEIGHT + lines as f64 * layout.height() - MARGIN / 2.0;
    let mut drawing = style::new_chart(height, heading, &subtitle(rows, first));
    define_hatches(&mut drawing, peers);
    for (i, row) in rows.iter().enumerate() {
        let (column, line) = (i % columns, i / columns);
        let x = MARGIN + layout.names + column as f64 * (layout.panel + GAP);
        let y = HEADER_HEIGHT + line as f64 * layout.height();
        if column == 0 {
            layout.draw_names(&mut drawing, (x, y));
        }
        layout.draw_panel(&mut drawing, (x, y), row);
    }
    Some(drawing.finish())
}

/// Number of panels beside each other.
fn columns(panels: usize) -> usize {
    match panels {
        4 => 2,
        panels => panels.min(3),
    }
}

fn subtitle(rows: &[&SummaryRow], first: &SummaryRow) -> String {
    let (unit, _) = readable(first.unit);
    let better = match first.better {
        Better::Higher => "higher is better",
        Better::Lower => "lower is better",
    };
    let cells = || rows.iter().flat_map(|row| &row.cells);
    let mut parts = vec![format!("{unit}, {better}"), "bar: median".to_owned()];
    if cells().any(|cell| cell.samples > 1) {
        parts.push("whisker: min to max".to_owned());
    }
    if cells().any(|cell| cell.ratio.is_some()) {
        parts.push(format!("dashed line and (ratio): {BASELINE}"));
    }
    if cells().any(|cell| cell.noisy) {
        parts.push("hatched, ~: too noisy".to_owned());
    }
    parts.join("  \u{b7}  ")
}

/// Defines a fill pattern for each peer, for noisy figures.
fn define_hatches(drawing: &mut Drawing, peers: &[String]) {
    for peer in 0..peers.len() {
        let colour = style::peer_style(peers, peer).pen.colour;
        drawing.define(&format!(
            "<pattern id=\"noisy{peer}\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" \
             patternTransform=\"rotate(45)\"><rect width=\"5\" height=\"5\" fill=\"#ffffff\"/>\
             <rect width=\"2.5\" height=\"5\" fill=\"{colour}\"/></pattern>"
        ));
    }
}

impl<'a> BarLayout<'a> {
    fn new(rows: &[&SummaryRow], peers: &'a [String], first: &SummaryRow) -> BarLayout<'a> {
        let (unit, scale) = readable(first.unit);
        let greatest = rows.iter().flat_map(|row| &row.cells).map(|cell| cell.range.max).fold(0.0, f64::max);
        let name = |peer: &String| svg::width(peer, &style::name_style(peer, Anchor::End));
        let names = peers.iter().map(name).fold(0.0, f64::max) + 10.0;
        let columns = columns(rows.len()) as f64;
        let panel = (WIDTH - 2.0 * MARGIN - names - GAP * (columns - 1.0)) / columns;
        BarLayout { peers, axis: Linear::up_to(greatest / scale, 5), unit, scale, names, panel }
    }

    /// Height of a panel.
    fn height(&self) -> f64 {
        ABOVE + self.bars() + BELOW
    }

    fn bars(&self) -> f64 {
        self.peers.len() as f64 * PITCH
    }

    /// Distance from the left edge of a panel, in pixels.
    fn place(&self, value: f64) -> f64 {
        self.axis.share(value / self.scale) * (self.panel - WORDS)
    }

    /// Vertical centre of a peer's bar.
    fn middle(peer: usize, top: f64) -> f64 {
        top + ABOVE + (peer as f64 + 0.5) * PITCH
    }

    fn draw_names(&self, drawing: &mut Drawing, (x, top): Point) {
        for (i, peer) in self.peers.iter().enumerate() {
            let at = (x - 8.0, Self::middle(i, top) + 4.0);
            drawing.text(at, peer, &style::name_style(peer, Anchor::End));
        }
    }

    fn draw_panel(&self, drawing: &mut Drawing, (x, top): Point, row: &SummaryRow) {
        drawing.text((x, top + 10.0), &title(&row.metric), &PANEL_TITLE);
        self.draw_axis(drawing, (x, top + ABOVE));
        if let Some(baseline) = row.cell(BASELINE).filter(|_| row.metric.has_ratio()) {
            let at = (x + self.place(baseline.range.median), top + ABOVE);
            style::vertical_line(drawing, at, self.bars(), &REFERENCE);
        }
        for (i, peer) in self.peers.iter().enumerate() {
            let at = (x, Self::middle(i, top));
            match row.cell(peer) {
                Some(cell) => self.draw_bar(drawing, at, cell),
                None => drawing.text((x + 6.0, at.1 + 4.0), "not measured", &Style { size: 11.0, ..pale() }),
            }
        }
    }

    fn draw_axis(&self, drawing: &mut Drawing, (x, top): Point) {
        let bottom = top + self.bars();
        for tick in &self.axis.ticks {
            let at = x + self.place(tick * self.scale);
            let pen = if *tick == 0.0 { &AXIS } else { &GRID };
            style::vertical_line(drawing, (at, top), self.bars(), pen);
            drawing.text((at, bottom + 15.0), &plain(*tick), &TICK);
        }
        let middle = x + (self.panel - WORDS) / 2.0;
        drawing.text((middle, bottom + 31.0), self.unit, &TICK);
    }

    fn draw_bar(&self, drawing: &mut Drawing, (x, middle): Point, cell: &SummaryCell) {
        let peer = self.peers.iter().position(|peer| *peer == cell.peer).unwrap_or_default();
        let fill = match cell.noisy {
            true => format!("url(#noisy{peer})"),
            false => style::peer_style(self.peers, peer).fill.to_owned(),
        };
        let [median, min, max] = [cell.range.median, cell.range.min, cell.range.max].map(|v| self.place(v));
        drawing.rectangle((x, middle - THICK / 2.0), (median, THICK), &fill);
        if cell.samples > 1 {
            drawing.line(&[(x + min, middle), (x + max, middle)], &WHISKER);
            for end in [x + min, x + max] {
                style::vertical_line(drawing, (end, middle - 3.5), 7.0, &WHISKER);
            }
        }
        let style = style::name_style(&cell.peer, Anchor::Start);
        drawing.text((x + max + 6.0, middle + 4.0), &self.words(cell), &Style { size: 11.5, ..style });
    }

    /// Label of a bar: `26.4 (0.99x)`.
    fn words(&self, cell: &SummaryCell) -> String {
        let mark = if cell.noisy { "~" } else { "" };
        let value = format!("{mark}{}", number(cell.range.median / self.scale));
        match &cell.ratio {
            Some(ratio) if ratio.verdict == Comparison::TooNoisy => value,
            Some(ratio) => format!("{value} ({}x)", factor(ratio.of_medians)),
            None => value,
        }
    }
}

fn pale() -> Style {
    Style { colour: TICK.colour, ..LABEL }
}

/// A round value without trailing zeros.
fn plain(tick: f64) -> String {
    let rounded = format!("{tick:.6}");
    rounded.trim_end_matches('0').trim_end_matches('.').to_owned()
}
