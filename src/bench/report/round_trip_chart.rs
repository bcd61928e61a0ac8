//! Chart of round-trip times: one line for each peer, from the median to the tail. Each further nine of the
//! percentile takes the same width. The times are logarithmic.

use std::collections::BTreeMap;

use super::axis::{Logarithmic, keep_apart};
use super::style::{self, AXIS, GRID, HEADER_HEIGHT, MARGIN, PANEL_TITLE, TICK, WIDTH};
use super::svg::{self, Anchor, Drawing, Pen, Point, Style};
use crate::bench::metric::RoundTrip;
use crate::bench::results::RoundTripPercentiles;
use crate::bench::summary::Range;

/// Height of the plot area, in pixels.
const FIELD: f64 = 300.0;
/// Height of the panel title above it, in pixels.
const ABOVE: f64 = 26.0;
/// Height of ticks and axis title below it, in pixels.
const BELOW: f64 = 58.0;
/// Width of ticks and axis title to its left, in pixels.
const LEFT: f64 = 56.0;
/// Distance between panels, for the ticks of the second, in pixels.
const GAP: f64 = 58.0;
/// Distance between names, in pixels.
const PITCH: f64 = 16.0;
/// Distance from the end of the lines to the names, in pixels.
const LEADER: f64 = 40.0;
/// Length of the line sample beside a name, in pixels.
const SWATCH: f64 = 18.0;

/// Percentiles with a tick.
const TICKS: [f64; 6] = [50.0, 90.0, 99.0, 99.9, 99.99, 99.999];

/// Points of one peer's line: percent and microseconds, ascending.
type PeerLine = Vec<(f64, f64)>;

/// One plot area with its lines.
struct Panel {
    title: &'static str,
    /// Index of a peer, and its line.
    lines: Vec<(usize, PeerLine)>,
}

/// Layout of the panels.
struct RoundTripLayout<'a> {
    peers: &'a [String],
    times: Logarithmic,
    /// Number of nines at the right end of the axis.
    nines: f64,
    /// Width of the plot area.
    field: f64,
    /// Width of a panel.
    panel: f64,
}

/// A chart of all round-trip times. `None` without any.
pub(super) fn draw(distributions: &[RoundTripPercentiles], peers: &[String]) -> Option<String> {
    let shown =
        [(RoundTrip::Udp, "Idle"), (RoundTrip::Ping, "Ping"), (RoundTrip::UdpUnderLoad, "Under load")];
    let panels: Vec<Panel> = shown
        .into_iter()
        .map(|(load, title)| Panel { title, lines: lines(distributions, load, peers) })
        .filter(|panel| !panel.lines.is_empty())
        .collect();
    let layout = RoundTripLayout::new(&panels, peers)?;
    let subtitle = "lower is better  \u{b7}  median of the repetitions  \u{b7}  from 90% on, each tick is ten times rarer";
    let mut drawing = style::new_chart(HEADER_HEIGHT + ABOVE + FIELD + BELOW, "Round-trip time", subtitle);
    drawing.vertical_text(
        (MARGIN + 8.0, HEADER_HEIGHT + ABOVE + FIELD / 2.0),
        "microseconds, logarithmic",
        &Style { size: 12.0, ..TICK },
    );
    for (i, panel) in panels.iter().enumerate() {
        let x = MARGIN + LEFT + i as f64 * (layout.panel + GAP);
        layout.draw(&mut drawing, (x, HEADER_HEIGHT + ABOVE), panel);
    }
    Some(drawing.finish())
}

/// Median of the repetitions at each percentile that all of them have. 100% has no position on this axis.
fn lines(
    distributions: &[RoundTripPercentiles],
    load: RoundTrip,
    peers: &[String],
) -> Vec<(usize, PeerLine)> {
    let of_peer = |peer: &String| {
        let of: Vec<_> = distributions.iter().filter(|of| of.metric == load && of.peer == *peer).collect();
        // The bit patterns of positive floats sort like the floats.
        let mut times: BTreeMap<u64, (f64, Vec<f64>)> = BTreeMap::new();
        for (percent, time) in of.iter().flat_map(|of| &of.percentiles) {
            if (0.0..100.0).contains(percent) && *time > 0.0 {
                times.entry(percent.to_bits()).or_insert((*percent, Vec::new())).1.push(*time);
            }
        }
        let complete = times.into_values().filter(|(_, times)| times.len() == of.len());
        let line: PeerLine =
            complete.filter_map(|(percent, t)| Some((percent, Range::of(t)?.median))).collect();
        line
    };
    let lines = peers.iter().map(of_peer).enumerate();
    lines.filter(|(_, line)| !line.is_empty()).collect()
}

/// 0 at the minimum, 1 at 90%, 2 at 99%, ...
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

impl<'a> RoundTripLayout<'a> {
    /// `None` if no line has a point.
    fn new(panels: &[Panel], peers: &'a [String]) -> Option<RoundTripLayout<'a>> {
        let points = || panels.iter().flat_map(|panel| &panel.lines).flat_map(|(_, line)| line);
        let times = Range::of(points().map(|(_, time)| *time))?;
        let rarest = points().map(|(percent, _)| nines(*percent)).fold(1.0, f64::max);
        let name = |peer: &String| svg::width(peer, &style::name_style(peer, Anchor::Start));
        let names = peers.iter().map(name).fold(0.0, f64::max) + LEADER;
        let count = panels.len() as f64;
        let panel = (WIDTH - 2.0 * MARGIN - LEFT - GAP * (count - 1.0)) / count;
        let times = Logarithmic::over(times.min, times.max);
        Some(RoundTripLayout { peers, times, nines: rarest, field: panel - names, panel })
    }

    fn draw(&self, drawing: &mut Drawing, (x, top): Point, panel: &Panel) {
        drawing.text((x, top - 12.0), panel.title, &PANEL_TITLE);
        self.draw_grid(drawing, (x, top));
        // The subject is drawn last, above the others.
        for (peer, line) in panel.lines.iter().rev() {
            let points: Vec<Point> = line.iter().map(|(p, t)| (x + self.x(*p), top + self.y(*t))).collect();
            drawing.line(&points, &style::peer_style(self.peers, *peer).pen);
        }
        self.draw_names(drawing, (x, top), &panel.lines);
    }

    fn x(&self, percent: f64) -> f64 {
        nines(percent) / self.nines * self.field
    }

    fn y(&self, time: f64) -> f64 {
        (1.0 - self.times.share(time)) * FIELD
    }

    fn draw_grid(&self, drawing: &mut Drawing, (x, top): Point) {
        let right = Style { anchor: Anchor::End, ..TICK };
        for tick in &self.times.ticks {
            let y = top + self.y(*tick);
            drawing.line(&[(x, y), (x + self.field, y)], &GRID);
            drawing.text((x - 7.0, y + 4.0), &tick.to_string(), &right);
        }
        for percent in TICKS.into_iter().filter(|percent| nines(*percent) <= self.nines + 0.01) {
            let at = x + self.x(percent);
            style::vertical_line(drawing, (at, top), FIELD, &GRID);
            drawing.text((at, top + FIELD + 16.0), &percent.to_string(), &TICK);
        }
        drawing.line(&[(x, top), (x, top + FIELD), (x + self.field, top + FIELD)], &AXIS);
        let title = Style { size: 12.0, ..TICK };
        drawing.text((x + self.field / 2.0, top + FIELD + 36.0), "percentile of the round trips", &title);
    }

    /// Draws names to the right of the plot area, each as close to the end of its line as the others
    /// permit.
    fn draw_names(&self, drawing: &mut Drawing, (x, top): Point, lines: &[(usize, PeerLine)]) {
        let last = |(peer, line): &(usize, PeerLine)| {
            let (percent, time) = line.last()?;
            Some((*peer, (self.x(*percent), self.y(*time))))
        };
        let mut ends: Vec<(usize, Point)> = lines.iter().filter_map(last).collect();
        ends.sort_by(|a, b| a.1.1.total_cmp(&b.1.1));
        let mut places: Vec<f64> = ends.iter().map(|(_, end)| end.1).collect();
        keep_apart(&mut places, PITCH, (0.0, FIELD));
        for ((peer, (right, end)), place) in ends.into_iter().zip(places) {
            let name = &self.peers[peer];
            let pen = style::peer_style(self.peers, peer).pen;
            let (at, y) = (x + self.field + LEADER, top + place);
            let bend = at - SWATCH - 4.0;
            drawing.line(&[(x + right + 2.0, top + end), (bend, y)], &Pen::solid(pen.colour, 1.0));
            drawing.line(&[(bend, y), (at - 4.0, y)], &pen);
            drawing.text((at, y + 4.0), name, &style::name_style(name, Anchor::Start));
        }
    }
}
